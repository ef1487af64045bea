"""HTTP client for URLs that callers choose, protected against server-side request forgery (SSRF).

The host is resolved once, and the connection is made to the address that was checked; the TLS server name, certificate
check and `Host` header use the host name of the URL. Proxy settings and environment variables are ignored. Each
redirect is checked again.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from serve.errors import AddressRefused, FetchFailed
from serve.jobs.addresses import DEFAULT_PORTS, Address, ascii_host, check_addresses, check_url
from serve.settings import OutgoingSettings
from serve.video.identify import HEAD_BYTES, check_head

Resolve = Callable[[str, int], Awaitable[list[Address]]]
CHUNK_BYTES = 2**18
CONNECT_TIMEOUT_SECONDS = 10.0
RESOLVE_TIMEOUT_SECONDS = 10.0
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


async def resolve(host: str, port: int) -> list[Address]:
    """Return all addresses of a host.

    Raises:
        OSError: the host has no address, or the resolver does not respond.
    """
    entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0])) for entry in entries))


class GuardedTransport(httpx.AsyncBaseTransport):
    """Resolves the host of a request, checks all its addresses and connects to the first one."""

    def __init__(self, settings: OutgoingSettings, *, resolver: Resolve = resolve) -> None:
        self._settings = settings
        self._resolve = resolver
        self._direct = httpx.AsyncHTTPTransport(
            verify=ssl.create_default_context(), trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )  # no keep-alive: connections are pooled by address, so one could be reused for another host

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Resolve the host, check its addresses and send the request.

        Raises:
            AddressRefused: the URL, or an address of its host, is not allowed.
            httpx.TransportError: the host cannot be resolved or reached.
        """
        url = check_url(str(request.url), self._settings)
        port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_SECONDS):
                addresses = await self._resolve(ascii_host(url), port)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise httpx.ConnectError("the host name cannot be resolved", request=request) from error
        address = check_addresses(addresses, self._settings)[0]
        pinned_request = httpx.Request(
            request.method,
            url.copy_with(host=str(address)),
            headers=[*((name, value) for name, value in request.headers.raw if name.lower() != b"host")],
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": ascii_host(url).rstrip(".")},
        )
        pinned_request.headers["Host"] = url.netloc.decode("ascii")
        return await self._direct.handle_async_request(pinned_request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._direct.aclose()


class OutgoingClient:
    """Downloads inputs and posts webhooks; every request is checked by `GuardedTransport`."""

    def __init__(self, settings: OutgoingSettings, *, resolver: Resolve = resolve) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(settings, resolver=resolver),
            timeout=httpx.Timeout(60.0, connect=CONNECT_TIMEOUT_SECONDS),
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": "actserve", "Accept-Encoding": "identity"},
        )

    async def fetch(self, url: str, target: Path) -> int:
        """Download the video at a URL to a file and return its size in bytes; stop early if it is not a video.

        Raises:
            AddressRefused: the URL, or the target of a redirect, is not allowed.
            FetchFailed: the request fails, or the file exceeds the limits.
            UnsupportedMedia, VideoError: the file is not a video.
        """
        limit = self._settings.timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await self._fetch(url, target)
        except TimeoutError as error:
            raise FetchFailed(
                f"the input was not fetched within the {limit:g} s allowed", limit_seconds=limit
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise FetchFailed(f"the input cannot be fetched: {_reason(error)}") from error

    async def post(self, url: str, body: str, headers: dict[str, str]) -> int:
        """Send a webhook and return the status code; the body of the response is not read.

        Raises:
            AddressRefused: the address is not allowed.
            FetchFailed: there is no response.
        """
        try:
            async with (
                asyncio.timeout(self._settings.webhook_timeout_seconds),
                self._client.stream("POST", url, content=body.encode(), headers=headers) as response,
            ):
                return response.status_code
        except TimeoutError as error:
            raise FetchFailed("no response within the time limit") from error
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise FetchFailed(_reason(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _fetch(self, url: str, target: Path) -> int:
        for _ in range(self._settings.max_redirects + 1):
            async with self._client.stream("GET", str(check_url(url, self._settings))) as response:
                if response.status_code not in REDIRECT_STATUSES:
                    return await self._write(response, target)
                if "location" not in response.headers:
                    raise FetchFailed(f"the host responded with {response.status_code} without a `Location` header")
                url = _redirect_target(response)
        raise FetchFailed(
            f"the host redirects more than {self._settings.max_redirects} times", limit=self._settings.max_redirects
        )

    async def _write(self, response: httpx.Response, target: Path) -> int:
        if response.status_code != httpx.codes.OK:
            raise FetchFailed(f"the host responded with {response.status_code}", status_found=response.status_code)
        if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise FetchFailed("the host sent a compressed body; it must send the file uncompressed")
        declared = response.headers.get("content-length", "")
        self._check_size(int(declared) if declared.isdecimal() and len(declared) < 20 else 0)
        count, head = 0, b""
        with target.open("wb") as stream:
            async for chunk in response.aiter_raw(CHUNK_BYTES):
                count += len(chunk)
                self._check_size(count)
                if len(head) < HEAD_BYTES:
                    head = (head + chunk)[:HEAD_BYTES]
                    if len(head) == HEAD_BYTES:
                        check_head(head)
                await asyncio.to_thread(stream.write, chunk)
        check_head(head)
        return count

    def _check_size(self, count: int) -> None:
        limit = self._settings.max_bytes
        if count > limit:
            raise FetchFailed(f"the input is larger than the {limit} bytes allowed", limit_bytes=limit)


def _redirect_target(response: httpx.Response) -> str:
    location = response.headers["location"]
    try:
        return str(response.request.url.join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefused("the host redirects to an invalid URL") from error


def _reason(error: Exception) -> str:
    """Describe a failure without repeating content that the host sent."""
    return str(error) if isinstance(error, httpx.ConnectError) else type(error).__name__
