"""Index of all packets of a video stream, demuxed once without decoding, with facts from their bitstream."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av
from av.packet import PacketSideData

from serve.errors import VideoTooLong
from serve.video.bitstream.codecs import INSPECTORS
from serve.video.bitstream.h264 import H264Inspector
from serve.video.bitstream.picture import Config, Picture, UnprovableError
from serve.video.containers import TRUSTED_TIMES
from serve.video.exif import carries_exif, hide_exif_
from serve.video.limits import DecodeSettings

MAX_KEPT_BYTES = 64 * 2**20  # packets of smaller streams stay in memory; larger files are read again


@dataclass(slots=True)
class PacketEntry:
    """One packet of the stream, in decoding order."""

    pts: int | None
    dts: int | None
    duration: int
    is_access: bool  # decoding may start here; if `PacketIndex.doubt` is set, only according to the container
    is_shown: bool
    period: int  # every picture of an earlier period is shown before this one
    order: int | None  # output order within the period; None: decoding order
    is_reference: bool  # False: no picture shown after the next access point refers to it
    packet: av.Packet | None  # kept only while the stream is small


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """Parameter sets that take effect at a packet."""

    position: int
    config: Config
    extradata: PacketSideData | None = None  # a new configuration from outside the packet; replaces all earlier ones


@dataclass(slots=True)
class PacketIndex:
    """The packets of one stream."""

    entries: list[PacketEntry] = field(default_factory=list)
    changes: list[ConfigChange] = field(default_factory=list)  # by position
    initial_config: Config = field(default_factory=dict)  # from the header of the container
    doubt: str | None = None  # why decoding cannot be planned
    may_skip: bool = False  # unwanted non-reference pictures may be skipped
    injects_config: bool = False  # the decoder only reads new extradata if it precedes the data of a packet
    discarded: list[int] = field(default_factory=list)  # packets that an edit list hides
    last_corrupt: int = -1  # last packet that the demuxer calls corrupt
    is_half_read: bool = False  # parsing stopped, so a change of configuration may have been missed
    extradata_header: int = 0  # length of the extradata header, which is not part of the stream
    join: Any = None  # function that formats parameter sets like the packets

    @property
    def is_uniform(self) -> bool:
        """Whether one sequence configuration is known to apply to all packets."""
        if self.is_half_read:
            return False
        later = [change for change in self.changes if change.position > 0]
        return all(change.extradata is None and all("pps" in str(key) for key in change.config) for change in later)

    @property
    def num_shown(self) -> int:
        """Number of packets that are expected to output a frame."""
        return sum(entry.is_shown for entry in self.entries)


def index_packets(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    settings: DecodeSettings,
    *,
    max_kept_bytes: int = MAX_KEPT_BYTES,
) -> PacketIndex:
    """Index all packets of the stream, in decoding order; keep them in memory up to a size.

    Raises:
        VideoTooLong: more packets than frames are allowed.
    """
    reading = _Indexing(container, stream)
    kept_bytes = 0
    for packet in packets(container, stream):
        kept_bytes += packet.size
        reading.add(packet, keep=kept_bytes <= max_kept_bytes)
        if len(reading.index.entries) > settings.max_frames:
            raise VideoTooLong(
                f"the video has more than {settings.max_frames} frames, the limit",
                limit_frames=settings.max_frames,
            )
    if kept_bytes > max_kept_bytes:
        for entry in reading.index.entries:
            entry.packet = None
    return reading.finished()


class _Indexing:
    """Builder of a `PacketIndex`."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self.index = PacketIndex()
        self._period = 0
        codec = stream.codec_context.codec.canonical_name
        self._inspector = INSPECTORS[codec]() if codec in INSPECTORS else None
        if self._inspector is None:
            self._give_up(f"the bitstream of {codec} is not parsed")
            return
        try:
            self.index.initial_config = self._inspector.reset(bytes(stream.codec_context.extradata or b""))
        except (UnprovableError, IndexError) as error:
            self._give_up(f"the codec configuration is not understood: {error}")
        self._config = dict(self.index.initial_config)

    def add(self, packet: av.Packet, *, keep: bool) -> None:
        """Append one packet."""
        index = self.index
        if packet.is_corrupt:
            self._give_up("packets are damaged")
            index.last_corrupt = len(index.entries)
        picture = self._inspected(packet)
        if picture.starts_period and index.entries:
            self._period += 1
        is_shown = picture.is_shown and not packet.is_discard
        if packet.is_discard:
            index.discarded.append(len(index.entries))
        place = (self._period, picture.order, picture.is_reference)
        kept = packet if keep else None
        index.entries.append(
            PacketEntry(packet.pts, packet.dts, packet.duration or 0, picture.is_access, is_shown, *place, kept)
        )

    def finished(self) -> PacketIndex:
        """Return the index after all packets were added."""
        index = self.index
        if self._inspector is not None:
            index.may_skip = self._inspector.may_skip
            index.injects_config = self._inspector.injects_config
            index.extradata_header = self._inspector.extradata_header
            index.join = self._inspector.join
        return index

    def _inspected(self, packet: av.Packet) -> Picture:
        if self._inspector is not None:
            try:
                if (extradata := new_extradata(packet)) is not None:
                    self._reconfigure(extradata)
                if not self.index.doubt:
                    return self._picture(packet)
            except (UnprovableError, IndexError) as error:
                self._give_up(str(error))
                self.index.is_half_read = not isinstance(self._inspector, H264Inspector)
        return Picture(packet.is_keyframe)

    def _reconfigure(self, extradata: PacketSideData) -> None:
        assert self._inspector is not None
        position = len(self.index.entries)
        self.index.changes.append(ConfigChange(position, {}, extradata))  # it takes effect even if it cannot be parsed
        self._config = dict(self._inspector.reset(bytes(extradata)))
        self.index.changes[-1] = ConfigChange(position, dict(self._config), extradata)

    def _picture(self, packet: av.Packet) -> Picture:
        assert self._inspector is not None
        picture = self._inspector.inspect(memoryview(packet))
        if picture.config:
            changed = {key: value for key, value in picture.config.items() if self._config.get(key) != value}
            if changed:
                self._config |= changed
                self.index.changes.append(ConfigChange(len(self.index.entries), changed))
        return picture

    def _give_up(self, reason: str) -> None:
        self.index.doubt = self.index.doubt or reason


def new_extradata(packet: av.Packet) -> PacketSideData | None:
    """Return the new codec configuration beside a packet.

    Only this type is asked for: PyAV raises for side data of types that it does not know, and listing all costs time.
    """
    return packet.get_sidedata("new_extradata") if packet.has_sidedata("new_extradata") else None


def packets(container: av.container.InputContainer, stream: Any) -> Iterator[av.Packet]:
    """Yield the packets of the stream; a truncated file ends before the incomplete packet."""
    is_whole_only = (
        container.format.name in TRUSTED_TIMES
    )  # in other containers `is_corrupt` does not imply a truncated packet
    has_exif = carries_exif(container.format.name, stream.codec_context.codec.canonical_name)
    try:
        for packet in container.demux(stream):
            if packet.size and not (packet.is_corrupt and is_whole_only):
                if has_exif:
                    hide_exif_(packet)
                yield packet
    except (av.error.InvalidDataError, av.error.EOFError):
        return
    except IndexError:  # raised by PyAV's demux at the end if corrupt data created unknown streams
        return
