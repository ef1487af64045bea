"""Decoding with PyAV: only the frames that are wanted, and only the groups of pictures they need.

All packets are demuxed once, without decoding, so timestamps and the count of shown frames are known and no header is
trusted. Where the container's presentation times can be trusted, each wanted frame is decoded from the key frame before
it, unwanted frames nobody refers to are skipped, and every wanted timestamp must come out exactly once. Everywhere
else, and whenever that check fails, the stream is decoded in order and frames are counted as they come.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.errors import (
    UndecodableVideo,
    VideoTooLong,
    VideoTooShort,
)
from serve.video.limits import DecodeSettings
from serve.video.metadata import Timeline
from serve.video.packet_index import Entry, index_packets, packets
from serve.video.pictures import PictureConverter
from serve.video.plan import presentation_order, runs
from serve.video.streams import choose_stream, open_container

MAX_BROKEN_SHARE = 0.5  # of the packets; past it the picture would be mostly invented

Choose = Callable[[int], Int64Array]  # number of shown frames -> wanted indices, any shape
Take = Callable[[UInt8Array], Any]  # upright frame [H, W, 3] RGB -> what is kept of it


@dataclass(frozen=True)
class Reading:
    """What was kept of the wanted frames, by frame index, and when all frames are shown."""

    timeline: Timeline
    indices: Int64Array  # as `choose` returned them for the true count
    kept: dict[int, Any]
    num_broken_packets: int = 0


class _PlanFailedError(Exception):
    """The planned frames did not all come out; decode in order instead."""


class PyavVideo:
    """One opened file; frames come from `read`."""

    def __init__(self, path: Path, settings: DecodeSettings) -> None:
        self.path = path
        self._settings = settings
        with open_container(path) as container:
            self.stream_index = choose_stream(container, settings)
            stream = container.streams[self.stream_index]
            assert isinstance(stream, av.VideoStream)
            self.container = container.format.name
            self.codec = stream.codec_context.codec.name
            self.canonical_codec = stream.codec_context.codec.canonical_name
            self.time_base = float(stream.time_base) if stream.time_base else 0.0
            rate = stream.average_rate or stream.guessed_rate
            self._seconds_per_frame = 1 / float(rate) if rate else 0.0
            self.entries = index_packets(container, stream, settings)
        self.shown = [position for position, entry in enumerate(self.entries) if entry.is_shown]
        if not self.entries:
            raise VideoTooShort("the video stream holds no frame", num_frames=0)
        self._order = presentation_order(self.entries, self.container)
        self._refuse_long(self._planned_timeline() if self._order is not None else None)

    @property
    def is_planned(self) -> bool:
        """The container's timestamps can be trusted, so frames are found without decoding them all."""
        return self._order is not None

    def counted(self) -> Timeline:
        """Times of the shown frames; where the container's cannot be trusted, everything is decoded once to count."""
        if self._order is not None:
            return self._planned_timeline()
        _, times, last_duration, _ = self._pass(set(), _keep_nothing)
        if not times:
            raise _nothing_decodes(len(self.entries))
        return self._counted_timeline(times, last_duration)

    def read(self, choose: Choose, take: Take) -> Reading:
        """Decode the frames `choose` wants and keep what `take` makes of each.

        `take` sees one frame at a time and each at most once per pass; `choose` may be asked again when the true count
        differs from the number of packets.

        Raises:
            UndecodableVideo: nothing, or too little, can be decoded.
            PictureTooLarge, VideoTooLong, VideoTooShort, DecodeLimitExceeded: a limit was passed.
        """
        if self._order is not None:
            try:
                return self._read_planned(choose, take)
            except (_PlanFailedError, av.error.InvalidDataError):
                pass
        return self._read_in_order(choose, take)

    def _planned_timeline(self) -> Timeline:
        assert self._order is not None
        times = [self.entries[position].pts or 0 for position in self._order]
        return self._timeline(times, self.entries[self._order[-1]].duration)

    def _timeline(self, times: Sequence[int], last_duration: int) -> Timeline:
        seconds = (np.asarray(times, dtype=np.float64) - times[0]) * self.time_base
        if last_duration <= 0 and len(times) > 1:
            last_duration = round(statistics.median(np.diff(times).tolist()))
        return Timeline(seconds, float(seconds[-1]) + last_duration * self.time_base)

    def _refuse_long(self, timeline: Timeline | None) -> None:
        limit = self._settings.max_duration_seconds
        if timeline is not None and timeline.duration_seconds > limit:
            raise VideoTooLong(
                f"the video lasts {timeline.duration_seconds:.0f} s, {limit:.0f} s are allowed",
                duration_seconds=timeline.duration_seconds,
                limit_seconds=limit,
            )

    # planned decoding -----------------------------------------------------------------------------------------------

    def _read_planned(self, choose: Choose, take: Take) -> Reading:
        assert self._order is not None
        indices = within(choose(len(self._order)), len(self._order))
        index_of = {self.entries[self._order[index]].pts: int(index) for index in np.unique(indices)}
        kept: dict[int, Any] = {}
        with self._decoder() as decoder:
            for run in runs(self.entries, [self._order[index] for index in index_of.values()]):
                for frame in self._decode_run(decoder, run, index_of):
                    index = index_of.get(frame.pts)
                    if index is None:
                        continue
                    if index in kept:
                        raise _PlanFailedError
                    kept[index] = take(decoder.picture(frame))
        if len(kept) != len(index_of):
            raise _PlanFailedError
        return Reading(self._planned_timeline(), indices, kept)

    def _decode_run(self, decoder: "_Decoder", run: range, index_of: dict[int | None, int]) -> Iterator[av.VideoFrame]:
        for packet, entry in self._stored(run):
            wanted = entry.pts in index_of
            decoder.context.skip_frame = "DEFAULT" if wanted else "NONREF"
            yield from decoder.context.decode(packet)
        yield from decoder.context.decode(None)
        decoder.context.flush_buffers()

    def _stored(self, run: range) -> Iterator[tuple[av.Packet, Entry]]:
        if self.entries[0].packet is not None:
            for position in run:
                packet = self.entries[position].packet
                assert packet is not None
                yield packet, self.entries[position]
            return
        with open_container(self.path) as container:
            stream = container.streams[self.stream_index]
            for position, packet in enumerate(packets(container, stream)):
                if position >= run.stop:
                    return
                if position >= run.start:
                    yield packet, self.entries[position]

    # decoding in order ----------------------------------------------------------------------------------------------

    def _read_in_order(self, choose: Choose, take: Take) -> Reading:
        guess = len(self.shown)
        wanted = set(np.unique(choose(guess)).tolist()) if guess else set()
        kept, times, last_duration, broken = self._pass(wanted, take)
        if not times:
            raise _nothing_decodes(len(self.entries))
        if broken > MAX_BROKEN_SHARE * len(self.entries):
            raise UndecodableVideo(
                f"the video is mostly broken: {broken} of {len(self.entries)} packets cannot be decoded",
                broken_packets=broken,
                num_packets=len(self.entries),
            )
        indices = within(choose(len(times)), len(times))
        needed = set(np.unique(indices).tolist())
        if missing := needed - kept.keys():
            more, *_ = self._pass(missing, take)
            kept |= more
        if needed - kept.keys():
            raise UndecodableVideo("the video decodes to different frames each time: its data is broken")
        timeline = self._counted_timeline(times, last_duration)
        self._refuse_long(timeline)
        return Reading(timeline, indices, {index: kept[index] for index in needed}, broken)

    def _pass(self, wanted: set[int], take: Take) -> tuple[dict[int, Any], list[int | None], int, int]:
        """Decode everything once: what was kept, all timestamps, the last duration, packets that were broken."""
        kept: dict[int, Any] = {}
        times: list[int | None] = []
        last_duration = broken = 0
        with self._decoder() as decoder:
            for packet in self._all_packets():
                try:
                    frames = decoder.context.decode(packet)
                except av.error.InvalidDataError:
                    broken += 1
                    continue
                for frame in frames:
                    if len(times) in wanted:
                        kept[len(times)] = take(decoder.picture(frame))
                    times.append(frame.pts)
                    last_duration = frame.duration or 0
                if len(times) > self._settings.max_frames:
                    raise VideoTooLong(f"the video has more than the {self._settings.max_frames} frames allowed")
        return kept, times, last_duration, broken

    def _all_packets(self) -> Iterator[av.Packet | None]:
        for packet, _ in self._stored(range(len(self.entries))):
            yield packet
        yield None  # drains the decoder

    def _counted_timeline(self, times: list[int | None], last_duration: int) -> Timeline:
        """Times as decoded where they ascend; else one after the other at the stream's rate (AVI, raw streams)."""
        known = [time for time in times if time is not None]
        if len(known) == len(times) and all(a < b for a, b in pairwise(known)) and self.container != "avi":
            return self._timeline(known, last_duration)
        seconds = np.arange(len(times), dtype=np.float64) * self._seconds_per_frame
        return Timeline(seconds, len(times) * self._seconds_per_frame)

    @contextmanager
    def _decoder(self) -> Iterator["_Decoder"]:
        with open_container(self.path) as container:
            stream = container.streams[self.stream_index]
            assert isinstance(stream, av.VideoStream)
            yield _Decoder(stream, self._settings)


class _Decoder:
    """A codec with its limits, and the way from its frames to upright RGB."""

    def __init__(self, stream: av.VideoStream, settings: DecodeSettings) -> None:
        self._converter = PictureConverter(settings)
        self.context = stream.codec_context
        self.context.thread_type = "AUTO"
        self.context.thread_count = settings.thread_count()
        self.context.options = {"max_pixels": str(settings.max_picture_pixels)}  # also when the size changes later

    def picture(self, frame: av.VideoFrame) -> UInt8Array:
        """The frame as it is shown, RGB [H, W, 3]."""
        return self._converter.picture(frame)


def _keep_nothing(_: UInt8Array) -> None:
    return None


def _nothing_decodes(num_packets: int) -> UndecodableVideo:
    return UndecodableVideo("not one frame can be decoded: the video stream's data is broken", num_packets=num_packets)


def within(indices: Int64Array, num_frames: int) -> Int64Array:
    """The indices, once it is sure that such frames exist."""
    if indices.max() >= num_frames:
        raise VideoTooShort(f"frame {indices.max()} is wanted, the video shows {num_frames}", num_frames=num_frames)
    return indices
