"""Detect the kind of a weight file from its content, independent of its name.

Other files that users pass by mistake (Git LFS pointers, error pages, archives, configurations, truncated files) are
rejected with an error that says what the file is and what to do.
"""

import re
import zipfile
from pathlib import Path
from typing import Literal

from serve import strict_json
from training.checkpoints.native_format import CheckpointError

FileKind = Literal["safetensors", "torch", "torch_legacy", "torchscript", "index"]

HEAD_BYTES = 4096  # read from the start of a file
LFS_PREFIX = b"version https://git-lfs.github.com/spec/"
ANNEX_PATH = b"/annex/objects/"
SHARD_NAME = re.compile(r"-\d{5}-of-\d{5}\.")
INDEX_SUFFIX = ".index.json"
DOWNLOAD_AGAIN = "download it again and compare its size or checksum with the source"
EXPECTED = "expected weights as safetensors or written by torch.save"
COMPRESSION_PREFIXES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x04\x22\x4d\x18": "lz4",
}
OTHER_PREFIXES = {
    b"GGUF": "a GGUF file",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (Keras, TensorFlow)",
    b"\x93NUMPY": "a NumPy array",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program",
}


def detect_file_kind(path: Path) -> FileKind:
    """Return the kind of a weight file, which determines its reader.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file contains no tensors or is truncated; the message says what it is and what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    _reject_other_files(path, head)
    if _is_safetensors(path, head):
        return "safetensors"
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if head.lstrip()[:1] == b"{":
        return _kind_of_json(path)
    if head.startswith(b"\x80") and len(head) > 2 and head[1] <= 5:
        return "torch_legacy"
    raise CheckpointError(f"{path} {_describe(head)}; {EXPECTED}")


def _reject_other_files(path: Path, head: bytes) -> None:
    """Raise for empty files, pointers, web pages, compressed files and other formats."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        raise CheckpointError(f"{path} is empty; {DOWNLOAD_AGAIN}")
    if start.startswith(LFS_PREFIX):
        size = re.search(rb"^size (\d+)", start, re.MULTILINE)
        size_text = f" of {size[1].decode()} bytes" if size else ""
        raise CheckpointError(
            f"{path} is a Git LFS pointer to a file{size_text}, not the file itself; run `git lfs pull` in its "
            "repository, or download the file itself"
        )
    if len(head) < 1024 and ANNEX_PATH in head:
        raise CheckpointError(
            f"{path} is a git-annex pointer, not the file itself; run `git annex get` in its repository"
        )
    if re.match(rb"<(!doctype|html|head|body|\?xml|error|!--)", start, re.IGNORECASE):
        title = re.search(rb"<title[^>]*>(.*?)</title>", head, re.IGNORECASE | re.DOTALL)
        title_text = f" ({_shorten(title[1])!r})" if title else ""
        raise CheckpointError(
            f"{path} is a web page{title_text}, not weights: the server returned an error or a sign-in page; "
            "open the URL in a browser, then download the file itself"
        )
    for prefix, name in COMPRESSION_PREFIXES.items():
        if head.startswith(prefix):
            raise CheckpointError(f"{path} is compressed with {name}; unpack it and pass the file inside")
    if head[257:262] == b"ustar" and b"pickle" not in head[:100]:
        raise CheckpointError(f"{path} is a tar archive; unpack it and pass the file or folder inside")
    other = next((name for prefix, name in OTHER_PREFIXES.items() if head.startswith(prefix)), None)
    if head[4:8] == b"ftyp":
        other = "a video or image (MP4, MOV, HEIF)"
    if other is not None:
        raise CheckpointError(f"{path} is {other}; {EXPECTED}")


def _is_safetensors(path: Path, head: bytes) -> bool:
    """Return whether the file begins with the length of a JSON header and that header.

    Raises:
        CheckpointError: the file is shorter than its header says.
    """
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:9] != b"{" or not 2 <= length <= 100_000_000:
        return False
    with path.open("rb") as stream:
        stream.seek(8)
        header = stream.read(length)
    size = path.stat().st_size
    if len(header) < length:
        raise CheckpointError(
            f"{path} is truncated: the header has {length + 8} bytes, the file {size}; {DOWNLOAD_AGAIN}"
        )
    try:
        entries = strict_json.loads(header)
        stops = [item["data_offsets"][1] for name, item in entries.items() if name != "__metadata__"]
        expected = 8 + length + max(stops, default=0)
    except (ValueError, AttributeError, KeyError, IndexError, TypeError):
        return False
    if size < expected:
        raise CheckpointError(f"{path} is truncated: expected {expected} bytes, found {size}; {DOWNLOAD_AGAIN}")
    return True


def _kind_of_zip(path: Path) -> FileKind:
    """Return the kind of a zip archive of torch; raise for other archives."""
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is truncated: the zip directory at its end is missing; {DOWNLOAD_AGAIN}")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is a broken zip archive ({error}); {DOWNLOAD_AGAIN}") from error
    inner = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in inner:
        return "torchscript"
    if "data.pkl" in inner:
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(f"{path} contains NumPy arrays (npz); {EXPECTED}")
    listing = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    raise CheckpointError(f"{path} is a zip archive of {listing or 'nothing'}; unpack it and pass the file or folder")


def _kind_of_json(path: Path) -> FileKind:
    """Return the kind of a JSON file: the index of a sharded checkpoint; raise for other JSON."""
    try:
        document = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is text, not weights: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("weight_map"), dict):
        return "index"
    if isinstance(document, dict) and {"model_type", "architectures", "model_cfg"} & set(document):
        raise CheckpointError(f"{path} is a configuration without weights; pass its folder")
    keys = ", ".join(sorted(map(str, document))[:6]) if isinstance(document, dict) else type(document).__name__
    raise CheckpointError(f"{path} is JSON, not weights; it contains {keys or 'nothing'}")


def is_shard(path: Path) -> bool:
    """Return whether a name is that of one of several weight files, e.g. `model-00001-of-00003.safetensors`."""
    return SHARD_NAME.search(path.name) is not None


def _describe(head: bytes) -> str:
    if b"\x00" not in head:
        try:
            return f"is text that begins with {_shorten(head)!r}"
        except UnicodeDecodeError:
            pass
    return f"has an unknown format (it begins with {head[:8].hex(' ')})"


def _shorten(content: bytes, max_length: int = 60) -> str:
    line = " ".join(content.decode("utf-8").split())
    return line if len(line) <= max_length else f"{line[: max_length - 3]}..."
