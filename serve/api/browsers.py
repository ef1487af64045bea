"""Middleware against requests that a page of another origin makes a browser send.

Three checks, none of which concerns clients that are not browsers: the `Host` has to be one of this server's names (DNS
rebinding), a request that may change something has to come from a page of this server or of an allowed origin
(cross-site request forgery), and every response carries the headers that limit what a browser does with it.
"""

from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.access.rules import OPEN_PATHS, SAFE_METHODS, BrowserRules
from serve.api import problems
from serve.errors import CrossOrigin, MisdirectedRequest

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class BrowserGuard:
    """Refuses other hosts and other origins, and adds the security headers to every response."""

    def __init__(self, app: ASGIApp, *, rules: BrowserRules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (self.app if refusal is None else refusal)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        request_id = str(scope.get("request_id", "unknown"))
        if str(scope["path"]).removeprefix(str(scope.get("root_path", ""))) in OPEN_PATHS:
            return None
        hosts = headers.getlist("host")
        if len(hosts) > 1 or (hosts and not self.rules.accepts_host(hosts[0])):
            return problems.from_error(
                MisdirectedRequest(
                    f"the host {', '.join(hosts)[:200]!r} is not a name of this server; "
                    "SERVE_HTTP__ALLOWED_HOSTS lists its names"
                ),
                request_id,
            )
        if scope["method"] not in SAFE_METHODS and not self.rules.accepts_source(headers):
            return problems.from_error(
                CrossOrigin(
                    f"a page of another origin ({headers.get('origin', 'unknown')[:200]}) sent this request; "
                    "SERVE_HTTP__CORS_ORIGINS lists the origins that may"
                ),
                request_id,
            )
        return None


def cors_options(origins: Collection[str]) -> dict[str, Any]:
    """Return the options of Starlette's CORSMiddleware: what pages of these origins may send and read."""
    return {
        "allow_origins": sorted(origins),
        "allow_methods": ["GET", "POST", "PUT", "PATCH", "DELETE"],
        "allow_headers": ["*"],
        "expose_headers": ["ETag", "Location", "Retry-After", "X-Request-Id"],
        "max_age": 600,
    }
