"""Middleware that protects against requests that pages of other origins make a browser send.

The `Host` header must be a name of this server (against DNS rebinding). A request that may change data must come from a
page of this server or of an allowed origin (against cross-site request forgery). Every response has security headers.
Clients other than browsers are not affected by the last two.
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
    """Rejects requests for other hosts and from other origins, and adds security headers to every response."""

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

        rejection = self._check(scope)
        await (self.app if rejection is None else rejection)(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> Response | None:
        """Return the problem response for a request that is not accepted, or None."""
        headers = Headers(scope=scope)
        request_id = str(scope.get("request_id", "unknown"))
        if str(scope["path"]).removeprefix(str(scope.get("root_path", ""))) in OPEN_PATHS:
            return None
        hosts = headers.getlist("host")
        if len(hosts) > 1 or (hosts and not self.rules.accepts_host(hosts[0])):
            return problems.from_error(
                MisdirectedRequest(
                    f"the host {', '.join(hosts)[:200]!r} is not a name of this server; "
                    "its operator can add it to SERVE_HTTP__ALLOWED_HOSTS"
                ),
                request_id,
            )
        if scope["method"] not in SAFE_METHODS and not self.rules.accepts_source(headers):
            return problems.from_error(
                CrossOrigin(
                    f"requests of pages from the origin {headers.get('origin', 'unknown')[:200]} are not allowed; "
                    "the operator can add it to SERVE_HTTP__CORS_ORIGINS"
                ),
                request_id,
            )
        return None


def cors_options(origins: Collection[str]) -> dict[str, Any]:
    """Return the options of Starlette's CORSMiddleware for pages of these origins."""
    return {
        "allow_origins": sorted(origins),
        "allow_methods": ["GET", "POST", "PUT", "PATCH", "DELETE"],
        "allow_headers": ["*"],
        "expose_headers": ["ETag", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"],
        "max_age": 600,
    }
