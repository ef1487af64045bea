"""Descriptions of requests, independent of how they are sent; a call can be repeated."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

Video = str | Path | bytes | BinaryIO
"""A video: the path of a file, its bytes, or an open binary file, which must be seekable to be sent again."""

Progress = Callable[[int, int | None], None]
"""Called during an upload with the number of bytes sent so far and the total, which is None if it is unknown."""

DEFAULT_FILENAME = "video"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request of the API.

    `json`, `content` (bytes, or the path of a file) and `files` with `fields` (a form) exclude each other.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | Path | None = None
    files: Sequence[tuple[str, Video]] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None  # by default that of the client
    progress: Progress | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether the body can be sent again."""
        return all(isinstance(video, str | Path | bytes) or video.seekable() for _, video in self.files)

    @property
    def is_safe_after_disconnect(self) -> bool:
        """Whether sending the call twice has the same result as once, even if the first response was lost."""
        return self.method == "GET" or "Idempotency-Key" in self.headers

    def url(self, server: str) -> str:
        """Return the URL with the query."""
        query = urlencode({name: _query_value(value) for name, value in self.query.items()})
        return f"{server}{self.path}" + (f"?{query}" if query else "")

    def with_query(self, **query: Any) -> "Call":
        """Return the call with additional query parameters."""
        return replace(self, query={**self.query, **query})

    def with_json(self, **members: Any) -> "Call":
        """Return the call with additional members of its JSON object."""
        return replace(self, json={**self.json, **members})

    def with_fields(self, **fields: str) -> "Call":
        """Return the call with additional text fields of its form."""
        return replace(self, fields={**self.fields, **fields})

    @contextmanager
    def open_body(self) -> Iterator[dict[str, Any]]:
        """Open the files of the body; yield the arguments `content`, or `files` and `data`, of `httpx.build_request`.

        Raises:
            OSError: a file cannot be read.
        """
        with ExitStack() as files:
            if self.files:
                parts = [(name, _file_part(video, files)) for name, video in self.files]
                yield {"files": parts, "data": dict(self.fields)}
            elif isinstance(self.content, Path):
                with _named_errors(self.content):
                    content = self.content.read_bytes()
                yield {"content": content}
            elif self.json is not None:
                yield {"content": json_bytes(self.json), "headers": {"Content-Type": "application/json"}}
            else:
                yield {"content": self.content}

    def to_curl(self, server: str, *, key_variable: str | None = None) -> str:
        """Return the call as a curl command; the shell reads the API key from the variable `key_variable`.

        Raises:
            ValueError: a file of the form has no path.
        """
        arguments = ["curl", "-X", self.method, self.url(server)]
        headers = dict(self.headers)
        if self.json is not None:
            headers["Content-Type"] = "application/json"
        for name, value in headers.items():
            arguments += ["-H", f"{name}: {value}"]
        if isinstance(self.content, Path):
            arguments += ["--data-binary", f"@{self.content}"]
        elif self.json is not None or self.content is not None:
            body = json_bytes(self.json) if self.content is None else self.content
            arguments += ["--data-binary", body.decode()]
        for name, video in self.files:
            if not isinstance(video, str | Path):
                raise ValueError(f"the file {name!r} of the form has no path")
            arguments += ["-F", f"{name}=@{video}"]
        for name, value in self.fields.items():
            arguments += ["--form-string", f"{name}={value}"]
        key = f' -H "Authorization: Bearer ${key_variable}"' if key_variable is not None else ""
        return shlex.join(arguments) + key


def path_of(template: str, **parameters: str) -> str:
    """Fill a path template, with the parameters quoted.

    >>> path_of("/v1/vocabularies/{name}:export", name="a/b@2")
    '/v1/vocabularies/a%2Fb@2:export'
    """
    return template.format(**{name: quote(value, safe="@") for name, value in parameters.items()})


def upload_call(
    path: str,
    files: Sequence[tuple[str, Video]],
    options: Mapping[str, Any],
    *,
    progress: Progress | None = None,
    **others: Any,
) -> Call:
    """Return a call that uploads files in a form, with the options as one JSON document."""
    fields = {"options": json_bytes(options).decode()} if options else {}
    return Call(method="POST", path=path, files=files, fields=fields, progress=progress, **others)


def check_options(options: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Check the names of options and return them without those that are None.

    Raises:
        TypeError: `kind`, a `TypedDict`, has no such option.
    """
    known = set(kind.__annotations__)
    unknown = sorted(options.keys() - known)
    if unknown:
        raise TypeError(f"unknown option {unknown[0]!r}; allowed are {', '.join(sorted(known))}")
    return {name: value for name, value in options.items() if value is not None}


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _query_value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _file_part(video: Video, files: ExitStack) -> tuple[str, BinaryIO | bytes]:
    """Return the file name and the content of a part."""
    if isinstance(video, bytes):
        return DEFAULT_FILENAME, video
    if isinstance(video, str | Path):
        path = Path(video)
        with _named_errors(path):
            stream: BinaryIO = files.enter_context(path.open("rb"))
            stream.read(1)  # an unreadable file is an error before the request is sent
            stream.seek(0)
        return _sent_name(path.name), stream
    if video.seekable():
        video.seek(0)
    name = getattr(video, "name", None)
    return _sent_name(Path(name).name) if isinstance(name, str) else DEFAULT_FILENAME, video


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Add the path to errors of the operating system; those of `read` have none."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sent_name(name: str) -> str:
    """Return a file name for a form; bytes of the name that are not UTF-8 are replaced.

    >>> _sent_name("s\\udcff.mp4")
    's?.mp4'
    """
    return name.encode("utf-8", "replace").decode()
