"""Rules for the `Host` names and the origins of pages from which a server accepts requests."""

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# probes send the address of the container as host
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
SAME_ORIGIN_FETCHES = frozenset({"same-origin", "none"})  # `none`: the user entered the URL


@dataclass(frozen=True, kw_only=True)
class BrowserRules:
    """The host names and origins that a server accepts."""

    listen_on: str
    hosts: frozenset[str]  # lower case, without port; `*.example.com` matches all subdomains, `*` all names
    origins: frozenset[str]  # origins of pages on other hosts, e.g. `https://app.example.com`

    @classmethod
    def of(cls, *, listen_on: str, hosts: Collection[str], origins: Collection[str]) -> "BrowserRules":
        """Create the rules of a server that listens on `listen_on`; without `hosts`, see `is_never_public`."""
        return cls(listen_on=listen_on.lower(), hosts=frozenset(hosts), origins=frozenset(origins))

    def accepts_host(self, header: str) -> bool:
        """Return whether a `Host` header names this server; the port is ignored."""
        name = host_name(header)
        if name is None:
            return False
        if not self.hosts:
            return name == self.listen_on or is_never_public(name)
        return any(
            pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))
            for pattern in self.hosts
        )

    def accepts_source(self, headers: Headers) -> bool:
        """Return whether a request that may change data comes from an accepted page, or not from a browser.

        Browsers send `Origin` with such requests; current browsers send `Sec-Fetch-Site` with all requests.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and origin in self.origins:
            return True
        if site is not None:
            return site in SAME_ORIGIN_FETCHES
        return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""


def is_never_public(name: str) -> bool:
    """Return whether a host name cannot be a public DNS name, so that DNS rebinding cannot use it.

    This is true for IP addresses, names below `localhost` and names without a dot, which container networks use.

    >>> [is_never_public(name) for name in ("127.0.0.1", "::1", "gateway", "app.localhost", "evil.example")]
    [True, True, True, True, False]
    """
    try:
        ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(".localhost")
    return True


def host_name(header: str) -> str | None:
    """Return the name in a `Host` header in lower case, or None if the header is invalid.

    >>> host_name("LocalHost:8080"), host_name("[::1]:8080"), host_name("127.0.0.1"), host_name("a@b"), host_name("a/b")
    ('localhost', '::1', '127.0.0.1', None, None)
    """
    try:
        parts = urlsplit(f"//{header}")
        parts.port  # noqa: B018 - raises ValueError for an invalid port
    except ValueError:
        return None
    if parts.hostname is None or parts.netloc != header or "@" in header:
        return None
    return parts.hostname.rstrip(".")
