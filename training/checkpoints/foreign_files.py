"""Read weights from third-party files without executing code from them.

A pickle may call any function. Files are first read with torch's `weights_only` reader. If it refuses a file (X-CLIP's
files contain a pickled configuration object), an unpickler reads it that allows only the globals needed for tensors and
replaces every other object by an inert `UnknownObject`.
"""

import logging
import pickle
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from serve import strict_json
from training.checkpoints.file_kinds import DOWNLOAD_AGAIN, INDEX_SUFFIX, FileKind, detect_file_kind, is_shard
from training.checkpoints.native_format import CheckpointError

logger = logging.getLogger(__name__)


class UnknownObject:
    """Placeholder for an object of an unknown class; ignores all operations of a pickle on it."""

    origin = "unknown"

    def __new__(cls, *_: Any, **__: Any) -> "UnknownObject":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Ignore the arguments."""

    def __call__(self, *_: Any, **__: Any) -> "UnknownObject":
        return self

    def __setstate__(self, _: Any) -> None:
        """Ignore the state."""

    def __setitem__(self, _: Any, __: Any) -> None:
        """Ignore the item."""

    def append(self, _: Any) -> None:
        """Ignore the item."""

    def extend(self, _: Any) -> None:
        """Ignore the items."""

    def add(self, _: Any) -> None:
        """Ignore the item."""

    def __repr__(self) -> str:
        return f"<opaque {self.origin}>"


class _AllowedFunction:
    """A permitted function; a pickle can call it but not change it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("the file modifies a function")


_FUNCTIONS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}
_DTYPES = {str(item).removeprefix("torch."): item for item in vars(torch).values() if isinstance(item, torch.dtype)}


class RestrictedUnpickler(pickle.Unpickler):
    """Creates tensors and plain containers; any other global is replaced by a subclass of `UnknownObject`."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) in _FUNCTIONS:
            return _AllowedFunction(_FUNCTIONS[module_name, global_name])
        if module_name == "torch" and global_name in _DTYPES:
            return _DTYPES[global_name]
        origin = f"{module_name}.{global_name}"
        logger.info("ignored a pickled object of type %s", origin)
        return type("UnknownObject", (UnknownObject,), {"origin": origin})


def _restricted_load(stream: Any, **_: Any) -> Any:
    return RestrictedUnpickler(stream).load()


# torch.load requires an object like the module `pickle`
_restricted_pickle = types.SimpleNamespace(
    __name__="restricted_pickle", Unpickler=RestrictedUnpickler, load=_restricted_load
)


def read_document(path: Path) -> Any:
    """Return the content of a weight file, usually a mapping; objects of unknown classes become `UnknownObject`.

    The format is detected from the content, not from the name. For an index, the files that it lists are read.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is not a weight file, or is damaged; the message says what it is and what to do.
    """
    kind = detect_file_kind(path)
    if kind == "index":
        return _read_index(path)
    if is_shard(path):
        raise CheckpointError(f"{path} is one of several weight files; pass the folder or the file *{INDEX_SUFFIX}")
    return _read_file(path, kind)


def _read_file(path: Path, kind: FileKind) -> Any:
    try:
        if kind == "safetensors":
            return load_file(path, device="cpu")
        if kind == "torchscript":
            return dict(torch.jit.load(path, map_location="cpu").state_dict())
        return _read_pickle(path, is_mappable=kind == "torch")  # the format before torch 1.6 cannot be memory-mapped
    except EOFError as error:
        raise CheckpointError(f"{path} is truncated; {DOWNLOAD_AGAIN}") from error
    except Exception as error:  # exceptions of readers on damaged files vary
        reason = str(error).split("\n")[0] or type(error).__name__
        raise CheckpointError(f"cannot read weights from {path}: {reason}") from error


def _read_index(path: Path) -> dict[str, Any]:
    """Return the tensors of all files that an index lists; the files are in the folder of the index.

    Raises:
        CheckpointError: a file is missing or contains no tensors.
    """
    names = sorted({Path(str(name)).name for name in read_json(path)["weight_map"].values()})
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise CheckpointError(f"{path} lists {len(names)} files, of which these are missing: {', '.join(missing)}")
    tensors: dict[str, Any] = {}
    for name in names:
        tensors |= require_tensors(_read_file(path.parent / name, detect_file_kind(path.parent / name)), name)
    return tensors


def read_weight_files(folder: Path, names: Sequence[str], file: Path | None = None) -> Any:
    """Return the content of the first of `names` in a folder (or of its index), or of `file` if given.

    Raises:
        CheckpointError: no file exists, or the file cannot be read.
    """
    if file is not None:
        return read_document(file)
    for name in names:
        for path in (folder / name, folder / f"{name}{INDEX_SUFFIX}"):
            if path.is_file():
                return read_document(path)
    raise CheckpointError(f"{folder} contains no weights; expected one of {', '.join(names)}")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises:
        CheckpointError: the file cannot be read, or does not contain an object.
    """
    try:
        document = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path} as JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document


def require_tensors(mapping: object, where: str) -> dict[str, Tensor]:
    """Check that the values of a mapping are tensors and return it as a dictionary.

    Raises:
        CheckpointError: it is not a mapping, or contains other values than tensors.
    """
    if not isinstance(mapping, Mapping):
        raise CheckpointError(f"{where}: expected a mapping from names to tensors, got {type(mapping).__name__}")
    others = sorted(str(name) for name, item in mapping.items() if not isinstance(item, Tensor))
    if others:
        raise CheckpointError(f"{where}: entries are not tensors: {', '.join(others[:12])}")
    return {str(name): item.detach() for name, item in mapping.items()}


def _read_pickle(path: Path, *, is_mappable: bool) -> Any:
    if path.suffix == ".safetensors":  # for a path, torch.load detects the format from the name
        with path.open("rb") as stream:
            return _load(stream, path, is_mappable=False)
    return _load(path, path, is_mappable=is_mappable)


def _load(source: Any, path: Path, *, is_mappable: bool) -> Any:
    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=is_mappable)
    except pickle.UnpicklingError as error:
        logger.info("%s contains more than tensors (%s); only the tensors are read", path, str(error).split("\n")[0])
    if source is not path:
        source.seek(0)
    return torch.load(
        source, map_location="cpu", weights_only=False, mmap=is_mappable, pickle_module=_restricted_pickle
    )
