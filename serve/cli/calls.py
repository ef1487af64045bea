"""Requests of commands to a running server; a request is sent or printed as a curl command.

The URL of the server is `--server`, the variable `ACTSERVE_SERVER` or the default URL, in this order.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from serve import variables
from serve.errors import ActserveError, InvalidOption

if TYPE_CHECKING:
    import httpx

DEFAULT_SERVER = "http://127.0.0.1:8080"
TIMEOUT_SECONDS = 320  # longer than the longest `Prefer: wait` that a server accepts
SERVER_HINT = f"The server prints its URL at startup; pass it as --server URL or `export {variables.SERVER}=URL`"


def _open_readable(path: Path) -> BinaryIO:
    """Open a file and check that it can be read, before a request is sent."""
    stream = path.open("rb")
    try:
        stream.read(1)
        stream.seek(0)
    except OSError:
        stream.close()
        raise
    return stream


def _sent_name(path: Path) -> str:
    """Return a file's name for a form, with bytes that are not UTF-8 replaced.

    >>> _sent_name(Path("clips/s\\udcff.mp4"))
    's?.mp4'
    """
    return path.name.encode("utf-8", "replace").decode()


def parse_server_url(text: str) -> str:
    """Check the URL of a server and return it without a trailing slash."""
    if not text.startswith(("http://", "https://")) or not text.partition("://")[2].strip("/"):
        raise typer.BadParameter(f"the URL of a server must look like {DEFAULT_SERVER}, got {text!r}")
    return text.rstrip("/")


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
    timeout_seconds: float = TIMEOUT_SECONDS

    def to_curl(self) -> str:
        """Return the request as a curl command for a shell; the command reads the API key from the environment."""
        arguments = ["curl", "-X", self.method, self.url]
        for name, value in self.headers.items():
            arguments += ["-H", f"{name}: {value}"]
        if isinstance(self.body, Path):
            arguments += ["--data-binary", f"@{self.body}"]
        elif self.body is not None:
            arguments += ["--data-binary", self.body.decode()]
        for name, path in self.files:
            arguments += ["-F", f"{name}=@{path}"]
        for name, value in self.fields.items():
            arguments += ["--form-string", f"{name}={value}"]
        key = f' -H "Authorization: Bearer ${variables.API_KEY}"' if key_header() else ""
        return shlex.join(arguments) + key

    def send(self) -> "httpx.Response":
        """Send the request and return the response.

        Raises:
            InvalidOption: a file cannot be read.
            ActserveError: the server does not respond, or it responds with an error.
        """
        import httpx

        try:
            with ExitStack() as streams:
                body = self.body.read_bytes() if isinstance(self.body, Path) else self.body
                content: dict[str, Any] = {"content": body}
                if self.files:
                    parts = [
                        (name, (_sent_name(path), streams.enter_context(_open_readable(path))))
                        for name, path in self.files
                    ]
                    content = {"files": parts, "data": dict(self.fields)}
                response = httpx.request(
                    self.method,
                    self.url,
                    headers={**self.headers, **key_header()},
                    timeout=self.timeout_seconds,
                    **content,
                )
        except OSError as error:
            paths = [self.body] if isinstance(self.body, Path) else [path for _, path in self.files]
            name = error.filename or ", ".join(map(str, paths))  # errors of read() have no file name
            raise InvalidOption(f"{name} cannot be read: {error.strerror}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise connection_error(self.url, error) from error
        if response.is_error:
            raise ActserveError(error_detail(response), status=response.status_code)
        return response

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


def key_header() -> dict[str, str]:
    """Return the header with the API key from the environment, or no header if it is not set."""
    key = os.environ.get(variables.API_KEY)
    return {"Authorization": f"Bearer {key}"} if key else {}


def connection_error(url: str, error: Exception) -> ActserveError:
    """Return the error for a server that cannot be reached."""
    return ActserveError(f"cannot reach a server at {url}: {error}. {SERVER_HINT}")


def foreign_server_error(url: str) -> ActserveError:
    """Return the error for a response that does not come from actserve."""
    return ActserveError(f"the server at {url} is not an actserve server. {SERVER_HINT}")


def error_detail(response: "httpx.Response") -> str:
    """Return the detail of a problem, or the URL and status if the response is not a problem."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{response.url} responded with status {response.status_code} and no problem document. {SERVER_HINT}"
