"""Sends calls: opens files, repeats refused calls, and converts error responses to exceptions."""

from asyncio import sleep
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx

from serve.client.address import key_headers, server_url
from serve.client.calls import Call
from serve.client.problems import ServerUnreachable, error_of
from serve.client.responses import parse_response
from serve.client.retries import RetryPolicy, retry_after_seconds
from serve.client.uploads import stream_upload

CONNECT_SECONDS = 10.0
Document = TypeVar("Document")


class AsyncTransport:
    """A connection pool to one server."""

    def __init__(
        self,
        server: str | None,
        api_key: str | None,
        *,
        timeout_seconds: float,
        retries: RetryPolicy,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.server = server_url(server)
        self.headers = key_headers(api_key)
        self.timeout_seconds = timeout_seconds
        self._retries = retries
        self._is_owner = http is None
        self._http = http or httpx.AsyncClient()

    async def aclose(self) -> None:
        """Close the connections, unless the caller provided the `httpx` client."""
        if self._is_owner:
            await self._http.aclose()

    async def send(self, call: Call) -> httpx.Response:
        """Send a call and return its response, which is a success.

        Raises:
            ProblemError: the server responded with a problem.
            ServerUnreachable, UnexpectedResponse: see there.
            OSError: a file of the call cannot be read.
        """
        async with self.stream(call) as response:
            await response.aread()
        return response

    async def send_for(self, call: Call, kind: type[Document]) -> Document:
        """Send a call and return its JSON object; `kind` is its `TypedDict`.

        Raises:
            ProblemError, ServerUnreachable, UnexpectedResponse: see `send`.
        """
        return parse_response(await self.send(call), kind)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[httpx.Response]:
        """Send a call and yield its response, a success, before its body is read.

        Raises:
            ProblemError, ServerUnreachable, UnexpectedResponse, OSError: see `send`.
        """
        response = await self._send_with_retries(call)
        try:
            if not response.is_success:
                await response.aread()
                raise error_of(response, retry_after_seconds(response))
            yield response
        except httpx.TransportError as error:
            raise ServerUnreachable(str(response.url), error) from error
        finally:
            await response.aclose()

    async def lines(self, call: Call) -> AsyncIterator[str]:
        """Yield the lines of a response while they arrive.

        Raises:
            ProblemError, ServerUnreachable, UnexpectedResponse: see `send`.
        """
        async with self.stream(call) as response:
            async for line in response.aiter_lines():
                yield line

    async def _send_with_retries(self, call: Call) -> httpx.Response:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._send_once(call)
            except httpx.TransportError as error:
                delay = self._retries.delay_after_error(call, attempt, error)
                if delay is None:
                    raise ServerUnreachable(call.url(self.server), error) from error
            else:
                delay = self._retries.delay_after_response(call, attempt, response)
                if delay is None:
                    return response
                await response.aclose()
            await sleep(delay)

    async def _send_once(self, call: Call) -> httpx.Response:
        seconds = call.timeout_seconds or self.timeout_seconds
        with call.open_body() as body:
            headers = {**self.headers, **call.headers, **body.pop("headers", {})}
            timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
            try:
                request = self._http.build_request(
                    call.method, call.url(self.server), headers=headers, timeout=timeout, **body
                )
            except httpx.InvalidURL as error:
                raise ServerUnreachable(call.url(self.server), error) from error
            if call.files:
                stream_upload(request, call.progress)
            return await self._http.send(request, stream=True)
