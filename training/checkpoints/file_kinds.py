"""Detect the kind of a file from its first bytes, independent of its name.

Files of tensors have a kind. For other files that users give by mistake (Git LFS pointers, error pages of downloads,
archives, configurations, truncated files), the error says what the file is and what to do.
"""

import re
import zipfile
from pathlib import Path
from typing import Literal

from serve import strict_json
from training.checkpoints.native_format import CheckpointError

FileKind = Literal["safetensors", "torch", "torch_legacy", "torchscript", "index"]

HEAD_BYTES = 4096
LFS_MARK = b"version https://git-lfs.github.com/spec/"
ANNEX_MARK = b"/annex/objects/"
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
INDEX_SUFFIX = ".index.json"
AGAIN = "download it again and compare its size or checksum with the source"
PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x04\x22\x4d\x18": "lz4",
}
OTHER_FORMATS = {
    b"GGUF": "a GGUF file",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (Keras, TensorFlow)",
    b"\x93NUMPY": "a NumPy array",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program",
}


def file_kind(path: Path) -> FileKind:
    """Return which reader the file needs.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it holds no tensors, or is truncated; the message says what it is and what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    _refuse_stand_ins(path, head)
    if _is_safetensors(path, head):
        return "safetensors"
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if head.lstrip()[:1] == b"{":
        return _kind_of_json(path)
    if head.startswith(b"\x80") and len(head) > 2 and head[1] <= 5:
        return "torch_legacy"
    raise CheckpointError(f"{path} {_describe(head)}; weights as safetensors or of torch.save are needed")


def _refuse_stand_ins(path: Path, head: bytes) -> None:
    """Refuse empty files, pointers, web pages, compressed files and other formats."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        raise CheckpointError(f"{path} is empty; {AGAIN}")
    if start.startswith(LFS_MARK):
        size = re.search(rb"^size (\d+)", start, re.MULTILINE)
        of_size = f" of {size[1].decode()} bytes" if size else ""
        raise CheckpointError(
            f"{path} is a Git LFS pointer that stands for a file{of_size}, not the file; run `git lfs pull` in its "
            "repository, or download the file itself"
        )
    if len(head) < 1024 and ANNEX_MARK in head:
        raise CheckpointError(f"{path} is a git-annex pointer, not the file; run `git annex get` in its repository")
    if re.match(rb"<(!doctype|html|head|body|\?xml|error|!--)", start, re.IGNORECASE):
        title = re.search(rb"<title[^>]*>(.*?)</title>", head, re.IGNORECASE | re.DOTALL)
        named = f" ({_text(title[1])!r})" if title else ""
        raise CheckpointError(
            f"{path} is a web page{named}, not weights: the download was answered with an error or a sign-in page; "
            "open its address in a browser, then download the file itself"
        )
    for mark, name in PACKED.items():
        if head.startswith(mark):
            raise CheckpointError(f"{path} is compressed with {name}; unpack it and give the file inside")
    if head[257:262] == b"ustar" and b"pickle" not in head[:100]:
        raise CheckpointError(f"{path} is a tar archive; unpack it and give the file or folder inside")
    other = next((name for mark, name in OTHER_FORMATS.items() if head.startswith(mark)), None)
    if head[4:8] == b"ftyp":
        other = "a video or picture (MP4, MOV, HEIF)"
    if other is not None:
        raise CheckpointError(f"{path} is {other}; weights as safetensors or of torch.save are needed")


def _is_safetensors(path: Path, head: bytes) -> bool:
    """Return whether the file begins like safetensors: the length of a JSON header, then the header.

    Raises:
        CheckpointError: the file is shorter than its header announces.
    """
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:9] != b"{" or not 2 <= length <= 100_000_000:
        return False
    with path.open("rb") as stream:
        stream.seek(8)
        header = stream.read(length)
    found = path.stat().st_size
    if len(header) < length:
        raise CheckpointError(
            f"{path} is cut short: its header takes {length + 8} bytes, the file has {found}; {AGAIN}"
        )
    try:
        entries = strict_json.loads(header)
        ends = [item["data_offsets"][1] for name, item in entries.items() if name != "__metadata__"]
        needed = 8 + length + max(ends, default=0)
    except (ValueError, AttributeError, KeyError, IndexError, TypeError):
        return False
    if found < needed:
        raise CheckpointError(f"{path} is cut short: {needed} bytes are needed, the file has {found}; {AGAIN}")
    return True


def _kind_of_zip(path: Path) -> FileKind:
    """Distinguish torch's zip archives from others."""
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is cut short: its table of contents is missing at the end; {AGAIN}")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is a broken zip archive ({error}); {AGAIN}") from error
    inner = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in inner:
        return "torchscript"
    if "data.pkl" in inner:
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(f"{path} holds NumPy arrays (npz); weights as safetensors or of torch.save are needed")
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    raise CheckpointError(f"{path} is a zip archive of {shown or 'nothing'}; unpack it and give the file or folder")


def _kind_of_json(path: Path) -> FileKind:
    """Distinguish the index of a sharded checkpoint from other JSON."""
    try:
        document = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is text, not weights: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("weight_map"), dict):
        return "index"
    if isinstance(document, dict) and {"model_type", "architectures", "model_cfg"} & set(document):
        raise CheckpointError(f"{path} is a configuration without weights; give its folder")
    keys = ", ".join(sorted(map(str, document))[:6]) if isinstance(document, dict) else type(document).__name__
    raise CheckpointError(f"{path} is JSON, not weights; it holds {keys or 'nothing'}")


def is_shard(path: Path) -> bool:
    """Return whether a name is that of a shard, e.g. `model-00001-of-00003.safetensors`."""
    return SHARD.search(path.name) is not None


def _describe(head: bytes) -> str:
    if b"\x00" not in head:
        try:
            return f"is text that begins with {_text(head)!r}"
        except UnicodeDecodeError:
            pass
    return f"is of an unknown kind (it begins with {head[:8].hex(' ')})"


def _text(content: bytes, most: int = 60) -> str:
    line = " ".join(content.decode("utf-8").split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
