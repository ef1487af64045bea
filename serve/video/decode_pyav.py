"""Decode with PyAV: only the wanted frames, and only the groups of pictures they depend on.

All packets are demuxed once, without decoding, and the headers in their bitstream are parsed. They determine where
decoding may start, which pictures are shown, their output order and the parameter sets they need; headers and flags of
the container are not trusted for this. Each wanted frame is then decoded from the access point before it, and unwanted
non-reference frames are skipped. Every wanted frame must be output exactly once and in order. If this check fails, or
if the bitstream cannot be parsed, the whole stream is decoded in order and its frames are counted.

Decoding is strict at first. After an error, the same packets are decoded again leniently, as FFmpeg does by default,
and the frames that depend on corrupt data are counted.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import av
import numpy as np

from serve.arrays import UInt8Array
from serve.errors import UndecodableVideo, VideoTooLong
from serve.video.decoded_frames import (
    DecodedFrames,
    FrameConsumer,
    FrameSelector,
    FrameTransform,
    StreamSummary,
    TimeSelector,
    check_indices,
)
from serve.video.decoder import DamagedError, Decoder
from serve.video.empty_samples import count_empty_ticks
from serve.video.identify import identify
from serve.video.limits import DecodeSettings
from serve.video.metadata import Timeline
from serve.video.packet_index import MAX_CACHED_BYTES, PacketIndex, demux_packets, index_packets
from serve.video.plan import DecodePlan, make_plan
from serve.video.streams import open_container
from serve.video.times import TimestampConverter
from serve.video.tracks import MOV, choose_stream
from serve.video.truncation import is_truncated
from serve.video.video_file import VideoFile

MAX_BROKEN_SHARE = 0.5  # of the packets; with more broken packets, most of the image would be concealed

PacketFeed = Iterator[tuple[av.Packet, int, bool]]  # packet, its position, whether the decoder may skip it


class _PlanFailedError(Exception):
    """Planned decoding did not output all wanted frames; decode in order instead."""


@dataclass
class _DecodePass:
    """Result of decoding all packets in order."""

    values: dict[int, Any] = field(default_factory=dict)  # frame index -> result of the transform
    shown: list[int | None] = field(default_factory=list)  # packet position of each frame
    damaged: set[int] = field(default_factory=set)  # positions of the packets whose frames are damaged
    num_broken: int = 0  # packets that the decoder rejected


class PyavVideo:
    """One opened video; `read` and `stream` decode its frames."""

    def __init__(self, file: VideoFile, settings: DecodeSettings, *, max_cached_bytes: int = MAX_CACHED_BYTES) -> None:
        self.file = file
        self._settings = settings
        self.is_still = identify(file).is_still
        empty_streams: set[int] = set()
        while not self._index_stream(empty_streams, max_cached_bytes=max_cached_bytes):
            empty_streams.add(self.stream_index)
        if self.is_still:
            del self.index.entries[1:]
        self._plan = self._make_plan()
        if self._plan is not None:
            self._check_duration(self._timeline(list(self._plan.order)))

    def _index_stream(self, empty_streams: Set[int], *, max_cached_bytes: int) -> bool:
        """Choose a stream, index its packets and return whether it has any.

        Raises:
            VideoTooShort: all streams are in `empty_streams`.
        """
        with open_container(self.file) as container:
            self.stream_index = choose_stream(container, self.file, self._settings, skipped=empty_streams)
            stream = container.streams[self.stream_index]
            assert isinstance(stream, av.VideoStream)
            self.container = container.format.name
            self.codec = stream.codec_context.codec.name
            self.canonical_codec = stream.codec_context.codec.canonical_name
            rate = stream.average_rate or stream.guessed_rate
            self._timestamps = TimestampConverter(
                container=self.container,
                time_base=float(stream.time_base) if stream.time_base else 0.0,
                seconds_per_frame=1 / float(rate) if rate else 0.0,
            )
            self.index = index_packets(container, stream, self._settings, max_cached_bytes=max_cached_bytes)
            self._is_truncated = is_truncated(self.file, stream, self.index)
            if self.container in ("avi", MOV):
                self.index.extend_last_(count_empty_ticks(self.file, stream, self.index))
        return bool(self.index.entries)

    @property
    def is_planned(self) -> bool:
        """Whether the bitstream tells where decoding may start, so that only some packets need to be decoded."""
        return self._plan is not None

    def read_timeline(self) -> Timeline:
        """Return the times of the shown frames; without a plan, this decodes all packets to count the frames."""
        if self._plan is not None:
            return self._timeline(list(self._plan.order))
        return self._timeline(self._decode_all(lambda: (set(), _discard_frame)).shown)

    def read(self, choose: FrameSelector, transform: FrameTransform) -> DecodedFrames:
        """Decode the frames that `choose` selects; return the result of `transform` for each.

        `transform` may be called again for the same frame if decoding has to be repeated. `choose` is called again if
        the true number of frames differs from the number of packets.

        Raises:
            UndecodableVideo: no frames, or too few, can be decoded.
            PictureTooLarge, VideoTooLong, VideoTooShort, DecodeLimitExceeded: a limit is exceeded.
        """
        frames = self._read(choose, transform)
        self._check_corrupt_share(frames.num_corrupt_frames, len(frames.values))
        return frames

    def _read(self, choose: FrameSelector, transform: FrameTransform) -> DecodedFrames:
        if self._plan is not None:
            try:
                return self._read_planned(self._plan, choose, transform)
            except (_PlanFailedError, av.error.InvalidDataError):
                pass
        return self._read_in_order(choose, transform)

    def stream(self, choose: TimeSelector, on_frame: FrameConsumer) -> StreamSummary:
        """Pass each frame that `choose` selects to `on_frame`, in ascending order; no frame is stored.

        If decoding has to be repeated, `choose` is called again, and the caller must discard the frames received so
        far. Decoding is repeated after an error, or if the packets do not tell which frames are shown.

        Raises:
            UndecodableVideo: no frames, or too few, can be decoded.
            PictureTooLarge, VideoTooLong, DecodeLimitExceeded: a limit is exceeded.
        """
        if self._plan is not None:
            try:
                return self._stream_planned(self._plan, choose, on_frame)
            except (_PlanFailedError, av.error.InvalidDataError):
                pass
        return self._stream_in_order(choose, on_frame)

    def _stream_planned(self, plan: DecodePlan, choose: TimeSelector, on_frame: FrameConsumer) -> StreamSummary:
        timeline = self._timeline(list(plan.order))
        wanted = np.unique(check_indices(choose(timeline), timeline.num_frames)).tolist()
        damaged: set[int] = set()
        expected = iter(wanted)
        for position, frame in self._decode_planned(plan, [plan.order[index] for index in wanted], damaged):
            index = plan.rank[position]
            if index != next(expected):
                raise _PlanFailedError
            on_frame(index, frame)
        if next(expected, None) is not None:
            raise _PlanFailedError
        self._check_corrupt_share(len(damaged), len(wanted))
        return StreamSummary(timeline, 0, len(damaged), self._is_truncated)

    def _stream_in_order(self, choose: TimeSelector, on_frame: FrameConsumer) -> StreamSummary:
        entries = self.index.entries
        positions = [position for position, entry in enumerate(entries) if entry.is_shown]
        by_time = sorted(positions, key=lambda position: (entries[position].pts or 0, position))
        shown: list[int | None] = list(by_time)
        result, wanted = self._stream_all(shown, choose, on_frame)
        if result.shown != shown:  # the decoder outputs other frames than the packets suggest
            shown = result.shown
            result, wanted = self._stream_all(shown, choose, on_frame)
            if result.shown != shown:
                raise _unstable_error()
        num_corrupt = sum(shown[index] in result.damaged for index in wanted)
        self._check_corrupt_share(num_corrupt, len(wanted))
        misses_last = max(positions, default=0) > max(position or 0 for position in shown)
        return StreamSummary(
            self._timeline(shown), result.num_broken, num_corrupt, is_truncated=self._is_truncated or misses_last
        )

    def _check_corrupt_share(self, num_corrupt: int, num_frames: int) -> None:
        if num_corrupt > self._settings.max_corrupt_share * num_frames:
            raise UndecodableVideo(
                f"{num_corrupt} of the {num_frames} sampled frames are corrupt; "
                f"a fraction of at most {self._settings.max_corrupt_share:g} is allowed",
                num_corrupt_frames=num_corrupt,
                num_frames=num_frames,
                limit_share=self._settings.max_corrupt_share,
            )

    # planned decoding -----------------------------------------------------------------------------------------------

    def _make_plan(self) -> DecodePlan | None:
        """Return the plan, or None if the stream must be decoded in order.

        The packets before the first usable access point (the head) are decoded to determine which frames they output.
        """
        plan = make_plan(self.index, self.container)
        if plan is None or not plan.head:
            return plan
        with self._decoder(is_strict=False) as decoder:
            output = [frame.pts for frame in _decode_packets(decoder, _feed_all(self._read_packets([plan.head])))]
        ranks = [plan.rank.get(position or 0, -1) for position in output]
        if ranks != sorted(set(ranks)):
            return None  # the decoder outputs substitutes for missing pictures
        for position in plan.head:
            self.index.entries[position].is_shown &= position in output
        return make_plan(self.index, self.container)

    def _read_planned(self, plan: DecodePlan, choose: FrameSelector, transform: FrameTransform) -> DecodedFrames:
        num_frames = len(plan.order)
        indices = check_indices(choose(num_frames), num_frames)
        wanted = [plan.order[index] for index in np.unique(indices).tolist()]
        damaged: set[int] = set()
        values = {position: transform(frame) for position, frame in self._decode_planned(plan, wanted, damaged)}
        if len(values) != len(wanted):
            raise _PlanFailedError
        by_index = {plan.rank[position]: value for position, value in values.items()}
        corrupt = frozenset(plan.rank[position] for position in damaged)
        return DecodedFrames(self._timeline(list(plan.order)), indices, by_index, corrupt_indices=corrupt)

    def _decode_planned(
        self, plan: DecodePlan, wanted: Sequence[int], damaged: set[int]
    ) -> Iterator[tuple[int, UInt8Array]]:
        """Decode the wanted packets, run by run; yield (position, frame) of each.

        The positions of wanted packets with damaged frames are added to `damaged`.
        """
        runs = plan.runs(wanted)
        packets = self._read_packets(runs)
        ascending = sorted(wanted)
        decoder: Decoder | None = None
        with ExitStack() as stack:
            for run in runs:
                run_packets = islice(packets, len(run))
                pending = set(ascending[bisect_left(ascending, run.start) : bisect_left(ascending, run.stop)])
                try:
                    if run.start == 0 and not pending.isdisjoint(plan.head):
                        raise DamagedError  # pictures of the head may lack references: decode them leniently
                    decoder = decoder or stack.enter_context(self._decoder(is_strict=True))
                    feed = _feed_planned(plan, self.index, run, run_packets, set(pending))
                    yield from self._decode_run(decoder, plan, feed, pending)
                except DamagedError:
                    stack.close()  # a context that had an error has deblocked the next picture wrongly (FFmpeg 8.1)
                    decoder = None
                    deque(run_packets, maxlen=0)  # skip the rest of this run
                    yield from self._decode_damaged_run(plan, run, pending, damaged)

    def _decode_damaged_run(
        self, plan: DecodePlan, run: range, pending: set[int], damaged: set[int]
    ) -> Iterator[tuple[int, UInt8Array]]:
        """Decode a run leniently; add the positions of wanted packets with damaged frames to `damaged`."""
        wanted = set(pending)
        with self._decoder(is_strict=False) as decoder:
            yield from self._decode_run(decoder, plan, _feed_all(self._read_packets([run])), pending)
            damaged |= decoder.damaged & wanted

    def _decode_run(
        self, decoder: Decoder, plan: DecodePlan, feed: PacketFeed, pending: set[int]
    ) -> Iterator[tuple[int, UInt8Array]]:
        """Decode a run and check the order of its frames.

        Yields (position, frame) of each pending packet, and removes the position from `pending`.
        """
        last_rank = -1
        for frame in _decode_packets(decoder, feed):
            rank = plan.rank.get(frame.pts or 0)
            if rank is None or rank <= last_rank:
                raise _PlanFailedError
            last_rank = rank
            if frame.pts in pending:
                pending.remove(frame.pts)
                yield frame.pts, decoder.to_rgb(frame)

    def _read_packets(self, runs: Iterable[range]) -> Iterator[tuple[int, av.Packet]]:
        """Yield (position, packet) of ascending runs, from memory or by reading the file again."""
        if self.index.entries[0].packet is not None:
            for run in runs:
                for position in run:
                    packet = self.index.entries[position].packet
                    assert packet is not None
                    yield position, packet
            return
        with open_container(self.file) as container:
            numbered = enumerate(demux_packets(container, container.streams[self.stream_index]))
            for run in runs:
                for position, packet in numbered:
                    if position >= run.start:
                        yield position, packet
                    if position + 1 == run.stop:
                        break

    # decoding in order ----------------------------------------------------------------------------------------------

    def _read_in_order(self, choose: FrameSelector, transform: FrameTransform) -> DecodedFrames:
        expected_count = self.index.num_shown
        wanted = set(np.unique(choose(expected_count)).tolist()) if expected_count else set()
        result = self._decode_all(lambda: (wanted, transform))
        num_packets = len(self.index.entries)
        if result.num_broken > MAX_BROKEN_SHARE * num_packets:
            raise UndecodableVideo(
                f"the video is mostly corrupt: {result.num_broken} of {num_packets} packets cannot be decoded",
                broken_packets=result.num_broken,
                num_packets=num_packets,
            )
        num_frames = len(result.shown)
        indices = check_indices(choose(num_frames), num_frames)
        needed = set(np.unique(indices).tolist())
        values = result.values
        if missing := needed - values.keys():
            values = values | self._decode_all(lambda: (missing, transform)).values
        if needed - values.keys():
            raise _unstable_error()
        timeline = self._timeline(result.shown)
        self._check_duration(timeline)
        corrupt = frozenset(index for index in needed if result.shown[index] in result.damaged)
        return DecodedFrames(timeline, indices, {index: values[index] for index in needed}, result.num_broken, corrupt)

    def _stream_all(
        self, shown: list[int | None], choose: TimeSelector, on_frame: FrameConsumer
    ) -> tuple[_DecodePass, list[int]]:
        """Decode all packets in order and pass the chosen frames to `on_frame`; return the result and their indices.

        `shown` are the packet positions of the frames that the decoder is expected to output.
        """
        timeline = self._timeline(shown)
        self._check_duration(timeline)
        wanted: list[int] = []

        def begin() -> tuple[set[int], FrameTransform]:
            wanted[:] = np.unique(choose(timeline)).tolist() if shown else []
            indices = iter(wanted)
            return set(wanted), lambda frame: on_frame(next(indices), frame)

        return self._decode_all(begin), wanted

    def _decode_all(self, begin: Callable[[], tuple[set[int], FrameTransform]]) -> _DecodePass:
        """Decode all packets in order; `begin` returns the indices of the wanted frames and the transform for them.

        If strict decoding fails, `begin` is called again and all packets are decoded leniently.

        Raises:
            UndecodableVideo: no frame can be decoded.
        """
        try:
            result = self._decode_all_once(*begin(), is_strict=True)
        except DamagedError:
            result = self._decode_all_once(*begin(), is_strict=False)
        if not result.shown:
            raise UndecodableVideo(
                "no frame can be decoded: the data of the video stream is corrupt", num_packets=len(self.index.entries)
            )
        return result

    def _decode_all_once(self, wanted: set[int], transform: FrameTransform, *, is_strict: bool) -> _DecodePass:
        result = _DecodePass()
        everything = [range(len(self.index.entries))]
        with self._decoder(is_strict=is_strict) as decoder:
            for frame in _decode_packets(decoder, _feed_all(self._read_packets(everything))):
                if len(result.shown) in wanted:
                    result.values[len(result.shown)] = transform(decoder.to_rgb(frame))
                result.shown.append(frame.pts)
                if len(result.shown) > self._settings.max_frames:
                    raise VideoTooLong(f"the video has more than {self._settings.max_frames} frames, the limit")
            result.damaged, result.num_broken = decoder.damaged, decoder.num_broken
        return result

    # times and limits -----------------------------------------------------------------------------------------------

    def _timeline(self, shown: list[int | None]) -> Timeline:
        return self._timestamps.timeline(self.index.entries, shown)

    def _check_duration(self, timeline: Timeline) -> None:
        limit = self._settings.max_duration_seconds
        if timeline.duration_seconds > limit:
            raise VideoTooLong(
                f"the video lasts {timeline.duration_seconds:.0f} s; at most {limit:.0f} s are allowed",
                duration_seconds=timeline.duration_seconds,
                limit_seconds=limit,
            )

    @contextmanager
    def _decoder(self, *, is_strict: bool) -> Iterator[Decoder]:
        with open_container(self.file) as container:
            stream = container.streams[self.stream_index]
            assert isinstance(stream, av.VideoStream)
            yield Decoder(stream, self.index, self._settings, is_strict=is_strict)


def _feed_planned(
    plan: DecodePlan, index: PacketIndex, run: range, packets: Iterable[tuple[int, av.Packet]], wanted: set[int]
) -> PacketFeed:
    """Yield the packets of a run to decode; the decoder may skip unwanted non-reference pictures.

    Leading pictures are left out, because their references are missing, unless later pictures refer to them.
    """
    first = plan.rank.get(run.start, -1)
    for position, packet in packets:
        if plan.rank.get(position, first) >= first or index.entries[position].is_reference:
            yield packet, position, index.can_skip_non_reference and position not in wanted


def _feed_all(packets: Iterable[tuple[int, av.Packet]]) -> PacketFeed:
    return ((packet, position, False) for position, packet in packets)


def _decode_packets(decoder: Decoder, feed: PacketFeed) -> Iterator[av.VideoFrame]:
    """Yield all frames of one run of packets."""
    is_first = True
    for packet, position, may_skip in feed:
        yield from decoder.decode(packet, position, is_first=is_first, may_skip=may_skip)
        is_first = False
    yield from decoder.drain()


def _unstable_error() -> UndecodableVideo:
    return UndecodableVideo("the video decodes to different frames each time: its data is corrupt")


def _discard_frame(_: UInt8Array) -> None:
    return None
