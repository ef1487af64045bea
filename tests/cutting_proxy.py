"""A TCP proxy that closes connections in the middle of the response, as an unreliable network does."""

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class CuttingProxy:
    """Forwards connections to a server; the n-th response ends after `max_bytes[n]` bytes, later ones are whole."""

    def __init__(self, server: str, *, max_bytes: Sequence[int]) -> None:
        target = urlsplit(server)
        self._target = (target.hostname or "", target.port or 80)
        self._limits = list(max_bytes)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.num_cut = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                limit = self._limits.pop(0) if self._limits else None
                threading.Thread(target=self._serve, args=(client, limit), daemon=True).start()

    def _serve(self, client: socket.socket, limit: int | None) -> None:
        with client, socket.create_connection(self._target) as server, suppress(OSError):
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            sent = 0
            while data := server.recv(4096):
                part = data if limit is None else data[: limit - sent]
                client.sendall(part)
                sent += len(part)
                if limit is not None and sent >= limit:
                    self.num_cut += 1
                    break
            for end in (client, server):  # ends the reads of the other thread, which keep the sockets open
                end.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(4096):
            target.sendall(data)
