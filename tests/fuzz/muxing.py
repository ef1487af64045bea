"""Write a rewritten clip with the muxers of the FFmpeg that PyAV carries."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.packet
from av.packet import packet_sidedata_type_from_literal
from av.stream import Disposition

from tests.fuzz.boxes import patched
from tests.fuzz.cases import CARRIED, CONTAINERS, EDITS, HAS_EDIT_LISTS, RAW, WRAP, Rewrite, codec_of

MAX_PACKETS = 48  # of each piece
MAX_DECOY_PACKETS = 12
TO_START_CODES = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}


class NotWritableError(Exception):
    """The muxer does not take this stream."""


def write(case: Rewrite, folder: Path) -> Path:
    """Write the rewritten file.

    Raises:
        NotWritableError: the muxer refuses.
    """
    codec = codec_of(case.pieces[0])
    muxer = CONTAINERS[case.container] or RAW.get(codec, "")
    if not muxer or not codec or codec not in CARRIED.get(muxer, {codec}):
        raise NotWritableError
    path = folder / f"rewritten.{case.container}"
    path.unlink(missing_ok=True)
    options = {"fragmented": {"movflags": "frag_keyframe+empty_moov"}, "m2ts": {"mpegts_m2ts_mode": "1"}}
    extra = {"mpegts_copyts": "1"} if muxer == "mpegts" else {}
    try:
        with av.open(str(path), "w", format=muxer, options=options.get(case.container, {}) | extra) as output:
            _mux(case, output, muxer, codec)
        if not path.is_file() or not path.stat().st_size:
            raise NotWritableError
        if case.container in HAS_EDIT_LISTS:
            _patch_(path, case)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        raise NotWritableError from error
    return path


def _patch_(path: Path, case: Rewrite) -> None:
    data = patched(
        path.read_bytes(),
        edits=EDITS[case.edits] if case.edits else (),
        edited_track=case.stream_index,
        disabled_track=None if case.decoy is None else 1 - case.stream_index,
    )
    path.write_bytes(data)


def _mux(case: Rewrite, output: Any, muxer: str, codec: str) -> None:
    stream: Any = None
    decoy = None if case.decoy is None else av.open(str(case.decoy), metadata_errors="replace")
    begin = {"zero": 0.0, "negative": -0.2, "wrapped": (WRAP - 45_000) / 90_000, "late": 3600.0}[case.offset]
    for number, piece in enumerate(case.pieces):
        with av.open(str(piece), metadata_errors="replace") as source:
            origin = source.streams.video[0]
            if stream is None:
                stream = _add_streams(output, origin, decoy, is_decoy_first=case.is_decoy_first)
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
    if decoy is not None:
        decoy.close()


def _add_streams(output: Any, origin: Any, decoy: Any, *, is_decoy_first: bool) -> Any:
    """Add the track of the clip and that of the decoy, with the packets of the latter; return the clip's."""
    if decoy is None:
        return add_copy(output, origin)
    other = decoy.streams.video[0]
    streams = [add_copy(output, each) for each in ((other, origin) if is_decoy_first else (origin, other))]
    hidden, shown = streams if is_decoy_first else streams[::-1]
    hidden.disposition, shown.disposition = Disposition(0), Disposition.default
    for number, packet in enumerate(decoy.demux(other)):
        if number == MAX_DECOY_PACKETS or not packet.size:
            break
        packet.stream = hidden
        output.mux_one(packet)
    return shown


def add_copy(output: Any, origin: Any) -> Any:
    """Add a stream for the packets of another. PyAV looks for an encoder of the decoder's name, and dav1d has none."""
    return output.add_stream_from_template(origin, opaque=origin.codec_context.codec.canonical_name == "av1")


def number_of(packet: av.Packet) -> int:
    """Return the packet's place in its piece."""
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
    """Return the packet, announcing a new codec configuration as demuxers do."""
    data: Any = av.packet.PacketSideData(packet_sidedata_type_from_literal("new_extradata"), len(extradata))
    data.update(extradata)
    packet.set_sidedata(data)
    return packet
