"""Messages between a process and its decode children: a header, a payload of raw bytes, open file descriptors.

Messages from a decode child are not trusted, because a hostile file may have compromised the child: their headers are
JSON and their lengths are bounded. Only the parent, which is trusted, sends pickled arguments.
"""

import json
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

MAX_HEADER_BYTES = 64 * 2**20  # a million frame times as JSON take about 20 MB
MAX_DESCRIPTORS = 2
_PREFIX = struct.Struct("!IQ")  # length of the header, length of the payload
FOREVER = float("inf")


class ChannelClosed(Exception):
    """The other side has closed the channel or exited."""


class ProtocolError(ChannelClosed):
    """The other side sent an invalid message; the channel can no longer be used."""


class Channel:
    """One end of a socket pair; not safe for use by several threads at once."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def send(
        self, header: bytes, payload: Any = b"", *, descriptors: Sequence[int] = (), ends: float = FOREVER
    ) -> None:
        """Send one message; `ends` is a deadline of `time.monotonic`.

        Raises:
            ChannelClosed: the other side is gone.
            TimeoutError: the other side did not read the message before `ends`.
        """
        body = memoryview(payload).cast("B")
        first = memoryview(_PREFIX.pack(len(header), len(body)) + header)
        try:
            self._wait(ends)
            sent = socket.send_fds(self._socket, [first], list(descriptors)) if descriptors else 0
            self._socket.sendall(first[sent:])
            if body:
                self._wait(ends)
                self._socket.sendall(body)
        except (ConnectionError, ValueError) as error:  # ValueError: this end was closed
            raise ChannelClosed(str(error)) from error

    def receive(self, *, ends: float = FOREVER) -> tuple[bytes, int, list[int]]:
        """Return the header of the next message, the length of the payload that follows, and open descriptors.

        Raises:
            ChannelClosed: the other side is gone.
            TimeoutError: no message arrived before `ends`.
        """
        prefix, descriptors = self._receive_prefix(ends)
        num_header, num_payload = _PREFIX.unpack(prefix)
        if num_header > MAX_HEADER_BYTES:
            raise ProtocolError(f"a header has {num_header} bytes; at most {MAX_HEADER_BYTES} are allowed")
        header = bytearray(num_header)
        self.receive_into(header, ends=ends)
        return bytes(header), num_payload, descriptors

    def receive_into(self, buffer: Any, *, ends: float = FOREVER) -> None:
        """Fill a buffer with the next bytes.

        Raises:
            ChannelClosed, TimeoutError: see `receive`.
        """
        view = memoryview(buffer).cast("B")
        while view:
            self._wait(ends)
            try:
                count = self._socket.recv_into(view)
            except ConnectionError as error:
                raise ChannelClosed(str(error)) from error
            if not count:
                raise ChannelClosed("the other side closed the channel")
            view = view[count:]

    def _receive_prefix(self, ends: float) -> tuple[bytes, list[int]]:
        self._wait(ends)
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _PREFIX.size, MAX_DESCRIPTORS)
        except ConnectionError as error:
            raise ChannelClosed(str(error)) from error
        if not data:
            raise ChannelClosed("the other side closed the channel")
        rest = bytearray(_PREFIX.size - len(data))
        self.receive_into(rest, ends=ends)
        return data + bytes(rest), descriptors

    def _wait(self, ends: float) -> None:
        """Set the timeout of the next call on the socket so that it ends before `ends`."""
        if ends == FOREVER:
            self._socket.settimeout(None)
            return
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)


def send_json(
    channel: Channel, document: dict[str, Any], payload: Any = b"", *, descriptors: Sequence[int] = ()
) -> None:
    """Send a message whose header is JSON.

    Raises:
        ChannelClosed: see `Channel.send`.
    """
    channel.send(json.dumps(document).encode(), payload, descriptors=descriptors)


def receive_json(channel: Channel, *, ends: float = FOREVER) -> tuple[dict[str, Any], int, list[int]]:
    """Receive the header of a message, a JSON object; the caller reads the payload.

    Raises:
        ProtocolError: the header is not a JSON object.
        ChannelClosed, TimeoutError: see `Channel.receive`.
    """
    header, num_payload, descriptors = channel.receive(ends=ends)
    try:
        document = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a header is not JSON") from error
    if not isinstance(document, dict):
        raise ProtocolError("a header is not a JSON object")
    return document, num_payload, descriptors
