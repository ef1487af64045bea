"""Python client of an actserve server; it needs httpx and the standard library only.

>>> from serve.client import Client
>>> client = Client("http://127.0.0.1:8080")
>>> client.server
'http://127.0.0.1:8080'

The names are imported when they are first used, so that commands can use a module of this package without httpx.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve.client.asynchronous.client import AsyncClient
    from serve.client.problems import ClientError, ProblemError, ServerUnreachable, UnexpectedResponse
    from serve.client.retries import RetryPolicy
    from serve.client.synchronous.client import Client

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "ProblemError",
    "RetryPolicy",
    "ServerUnreachable",
    "UnexpectedResponse",
]
_MODULES = {"AsyncClient": "asynchronous.client", "Client": "synchronous.client", "RetryPolicy": "retries"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'problems')}"), name)
