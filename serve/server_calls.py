"""One request of a command to a running server: sent, or shown as a curl command."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from serve.errors import ActserveError

DEFAULT_SERVER = "http://127.0.0.1:8080"
TIMEOUT_SECONDS = 320  # beyond the longest wait a server grants

Server = Annotated[str, typer.Option("--server", help="Address of the server.")]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, to be sent or shown."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def curl(self) -> str:
        """The same request for a shell."""
        words = ["curl", "-X", self.method, self.url]
        for name, value in self.headers.items():
            words += ["-H", f"{name}: {value}"]
        if self.body is not None:
            words += ["--data-binary", self.body.decode()]
        return shlex.join(words)

    def send(self) -> Any:
        """The response.

        Raises:
            ActserveError: the server does not answer, or answers with a problem.
        """
        import httpx

        try:
            response = httpx.request(
                self.method, self.url, headers=dict(self.headers), content=self.body, timeout=TIMEOUT_SECONDS
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ActserveError(f"{self.url} does not answer: {error}") from error
        if response.is_error:
            try:
                told = response.json()["detail"]
            except (ValueError, KeyError):
                told = response.text[:200]
            raise ActserveError(f"{response.status_code}: {told}")
        return response
