"""What the bitstream proves about one packet, and reading its bits."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

Config = Mapping[Hashable, bytes]  # parameter sets by kind and identifier

NO_CONFIG: Config = MappingProxyType({})


class UnprovableError(Exception):
    """The bitstream does not prove what planned decoding needs; the stream is decoded in order instead."""


@dataclass(slots=True)
class Picture:
    """One packet as its own bits describe it, whatever flags the container sets."""

    is_access: bool  # decoding may begin here: no picture shown later refers to an earlier packet
    is_shown: bool = True  # one frame comes out of it; False: none
    starts_period: bool = False  # every earlier picture is shown before this one
    order: int | None = None  # place among the pictures of its period; None: in decoding order
    config: Config = field(default_factory=dict)  # parameter sets that the packet carries
    is_reference: bool = True  # False: pictures that are shown after the next access point never refer to it


class Inspector(Protocol):
    """Reads the packets of one stream in decoding order."""

    may_skip: bool  # a picture that the decoder calls a non-reference one may be left out
    injects_config: bool  # the decoder reads a new configuration only in front of a packet's data
    extradata_header: int  # bytes of the configuration that are then left out

    def reset(self, extradata: bytes) -> Config:
        """Take a codec configuration from outside the packets; returns the parameter sets it holds."""

    def inspect(self, data: memoryview) -> Picture:
        """Describe the next packet.

        Raises:
            UnprovableError: the packet holds something that is not understood here.
        """

    def join(self, config: Config) -> bytes:
        """Parameter sets in the form in which they may stand before a packet's own data."""


class BitReader:
    """Reads bits from the front of a byte string."""

    __slots__ = ("_left", "_value")

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        """The next `count` bits as a number."""
        left = self._left - count
        if left < 0:
            raise UnprovableError("a header ends early")
        taken = self._value >> left
        self._value &= (1 << left) - 1
        self._left = left
        return taken

    def exp_golomb(self) -> int:
        """An unsigned exponential Golomb code, ue(v) of H.264 and HEVC."""
        value = self._value
        zeros = self._left - value.bit_length()
        if zeros > 32:
            raise UnprovableError("a header holds a number that is too large")
        left = self._left - 2 * zeros - 1
        if left < 0:
            raise UnprovableError("a header ends early")
        code = value >> left
        self._value, self._left = value ^ (code << left), left
        return code - 1
