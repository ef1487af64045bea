"""All packets of the video stream, demuxed once without decoding."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av

from serve.errors import VideoTooLong
from serve.video.containers import TRUSTED_TIMES
from serve.video.exif import carries_exif, hide_exif_
from serve.video.limits import DecodeSettings

MAX_KEPT_BYTES = 64 * 2**20  # packets of smaller streams stay in memory; larger files are read a second time


@dataclass(frozen=True, slots=True)
class Entry:
    """One packet of the stream, in decoding order."""

    pts: int | None
    duration: int
    is_key: bool
    is_shown: bool
    packet: av.Packet | None  # kept only while the stream is small


def index_packets(
    container: av.container.InputContainer, stream: av.VideoStream, settings: DecodeSettings
) -> list[Entry]:
    """Entries of all packets of the stream, in decoding order.

    Raises:
        VideoTooLong: more packets than frames are allowed.
    """
    entries: list[Entry] = []
    kept_bytes = 0
    is_vp8 = stream.codec_context.codec.canonical_name == "vp8"
    for packet in packets(container, stream):
        kept_bytes += packet.size
        hidden = packet.is_discard or (is_vp8 and not bytes(packet)[0] & 0x10)
        keep = packet if kept_bytes <= MAX_KEPT_BYTES else None
        entries.append(Entry(packet.pts, packet.duration or 0, packet.is_keyframe, not hidden, keep))
        if len(entries) > settings.max_frames:
            raise VideoTooLong(
                f"the video has more than the {settings.max_frames} frames allowed",
                limit_frames=settings.max_frames,
            )
    if kept_bytes > MAX_KEPT_BYTES:
        entries = [Entry(e.pts, e.duration, e.is_key, e.is_shown, None) for e in entries]
    return entries


def packets(container: av.container.InputContainer, stream: Any) -> Iterator[av.Packet]:
    """Packets of the stream; a file that breaks off ends there, without the packet it broke in."""
    is_whole_only = container.format.name in TRUSTED_TIMES  # elsewhere the flag tells of doubts, not of a cut
    has_exif = carries_exif(container.format.name, stream.codec_context.codec.canonical_name)
    try:
        for packet in container.demux(stream):
            if packet.size and not (packet.is_corrupt and is_whole_only):
                if has_exif:
                    hide_exif_(packet)
                yield packet
    except (av.error.InvalidDataError, av.error.EOFError):
        return
    except IndexError:  # PyAV's demux at the very end, when broken data made streams appear that it does not know
        return
