"""The two kinds of errors that end a command of training or export; each becomes an exit status of its own."""


class InputError(Exception):
    """What was given cannot be used, and nothing was done; the message says what was found and what is needed."""


class WorkError(Exception):
    """The work began and failed, or what it found is negative."""
