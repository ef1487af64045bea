"""Messages between the server and its decode children: a header, a payload of raw bytes and open file descriptors.

Messages from a decode child are not trusted, because a hostile file may have compromised the child. So their headers
are JSON, and their lengths are bounded. Only the server, which is trusted, sends pickled arguments.
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
    """One end of a socket pair; not thread-safe."""

    def __init__(self, sock: socket.socket, *, receives_descriptors: bool = False) -> None:
        """With `receives_descriptors`, the other side is trusted to send descriptors; others are discarded."""
        self._socket = sock
        self._receives_descriptors = receives_descriptors

    def fileno(self) -> int:
        """Return the file descriptor of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(
        self, header: bytes, payload: Any = b"", *, descriptors: Sequence[int] = (), deadline: float = FOREVER
    ) -> None:
        """Send one message before `deadline`, a time of `time.monotonic`.

        Raises:
            ChannelClosed: the other side has closed the channel or exited.
            TimeoutError: the other side did not read the message before the deadline.
        """
        body = memoryview(payload).cast("B")
        first = memoryview(_PREFIX.pack(len(header), len(body)) + header)
        try:
            self._wait(deadline)
            sent = socket.send_fds(self._socket, [first], list(descriptors)) if descriptors else 0
            self._socket.sendall(first[sent:])
            if body:
                self._wait(deadline)
                self._socket.sendall(body)
        except (ConnectionError, ValueError) as error:  # ValueError: this end was closed
            raise ChannelClosed(str(error)) from error

    def receive(self, *, deadline: float = FOREVER) -> tuple[bytes, int, list[int]]:
        """Return the header of the next message, the length of the payload that follows, and open descriptors.

        Raises:
            ChannelClosed: the other side has closed the channel or exited.
            ProtocolError: the header is too long.
            TimeoutError: no message arrived before the deadline.
        """
        prefix, descriptors = self._receive_prefix(deadline)
        header_bytes, payload_bytes = _PREFIX.unpack(prefix)
        if header_bytes > MAX_HEADER_BYTES:
            raise ProtocolError(f"a header has {header_bytes} bytes; at most {MAX_HEADER_BYTES} are allowed")
        header = bytearray(header_bytes)
        self.receive_into(header, deadline=deadline)
        return bytes(header), payload_bytes, descriptors

    def receive_into(self, buffer: Any, *, deadline: float = FOREVER) -> None:
        """Fill a buffer with the next bytes of the payload.

        Raises:
            ChannelClosed, TimeoutError: see `receive`.
        """
        view = memoryview(buffer).cast("B")
        while view:
            self._wait(deadline)
            try:
                count = self._socket.recv_into(view)
            except ConnectionError as error:
                raise ChannelClosed(str(error)) from error
            if not count:
                raise ChannelClosed("the other side closed the channel")
            view = view[count:]

    def _receive_prefix(self, deadline: float) -> tuple[bytes, list[int]]:
        self._wait(deadline)
        descriptors: list[int] = []
        try:
            if self._receives_descriptors:
                data, descriptors, _, _ = socket.recv_fds(self._socket, _PREFIX.size, MAX_DESCRIPTORS)
            else:
                data = self._socket.recv(_PREFIX.size)
        except ConnectionError as error:
            raise ChannelClosed(str(error)) from error
        if not data:
            raise ChannelClosed("the other side closed the channel")
        rest = bytearray(_PREFIX.size - len(data))
        self.receive_into(rest, deadline=deadline)
        return data + bytes(rest), descriptors

    def _wait(self, deadline: float) -> None:
        """Set the timeout of the next socket call to the time that remains before the deadline."""
        if deadline == FOREVER:
            self._socket.settimeout(None)
            return
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining)


def send_json(
    channel: Channel, document: dict[str, Any], payload: Any = b"", *, descriptors: Sequence[int] = ()
) -> None:
    """Send a message with a JSON header.

    Raises:
        ChannelClosed: see `Channel.send`.
    """
    channel.send(json.dumps(document).encode(), payload, descriptors=descriptors)


def receive_json(channel: Channel, *, deadline: float = FOREVER) -> tuple[dict[str, Any], int, list[int]]:
    """Return the header of the next message, a JSON object, the length of the payload, and open descriptors.

    Raises:
        ProtocolError: the header is not a JSON object.
        ChannelClosed, TimeoutError: see `Channel.receive`.
    """
    header, payload_bytes, descriptors = channel.receive(deadline=deadline)
    try:
        document = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a header is not valid JSON") from error
    if not isinstance(document, dict):
        raise ProtocolError("a header is not a JSON object")
    return document, payload_bytes, descriptors
