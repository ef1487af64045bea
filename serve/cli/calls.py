"""Requests of commands to a running server; a request is sent or printed as a curl command.

The URL of the server is `--server`, the variable `ACTSERVE_SERVER` or the default URL, in this order.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from serve import variables
from serve.client.address import key_headers, server_url
from serve.client.calls import Call
from serve.errors import ActserveError, InvalidOption

if TYPE_CHECKING:
    import httpx

    from serve.client.synchronous.client import Client

RETRIES: dict[str, Any] = {"max_attempts": 3, "base_seconds": 0.2}  # somebody waits at the terminal
SERVER_HINT = f"The server prints its URL at startup; pass it as --server URL or `export {variables.SERVER}=URL`"


def parse_server_url(text: str) -> str:
    """Check the URL of a server and return it without a trailing slash."""
    try:
        return server_url(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


PrintCurl = Annotated[
    bool, typer.Option("--print-curl", help="Print the request as a curl command instead of sending it.")
]
Server = Annotated[
    str,
    typer.Option(
        "--server", metavar="URL", envvar=variables.SERVER, parser=parse_server_url, help="URL of the server."
    ),
]
OptionalServer = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        envvar=variables.SERVER,
        parser=parse_server_url,
        help="Use the server at this URL.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class ApiRequest:
    """One request, which can be sent or printed as a curl command."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path | None = None  # a path stands for the content of the file
    files: Sequence[tuple[str, Path]] = ()  # (name, file) of the file parts of a form
    fields: Mapping[str, str] = field(default_factory=dict)  # text fields of the form
    timeout_seconds: float | None = None  # by default that of the client

    @cached_property
    def _origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @cached_property
    def _call(self) -> Call:
        return Call(
            method=self.method,
            path=self.url.removeprefix(self._origin),
            headers=self.headers,
            content=self.body,
            files=self.files,
            fields=self.fields,
            timeout_seconds=self.timeout_seconds,
        )

    def to_curl(self) -> str:
        """Return the request as a curl command for a shell; the command reads the API key from the environment."""
        return self._call.to_curl(self._origin, key_variable=variables.API_KEY if key_headers(None) else None)

    def send(self) -> "httpx.Response":
        """Send the request and return the response.

        Raises:
            InvalidOption: a file cannot be read.
            ActserveError: the server does not respond, or it responds with an error.
        """
        with open_client(self._origin) as client:
            return client.send(self._call)

    def send_for_json(self, *required: str) -> dict[str, Any]:
        """Send the request and return the JSON object of the response, which must have the `required` fields.

        Raises:
            ActserveError: see `send`; or the response is not a response of actserve.
        """
        response = self.send()
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict) or not set(required) <= document.keys():
            raise foreign_server_error(self.url)
        return document


@contextmanager
def open_client(server: str) -> Iterator["Client"]:
    """Yield a client whose exceptions are converted to errors of commands.

    Raises:
        InvalidOption: a file cannot be read.
        ActserveError: the server does not respond, or it responds with an error.
    """
    from serve.client.retries import RetryPolicy
    from serve.client.synchronous.client import Client

    with convert_errors(), Client(server, retries=RetryPolicy(**RETRIES)) as client:
        yield client


@contextmanager
def convert_errors() -> Iterator[None]:
    """Convert the exceptions of a client to errors of commands; see `open_client`."""
    from serve.client.problems import ProblemError, ServerUnreachable, UnexpectedResponse

    try:
        yield
    except ProblemError as error:
        raise ActserveError(error.detail, status=error.status) from error
    except ServerUnreachable as error:
        raise ActserveError(f"{error}. {SERVER_HINT}") from error
    except UnexpectedResponse as error:
        raise foreign_server_error(error.url) from error
    except OSError as error:
        name = f"{error.filename} " if error.filename is not None else ""
        raise InvalidOption(f"{name}cannot be read: {error.strerror}") from error


def foreign_server_error(url: str) -> ActserveError:
    """Return the error for a response that does not come from actserve."""
    return ActserveError(f"the server at {url} is not an actserve server. {SERVER_HINT}")
