"""Decoding everything in order with a plain decoder: the right frames, as digests of their planes."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from serve.arrays import UInt8Array
from serve.errors import ActserveError
from serve.video.limits import DecodeSettings
from serve.video.pictures import FrameConverter
from serve.video.streams import open_container

SETTINGS = DecodeSettings(threads=2, max_corrupt_share=1.0)


@dataclass
class Reference:
    """All frames of a file."""

    digests: list[str] = field(default_factory=list)
    positions: list[int | None] = field(default_factory=list)  # the packet of each frame
    num_errors: int = 0
    num_packets: int = 0
    is_damaged: bool = False  # an error, or a frame that the decoder marks as corrupt


class PlaneReader(FrameConverter):
    """Takes the planes as decoded: FFmpeg mixes up the colour tags of the pieces of a joined file."""

    def to_rgb(self, frame: av.VideoFrame) -> UInt8Array:
        """Return all rows of all planes, one after the other."""
        bits = max(component.bits for component in frame.format.components)
        is_packed = len(frame.planes) == 1 and len(frame.format.components) > 1
        rows = []
        for plane in frame.planes:
            width = plane.width * (frame.format.bits_per_pixel // 8 if is_packed else (bits + 7) // 8)
            lines = np.frombuffer(plane, dtype=np.uint8)[: plane.line_size * plane.height]
            rows.append(lines.reshape(plane.height, plane.line_size)[:, :width].ravel())
        return np.concatenate(rows)


def digest(picture: UInt8Array) -> str:
    """Return a short name for a picture."""
    return hashlib.md5(np.ascontiguousarray(picture).tobytes(), usedforsecurity=False).hexdigest()


def reference(path: Path, stream_index: int, *, renews: bool = False, demuxer: str | None = None) -> Reference:
    """Decode all frames in order. With `renews`, a new decoder goes on after each error and at the next key frame.

    What FFmpeg keeps after an error can change intact pictures: its H.264 decoder takes the slice numbers of a lost
    picture for those of the next and deblocks between wrong neighbours. A frame that equals a fresh decoder's is right.
    """
    found = Reference()
    converter = PlaneReader(SETTINGS)
    with ExitStack() as stack:
        container = _opened(path, demuxer, stack)
        stream: Any = container.streams[stream_index]
        codec = stream.codec_context.codec.canonical_name
        given = [packet for packet in _all_packets(container, stream) if packet.size]
        packets = [_with_headers(packet, codec) for packet in given]
        # A copy lacks the flag by which FFmpeg leaves out frames that an edit list hides.
        hidden = {at for at, packet in enumerate(given) if packet.is_discard and not packets[at].is_discard}
        found.num_packets = len(packets)
        context = _single(stream)
        has_failed = False

        def output(frames: "list[av.VideoFrame]") -> None:
            for frame in frames:
                if frame.pts not in hidden:
                    found.is_damaged |= frame.is_corrupt
                    found.digests.append(digest(converter.to_rgb(frame)))
                    found.positions.append(frame.pts)

        for position, packet in enumerate([*packets, None]):
            if packet is not None:
                packet.pts = position  # decoders pass it on with the frame
                if renews and has_failed and given[position].is_keyframe:
                    with suppress(av.error.FFmpegError):
                        output(context.decode(None))
                    context, has_failed = _single(_opened(path, demuxer, stack).streams[stream_index]), False
            try:
                output(context.decode(packet))
            except av.error.FFmpegError:
                found.num_errors += 1
                found.is_damaged = has_failed = True
                if renews:
                    context = _single(_opened(path, demuxer, stack).streams[stream_index])
    return found


def _single(stream: Any) -> Any:
    stream.codec_context.thread_count = 1
    return stream.codec_context


def _opened(path: Path, demuxer: str | None, stack: ExitStack) -> Any:
    """Open the file as the project does, else with the named demuxer; `stack` closes it."""
    try:
        return stack.enter_context(open_container(path))
    except ActserveError:
        if demuxer is None:
            raise
        return stack.enter_context(av.open(str(path), format=demuxer, metadata_errors="replace"))


def _with_headers(packet: av.Packet, codec: str) -> av.Packet:
    """Some decoders ignore a new configuration beside a packet, as if the file were one recording: put it in front."""
    if codec not in ("mpeg4", "mpeg1video", "mpeg2video", "av1") or not packet.has_sidedata("new_extradata"):
        return packet
    extradata = bytes(packet.get_sidedata("new_extradata"))
    return av.Packet((extradata[4:] if codec == "av1" else extradata) + bytes(packet))


def _all_packets(container: Any, stream: Any) -> Iterator[av.Packet]:
    try:
        yield from container.demux(stream)
    except (av.error.FFmpegError, IndexError):
        return
