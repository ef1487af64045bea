"""Weights out of files of other programs, without running anything the files ask for.

A pickle may name any function of this machine to be called. Files are first read with torch's own strict reader; what
it refuses (X-CLIP's files hold a pickled configuration object) is read by an unpickler that knows the few names tensors
are made of and turns every other object into an inert `Opaque`, so weights load and nothing runs.
"""

import logging
import pickle
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from training.checkpoints.own import CheckpointError

logger = logging.getLogger(__name__)

TORCHSCRIPT_EXTRAS = ("input_resolution", "context_length", "vocab_size")  # numbers OpenAI stores beside the weights


class Opaque:
    """Stands for an object whose class is not known here; takes whatever a pickle does to it and does nothing."""

    origin = "unknown"

    def __new__(cls, *_: Any, **__: Any) -> "Opaque":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take any arguments."""

    def __call__(self, *_: Any, **__: Any) -> "Opaque":
        return self

    def __setstate__(self, _: Any) -> None:
        """Forget the state."""

    def __setitem__(self, _: Any, __: Any) -> None:
        """Forget the item."""

    def append(self, _: Any) -> None:
        """Forget the item."""

    def extend(self, _: Any) -> None:
        """Forget the items."""

    def add(self, _: Any) -> None:
        """Forget the item."""

    def __repr__(self) -> str:
        return f"<opaque {self.origin}>"


class _Known:
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
    """Makes tensors and plain containers; any other global becomes an `Opaque` class of its own."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) in _FUNCTIONS:
            return _Known(_FUNCTIONS[module_name, global_name])
        if module_name == "torch" and global_name in _DTYPES:
            return _DTYPES[global_name]
        origin = f"{module_name}.{global_name}"
        logger.info("left unread: an object of %s", origin)
        return type("Opaque", (Opaque,), {"origin": origin})


def _restricted_load(stream: Any, **_: Any) -> Any:
    return RestrictedUnpickler(stream).load()


# torch.load asks for something that looks like the module `pickle`
_restricted_pickle = types.SimpleNamespace(
    __name__="restricted_pickle", Unpickler=RestrictedUnpickler, load=_restricted_load
)


def read_document(path: Path) -> Any:
    """What a file of tensors holds: a mapping in most cases, objects of unknown classes as `Opaque`.

    Raises:
        CheckpointError: no known kind of file, or a broken one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device="cpu")
        if is_torchscript(path):
            return _read_torchscript(path)
        return _read_pickle(path)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}") from error


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive, as OpenAI published CLIP."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/", 1)[-1] == "constants.pkl" for name in archive.namelist())


def tensors_of(mapping: object, where: str) -> dict[str, Tensor]:
    """The mapping as name -> tensor.

    Raises:
        CheckpointError: it is no mapping, or holds something else than tensors.
    """
    if not isinstance(mapping, Mapping):
        raise CheckpointError(f"{where}: a mapping of names to tensors is needed, found {type(mapping).__name__}")
    others = sorted(str(name) for name, item in mapping.items() if not isinstance(item, Tensor))
    if others:
        raise CheckpointError(f"{where}: these entries are no tensors: {', '.join(others[:12])}")
    return {str(name): item.detach() for name, item in mapping.items()}


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    state = torch.jit.load(path, map_location="cpu").state_dict()
    return {name: item for name, item in state.items() if name not in TORCHSCRIPT_EXTRAS}


def _read_pickle(path: Path) -> Any:
    is_mappable = zipfile.is_zipfile(path)  # the format before 2020 has to be read whole
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_mappable)
    except pickle.UnpicklingError as error:
        logger.info("%s holds more than tensors (%s); reading its tensors alone", path, str(error).split("\n")[0])
    return torch.load(path, map_location="cpu", weights_only=False, mmap=is_mappable, pickle_module=_restricted_pickle)
