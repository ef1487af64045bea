"""Read weights from files of other programs without executing their code.

A pickle may call any function. Files are first read with torch's `weights_only` reader. What it refuses (X-CLIP's files
contain a pickled configuration object) is read by an unpickler that allows the few globals of tensors and replaces
every other object by an inert `UnknownObject`.
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
from training.checkpoints.file_kinds import AGAIN, INDEX_SUFFIX, FileKind, file_kind, is_shard
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
        """Forget the item."""

    def extend(self, _: Any) -> None:
        """Ignore the items."""

    def add(self, _: Any) -> None:
        """Forget the item."""

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
        raise pickle.UnpicklingError("the file tries to change a function")


_FUNCTIONS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}
_DTYPES = {str(item).removeprefix("torch."): item for item in vars(torch).values() if isinstance(item, torch.dtype)}


class RestrictedUnpickler(pickle.Unpickler):
    """Creates tensors and plain containers; every other global becomes a subclass of `UnknownObject`."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) in _FUNCTIONS:
            return _AllowedFunction(_FUNCTIONS[module_name, global_name])
        if module_name == "torch" and global_name in _DTYPES:
            return _DTYPES[global_name]
        origin = f"{module_name}.{global_name}"
        logger.info("ignored an object of %s", origin)
        return type("UnknownObject", (UnknownObject,), {"origin": origin})


def _restricted_load(stream: Any, **_: Any) -> Any:
    return RestrictedUnpickler(stream).load()


# torch.load requires an object like the module `pickle`
_restricted_pickle = types.SimpleNamespace(
    __name__="restricted_pickle", Unpickler=RestrictedUnpickler, load=_restricted_load
)


def read_document(path: Path) -> Any:
    """Return the content of a file of tensors, usually a mapping; unknown classes become `UnknownObject`.

    The reader depends on the content, not on the name. For an index, the files that it lists are read.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is something else, or damaged; the message says what it is and what to do.
    """
    kind = file_kind(path)
    if kind == "index":
        return _read_index(path)
    if is_shard(path):
        raise CheckpointError(f"{path} is one of several files; give the folder, or its file *{INDEX_SUFFIX}")
    return _read_file(path, kind)


def _read_file(path: Path, kind: FileKind) -> Any:
    try:
        if kind == "safetensors":
            return load_file(path, device="cpu")
        if kind == "torchscript":
            return dict(torch.jit.load(path, map_location="cpu").state_dict())
        return _read_pickle(path, is_mappable=kind == "torch")  # the format before torch 1.6 cannot be memory-mapped
    except EOFError as error:
        raise CheckpointError(f"{path} is cut short; {AGAIN}") from error
    except Exception as error:  # exceptions of readers on damaged files vary
        reason = str(error).split("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path} cannot be read as weights: {reason}") from error


def _read_index(path: Path) -> dict[str, Any]:
    """Return the tensors of all files that an index lists, from its folder.

    Raises:
        CheckpointError: a file is missing or holds no tensors.
    """
    names = sorted({Path(str(name)).name for name in read_json(path)["weight_map"].values()})
    absent = [name for name in names if not (path.parent / name).is_file()]
    if absent:
        raise CheckpointError(f"{path} lists {len(names)} files, missing in its folder: {', '.join(absent)}")
    joined: dict[str, Any] = {}
    for name in names:
        joined |= tensors_of(_read_file(path.parent / name, file_kind(path.parent / name)), name)
    return joined


def read_weight_files(folder: Path, names: Sequence[str], file: Path | None = None) -> Any:
    """Return the content of the first existing file (or index) of `names` in a folder, or of `file` if given.

    Raises:
        CheckpointError: no file exists, or it cannot be read.
    """
    if file is not None:
        return read_document(file)
    for name in names:
        for found in (folder / name, folder / f"{name}{INDEX_SUFFIX}"):
            if found.is_file():
                return read_document(found)
    raise CheckpointError(f"{folder} holds no weights: one of {', '.join(names)} is needed")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: it cannot be read, or is not an object.
    """
    try:
        document = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: an object is needed")
    return document


def tensors_of(mapping: object, where: str) -> dict[str, Tensor]:
    """Return the mapping if all values are tensors.

    Raises:
        CheckpointError: it is not a mapping, or holds other values than tensors.
    """
    if not isinstance(mapping, Mapping):
        raise CheckpointError(f"{where}: a mapping of names to tensors is needed, found {type(mapping).__name__}")
    others = sorted(str(name) for name, item in mapping.items() if not isinstance(item, Tensor))
    if others:
        raise CheckpointError(f"{where}: these entries are not tensors: {', '.join(others[:12])}")
    return {str(name): item.detach() for name, item in mapping.items()}


def _read_pickle(path: Path, *, is_mappable: bool) -> Any:
    if path.suffix == ".safetensors":  # torch detects the format of a path by its name, of an open file by its content
        with path.open("rb") as stream:
            return _load(stream, path, is_mappable=False)
    return _load(path, path, is_mappable=is_mappable)


def _load(source: Any, path: Path, *, is_mappable: bool) -> Any:
    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=is_mappable)
    except pickle.UnpicklingError as error:
        logger.info("%s holds more than tensors (%s); reading only its tensors", path, str(error).split("\n")[0])
    if source is not path:
        source.seek(0)
    return torch.load(
        source, map_location="cpu", weights_only=False, mmap=is_mappable, pickle_module=_restricted_pickle
    )
