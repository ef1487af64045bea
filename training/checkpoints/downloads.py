"""Download weight files over HTTP: resumable, verified by hash, and cached.

huggingface_hub requests a file's metadata and transfers its bytes. Its cache is not used, because it discards
interrupted downloads. A finished file is stored beside a record of its metadata:

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
from serve.files import file_sha256, require_space, shown_size, write_atomically
from training.errors import InputError, WorkError

DEFAULT_CACHE = Path("~/.cache/actserve/weights")
SCHEMES = ("http://", "https://")
SHA256, GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
HASH_PREFIX = re.compile(r"-([0-9a-f]{8})\.\w+$")  # suffix of file names of torch.hub and OpenMMLab
RECORD_SUFFIX = ".json"

logger = logging.getLogger(__name__)


class DownloadError(WorkError):
    """The file cannot be downloaded; received bytes stay in the cache, and the next run resumes from there."""


class AbsentError(DownloadError):
    """The server has no file of that name."""


class AddressError(InputError):
    """The text begins like an address but is invalid."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """Metadata of a file from its server."""

    address: str  # without a signature
    etag: str | None = None  # changes with the content
    size: int | None = None  # bytes
    digest: str | None = None  # SHA-256 or its first 8 digits, or git's SHA-1; None if unknown
    revision: str | None = None  # commit of a repository of the hub


@dataclass(frozen=True, kw_only=True)
class CachedFile:
    """A complete file in the cache, verified by the announced hash."""

    path: Path
    remote: RemoteFile


@dataclass(frozen=True, kw_only=True)
class _Transfer:
    """The request for the bytes of a file."""

    remote: RemoteFile
    url: str
    headers: dict[str, str]


def is_address(text: str) -> bool:
    """Return whether a text is an http(s) address rather than a path."""
    return text.startswith(SCHEMES)


def address_hash(url: str) -> str | None:
    """Return the SHA-256, or its first 8 digits, that an address contains.

    Eight decimal digits are a date, not a hash.
    """
    path = urlsplit(url).path
    for part in reversed(re.split(r"[/.-]", path)):
        if SHA256.fullmatch(part):
            return part
    found = HASH_PREFIX.search(path)
    return found[1] if found and not found[1].isdecimal() else None


def fetch_from_hub(repo: str, names: Sequence[str], *, cache: Path = DEFAULT_CACHE) -> CachedFile:
    """Return the first file of `names` that a repository of the Hugging Face hub has.

    Raises:
        AbsentError: the repository has none of them.
        DownloadError: the hub does not answer, the transfer failed, or the hash differs.
        OSError: the disk is full.
    """
    host = urlsplit(constants.ENDPOINT).netloc
    for name in names:
        address = f"{constants.ENDPOINT}/{repo}/{name}"
        try:
            return _fetch(_place(cache, host, repo, name), address, lambda name=name: _ask_hub(repo, name))  # type: ignore[misc]
        except EntryNotFoundError:
            continue
        except RepositoryNotFoundError as error:
            raise AbsentError(f"{constants.ENDPOINT} has no repository {repo}, or it is private") from error
    raise AbsentError(f"the repository {repo} at {constants.ENDPOINT} has none of the files {', '.join(names)}")


def fetch_address(url: str, *, cache: Path = DEFAULT_CACHE) -> CachedFile:
    """Return the file at an address; verify it if the address contains a hash.

    Raises:
        AddressError: the address is invalid.
        DownloadError: see `fetch_from_hub`.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise AddressError(f"{url} is not a valid address: {error}") from error
    names = [part for part in unquote(parts.path).split("/") if part not in ("", ".", "..")] or ["index"]
    if parts.query:
        names[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:12]}-{names[-1]}"
    return _fetch(_place(cache, parts.netloc.rpartition("@")[2], *names), _without_query(url), lambda: _ask_server(url))


def _place(cache: Path, *names: str) -> Path:
    return cache.expanduser().joinpath(*(name.replace(":", "_") for name in names))


def _fetch(place: Path, address: str, ask: Callable[[], _Transfer]) -> CachedFile:
    known = _read_record(place)
    try:
        transfer = ask()
    except (EntryNotFoundError, RepositoryNotFoundError, DownloadError):
        raise
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        if known is None or not _has_digest(place, known.digest):
            raise DownloadError(
                f"{address} cannot be downloaded: {_reason(error)}; check the network, or give a file instead"
            ) from error
        logger.info("%s cannot be reached: using the cached file", address)
        return CachedFile(path=place, remote=known)
    remote = transfer.remote
    is_known = remote.etag is not None or remote.digest is not None
    if known is not None and is_known and (known.etag, known.size) == (remote.etag, remote.size):
        if _has_digest(place, remote.digest):
            return CachedFile(path=place, remote=known)
        logger.info("%s is damaged: downloading it again", place)
    _download(place, transfer)
    write_atomically(place.with_name(place.name + RECORD_SUFFIX), json.dumps(asdict(remote), indent=1) + "\n")
    return CachedFile(path=place, remote=remote)


def _ask_hub(repo: str, name: str) -> _Transfer:
    url = hf_hub_url(repo, name)
    found = get_hf_file_metadata(url, library_name="actserve")
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    is_on_hub = urlsplit(found.location).netloc == urlsplit(url).netloc
    headers = {"authorization": f"Bearer {token}"} if token and is_on_hub else {}
    is_hash = found.etag is not None and (SHA256.fullmatch(found.etag) or GIT_SHA1.fullmatch(found.etag))
    remote = RemoteFile(
        address=f"{constants.ENDPOINT}/{repo}/{name}",
        etag=found.etag,
        size=found.size,
        digest=found.etag if is_hash else None,
        revision=found.commit_hash,
    )
    return _Transfer(remote=remote, url=found.location, headers=headers)


def _ask_server(url: str) -> _Transfer:
    headers = {"Accept-Encoding": "identity"}  # sizes and ranges are those of the file itself
    found = get_session().head(url, headers=headers, follow_redirects=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    if found.status_code in (401, 404, 410):
        raise DownloadError(f"{_without_query(url)} answers {found.status_code} {found.reason_phrase}")
    length = found.headers.get("Content-Length", "") if found.is_success else ""  # some servers answer only GET
    remote = RemoteFile(
        address=_without_query(url),
        etag=found.headers.get("ETag") if found.is_success else None,
        size=int(length) if length.isdecimal() else None,
        digest=address_hash(url),
    )
    return _Transfer(remote=remote, url=url, headers=headers)


def _download(place: Path, transfer: _Transfer) -> None:
    """Download a file to its path; after a failure, received bytes stay beside it.

    Raises:
        OSError: the disk is full.
        DownloadError: the transfer failed, or the hash differs.
    """
    remote = transfer.remote
    with _partial_file(place, remote) as (partial, stream):
        done = stream.tell()
        if remote.size is not None:
            require_space(place.parent, remote.size - done)
        size = "" if remote.size is None else f", {shown_size(remote.size)}"
        logger.info("fetching %s%s%s", remote.address, size, f", {shown_size(done)} received before" if done else "")
        try:
            with _without_retry_warnings():
                http_get(
                    transfer.url, stream, resume_size=done, headers=transfer.headers, expected_size=remote.size,
                    displayed_filename=place.name,
                )  # fmt: skip
            stream.flush()
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            stream.flush()
            raise DownloadError(_transfer_error(place, remote, partial.stat().st_size, error)) from error
        if not _has_digest(partial, remote.digest):
            found = file_sha256(partial)
            partial.unlink()
            raise DownloadError(
                f"{remote.address}: the content has the SHA-256 {found}, {remote.digest} was announced; what was "
                "received is deleted, so that the next run downloads it again"
            )
        partial.replace(place)


def _transfer_error(place: Path, remote: RemoteFile, done: int, error: Exception) -> str:
    of = f" of {shown_size(remote.size)}" if remote.size is not None else ""
    can_resume = remote.etag is not None and remote.size is not None
    advice = "the next run resumes from there" if can_resume else "the server does not support resuming"
    return f"{remote.address}: the download failed after {shown_size(done)}{of}: {_reason(error)}; {advice}"


@contextmanager
def _partial_file(place: Path, remote: RemoteFile) -> Iterator[tuple[Path, BinaryIO]]:
    """Open and lock the partial file for this size and ETag, at its end; remove partial files of other content.

    Raises:
        DownloadError: another process downloads the file, or the cache cannot be written.
    """
    key = hashlib.sha256(f"{remote.etag} {remote.size}".encode()).hexdigest()[:16]
    partial = place.with_name(f".{place.name}.{key}.partial")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        stream = partial.open("ab")
    except OSError as error:
        raise DownloadError(f"{partial} cannot be written: {error.strerror}; give another --cache folder") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(f"another process is downloading {remote.address}") from error
        for other in place.parent.glob(f".{place.name}.*.partial"):
            if other != partial:
                other.unlink()
        if remote.etag is None or remote.size is None or stream.tell() > remote.size:
            stream.truncate(0)
            stream.seek(0)
        yield partial, stream


@contextmanager
def _without_retry_warnings() -> Iterator[None]:
    """Suppress the client's warning of each retry; a final failure is reported once."""
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        client.setLevel(level)


def _has_digest(path: Path, digest: str | None) -> bool:
    """Return whether a file exists and has the hash, if one is known."""
    if not path.is_file():
        return False
    if digest is None:
        return True
    if GIT_SHA1.fullmatch(digest):
        return git_hash(path.read_bytes()) == digest
    return file_sha256(path).startswith(digest)


def _read_record(place: Path) -> RemoteFile | None:
    try:
        return RemoteFile(**strict_json.loads(place.with_name(place.name + RECORD_SUFFIX).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, HfHubHTTPError):
        return f"the server answers {error.response.status_code} {error.response.reason_phrase}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n")[0] or type(error).__name__


def _without_query(url: str) -> str:
    """Return an address without possible secrets: user and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
