"""Requests of commands to a running server: sent, or printed as a curl command.

The server is `--server`, else the variable `ACTSERVE_SERVER`, else the default address of a server.
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
TIMEOUT_SECONDS = 320  # longer than the longest `Prefer: wait` of a server
HOW_TO_ADDRESS = (
    f"A server prints its address when it starts; pass it as --server URL or `export {variables.SERVER}=URL`"
)


def _opened(path: Path) -> BinaryIO:
    """Open a file, and report one that cannot be read before a request is sent."""
    stream = path.open("rb")
    try:
        stream.read(1)
        stream.seek(0)
    except OSError:
        stream.close()
        raise
    return stream


def server_address(text: str) -> str:
    """Check the address of a server and return it without a trailing slash."""
    if not text.startswith(("http://", "https://")) or not text.partition("://")[2].strip("/"):
        raise typer.BadParameter(f"{text!r} is not the address of a server; an example is {DEFAULT_SERVER}")
    return text.rstrip("/")


PrintCurl = Annotated[bool, typer.Option("--print-curl", help="Print the request as a curl command; do not send it.")]
Server = Annotated[
    str,
    typer.Option(
        "--server", metavar="URL", envvar=variables.SERVER, parser=server_address, help="Address of the server."
    ),
]
OptionalServer = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        envvar=variables.SERVER,
        parser=server_address,
        help="Use the server at this address.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class ApiRequest:
    """One request, to be sent or printed."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path | None = None  # a path means the content of the file
    files: Sequence[tuple[str, Path]] = ()  # parts of a form, by name
    fields: Mapping[str, str] = field(default_factory=dict)  # beside the files

    timeout_seconds: float = TIMEOUT_SECONDS

    def curl(self) -> str:
        """Return the request as a command for a shell; it reads the API key from the environment."""
        words = ["curl", "-X", self.method, self.url]
        for name, value in self.headers.items():
            words += ["-H", f"{name}: {value}"]
        if isinstance(self.body, Path):
            words += ["--data-binary", f"@{self.body}"]
        elif self.body is not None:
            words += ["--data-binary", self.body.decode()]
        for name, path in self.files:
            words += ["-F", f"{name}=@{path}"]
        for name, value in self.fields.items():
            words += ["--form-string", f"{name}={value}"]
        key = f' -H "Authorization: Bearer ${variables.API_KEY}"' if key_header() else ""
        return shlex.join(words) + key

    def send(self) -> "httpx.Response":
        """Send the request and return the response.

        Raises:
            InvalidOption: a file cannot be read.
            ActserveError: the server does not answer, or it answers with a problem.
        """
        import httpx

        try:
            with ExitStack() as streams:
                body = self.body.read_bytes() if isinstance(self.body, Path) else self.body
                content: dict[str, Any] = {"content": body}
                if self.files:
                    parts = [(name, (path.name, streams.enter_context(_opened(path)))) for name, path in self.files]
                    content = {"files": parts, "data": dict(self.fields)}
                response = httpx.request(
                    self.method,
                    self.url,
                    headers={**self.headers, **key_header()},
                    timeout=self.timeout_seconds,
                    **content,
                )
        except OSError as error:
            given = [self.body] if isinstance(self.body, Path) else [path for _, path in self.files]
            where = error.filename or ", ".join(map(str, given))  # reading, unlike opening, does not say the file
            raise InvalidOption(f"{where} cannot be read: {error.strerror}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise no_answer(self.url, error) from error
        if response.is_error:
            raise ActserveError(detail_of(response), status=response.status_code)
        return response

    def answer(self, *names: str) -> dict[str, Any]:
        """Send the request and return the JSON object of the response, which must have these members.

        Raises:
            ActserveError: see `send`; or another program answers.
        """
        response = self.send()
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict) or not set(names) <= found.keys():
            raise not_actserve(self.url)
        return found


def key_header() -> dict[str, str]:
    """Return the header with the API key of the environment, if there is one."""
    key = os.environ.get(variables.API_KEY)
    return {"Authorization": f"Bearer {key}"} if key else {}


def no_answer(url: str, error: Exception) -> ActserveError:
    """Return the error for a server that cannot be reached."""
    return ActserveError(f"no server answers at {url}: {error}. {HOW_TO_ADDRESS}")


def not_actserve(url: str) -> ActserveError:
    """Return the error for another program at the address."""
    return ActserveError(f"another program than actserve answers at {url}. {HOW_TO_ADDRESS}")


def detail_of(response: "httpx.Response") -> str:
    """Return the detail of a problem, or status and address if the response is not a problem."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{response.url} answers {response.status_code} without a problem document. {HOW_TO_ADDRESS}"
