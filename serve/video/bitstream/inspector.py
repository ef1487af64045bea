"""Interface of the bitstream parsers: properties of a packet, the parser protocol and a bit reader."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

ParameterSets = Mapping[Hashable, bytes]  # by kind and identifier

NO_PARAMETER_SETS: ParameterSets = MappingProxyType({})


class UnsupportedBitstreamError(Exception):
    """The bitstream cannot be parsed or uses unsupported features; the stream is then decoded without seeking."""


@dataclass(slots=True)
class PacketInfo:
    """Properties of one packet, parsed from its bitstream rather than taken from the container's flags."""

    is_access_point: bool  # decoding may start here: no picture displayed later refers to an earlier packet
    is_shown: bool = True  # the packet outputs one frame; False: no frame
    starts_sequence: bool = False  # every earlier picture is output before this one
    order: int | None = None  # output order within the coded video sequence; None: decoding order
    config: ParameterSets = field(default_factory=dict)  # parameter sets that the packet carries
    is_reference: bool = (
        True  # False: no picture displayed after the next access point refers to it (weaker than H.264)
    )


class BitstreamParser(Protocol):
    """Parses the packets of one stream in decoding order."""

    can_skip_non_reference: bool  # the decoder may skip unwanted non-reference pictures (FFmpeg's `skip_frame=noref`)
    needs_inline_config: bool  # new parameter sets must be prepended to a packet for the decoder to read them
    extradata_header_bytes: (
        int  # number of leading bytes to remove from extradata before they are prepended to a packet
    )

    def read_extradata(self, extradata: bytes) -> ParameterSets:
        """Parse the extradata of the container and return its parameter sets; they replace the earlier ones.

        Raises:
            UnsupportedBitstreamError: the extradata cannot be parsed.
        """

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe the next packet.

        Raises:
            UnsupportedBitstreamError: the packet cannot be parsed or uses an unsupported feature.
        """

    def join_parameter_sets(self, config: ParameterSets) -> bytes:
        """Concatenate parameter sets in the format of the stream, to be prepended to the data of a packet."""


class BitReader:
    """Reads bits from the start of a byte string."""

    __slots__ = ("_left", "_value")

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def read(self, count: int) -> int:
        """Return the next `count` bits as an unsigned number.

        Raises:
            UnsupportedBitstreamError: fewer bits are left.
        """
        left = self._left - count
        if left < 0:
            raise UnsupportedBitstreamError("a header is truncated")
        number = self._value >> left
        self._value &= (1 << left) - 1
        self._left = left
        return number

    def read_exp_golomb(self) -> int:
        """Return the next unsigned exponential Golomb code, ue(v) in H.264 and HEVC.

        Raises:
            UnsupportedBitstreamError: the code is truncated or longer than 32 bits.
        """
        value = self._value
        zeros = self._left - value.bit_length()
        if zeros > 32:
            raise UnsupportedBitstreamError("a number in a header is too large")
        left = self._left - 2 * zeros - 1
        if left < 0:
            raise UnsupportedBitstreamError("a header is truncated")
        code = value >> left
        self._value, self._left = value ^ (code << left), left
        return code - 1
