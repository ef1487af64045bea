"""Index of all packets of a video stream: they are demuxed once and their headers are parsed, without decoding."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av
from av.packet import PacketSideData

from serve.errors import VideoTooLong
from serve.video.bitstream.codecs import INSPECTORS
from serve.video.bitstream.h264 import H264Inspector
from serve.video.bitstream.inspector import PacketInfo, ParameterSets, UnsupportedBitstreamError
from serve.video.containers import RELIABLE_TIMES
from serve.video.exif import hide_exif_, may_have_exif
from serve.video.limits import DecodeSettings

MAX_CACHED_BYTES = 64 * 2**20  # packets of smaller streams are cached in memory; larger files are read again


@dataclass(slots=True)
class PacketEntry:
    """One packet of the stream, in decoding order."""

    pts: int | None
    dts: int | None
    duration: int
    is_access_point: bool  # decoding may start here; without a plan, the container's key frame flag
    is_shown: bool  # the packet is expected to output a frame
    period: int  # every picture of an earlier period is output before this one
    order: int | None  # output order within the period; None: decoding order
    is_reference: bool  # False: no picture displayed after the next access point refers to it
    packet: av.Packet | None  # cached if the stream is small


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """Parameter sets that take effect at a packet."""

    position: int
    config: ParameterSets
    extradata: PacketSideData | None = None  # new extradata of the container; it replaces all earlier parameter sets


@dataclass(slots=True)
class PacketIndex:
    """The packets of one stream."""

    entries: list[PacketEntry] = field(default_factory=list)
    changes: list[ConfigChange] = field(default_factory=list)  # sorted by position
    initial_config: ParameterSets = field(default_factory=dict)  # from the header of the container
    no_plan_reason: str | None = None  # reason why decoding cannot be planned
    can_skip_non_reference: bool = False  # the decoder may skip unwanted non-reference pictures
    needs_inline_config: bool = False  # new parameter sets must be prepended to a packet for the decoder to read them
    discarded: list[int] = field(default_factory=list)  # positions of the packets that an edit list hides
    last_corrupt: int = -1  # position of the last packet that the demuxer flags as corrupt; -1 if there is none
    is_partly_parsed: bool = False  # parsing stopped, so a change of configuration may have been missed
    extradata_header_bytes: int = 0  # length of the extradata header, which is not part of the stream
    join_parameter_sets: Any = None  # see `BitstreamParser.join_parameter_sets`

    @property
    def is_uniform(self) -> bool:
        """Whether the same sequence configuration is known to apply to all packets."""
        if self.is_partly_parsed:
            return False
        later = [change for change in self.changes if change.position > 0]
        return all(change.extradata is None and all("pps" in str(key) for key in change.config) for change in later)

    def extend_last_(self, num_ticks: int) -> None:
        """Extend the duration of the picture that is shown last."""
        if num_ticks > 0 and self.entries:
            max(self.entries, key=_start).duration += num_ticks

    @property
    def num_shown(self) -> int:
        """Number of packets that are expected to output a frame."""
        return sum(entry.is_shown for entry in self.entries)


def _start(entry: PacketEntry) -> int:
    time = entry.dts if entry.pts is None else entry.pts
    return -(2**63) if time is None else time


def index_packets(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    settings: DecodeSettings,
    *,
    max_cached_bytes: int = MAX_CACHED_BYTES,
) -> PacketIndex:
    """Index all packets of the stream in decoding order; cache them if they have at most `max_cached_bytes`.

    Raises:
        VideoTooLong: the stream has more packets than `max_frames` of the settings.
    """
    builder = _IndexBuilder(container, stream)
    num_bytes = 0
    for packet in demux_packets(container, stream):
        num_bytes += packet.size
        builder.add(packet, is_cached=num_bytes <= max_cached_bytes)
        if len(builder.index.entries) > settings.max_frames:
            raise VideoTooLong(
                f"the video has more than {settings.max_frames} frames, the limit",
                limit_frames=settings.max_frames,
            )
    if num_bytes > max_cached_bytes:
        for entry in builder.index.entries:
            entry.packet = None
    return builder.finish()


class _IndexBuilder:
    """Builds a `PacketIndex`, packet by packet."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self.index = PacketIndex()
        self._period = 0
        codec = stream.codec_context.codec.canonical_name
        self._inspector = INSPECTORS[codec]() if codec in INSPECTORS else None
        if self._inspector is None:
            self._disable_planning(f"the bitstream of {codec} is not parsed")
            return
        try:
            self.index.initial_config = self._inspector.read_extradata(bytes(stream.codec_context.extradata or b""))
        except (UnsupportedBitstreamError, IndexError) as error:
            self._disable_planning(f"the codec configuration cannot be parsed: {error}")
        self._config = dict(self.index.initial_config)

    def add(self, packet: av.Packet, *, is_cached: bool) -> None:
        """Append one packet."""
        index = self.index
        if packet.is_corrupt:
            self._disable_planning("the demuxer flags packets as corrupt")
            index.last_corrupt = len(index.entries)
        info = self._inspect(packet)
        if info.starts_sequence and index.entries:
            self._period += 1
        is_shown = info.is_shown and not packet.is_discard
        if packet.is_discard:
            index.discarded.append(len(index.entries))
        index.entries.append(
            PacketEntry(
                pts=packet.pts,
                dts=packet.dts,
                duration=packet.duration or 0,
                is_access_point=info.is_access_point,
                is_shown=is_shown,
                period=self._period,
                order=info.order,
                is_reference=info.is_reference,
                packet=packet if is_cached else None,
            )
        )

    def finish(self) -> PacketIndex:
        """Return the index; called after all packets were added."""
        index = self.index
        if self._inspector is not None:
            index.can_skip_non_reference = self._inspector.can_skip_non_reference
            index.needs_inline_config = self._inspector.needs_inline_config
            index.extradata_header_bytes = self._inspector.extradata_header_bytes
            index.join_parameter_sets = self._inspector.join_parameter_sets
        return index

    def _inspect(self, packet: av.Packet) -> PacketInfo:
        """Describe a packet by its bitstream, or by the container's key frame flag if it cannot be parsed."""
        if self._inspector is not None:
            try:
                if (extradata := read_new_extradata(packet)) is not None:
                    self._reconfigure(extradata)
                if not self.index.no_plan_reason:
                    return self._parse_packet(packet)
            except (UnsupportedBitstreamError, IndexError) as error:
                self._disable_planning(str(error))
                self.index.is_partly_parsed = not isinstance(self._inspector, H264Inspector)
        return PacketInfo(packet.is_keyframe)

    def _reconfigure(self, extradata: PacketSideData) -> None:
        assert self._inspector is not None
        position = len(self.index.entries)
        self.index.changes.append(ConfigChange(position, {}, extradata))  # it takes effect even if it cannot be parsed
        self._config = dict(self._inspector.read_extradata(bytes(extradata)))
        self.index.changes[-1] = ConfigChange(position, dict(self._config), extradata)

    def _parse_packet(self, packet: av.Packet) -> PacketInfo:
        """Describe a packet by its bitstream and record the parameter sets that change."""
        assert self._inspector is not None
        info = self._inspector.inspect(memoryview(packet))
        if info.config:
            changed = {key: value for key, value in info.config.items() if self._config.get(key) != value}
            if changed:
                self._config |= changed
                self.index.changes.append(ConfigChange(len(self.index.entries), changed))
        return info

    def _disable_planning(self, reason: str) -> None:
        self.index.no_plan_reason = self.index.no_plan_reason or reason


def read_new_extradata(packet: av.Packet) -> PacketSideData | None:
    """Return the new codec configuration in the side data of a packet; None if there is none.

    Only this type is read, because PyAV raises for side data of unknown types, and listing all types is slow.
    """
    return packet.get_sidedata("new_extradata") if packet.has_sidedata("new_extradata") else None


def demux_packets(container: av.container.InputContainer, stream: Any) -> Iterator[av.Packet]:
    """Yield the packets of the stream; the incomplete last packet of a truncated file is left out."""
    # In other containers, `is_corrupt` does not imply a truncated packet.
    drops_corrupt = container.format.name in RELIABLE_TIMES
    hides_exif = may_have_exif(container.format.name, stream.codec_context.codec.canonical_name)
    try:
        for packet in container.demux(stream):
            if packet.size and not (packet.is_corrupt and drops_corrupt):
                if hides_exif:
                    hide_exif_(packet)
                yield packet
    except (av.error.InvalidDataError, av.error.EOFError):
        return
    except IndexError:  # PyAV's demux raises it at the end if corrupt data has added streams
        return
