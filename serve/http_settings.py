"""Settings of the HTTP server: `SERVE_HTTP__...`, the group `http` of `serve.settings.ServeSettings`."""

import re
from ipaddress import ip_network

from pydantic import BaseModel, ConfigDict, Field, field_validator

HOST_PATTERN = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*\]?")
ORIGIN_PATTERN = re.compile(r"https?://([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?")

MAX_PORT = 65_535


def _items(value: str) -> list[str]:
    """Return the items of a list separated by commas."""
    return [item for item in (part.strip() for part in value.split(",")) if item]


class HttpSettings(BaseModel):
    """Host names of the server, origins of pages that may use it, and proxies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allowed_hosts: str = Field(
        "",
        description="Host names of this server, separated by commas; `*.example.com` matches subdomains, `*` all. "
        "By default IP addresses, names without a dot, and names below `localhost`, which cannot be registered.",
    )
    cors_origins: str = Field(
        "",
        description="Origins of pages on other hosts that may call the API, separated by commas, "
        "e.g. `https://app.example.com`.",
    )
    root_path: str = Field(
        "", pattern=r"^(/[\w.~-]+)*$", description="Path at which a proxy serves this server, e.g. `/actions`."
    )
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="Addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted, "
        "separated by commas.",
    )

    max_connections: int = Field(1000, ge=1, le=100_000, description="Open connections; past it 503.")
    max_connections_per_address: int = Field(
        256, ge=1, le=100_000, description="Open connections of one address that is no trusted proxy; past it 503."
    )
    max_header_bytes: int = Field(
        65_536, ge=1024, le=2**20, description="Bytes of the request line and headers; past it 400."
    )
    unready_seconds: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="Time after SIGTERM in which `/readyz` is 503 and requests are still served; behind a load "
        "balancer that checks `/readyz`, longer than it takes to notice.",
    )
    drain_seconds: float = Field(
        1.0,
        ge=0,
        le=3600,
        description="Time after that in which new requests get 503 with `Retry-After`; then the port is closed. "
        "0 behind a load balancer that passes refused connections to another server.",
    )
    shutdown_seconds: float = Field(
        30.0,
        ge=0,
        le=86_400,
        description="Time after a stop signal in which requests in progress can finish; the others get 503.",
    )
    keep_alive_seconds: float = Field(
        65.0,
        gt=0,
        le=3600,
        description="Idle time after which a connection is closed; behind a proxy, longer than the proxy keeps idle "
        "connections, or it sends requests on connections that are being closed.",
    )
    header_timeout_seconds: float = Field(
        15.0,
        gt=0,
        le=600,
        description="Headers are complete by then after the first byte, or after connecting, or 408.",
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: str) -> str:
        for name in _items(value):
            if HOST_PATTERN.fullmatch(name) is None:
                raise ValueError(f"{name!r} is not a host name without port")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: str) -> str:
        for origin in _items(value):
            match = ORIGIN_PATTERN.fullmatch(origin)
            if match is None or not 0 < int(match["port"] or 1) <= MAX_PORT:
                raise ValueError(
                    f"{origin!r} is not an origin such as https://app.example.com or http://localhost:3000"
                )
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, value: str) -> str:
        for network in _items(value):
            ip_network(network)  # raises ValueError with the invalid item
        return value

    @property
    def hosts(self) -> tuple[str, ...]:
        """The items of `allowed_hosts` in lower case, IPv6 addresses without brackets."""
        return tuple(name.lower().strip("[]") for name in _items(self.allowed_hosts))

    @property
    def proxies(self) -> tuple[str, ...]:
        """Return `trusted_proxies` as addresses and networks."""
        return tuple(_items(self.trusted_proxies))

    @property
    def origins(self) -> tuple[str, ...]:
        """The items of `cors_origins` in lower case."""
        return tuple(origin.lower() for origin in _items(self.cors_origins))
