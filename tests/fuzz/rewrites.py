"""Rewrite clips into other containers and compare every sampled frame with decoding everything in order.

    python -m tests.fuzz.rewrites --count 2000 [--seed 1] [--only NUMBER]

The reference feeds the packets of the rewritten file to a plain decoder of the same FFmpeg, from the first to the last.
Planes are compared before colours are converted.
Prints the counts by container and codec, each difference with the number that makes it again, and one JSON line last.
"""

import argparse
import collections
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import av
import av.packet
import numpy as np
from av.packet import packet_sidedata_type_from_literal

from serve.arrays import Int64Array, UInt8Array
from serve.errors import ActserveError
from serve.video.decode import open_video, read_frames
from serve.video.limits import DecodeSettings
from serve.video.pictures import PictureConverter
from serve.video.streams import open_container, silence_library
from tests.fuzz.sources import make_sources

SETTINGS = DecodeSettings(threads=2, max_corrupt_share=1.0)
MAX_PACKETS = 48  # of each piece
WRAP = 1 << 33
# file suffix -> muxer; not NUT, whose muxer aborts the process on times that wrap
CONTAINERS = {
    "mp4": "mp4", "mov": "mov", "mkv": "matroska", "ts": "mpegts", "m2ts": "mpegts", "avi": "avi", "3gp": "3gp",
    "flv": "flv", "mpg": "vob", "webm": "webm", "fragmented": "mp4", "asf": "asf", "raw": "",
}  # fmt: skip
RAW = {
    "h264": "h264", "hevc": "hevc", "mpeg4": "m4v", "mpeg2video": "mpeg2video", "mpeg1video": "mpeg1video",
    "av1": "obu", "vp8": "ivf", "vp9": "ivf",
}  # fmt: skip
TO_START_CODES = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}


class NotWritableError(Exception):
    """The muxer does not take this stream."""


@dataclass(frozen=True)
class Rewrite:
    """One case, drawn from a random number generator."""

    pieces: tuple[Path, ...]
    container: str
    starts: tuple[int, ...]  # first packet taken of each piece
    flags: str  # of the packets: "kept", "all" key frames, "none" but the first
    offset: str  # of the times: "zero", "negative", "wrapped", "late"
    drops: int  # each so many-th packet gets a gap behind it; 0: none

    def describe(self) -> str:
        """One line."""
        pieces = "+".join(f"{path.name}[{start}:]" for path, start in zip(self.pieces, self.starts, strict=True))
        return f"{pieces} -> {self.container} keys={self.flags} times={self.offset} gaps={self.drops}"


@dataclass
class Result:
    """What became of a case."""

    codec: str
    outcome: str  # planned, in order, refused, damaged, DIFFERENT
    detail: str = ""
    doubt: str | None = None


@dataclass
class Totals:
    """Counts of all cases."""

    cells: collections.Counter[tuple[str, str, str]] = field(default_factory=collections.Counter)
    differences: list[str] = field(default_factory=list)
    num_unwritable: int = 0


def draw(random: np.random.Generator, sources: dict[str, Path]) -> Rewrite:
    """A random case."""
    names = list(sources)
    first = sources[names[int(random.integers(len(names)))]]
    pieces = [first]
    if random.random() < 0.3:
        alike = [path for path in sources.values() if _codec(path) == _codec(first)]
        pieces.append(alike[int(random.integers(len(alike)))])
    # A second piece is never cut: what of its pictures without references is shown, only decoding them all can tell.
    starts = tuple(int(random.integers(1, 20)) if not n and random.random() < 0.2 else 0 for n, _ in enumerate(pieces))
    return Rewrite(
        pieces=tuple(pieces),
        container=str(random.choice(list(CONTAINERS))),
        starts=starts,
        flags=str(random.choice(["kept", "kept", "all", "none"])),
        offset=str(random.choice(["zero", "zero", "negative", "wrapped", "late"])),
        drops=int(random.choice([0, 0, 0, 7])),
    )


_CODECS: dict[Path, str] = {}


def _codec(path: Path) -> str:
    """The first video stream's codec; empty where there is none."""
    if path not in _CODECS:
        try:
            with open_container(path) as container:
                videos = container.streams.video
                _CODECS[path] = videos[0].codec_context.codec.canonical_name if videos else ""
        except ActserveError:
            _CODECS[path] = ""
    return _CODECS[path]


def write(case: Rewrite, folder: Path) -> Path:
    """The rewritten file.

    Raises:
        NotWritableError: the muxer refuses.
    """
    codec = _codec(case.pieces[0])
    muxer = CONTAINERS[case.container] or RAW.get(codec, "")
    if not muxer or not codec:
        raise NotWritableError
    path = folder / f"rewritten.{case.container}"
    path.unlink(missing_ok=True)
    options = {"fragmented": {"movflags": "frag_keyframe+empty_moov"}, "m2ts": {"mpegts_m2ts_mode": "1"}}
    extra = {"mpegts_copyts": "1"} if muxer == "mpegts" else {}
    try:
        with av.open(str(path), "w", format=muxer, options=options.get(case.container, {}) | extra) as output:
            _mux(case, output, muxer, codec)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        raise NotWritableError from error
    if not path.is_file() or not path.stat().st_size:
        raise NotWritableError
    return path


def _mux(case: Rewrite, output: Any, muxer: str, codec: str) -> None:
    stream: Any = None
    begin = {"zero": 0.0, "negative": -0.2, "wrapped": (WRAP - 45_000) / 90_000, "late": 3600.0}[case.offset]
    for number, piece in enumerate(case.pieces):
        with av.open(str(piece), metadata_errors="replace") as source:
            origin = source.streams.video[0]
            if stream is None:
                stream = output.add_stream_from_template(origin)
            end = begin
            for packet in _pieces_packets(case, source, origin, muxer, codec, number):
                seconds = [None if t is None else float(t * packet.time_base) for t in (packet.pts, packet.dts)]
                base = float((origin.start_time or 0) * origin.time_base)
                unit = stream.time_base or Fraction(1, 90_000)
                shift = begin - base + (0.2 * (number_of(packet) // case.drops) if case.drops else 0)
                times = [None if s is None else round((s + shift) / float(unit)) for s in seconds]
                length = round(float((packet.duration or 0) * packet.time_base) / float(unit))
                end = max([end, *((s + shift + 0.04) for s in seconds if s is not None)])
                packet.stream, packet.time_base = stream, unit
                packet.pts, packet.dts, packet.duration = times[0], times[1], length
                output.mux_one(packet)
            begin = end + 0.2


def number_of(packet: av.Packet) -> int:
    """The packet's place in its piece."""
    return int(packet.opaque or 0)


def _pieces_packets(
    case: Rewrite, source: Any, origin: Any, muxer: str, codec: str, number: int
) -> Iterator[av.Packet]:
    keeps_one_config = muxer in ("matroska", "webm", "asf") or case.container == "fragmented"
    if len(case.pieces) > 1 and codec in TO_START_CODES and keeps_one_config:
        raise NotWritableError  # the second piece cannot be decoded by anything
    bsf = None
    in_band = muxer in ("mpegts", "h264", "hevc", "vob") or (muxer == "avi" and codec in TO_START_CODES)
    if in_band and codec in TO_START_CODES:
        bsf = av.bitstream.BitStreamFilterContext(TO_START_CODES[codec], origin)
    elif codec == "mpeg4" and (in_band or number or muxer == "m4v"):
        bsf = av.bitstream.BitStreamFilterContext("dump_extra=freq=keyframe", origin)
    taken = 0
    for place, packet in enumerate(source.demux(origin)):
        if place < case.starts[number] or packet.size == 0:
            continue
        for filtered in bsf.filter(packet) if bsf is not None else [packet]:
            if number and taken == 0 and bsf is None and origin.codec_context.extradata:
                filtered = _with_extradata(filtered, bytes(origin.codec_context.extradata))
            if case.flags != "kept":
                filtered.is_keyframe = case.flags == "all" or (taken == 0 and number == 0)
            filtered.opaque = taken
            taken += 1
            yield filtered
        if taken >= MAX_PACKETS:
            return


def _with_extradata(packet: av.Packet, extradata: bytes) -> av.Packet:
    """The packet, announcing a new codec configuration as demuxers do."""
    data: Any = av.packet.PacketSideData(packet_sidedata_type_from_literal("new_extradata"), len(extradata))
    data.update(extradata)
    packet.set_sidedata(data)
    return packet


class PlaneReader(PictureConverter):
    """Takes the planes as decoded: FFmpeg mixes up the colour tags of the pieces of a joined file."""

    def picture(self, frame: av.VideoFrame) -> UInt8Array:
        """All rows of all planes, one after the other."""
        bits = max(component.bits for component in frame.format.components)
        is_packed = len(frame.planes) == 1 and len(frame.format.components) > 1
        rows = []
        for plane in frame.planes:
            width = plane.width * (frame.format.bits_per_pixel // 8 if is_packed else (bits + 7) // 8)
            lines = np.frombuffer(plane, dtype=np.uint8)[: plane.line_size * plane.height]
            rows.append(lines.reshape(plane.height, plane.line_size)[:, :width].ravel())
        return np.concatenate(rows)


# comparing ----------------------------------------------------------------------------------------------------------


def digest(picture: UInt8Array) -> str:
    """A short name for a picture."""
    return hashlib.md5(np.ascontiguousarray(picture).tobytes(), usedforsecurity=False).hexdigest()


def reference(path: Path, stream_index: int) -> tuple[list[str], bool]:
    """Digests of all frames, decoded in order by a plain decoder, and whether it met an error."""
    digests: list[str] = []
    is_damaged = False
    converter = PlaneReader(SETTINGS)
    with open_container(path) as container:
        stream: Any = container.streams[stream_index]
        stream.codec_context.thread_count = 1
        codec = stream.codec_context.codec.canonical_name
        packets = [_with_headers(packet, codec) for packet in _all_packets(container, stream) if packet.size]
        for packet in [*packets, None]:
            try:
                frames = stream.codec_context.decode(packet)
            except av.error.InvalidDataError:
                is_damaged = True
                continue
            for frame in frames:
                is_damaged |= frame.is_corrupt
                digests.append(digest(converter.picture(frame)))
    return digests, is_damaged


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


def patterns(num_frames: int, random: np.random.Generator) -> list[Int64Array]:
    """Frames that are asked for: everything, segment centres, single frames, a few at random."""
    centres = (np.arange(8) * num_frames / 8 + num_frames / 16).astype(np.int64)
    few = np.sort(random.integers(0, num_frames, 3))
    return [np.arange(num_frames), centres, np.array([num_frames - 1]), np.array([num_frames // 2]), few]


def compare(path: Path, random: np.random.Generator) -> Result:
    """What the project makes of a file, against decoding everything."""
    try:
        video = open_video(path, SETTINGS)
    except ActserveError as error:
        return Result("", "refused", error.message)
    expected, is_damaged = reference(path, video.stream_index)
    outcome = "planned" if video.is_planned else "in order"
    num_corrupt = 0
    for wanted in patterns(max(1, len(expected)), random):
        try:
            reading = read_frames(video, _chooser(wanted), take=digest, settings=SETTINGS)
        except ActserveError as error:
            is_right = is_damaged or not expected
            return Result(video.canonical_codec, "refused" if is_right else "DIFFERENT", error.message)
        num_corrupt += reading.num_corrupt_frames
        found = reading.timeline.num_frames
        wrong = [i for i, name in reading.kept.items() if i >= len(expected) or expected[i] != name]
        steps = np.diff(reading.timeline.pts_seconds)
        if found != len(expected) or wrong or (steps < 0).any():
            detail = f"{outcome}: {found} frames of {len(expected)}, wrong {wrong[:5]}, corrupt {num_corrupt}"
            is_said = reading.num_corrupt_frames >= len(wrong) and (wrong or is_damaged)
            return Result(video.canonical_codec, "damaged" if is_said else "DIFFERENT", detail)
    return Result(video.canonical_codec, "damaged" if num_corrupt else outcome)


def _chooser(wanted: Int64Array) -> Callable[[int], Int64Array]:
    return lambda num_frames: np.minimum(wanted, max(0, num_frames - 1))


def run(count: int, *, seed: int, folder: Path, only: int | None = None) -> Totals:
    """Try `count` rewrites that can be written."""
    silence_library()
    with mock.patch("serve.video.decoder.PictureConverter", PlaneReader):
        return _run(count, seed=seed, folder=folder, only=only)


def _run(count: int, *, seed: int, folder: Path, only: int | None) -> Totals:
    sources = {name: path for name, path in make_sources(folder).items() if _codec(path)}
    totals = Totals()
    number = done = 0
    while done < count:
        number += 1
        if only is not None and number != only:
            continue
        random = np.random.default_rng([seed, number])
        case = draw(random, sources)
        try:
            path = write(case, folder)
        except NotWritableError:
            totals.num_unwritable += 1
        else:
            done += 1
            result = compare(path, random)
            totals.cells[case.container, result.codec or _codec(case.pieces[0]), result.outcome] += 1
            if result.outcome == "DIFFERENT":
                totals.differences.append(f"{number}: {case.describe()}: {result.detail}")
                print(totals.differences[-1], flush=True)
            elif only is not None:
                print(number, case.describe(), result)
        if only is not None:
            break
    return totals


def main() -> int:
    """Print the counts; 1 where a difference was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        totals = run(arguments.count, seed=arguments.seed, folder=Path(folder), only=arguments.only)
    for key, number in sorted(totals.cells.items()):
        print(f"{key[0]:11} {key[1]:12} {key[2]:10} {number:5}")
    outcomes = collections.Counter[str]()
    for key, number in totals.cells.items():
        outcomes[key[2]] += number
    print(json.dumps({"rewrites": outcomes.total(), "unwritable": totals.num_unwritable, **outcomes}))
    return 1 if totals.differences else 0


if __name__ == "__main__":
    sys.exit(main())
