"""The URL of the server and the API key, from arguments or the environment."""

import os

from serve import variables

DEFAULT_SERVER = "http://127.0.0.1:8080"


def server_url(server: str | None) -> str:
    """Return the URL of the server without a trailing slash: the argument, `ACTSERVE_SERVER` or the default.

    Raises:
        ValueError: it is not an http(s) URL.
    """
    text = server or os.environ.get(variables.SERVER) or DEFAULT_SERVER
    if not text.startswith(("http://", "https://")) or not text.partition("://")[2].strip("/"):
        raise ValueError(f"the URL of a server must look like {DEFAULT_SERVER}, got {text!r}")
    return text.rstrip("/")


def key_headers(api_key: str | None) -> dict[str, str]:
    """Return the header with the API key: the argument or `ACTSERVE_API_KEY`; no header without a key."""
    key = api_key if api_key is not None else os.environ.get(variables.API_KEY)
    return {"Authorization": f"Bearer {key}"} if key else {}
