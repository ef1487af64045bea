"""One request of a command to a running server: sent, or shown as a curl command."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from serve.errors import ActserveError

DEFAULT_SERVER = "http://127.0.0.1:8080"
TIMEOUT_SECONDS = 320  # beyond the longest wait a server grants

PrintCurl = Annotated[bool, typer.Option("--print-curl", help="Show the request as a curl command; do not send it.")]
Server = Annotated[str, typer.Option("--server", help="Address of the server.")]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, to be sent or shown."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    files: Sequence[tuple[str, Path]] = ()  # parts of a form, by name
    fields: Mapping[str, str] = field(default_factory=dict)  # beside the files

    timeout_seconds: float = TIMEOUT_SECONDS

    def curl(self) -> str:
        """The same request for a shell."""
        words = ["curl", "-X", self.method, self.url]
        for name, value in self.headers.items():
            words += ["-H", f"{name}: {value}"]
        if self.body is not None:
            words += ["--data-binary", self.body.decode()]
        for name, path in self.files:
            words += ["-F", f"{name}=@{path}"]
        for name, value in self.fields.items():
            words += ["--form-string", f"{name}={value}"]
        return shlex.join(words)

    def send(self) -> Any:
        """The response.

        Raises:
            ActserveError: the server does not answer, or answers with a problem.
        """
        import httpx

        sent: dict[str, Any] = {"content": self.body}
        try:
            with ExitStack() as streams:
                if self.files:
                    parts = [(name, (path.name, streams.enter_context(path.open("rb")))) for name, path in self.files]
                    sent = {"files": parts, "data": dict(self.fields)}
                response = httpx.request(
                    self.method, self.url, headers=dict(self.headers), timeout=self.timeout_seconds, **sent
                )
        except OSError as error:
            raise ActserveError(f"{error.filename} cannot be read: {error.strerror}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ActserveError(f"{self.url} does not answer: {error}") from error
        if response.is_error:
            try:
                told = response.json()["detail"]
            except (ValueError, KeyError):
                told = response.text[:200]
            raise ActserveError(f"{response.status_code}: {told}")
        return response
