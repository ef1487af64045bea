"""Tensors of the Open Inference Protocol v2: specifications, and conversion from and to JSON and binary data."""

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np

from serve.arrays import Float32Array, UInt8Array
from serve.errors import InvalidOption
from serve.inference_protocol.messages import MAX_DIM, RequestInput, TensorMetadata
from serve.unicode_text import describe_text_fault

Datatype = Literal["BOOL", "UINT8", "FP32", "BYTES"]
Values = Float32Array | np.ndarray[Any, np.dtype[np.bool_]] | Sequence[bytes]
LENGTH = struct.Struct("<I")  # before each element of binary BYTES
INPUT_PARAMETERS = ("binary_data_size", "content_type")


@dataclass(frozen=True)
class TensorSpec:
    """Name, datatype and shape of an input or output of a model; -1 stands for any size."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    @property
    def metadata(self) -> TensorMetadata:
        """The specification as the metadata of a model shows it."""
        return TensorMetadata(name=self.name, datatype=self.datatype, shape=list(self.shape))

    def check(self, found: RequestInput) -> None:
        """Check datatype, shape and parameters of an input against this specification.

        A tensor of BYTES may have a further axis of size 1 at its end, which clients add for batches.

        Raises:
            InvalidOption: they do not match.
        """
        if found.datatype != self.datatype:
            raise InvalidOption(f"input `{self.name}` must have the datatype {self.datatype}, got {found.datatype!r}")
        shape = tuple(found.shape)
        if any(not 0 <= dim <= MAX_DIM for dim in shape):
            raise InvalidOption(f"input `{self.name}` has the shape {list(shape)}; sizes must be from 0 to {MAX_DIM}")
        if self.datatype == "BYTES" and len(shape) == len(self.shape) + 1 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != len(self.shape) or any(
            wanted not in (-1, dim) for wanted, dim in zip(self.shape, shape, strict=True)
        ):
            raise InvalidOption(
                f"input `{self.name}` must have the shape {list(self.shape)}, where -1 stands for any size, "
                f"got {found.shape}"
            )
        unknown = [name for name in found.parameters if name not in INPUT_PARAMETERS]
        if unknown:
            raise InvalidOption(
                f"unknown parameter `{unknown[0][:80]}` of input `{self.name}`; allowed: {', '.join(INPUT_PARAMETERS)}"
            )
        if ("binary_data_size" in found.parameters) == (found.data is not None):
            raise InvalidOption(f"input `{self.name}` must have either `data` or the parameter `binary_data_size`")
        self._check_content_type(found)

    def _check_content_type(self, found: RequestInput) -> None:
        content_type = found.parameters.get("content_type")
        if content_type is None:
            return
        if content_type != "base64" or self.datatype != "BYTES" or found.data is None:
            raise InvalidOption(
                f"the parameter `content_type` of input `{self.name}` can only be 'base64', for BYTES in `data`, "
                f"got {str(content_type)[:40]!r}"
            )


def binary_size(found: RequestInput) -> int | None:
    """Return the number of bytes of an input after the JSON part; None if its data is in the JSON part.

    Raises:
        InvalidOption: `binary_data_size` is not a number of bytes.
    """
    size = found.parameters.get("binary_data_size")
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InvalidOption(f"`binary_data_size` of input `{found.name}` must be a number of bytes, got {size!r}")
    return size


def uint8_from_json(found: RequestInput) -> UInt8Array:
    """Return a UINT8 tensor from `data`.

    Raises:
        InvalidOption: the number of elements, or an element, is wrong.
    """
    flat = _flatten(found)
    if any(type(item) is not int for item in flat):
        raise InvalidOption(f"input `{found.name}` must hold integers")
    if flat and not (min(flat) >= 0 and max(flat) <= 255):
        raise InvalidOption(f"input `{found.name}` must hold integers from 0 to 255")
    return np.array(flat, np.uint8).reshape(found.shape)


def uint8_from_binary(found: RequestInput, data: bytes) -> UInt8Array:
    """Return a UINT8 tensor from its binary data, which has the size of `check_uint8_size`."""
    return np.frombuffer(data, np.uint8).reshape(found.shape)


def check_uint8_size(found: RequestInput, size: int) -> None:
    """Check the size of binary UINT8 data against the shape.

    Raises:
        InvalidOption: they differ.
    """
    expected = math.prod(found.shape)
    if size != expected:
        raise InvalidOption(
            f"input `{found.name}` of shape {found.shape} has {expected} bytes, but its `binary_data_size` is {size}"
        )


def texts_from_json(found: RequestInput) -> list[str]:
    """Return the texts of a BYTES tensor from `data`, which is text or base64.

    Raises:
        InvalidOption: the number of elements, or an element, is wrong.
    """
    if "content_type" in found.parameters:
        return [_decode(found.name, item) for item in bytes_from_base64(found)]
    flat = _flatten(found)
    if any(type(item) is not str for item in flat):
        raise InvalidOption(f"input `{found.name}` must hold strings")
    return flat


def texts_from_binary(found: RequestInput, data: bytes) -> list[str]:
    """Return the texts of a BYTES tensor from its binary data.

    Raises:
        InvalidOption: the number of elements is wrong, or one is not UTF-8 text.
    """
    texts: list[str] = []
    num_elements, position = math.prod(found.shape), 0
    while position < len(data):
        end = position + LENGTH.size
        length = LENGTH.unpack_from(data, position)[0] if end <= len(data) else len(data)
        if end + length > len(data):
            raise InvalidOption(f"element {len(texts)} of input `{found.name}` is longer than its binary data")
        texts.append(_decode(found.name, data[end : end + length]))
        position = end + length
    if len(texts) != num_elements:
        raise InvalidOption(
            f"input `{found.name}` of shape {found.shape} has {num_elements} elements, its binary data {len(texts)}"
        )
    return texts


def bytes_from_base64(found: RequestInput) -> list[bytes]:
    """Return the elements of a BYTES tensor from base64 text in `data`.

    Raises:
        InvalidOption: the data is not marked as base64, or is not base64.
    """
    if "content_type" not in found.parameters:
        raise InvalidOption(
            f"input `{found.name}` in JSON must be base64, with the parameter `content_type` of 'base64'; binary data "
            "is smaller"
        )
    flat = _flatten(found)
    if any(type(item) is not str for item in flat):
        raise InvalidOption(f"input `{found.name}` must hold strings")
    try:
        return [base64.b64decode(item, validate=True) for item in flat]
    except (binascii.Error, ValueError) as error:
        raise InvalidOption(f"input `{found.name}` is not base64: {error}") from error


def _decode(name: str, data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidOption(f"input `{name}` is not valid UTF-8 at byte {error.start} of an element") from error
    fault = describe_text_fault(text)
    if fault is not None:
        raise InvalidOption(f"input `{name}` contains {fault}")
    return text


def _flatten(found: RequestInput) -> list[Any]:
    """Return the elements of `data`, which is flat or nested like the shape."""
    assert found.data is not None, "checked by TensorSpec.check"
    num_elements, level = math.prod(found.shape), found.data
    if not any(isinstance(item, list) for item in level):
        if len(level) != num_elements:
            raise InvalidOption(
                f"input `{found.name}` of shape {found.shape} has {num_elements} elements, `data` has {len(level)}"
            )
        return level
    level = [level]
    for axis, dim in enumerate(found.shape):
        if any(not isinstance(item, list) or len(item) != dim for item in level):
            raise InvalidOption(
                f"`data` of input `{found.name}` is nested, but axis {axis} does not have {dim} elements everywhere"
            )
        level = list(chain.from_iterable(level))
    if any(isinstance(item, list) for item in level):
        raise InvalidOption(f"`data` of input `{found.name}` is nested deeper than its shape {found.shape}")
    return level


def to_binary(values: Values) -> bytes:
    """Return the binary data of an output."""
    if isinstance(values, np.ndarray):
        return values.tobytes() if values.dtype == np.bool_ else values.astype("<f4").tobytes()
    return b"".join(LENGTH.pack(len(item)) + item for item in values)


def to_json(values: Values) -> list[Any]:
    """Return the elements of an output in row-major order as JSON values."""
    if isinstance(values, np.ndarray):
        elements: list[Any] = values.ravel().tolist()
        return elements
    return [item.decode() for item in values]


def shape_of(values: Values) -> list[int]:
    """Return the shape of an output."""
    return list(values.shape) if isinstance(values, np.ndarray) else [len(values)]
