"""Protect against server-side request forgery (SSRF): decide which URLs that callers send may be requested.

URLs are parsed once, with httpx, which also makes the request; URLs that other parsers could interpret differently are
rejected. Every address that a host resolves to must be public, because DNS may return public and private addresses
together.
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
_URL_CHARS = re.compile(r"[!-\[\]-~]+")  # visible ASCII without the backslash, which some parsers treat as a slash
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?", re.IGNORECASE)
_NUMERIC_LABEL = re.compile(
    r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE
)  # a host whose last label is numeric is parsed as an IPv4 address
_TRANSITION_NETWORKS = tuple(
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
)  # IPv6 addresses that embed an IPv4 address; a router may forward packets to the IPv4 address
_METADATA_ADDRESSES = frozenset(
    map(ipaddress.ip_address, ("168.63.129.16", "169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"))
)  # instance metadata services of cloud providers; 168.63.129.16 is a public address
# Upper 32 bits of the interface identifier of an ISATAP address; the lower 32 bits are an IPv4 address.
_ISATAP_PREFIXES = (0x00005EFE, 0x02005EFE)


def check_url(text: str, settings: OutgoingSettings) -> httpx.URL:
    """Parse a URL and check everything that can be checked without resolving its host.

    Raises:
        AddressRefused: the URL is not allowed; the message gives the reason.
    """
    if len(text) > MAX_URL_CHARS:
        raise AddressRefused(f"the URL has {len(text)} characters; at most {MAX_URL_CHARS} are allowed")
    if not _URL_CHARS.fullmatch(text):
        raise AddressRefused(
            "the URL may contain only visible ASCII characters and no backslashes; "
            "write international host names in their `xn--` form"
        )
    try:
        url = httpx.URL(text)
        port = url.port
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefused(f"the URL is invalid: {error}") from error
    if url.scheme not in settings.schemes:
        raise AddressRefused(f"the scheme {url.scheme[:20]!r} is not allowed; allowed: {', '.join(settings.schemes)}")
    if url.userinfo or "@" in text.partition("://")[2].partition("/")[0]:
        raise AddressRefused("the URL contains a user name or a password, which is not allowed")
    port = DEFAULT_PORTS[url.scheme] if port is None else port
    if port not in settings.ports:
        raise AddressRefused(f"port {port} is not allowed; allowed: {', '.join(map(str, settings.ports))}")
    _check_host(ascii_host(url), settings)
    return url


def ascii_host(url: httpx.URL) -> str:
    """Return the host of a URL in ASCII (`xn--`) form, as it is passed to the resolver."""
    return url.raw_host.decode("ascii")


def _check_host(host: str, settings: OutgoingSettings) -> None:
    if ":" in host:
        address = _parse_ip(host)
        if address is None:
            raise AddressRefused(
                f"the host {host[:60]!r} is not a valid IPv6 address (zone identifiers are not allowed)"
            )
        check_addresses([address], settings)
    elif _NUMERIC_LABEL.fullmatch(host.rstrip(".").rpartition(".")[2]):
        address = _parse_ip(host)
        if address is None:
            raise AddressRefused(
                f"the host {host[:60]!r} is not an IPv4 address in dotted decimal form, such as 192.0.2.1"
            )
        check_addresses([address], settings)
    elif len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise AddressRefused(f"{host[:60]!r} is not a valid host name")


def _parse_ip(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if getattr(address, "scope_id", None) else address


def check_addresses(addresses: Iterable[Address], settings: OutgoingSettings) -> list[Address]:
    """Check every address of a host and return them.

    Raises:
        AddressRefused: an address is not allowed (see `is_allowed`), or there is no address.
    """
    checked = list(addresses)
    if not checked:
        raise AddressRefused("the host has no address")
    for address in checked:
        if not is_allowed(address, settings):
            raise AddressRefused("the host has an address that is not public; only public addresses are allowed")
    return checked


def is_allowed(address: Address, settings: OutgoingSettings) -> bool:
    """Return whether the server may connect to an address: a public one, or loopback if the settings allow it."""
    if settings.allow_loopback and address in (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")):
        return True
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or _embeds_ipv4(address)):
        return False
    is_special = (
        address.is_multicast
        or address.is_reserved
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address in _METADATA_ADDRESSES
    )
    return address.is_global and not is_special


def _embeds_ipv4(address: ipaddress.IPv6Address) -> bool:
    is_isatap = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP_PREFIXES
    return is_isatap or any(address in network for network in _TRANSITION_NETWORKS)
