"""Which addresses the server may connect to when a caller chooses them.

A URL is read once, by the parser of the client that connects; what other programs could read differently is refused. Of
a host's addresses every one has to be a public one, because a resolver may mix them.
"""

import ipaddress
import re
from collections.abc import Iterable

import httpx

from serve.errors import AddressRefused
from serve.settings import OutgoingSettings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MAX_URL_CHARS = 2000
DEFAULT_PORTS = {"http": 80, "https": 443}
_PLAIN = re.compile(r"[!-\[\]-~]+")  # visible ASCII without the backslash, which some programs read as a slash
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)  # a last label like this makes an IPv4 address of a host
_TRANSITION = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "::/96",  # IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "::ffff:0:0:0/96",  # IPv4-translated
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64 of one network
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
    )
)  # IPv6 addresses that hold an IPv4 address, to which a gateway may forward
_METADATA = frozenset(
    map(ipaddress.ip_address, ("168.63.129.16", "169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"))
)  # of cloud providers; the first one is a public address
_ISATAP = (0x00005EFE, 0x02005EFE)  # upper half of the interface id of an address with an IPv4 address behind it


def check_url(text: str, settings: OutgoingSettings) -> httpx.URL:
    """Read a URL and check all that can be checked without resolving its host.

    Raises:
        AddressRefused: states what is refused and what is allowed.
    """
    if len(text) > MAX_URL_CHARS or not _PLAIN.fullmatch(text):
        raise AddressRefused(
            f"the URL has {len(text)} characters, spaces, backslashes or characters other than ASCII; "
            f"allowed are {MAX_URL_CHARS} of visible ASCII, with hosts in their `xn--` form"
        )
    try:
        url = httpx.URL(text)
        port = url.port
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefused(f"the URL cannot be read: {error}") from error
    if url.scheme not in settings.schemes:
        raise AddressRefused(f"the scheme {url.scheme[:20]!r} is not allowed; allowed: {', '.join(settings.schemes)}")
    if url.userinfo or "@" in text.partition("://")[2].partition("/")[0]:
        raise AddressRefused("the URL holds a user name or a password, which is not allowed")
    port = DEFAULT_PORTS[url.scheme] if port is None else port
    if port not in settings.ports:
        raise AddressRefused(f"port {port} is not allowed; allowed: {', '.join(map(str, settings.ports))}")
    _check_host(host_of(url), settings)
    return url


def host_of(url: httpx.URL) -> str:
    """Return the host in the form in which it is resolved."""
    return url.raw_host.decode("ascii")


def _check_host(host: str, settings: OutgoingSettings) -> None:
    if ":" in host:
        literal = _literal(host)
        if literal is None:
            raise AddressRefused(f"the host {host[:60]!r} is not a plain IPv6 address")
        check_addresses([literal], settings)
    elif _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        literal = _literal(host)
        if literal is None:
            raise AddressRefused(f"the host {host[:60]!r} is not an IPv4 address of four decimal numbers")
        check_addresses([literal], settings)
    elif len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise AddressRefused(f"{host[:60]!r} is not the name of a host")


def _literal(host: str) -> Address | None:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if getattr(found, "scope_id", None) else found


def check_addresses(addresses: Iterable[Address], settings: OutgoingSettings) -> list[Address]:
    """Check every address of a host and return them.

    Raises:
        AddressRefused: one is not a public address of another machine; or there is none.
    """
    found = list(addresses)
    if not found:
        raise AddressRefused("the host has no address")
    for address in found:
        if not is_allowed(address, settings):
            raise AddressRefused("the host has an address that is not a public one, which is not allowed")
    return found


def is_allowed(address: Address, settings: OutgoingSettings) -> bool:
    """Return whether the server may connect to an address."""
    if settings.allow_loopback and address in (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")):
        return True
    if isinstance(address, ipaddress.IPv6Address) and _holds_ipv4(address):
        return False
    is_special = (
        address.is_multicast
        or address.is_reserved
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address in _METADATA
    )
    return address.is_global and not is_special


def _holds_ipv4(address: ipaddress.IPv6Address) -> bool:
    is_isatap = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
    return is_isatap or address.scope_id is not None or any(address in network for network in _TRANSITION)
