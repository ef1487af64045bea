# Generated from serve/client/asynchronous by `python -m serve.client_source`; do not edit.
"""Sends calls: opens files, repeats refused calls, and converts error responses to exceptions."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import sleep
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


class Transport:
    """A connection pool to one server."""

    def __init__(
        self,
        server: str | None,
        api_key: str | None,
        *,
        timeout_seconds: float,
        retries: RetryPolicy,
        http: httpx.Client | None = None,
    ) -> None:
        self.server = server_url(server)
        self.headers = key_headers(api_key)
        self.timeout_seconds = timeout_seconds
        self._retries = retries
        self._is_owner = http is None
        self._http = http or httpx.Client()

    def close(self) -> None:
        """Close the connections, unless the caller provided the `httpx` client."""
        if self._is_owner:
            self._http.close()

    def send(self, call: Call) -> httpx.Response:
        """Send a call and return its response, which is a success.

        Raises:
            ProblemError: the server responded with a problem.
            ServerUnreachable, UnexpectedResponse: see there.
            OSError: a file of the call cannot be read.
        """
        with self.stream(call) as response:
            response.read()
        return response

    def send_for(self, call: Call, kind: type[Document]) -> Document:
        """Send a call and return its JSON object; `kind` is its `TypedDict`.

        Raises:
            ProblemError, ServerUnreachable, UnexpectedResponse: see `send`.
        """
        return parse_response(self.send(call), kind)

    @contextmanager
    def stream(self, call: Call) -> Iterator[httpx.Response]:
        """Send a call and yield its response, a success, before its body is read.

        Raises:
            ProblemError, ServerUnreachable, UnexpectedResponse, OSError: see `send`.
        """
        response = self._send_with_retries(call)
        try:
            if not response.is_success:
                response.read()
                raise error_of(response, retry_after_seconds(response))
            yield response
        except httpx.TransportError as error:
            raise ServerUnreachable(str(response.url), error) from error
        finally:
            response.close()

    def lines(self, call: Call) -> Iterator[str]:
        """Yield the lines of a response while they arrive.

        Raises:
            ProblemError, ServerUnreachable, UnexpectedResponse: see `send`.
        """
        with self.stream(call) as response:
            yield from response.iter_lines()

    def _send_with_retries(self, call: Call) -> httpx.Response:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._send_once(call)
            except httpx.TransportError as error:
                delay = self._retries.delay_after_error(call, attempt, error)
                if delay is None:
                    raise ServerUnreachable(call.url(self.server), error) from error
            else:
                delay = self._retries.delay_after_response(call, attempt, response)
                if delay is None:
                    return response
                response.close()
            sleep(delay)

    def _send_once(self, call: Call) -> httpx.Response:
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
            return self._http.send(request, stream=True)
