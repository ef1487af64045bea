"""A server on the loopback interface that speaks the protocol of the Hugging Face hub, with faults on request.

`/{repo}/resolve/{revision}/{file}` answers with the headers that huggingface_hub reads: the commit, and for a large
file the SHA-256 and size of its Git LFS pointer and a redirect to a content host, which serves ranges. The content host
is the same server under its other name (localhost), so that clients see two hosts.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = 64_000  # bytes; larger files are kept as Git LFS keeps them
PIECE = 1 << 20


@dataclass
class Hub:
    """Files by `repo/name`, what was asked for, and what goes wrong."""

    files: dict[str, Path] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range
    cut_after: int | None = None  # bytes of a content after which the connection is closed
    cuts: int = 0  # how often it is; then `status_after_cuts`
    status_after_cuts: int = 200
    announced: dict[str, str] = field(default_factory=dict)  # `repo/name` -> SHA-256 of its pointer, where it is wrong
    status: int = 200  # of every answer about metadata
    port: int = 0

    @property
    def endpoint(self) -> str:
        """Value of HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def add(self, name: str, path: Path) -> None:
        """Serve a file as `repo/name`."""
        self.files[name] = path

    def ranges(self) -> list[str]:
        """The ranges of contents that were asked for, in order; empty for a whole file."""
        return [given for method, path, given in self.requests if method == "GET" and "/content/" in path]

    def names_asked(self) -> list[str]:
        """The last parts of the addresses whose metadata was asked for."""
        return [path.rsplit("/", 1)[-1] for method, path, _ in self.requests if method == "HEAD"]


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Serve until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.requests.append((self.command, self.path, self.headers.get("Range", "")))
        if path.startswith(("/content/", "/plain/")):
            self._content(path.split("/", 2)[2])
            return
        if hub.status != 200:
            self._end(hub.status)
            return
        repo, marker, rest = path.lstrip("/").partition("/resolve/")
        name = f"{repo}/{rest.partition('/')[2]}"
        if not marker or name not in hub.files:
            known = any(each.startswith(f"{repo}/") for each in hub.files)
            self._end(404, {"X-Error-Code": "EntryNotFound" if known else "RepoNotFound", "X-Repo-Commit": COMMIT})
            return
        file = hub.files[name]
        size = file.stat().st_size
        headers = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if size > SMALL:
            digest = hub.announced.get(name) or sha256(file)
            place = f"http://localhost:{hub.port}/content/{name}?signature=secret"
            self._end(
                302,
                {
                    **headers,
                    "Location": place,
                    "X-Linked-Size": str(size),
                    "X-Linked-Etag": f'"{digest}"',
                    "ETag": '"of the pointer"',
                },
            )
            return
        content = file.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % size + content).hexdigest()
        self._end(200, {**headers, "ETag": f'"{git}"'}, content)

    def _content(self, name: str) -> None:
        """Bytes of a file; a whole file under `/plain/`, as any other server gives it, with its hash as ETag."""
        hub = self.hub
        file = hub.files.get(name)
        if file is None:
            self._end(404)
            return
        size, start = file.stat().st_size, 0
        headers = {"ETag": f'"{sha256(file)[:16]}"'}
        if given := self.headers.get("Range"):
            start = int(given.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        if self.command == "HEAD":
            self._end(200, {**headers, "Content-Length": str(size)}, with_length=False)
            return
        if hub.cut_after is not None and hub.cuts <= 0 and hub.status_after_cuts != 200:
            self._end(hub.status_after_cuts)
            return
        self.send_response(206 if given else 200)
        for key, value in {**headers, "Content-Length": str(size - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        self._send_file(file, start, size)

    def _send_file(self, file: Path, start: int, size: int) -> None:
        hub, sent = self.hub, 0
        most = size - start
        if hub.cut_after is not None and hub.cuts > 0:
            hub.cuts -= 1
            most = min(most, hub.cut_after)
            self.close_connection = True
        with file.open("rb") as stream:
            stream.seek(start)
            while sent < most and (piece := stream.read(min(PIECE, most - sent))):
                self.wfile.write(piece)
                sent += len(piece)

    def _end(
        self, status: int, headers: dict[str, str] | None = None, content: bytes = b"", *, with_length: bool = True
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if with_length:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


_HASHES: dict[tuple[str, int], str] = {}


def sha256(file: Path) -> str:
    """Hexadecimal SHA-256 of a file, computed once for each state of it."""
    key = (str(file), file.stat().st_mtime_ns)
    if key not in _HASHES:
        with file.open("rb") as stream:
            _HASHES[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _HASHES[key]
