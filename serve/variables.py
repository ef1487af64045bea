"""Environment variables of the command lines; those of the server itself are in `serve.settings`."""

SERVER = "ACTSERVE_SERVER"  # URL of the server that `actserve vocab`, `models`, `feedback` and `classify` ask
