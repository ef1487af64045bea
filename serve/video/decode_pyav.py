"""Decoding with PyAV: only the wanted frames, and only the groups of pictures they need.

All packets are demuxed once, without decoding, and the headers in their bitstream are parsed. They determine where
decoding may start, which pictures are shown and in what order, and which parameter sets they need; headers and flags of
the container are not trusted for this. Each wanted frame is then decoded from the access point before it, unwanted
frames that are not references are skipped, and every wanted frame must be output exactly once and in order. If the
bitstream does not prove enough, or if this check fails, the whole stream is decoded in order and its frames are
counted.

Decoding is strict first. After an error, the same packets are decoded again leniently, as FFmpeg does by default, and
the frames that depend on corrupt data are counted.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.errors import UndecodableVideo, VideoTooLong, VideoTooShort
from serve.video.decoder import DamagedError, Decoder
from serve.video.identify import identify
from serve.video.limits import DecodeSettings
from serve.video.metadata import Timeline
from serve.video.packet_index import MAX_KEPT_BYTES, PacketIndex, index_packets, packets
from serve.video.plan import DecodePlan, make_plan
from serve.video.streams import open_container
from serve.video.times import TimestampConverter
from serve.video.tracks import choose_stream
from serve.video.truncation import breaks_off

MAX_BROKEN_SHARE = 0.5  # of the packets; with more, most of the picture would be concealment

Choose = Callable[[int], Int64Array]  # number of shown frames -> wanted indices, any shape
ChooseByTime = Callable[[Timeline], Int64Array]  # times of the shown frames -> wanted indices, any shape
Take = Callable[[UInt8Array], Any]  # upright frame [H, W, 3] RGB -> value to keep
Give = Callable[[int, UInt8Array], None]  # index and upright frame [H, W, 3] RGB
Fed = Iterator[tuple[av.Packet, int, bool]]  # packet, its position, whether the decoder may skip it


@dataclass(frozen=True)
class DecodedFrames:
    """The kept values of the wanted frames by frame index, and the times of all frames."""

    timeline: Timeline
    indices: Int64Array  # as `choose` returned them for the true count
    kept: dict[int, Any]
    num_broken_packets: int = 0
    corrupt_indices: frozenset[int] = frozenset()  # wanted frames with concealed errors, or that refer to such frames

    @property
    def num_corrupt_frames(self) -> int:
        """Number of wanted frames that are corrupt."""
        return len(self.corrupt_indices)


@dataclass(frozen=True)
class StreamEnd:
    """What is known of a video after all of its frames were given."""

    timeline: Timeline
    num_broken_packets: int
    num_corrupt_frames: int  # of the wanted ones
    is_truncated: bool  # the file breaks off, or its last packets cannot be decoded


class _PlanFailedError(Exception):
    """Planned decoding did not output all wanted frames; decode in order instead."""


@dataclass
class _DecodePass:
    """Result of decoding everything in order."""

    kept: dict[int, Any] = field(default_factory=dict)
    shown: list[int | None] = field(default_factory=list)  # packet of each frame
    damaged: set[int] = field(default_factory=set)  # packets whose frames are damaged
    num_broken: int = 0


class PyavVideo:
    """One opened file; `read` returns its frames."""

    def __init__(self, path: Path, settings: DecodeSettings, *, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self.path = path
        self._settings = settings
        self.is_still = identify(path).is_still
        with open_container(path) as container:
            self.stream_index = choose_stream(container, path, settings)
            stream = container.streams[self.stream_index]
            assert isinstance(stream, av.VideoStream)
            self.container = container.format.name
            self.codec = stream.codec_context.codec.name
            self.canonical_codec = stream.codec_context.codec.canonical_name
            rate = stream.average_rate or stream.guessed_rate
            self._clock = TimestampConverter(
                container=self.container,
                time_base=float(stream.time_base) if stream.time_base else 0.0,
                seconds_per_frame=1 / float(rate) if rate else 0.0,
            )
            self.index = index_packets(container, stream, settings, max_kept_bytes=max_kept_bytes)
            self._breaks_off = breaks_off(path, stream, self.index)
        if self.is_still:
            del self.index.entries[1:]
        if not self.index.entries:
            raise VideoTooShort("the video stream has no frames", num_frames=0)
        self._plan = self._checked_plan()
        if self._plan is not None:
            self._refuse_long(self._timeline(list(self._plan.order)))

    @property
    def is_planned(self) -> bool:
        """Whether the bitstream proves where decoding may start, so that not all frames need to be decoded."""
        return self._plan is not None

    def counted(self) -> Timeline:
        """Return the times of the shown frames; without a plan, this decodes everything once to count them."""
        if self._plan is not None:
            return self._timeline(list(self._plan.order))
        return self._timeline(self._pass(lambda: (set(), _keep_nothing)).shown)

    def read(self, choose: Choose, take: Take) -> DecodedFrames:
        """Decode the frames that `choose` selects and keep the result of `take` for each.

        `take` gets each frame at most once per pass; `choose` may be called again if the true number of frames differs
        from the number of packets.

        Raises:
            UndecodableVideo: no frames, or too few, can be decoded.
            PictureTooLarge, VideoTooLong, VideoTooShort, DecodeLimitExceeded: a limit is exceeded.
        """
        reading = self._read(choose, take)
        self._refuse_corrupt(reading.num_corrupt_frames, len(reading.kept))
        return reading

    def _read(self, choose: Choose, take: Take) -> DecodedFrames:
        if self._plan is not None:
            try:
                return self._read_planned(self._plan, choose, take)
            except (_PlanFailedError, av.error.InvalidDataError):
                pass
        return self._read_in_order(choose, take)

    def stream(self, choose: ChooseByTime, give: Give) -> StreamEnd:
        """Give each frame that `choose` selects once, in ascending order, and keep none of them.

        Every frame is decoded once if the packets tell which frames are shown, and a second time otherwise. `choose` is
        called again where decoding starts again: the frames given so far are void.

        Raises:
            UndecodableVideo: no frames, or too few, can be decoded.
            PictureTooLarge, VideoTooLong, DecodeLimitExceeded: a limit is exceeded.
        """
        if self._plan is not None:
            try:
                return self._stream_planned(self._plan, choose, give)
            except (_PlanFailedError, av.error.InvalidDataError):
                pass
        return self._stream_in_order(choose, give)

    def _stream_planned(self, plan: DecodePlan, choose: ChooseByTime, give: Give) -> StreamEnd:
        timeline = self._timeline(list(plan.order))
        wanted = np.unique(within(choose(timeline), timeline.num_frames)).tolist()
        damaged: set[int] = set()
        expected = iter(wanted)
        for position, picture in self._planned(plan, [plan.order[index] for index in wanted], damaged):
            index = plan.rank[position]
            if index != next(expected):
                raise _PlanFailedError
            give(index, picture)
        if next(expected, None) is not None:
            raise _PlanFailedError
        self._refuse_corrupt(len(damaged), len(wanted))
        return StreamEnd(timeline, 0, len(damaged), self._breaks_off)

    def _stream_in_order(self, choose: ChooseByTime, give: Give) -> StreamEnd:
        entries = self.index.entries
        positions = [position for position, entry in enumerate(entries) if entry.is_shown]
        by_time = sorted(positions, key=lambda position: (entries[position].pts or 0, position))
        shown: list[int | None] = list(by_time)
        found, wanted = self._given(shown, choose, give)
        if found.shown != shown:  # the packets did not tell
            shown = found.shown
            found, wanted = self._given(shown, choose, give)
            if found.shown != shown:
                raise _unstable()
        num_corrupt = sum(shown[index] in found.damaged for index in wanted)
        self._refuse_corrupt(num_corrupt, len(wanted))
        is_truncated = self._breaks_off or max(positions, default=0) > max(position or 0 for position in shown)
        return StreamEnd(self._timeline(shown), found.num_broken, num_corrupt, is_truncated)

    def _refuse_corrupt(self, num_corrupt: int, num_frames: int) -> None:
        if num_corrupt > self._settings.max_corrupt_share * num_frames:
            raise UndecodableVideo(
                f"{num_corrupt} of the {num_frames} sampled frames are corrupt; "
                f"a share of at most {self._settings.max_corrupt_share:g} is allowed",
                num_corrupt_frames=num_corrupt,
                num_frames=num_frames,
                limit_share=self._settings.max_corrupt_share,
            )

    # planned decoding -----------------------------------------------------------------------------------------------

    def _checked_plan(self) -> DecodePlan | None:
        """Make the plan; the frames of its head are counted by decoding them."""
        plan = make_plan(self.index, self.container)
        if plan is None or not plan.head:
            return plan
        with self._decoder(is_strict=False) as decoder:
            seen = [frame.pts for frame in _frames(decoder, _all_of(self._stored([plan.head])))]
        ranks = [plan.rank.get(position or 0, -1) for position in seen]
        if ranks != sorted(set(ranks)):
            return None  # the decoder outputs substitutes for missing pictures
        for position in plan.head:
            self.index.entries[position].is_shown &= position in seen
        return make_plan(self.index, self.container)

    def _read_planned(self, plan: DecodePlan, choose: Choose, take: Take) -> DecodedFrames:
        num_frames = len(plan.order)
        indices = within(choose(num_frames), num_frames)
        wanted = [plan.order[index] for index in np.unique(indices).tolist()]
        damaged: set[int] = set()
        kept = {position: take(picture) for position, picture in self._planned(plan, wanted, damaged)}
        if len(kept) != len(wanted):
            raise _PlanFailedError
        by_index = {plan.rank[position]: value for position, value in kept.items()}
        corrupt = frozenset(plan.rank[position] for position in damaged)
        return DecodedFrames(self._timeline(list(plan.order)), indices, by_index, corrupt_indices=corrupt)

    def _planned(self, plan: DecodePlan, wanted: Sequence[int], damaged: set[int]) -> Iterator[tuple[int, UInt8Array]]:
        """Decode the wanted packets, run by run; yield each with its picture, and add those that are `damaged`."""
        runs = plan.runs(wanted)
        stored = self._stored(runs)
        ascending = sorted(wanted)
        decoder: Decoder | None = None
        with ExitStack() as stack:
            for run in runs:
                of_run = islice(stored, len(run))
                left = set(ascending[bisect_left(ascending, run.start) : bisect_left(ascending, run.stop)])
                try:
                    if run.start == 0 and not left.isdisjoint(plan.head):
                        raise DamagedError  # pictures with missing references are expected there
                    decoder = decoder or stack.enter_context(self._decoder(is_strict=True))
                    feed = _planned_feed(plan, self.index, run, of_run, set(left))
                    yield from self._shown_of_run(decoder, plan, feed, left)
                except DamagedError:
                    stack.close()  # after an error, FFmpeg was seen to deblock the next picture wrongly
                    decoder = None
                    deque(of_run, maxlen=0)  # the next run starts after them
                    yield from self._damaged_run(plan, run, left, damaged)

    def _damaged_run(
        self, plan: DecodePlan, run: range, left: set[int], damaged: set[int]
    ) -> Iterator[tuple[int, UInt8Array]]:
        """Decode a run with errors again; add the packets of its damaged frames to `damaged`."""
        wanted = set(left)
        with self._decoder(is_strict=False) as decoder:
            yield from self._shown_of_run(decoder, plan, _all_of(self._stored([run])), left)
            damaged |= decoder.damaged & wanted

    def _shown_of_run(
        self, decoder: Decoder, plan: DecodePlan, feed: Fed, left: set[int]
    ) -> Iterator[tuple[int, UInt8Array]]:
        """Decode a run and check the order of its frames; yield those `left`, and remove them there."""
        latest = -1
        for frame in _frames(decoder, feed):
            rank = plan.rank.get(frame.pts or 0)
            if rank is None or rank <= latest:
                raise _PlanFailedError
            latest = rank
            if frame.pts in left:
                left.remove(frame.pts)
                yield frame.pts, decoder.picture(frame)

    def _stored(self, runs: Iterable[range]) -> Iterator[tuple[int, av.Packet]]:
        """Yield positions and packets of ascending runs, from memory or by reading the file again."""
        if self.index.entries[0].packet is not None:
            for run in runs:
                for position in run:
                    packet = self.index.entries[position].packet
                    assert packet is not None
                    yield position, packet
            return
        with open_container(self.path) as container:
            numbered = enumerate(packets(container, container.streams[self.stream_index]))
            for run in runs:
                for position, packet in numbered:
                    if position >= run.start:
                        yield position, packet
                    if position + 1 == run.stop:
                        break

    # decoding in order ----------------------------------------------------------------------------------------------

    def _read_in_order(self, choose: Choose, take: Take) -> DecodedFrames:
        guess = self.index.num_shown
        wanted = set(np.unique(choose(guess)).tolist()) if guess else set()
        found = self._pass(lambda: (wanted, take))
        num_packets = len(self.index.entries)
        if found.num_broken > MAX_BROKEN_SHARE * num_packets:
            raise UndecodableVideo(
                f"the video is mostly corrupt: {found.num_broken} of {num_packets} packets cannot be decoded",
                broken_packets=found.num_broken,
                num_packets=num_packets,
            )
        num_frames = len(found.shown)
        indices = within(choose(num_frames), num_frames)
        needed = set(np.unique(indices).tolist())
        kept = found.kept
        if missing := needed - kept.keys():
            kept = kept | self._pass(lambda: (missing, take)).kept
        if needed - kept.keys():
            raise _unstable()
        timeline = self._timeline(found.shown)
        self._refuse_long(timeline)
        corrupt = frozenset(index for index in needed if found.shown[index] in found.damaged)
        return DecodedFrames(timeline, indices, {index: kept[index] for index in needed}, found.num_broken, corrupt)

    def _given(self, shown: list[int | None], choose: ChooseByTime, give: Give) -> tuple[_DecodePass, list[int]]:
        """Decode everything in order, give the frames that `choose` selects if `shown` are the frames, return those."""
        timeline = self._timeline(shown)
        self._refuse_long(timeline)
        wanted: list[int] = []

        def begin() -> tuple[set[int], Take]:
            wanted[:] = np.unique(choose(timeline)).tolist() if shown else []
            numbers = iter(wanted)
            return set(wanted), lambda picture: give(next(numbers), picture)

        return self._pass(begin), wanted

    def _pass(self, begin: Callable[[], tuple[set[int], Take]]) -> _DecodePass:
        """Decode everything once; `begin` returns the wanted frames and what is done with them.

        `begin` is called a second time where an error makes decoding start again.

        Raises:
            UndecodableVideo: no frame can be decoded.
        """
        try:
            found = self._pass_with(*begin(), is_strict=True)
        except DamagedError:
            found = self._pass_with(*begin(), is_strict=False)
        if not found.shown:
            raise UndecodableVideo(
                "no frame can be decoded: the data of the video stream is corrupt", num_packets=len(self.index.entries)
            )
        return found

    def _pass_with(self, wanted: set[int], take: Take, *, is_strict: bool) -> _DecodePass:
        found = _DecodePass()
        everything = [range(len(self.index.entries))]
        with self._decoder(is_strict=is_strict) as decoder:
            for frame in _frames(decoder, _all_of(self._stored(everything))):
                if len(found.shown) in wanted:
                    found.kept[len(found.shown)] = take(decoder.picture(frame))
                found.shown.append(frame.pts)
                if len(found.shown) > self._settings.max_frames:
                    raise VideoTooLong(f"the video has more than {self._settings.max_frames} frames, the limit")
            found.damaged, found.num_broken = decoder.damaged, decoder.num_broken
        return found

    # times and limits -----------------------------------------------------------------------------------------------

    def _timeline(self, shown: list[int | None]) -> Timeline:
        return self._clock.timeline(self.index.entries, shown)

    def _refuse_long(self, timeline: Timeline) -> None:
        limit = self._settings.max_duration_seconds
        if timeline.duration_seconds > limit:
            raise VideoTooLong(
                f"the video lasts {timeline.duration_seconds:.0f} s; at most {limit:.0f} s are allowed",
                duration_seconds=timeline.duration_seconds,
                limit_seconds=limit,
            )

    @contextmanager
    def _decoder(self, *, is_strict: bool) -> Iterator[Decoder]:
        with open_container(self.path) as container:
            stream = container.streams[self.stream_index]
            assert isinstance(stream, av.VideoStream)
            yield Decoder(stream, self.index, self._settings, is_strict=is_strict)


def _planned_feed(
    plan: DecodePlan, index: PacketIndex, run: range, stored: Iterable[tuple[int, av.Packet]], wanted: set[int]
) -> Fed:
    """Yield the packets of a run to decode, and whether the decoder may skip each.

    Leading pictures are left out, because their references are missing, unless later pictures refer to them.
    """
    first = plan.rank.get(run.start, -1)
    for position, packet in stored:
        if plan.rank.get(position, first) >= first or index.entries[position].is_reference:
            yield packet, position, index.may_skip and position not in wanted


def _all_of(stored: Iterable[tuple[int, av.Packet]]) -> Fed:
    return ((packet, position, False) for position, packet in stored)


def _frames(decoder: Decoder, feed: Fed) -> Iterator[av.VideoFrame]:
    """Yield all frames of one run of packets."""
    begins = True
    for packet, position, may_skip in feed:
        yield from decoder.decode(packet, position, begins=begins, may_skip=may_skip)
        begins = False
    yield from decoder.drain()


def _unstable() -> UndecodableVideo:
    return UndecodableVideo("the video decodes to different frames each time: its data is corrupt")


def _keep_nothing(_: UInt8Array) -> None:
    return None


def within(indices: Int64Array, num_frames: int) -> Int64Array:
    """Return the indices after checking that these frames exist."""
    if indices.max() >= num_frames:
        raise VideoTooShort(
            f"frame {indices.max()} was requested, but the video has {num_frames} frames", num_frames=num_frames
        )
    return indices
