"""Download weight files over HTTP: resumable, verified by hash, and cached.

huggingface_hub is used for requests, but not its cache, because that discards interrupted downloads. A finished file is
stored with a record of its metadata:

    CACHE/huggingface.co/timm/PE-Core-B-16/open_clip_model.safetensors
    CACHE/huggingface.co/timm/PE-Core-B-16/open_clip_model.safetensors.json
"""

import fcntl
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, get_session, get_token, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils.sha import git_hash

from serve import strict_json
from serve.files import check_free_space, file_sha256, format_size, write_atomically
from training.errors import InputError, WorkError

DEFAULT_CACHE = Path("~/.cache/actserve/weights")
SCHEMES = ("http://", "https://")
SHA256, GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
HASH_SUFFIX = re.compile(r"-([0-9a-f]{8})\.\w+$")  # suffix of file names, used by torch.hub and OpenMMLab
RECORD_SUFFIX = ".json"

logger = logging.getLogger(__name__)


class DownloadError(WorkError):
    """The download failed; received bytes stay in the cache, so that the next run can resume."""


class RemoteFileNotFoundError(DownloadError):
    """The server has no file with that name."""


class InvalidURLError(InputError):
    """The text starts like a URL but is not a valid URL."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """Metadata of a file on a server."""

    url: str  # without user, password, query and fragment
    etag: str | None = None  # changes with the content
    size: int | None = None  # bytes
    digest: str | None = None  # SHA-256 or its first 8 digits, or git's SHA-1 of the file; None if unknown
    revision: str | None = None  # commit in a repository of the hub


@dataclass(frozen=True, kw_only=True)
class CachedFile:
    """A complete file in the cache, verified if the server or the URL states a hash."""

    path: Path
    remote: RemoteFile


@dataclass(frozen=True, kw_only=True)
class _DownloadRequest:
    """The request that downloads a file."""

    remote: RemoteFile
    url: str
    headers: dict[str, str]


def is_url(text: str) -> bool:
    """Return whether a text is an HTTP URL rather than a path."""
    return text.startswith(SCHEMES)


def hash_in_url(url: str) -> str | None:
    """Return the SHA-256, or its first 8 digits, that a URL contains, or None.

    Eight decimal digits are assumed to be a date.
    """
    path = urlsplit(url).path
    for part in reversed(re.split(r"[/.-]", path)):
        if SHA256.fullmatch(part):
            return part
    match = HASH_SUFFIX.search(path)
    return match[1] if match and not match[1].isdecimal() else None


def fetch_from_hub(repo: str, names: Sequence[str], *, cache: Path = DEFAULT_CACHE) -> CachedFile:
    """Return the first existing file of `names` in a repository of the Hugging Face hub.

    Raises:
        RemoteFileNotFoundError: the repository has none of them.
        DownloadError: the hub does not respond, the download fails, or the hash differs.
        OSError: the disk is full.
    """
    host = urlsplit(constants.ENDPOINT).netloc
    for name in names:
        url = f"{constants.ENDPOINT}/{repo}/{name}"
        try:
            path = _cache_path(cache, host, repo, name)
            return _fetch(path, url, lambda name=name: _request_from_hub(repo, name))  # type: ignore[misc]
        except EntryNotFoundError:
            continue
        except RepositoryNotFoundError as error:
            raise RemoteFileNotFoundError(f"{constants.ENDPOINT} has no repository {repo}, or it is private") from error
    raise RemoteFileNotFoundError(
        f"the repository {repo} at {constants.ENDPOINT} has none of the files {', '.join(names)}"
    )


def fetch_url(url: str, *, cache: Path = DEFAULT_CACHE) -> CachedFile:
    """Return the file at a URL, verified if the URL contains a hash.

    Raises:
        InvalidURLError: the URL is invalid.
        DownloadError: see `fetch_from_hub`.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidURLError(f"{url} is not a valid URL: {error}") from error
    names = [part for part in unquote(parts.path).split("/") if part not in ("", ".", "..")] or ["index"]
    if parts.query:
        names[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:12]}-{names[-1]}"
    path = _cache_path(cache, parts.netloc.rpartition("@")[2], *names)
    return _fetch(path, _redact(url), lambda: _request_from_server(url))


def _cache_path(cache: Path, *names: str) -> Path:
    return cache.expanduser().joinpath(*(name.replace(":", "_") for name in names))


def _fetch(path: Path, url: str, make_request: Callable[[], _DownloadRequest]) -> CachedFile:
    """Return the cached file if it is current, or if the server cannot be reached; otherwise download it."""
    cached = _read_record(path)
    try:
        request = make_request()
    except (EntryNotFoundError, RepositoryNotFoundError, DownloadError):
        raise
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        if cached is None or not _is_intact(path, cached.digest):
            raise DownloadError(
                f"{url} cannot be downloaded: {_reason(error)}; check the network, or pass a local file"
            ) from error
        logger.info("%s cannot be reached: using the cached file", url)
        return CachedFile(path=path, remote=cached)
    remote = request.remote
    is_comparable = remote.etag is not None or remote.digest is not None
    if cached is not None and is_comparable and (cached.etag, cached.size) == (remote.etag, remote.size):
        if _is_intact(path, remote.digest):
            return CachedFile(path=path, remote=cached)
        logger.info("%s is damaged: downloading it again", path)
    _download(path, request)
    _write_record(path, remote)
    return CachedFile(path=path, remote=remote)


def _request_from_hub(repo: str, name: str) -> _DownloadRequest:
    url = hf_hub_url(repo, name)
    metadata = get_hf_file_metadata(url, library_name="actserve")
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    is_on_hub = urlsplit(metadata.location).netloc == urlsplit(url).netloc
    headers = {"authorization": f"Bearer {token}"} if token and is_on_hub else {}
    is_hash = metadata.etag is not None and (SHA256.fullmatch(metadata.etag) or GIT_SHA1.fullmatch(metadata.etag))
    remote = RemoteFile(
        url=f"{constants.ENDPOINT}/{repo}/{name}",
        etag=metadata.etag,
        size=metadata.size,
        digest=metadata.etag if is_hash else None,
        revision=metadata.commit_hash,
    )
    return _DownloadRequest(remote=remote, url=metadata.location, headers=headers)


def _request_from_server(url: str) -> _DownloadRequest:
    headers = {"Accept-Encoding": "identity"}  # without it, sizes and ranges may be those of compressed content
    response = get_session().head(url, headers=headers, follow_redirects=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    if response.status_code in (401, 404, 410):
        raise DownloadError(f"{_redact(url)} returned {response.status_code} {response.reason_phrase}")
    length = response.headers.get("Content-Length", "") if response.is_success else ""  # some servers reject HEAD
    remote = RemoteFile(
        url=_redact(url),
        etag=response.headers.get("ETag") if response.is_success else None,
        size=int(length) if length.isdecimal() else None,
        digest=hash_in_url(url),
    )
    return _DownloadRequest(remote=remote, url=url, headers=headers)


def _download(path: Path, request: _DownloadRequest) -> None:
    """Download a file to a path; after a failure, the received bytes stay in a partial file.

    Raises:
        OSError: the disk is full.
        DownloadError: the download fails, or the hash differs.
    """
    remote = request.remote
    with _partial_file(path, remote) as (partial, stream):
        received = stream.tell()
        if remote.size is not None:
            check_free_space(path.parent, remote.size - received)
        size = "" if remote.size is None else f", {format_size(remote.size)}"
        resuming = f", resuming at {format_size(received)}" if received else ""
        logger.info("downloading %s%s%s", remote.url, size, resuming)
        try:
            with _without_retry_warnings():
                http_get(
                    request.url, stream, resume_size=received, headers=request.headers, expected_size=remote.size,
                    displayed_filename=path.name,
                )  # fmt: skip
            stream.flush()
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            stream.flush()
            raise DownloadError(_error_message(remote, partial.stat().st_size, error)) from error
        if not _is_intact(partial, remote.digest):
            sha256 = file_sha256(partial)
            partial.unlink()
            raise DownloadError(
                f"{remote.url}: the hash must be {remote.digest}, got the SHA-256 {sha256}; "
                "the file was deleted and the next run downloads it again"
            )
        partial.replace(path)


def _error_message(remote: RemoteFile, received: int, error: Exception) -> str:
    total = f" of {format_size(remote.size)}" if remote.size is not None else ""
    can_resume = remote.etag is not None and remote.size is not None
    advice = "the next run resumes there" if can_resume else "the server does not support resuming"
    return f"{remote.url}: the download failed after {format_size(received)}{total}: {_reason(error)}; {advice}"


@contextmanager
def _partial_file(path: Path, remote: RemoteFile) -> Iterator[tuple[Path, BinaryIO]]:
    """Open the partial file for this size and ETag for appending, and lock it; delete other partial files of the path.

    Raises:
        DownloadError: another process downloads the file, or the cache cannot be written.
    """
    key = hashlib.sha256(f"{remote.etag} {remote.size}".encode()).hexdigest()[:16]
    partial = path.with_name(f".{path.name}.{key}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = partial.open("ab")
    except OSError as error:
        raise DownloadError(f"cannot write {partial}: {error.strerror}; use another --cache folder") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(f"another process is downloading {remote.url}") from error
        for other in path.parent.glob(f".{path.name}.*.partial"):
            if other != partial:
                other.unlink()
        if remote.etag is None or remote.size is None or stream.tell() > remote.size:
            stream.truncate(0)
            stream.seek(0)
        yield partial, stream


@contextmanager
def _without_retry_warnings() -> Iterator[None]:
    """Suppress the client's warning for each retry; the final failure is reported as an error."""
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        client.setLevel(level)


def _is_intact(path: Path, digest: str | None) -> bool:
    """Return whether a file exists and matches the hash, if one is known."""
    if not path.is_file():
        return False
    if digest is None:
        return True
    if GIT_SHA1.fullmatch(digest):
        return git_hash(path.read_bytes()) == digest
    return file_sha256(path).startswith(digest)


def _read_record(path: Path) -> RemoteFile | None:
    try:
        record = strict_json.loads(path.with_name(path.name + RECORD_SUFFIX).read_text(encoding="utf-8"))
        return RemoteFile(url=record.pop("address"), **record)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _write_record(path: Path, remote: RemoteFile) -> None:
    record = asdict(remote)
    content = {"address": record.pop("url"), **record}
    write_atomically(path.with_name(path.name + RECORD_SUFFIX), json.dumps(content, indent=1) + "\n")


def _reason(error: Exception) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, HfHubHTTPError):
        return f"the server returned {error.response.status_code} {error.response.reason_phrase}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n")[0] or type(error).__name__


def _redact(url: str) -> str:
    """Return a URL without parts that may be secret: user, password, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
