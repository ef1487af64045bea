"""Who a request counts for: its API key, or the address of the client."""

from ipaddress import IPv6Address, ip_address

from starlette.requests import Request

IPV6_PREFIX_BITS = 64  # an IPv6 host may use every address of its network


def client_of(request: Request) -> str:
    """Return the client for which a request counts: `key ID`, or `address ADDRESS` without an API key."""
    caller = request.scope.get("state", {}).get("caller")
    if caller is not None and caller.key_id is not None:
        return f"key {caller.key_id}"
    return f"address {network_of(request.client.host if request.client else '')}"


def network_of(address: str) -> str:
    """Return an IPv4 address as it is, and the network of an IPv6 address.

    >>> network_of("192.0.2.7"), network_of("2001:db8::7"), network_of("::ffff:192.0.2.7")
    ('192.0.2.7', '2001:db8::', '192.0.2.7')
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address  # a Unix socket, or a test client
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    shift = 128 - IPV6_PREFIX_BITS
    return str(IPv6Address(int(parsed) >> shift << shift))
