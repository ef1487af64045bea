"""Rewrite clips into other containers and compare every sampled frame with decoding everything in order.

    python -m tests.fuzz.rewrites --count 2000 [--seed 1] [--only NUMBER] [--table]

The reference feeds the packets of the rewritten file to a plain decoder of the same FFmpeg, from the first to the last.
Planes are compared before colours are converted. A refused file is decoded by that decoder too; if frames come out of
most packets, the refusal counts as a fault. Prints the counts by container and codec (with `--table` as Markdown), the
reasons of refusals, each fault with the number that makes it again, and one JSON line last.
"""

import argparse
import collections
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np

from serve.arrays import Int64Array
from serve.errors import ActserveError
from serve.video.decode import Video, open_video, read_frames
from serve.video.decode_pyav import MAX_BROKEN_SHARE
from serve.video.streams import open_container, silence_ffmpeg_log
from tests.fuzz.cases import CONTAINERS, RAW, Rewrite, codec_of, draw
from tests.fuzz.muxing import NotWritableError, write
from tests.fuzz.reference import SETTINGS, PlaneReader, Reference, digest, reference
from tests.fuzz.sources import make_sources

FAULTS = ("DIFFERENT", "WRONG TRACK", "REFUSED")
OUTCOMES = ("planned", "in order", "damaged", "refused", *FAULTS)
# names of the demuxers where they differ from those of the muxers
DEMUXERS = {"vob": "mpeg", "webm": "matroska", "mpeg2video": "mpegvideo", "mpeg1video": "mpegvideo"}


@dataclass
class Result:
    """What became of a case."""

    codec: str
    outcome: str  # one of `OUTCOMES`
    detail: str = ""
    is_renewed: bool = False  # equal only to a decoder that starts again after each error


@dataclass
class Totals:
    """Counts of all cases."""

    cells: collections.Counter[tuple[str, str, str]] = field(default_factory=collections.Counter)
    refusals: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)  # codec, reason
    faults: list[str] = field(default_factory=list)
    num_unwritable: int = 0
    num_renewed: int = 0

    def by_outcome(self) -> dict[str, int]:
        """Return the number of cases of each outcome that occurred."""
        counts = {outcome: sum(n for key, n in self.cells.items() if key[2] == outcome) for outcome in OUTCOMES}
        return {outcome: count for outcome, count in counts.items() if count}


def patterns(num_frames: int, random: np.random.Generator) -> list[Int64Array]:
    """Return frames to ask for: everything, segment centres, single frames, a few at random."""
    centres = (np.arange(8) * num_frames / 8 + num_frames / 16).astype(np.int64)
    few = np.sort(random.integers(0, num_frames, 3))
    return [np.arange(num_frames), centres, np.array([num_frames - 1]), np.array([num_frames // 2]), few]


def compare(path: Path, case: Rewrite, random: np.random.Generator) -> Result:
    """Compare what the project makes of a file with decoding everything."""
    codec = codec_of(case.pieces[0])
    try:
        video = open_video(path, SETTINGS)
    except ActserveError as error:
        return _refusal(path, case, error)
    shown = case.stream_index if _num_streams(path) > 1 else 0  # a decoy without packets has no track
    if getattr(video, "stream_index", 0) != shown:
        return Result(codec, "WRONG TRACK", f"shows the other track of {len(case.pieces)}")
    expected = reference(path, shown)
    try:
        result = _compared(video, expected, random)
        if result.outcome == "DIFFERENT" and expected.num_errors:
            renewed = _compared(video, reference(path, shown, renews=True), random)
            if renewed.outcome != "DIFFERENT":
                result, result.is_renewed = renewed, True
    except ActserveError as error:
        return _refusal(path, case, error)
    return result


def _num_streams(path: Path) -> int:
    with open_container(path) as container:
        return len(container.streams)


def _compared(video: Video, expected: Reference, random: np.random.Generator) -> Result:
    outcome = "planned" if getattr(video, "is_planned", False) else "in order"
    digests, num_corrupt = expected.digests, 0
    for wanted in patterns(max(1, len(digests)), random):
        reading = read_frames(video, _chooser(wanted), transform=digest, settings=SETTINGS)
        num_corrupt += reading.num_corrupt_frames
        found = reading.timeline.num_frames
        by_index = _by_index(video, expected, found)
        wrong = {i for i, name in reading.values.items() if by_index.get(i) != name}
        steps = np.diff(reading.timeline.pts_seconds)
        if found != len(digests) or wrong or (steps < 0).any():
            detail = f"{outcome}: {found} frames of {len(digests)}, wrong {sorted(wrong)[:5]}, corrupt {num_corrupt}"
            is_marked = wrong <= reading.corrupt_indices and (wrong or expected.is_damaged)
            return Result(video.canonical_codec, "damaged" if is_marked else "DIFFERENT", detail)
    return Result(video.canonical_codec, "damaged" if num_corrupt else outcome)


def _by_index(video: Video, expected: Reference, num_frames: int) -> dict[int, str]:
    """Return the right frames by index.

    A damaged file has pictures that only some decoders output. A plan counts them all, so its frames are compared by
    packet, and those that the reference lacks must be marked.
    """
    plan = getattr(video, "_plan", None)
    if not expected.is_damaged or plan is None or num_frames != len(plan.order):
        return dict(enumerate(expected.digests))
    by_packet = dict(zip(expected.positions, expected.digests, strict=True))
    return {index: by_packet[position] for index, position in enumerate(plan.order) if position in by_packet}


def _chooser(wanted: Int64Array) -> Callable[[int], Int64Array]:
    return lambda num_frames: np.minimum(wanted, max(0, num_frames - 1))


def _refusal(path: Path, case: Rewrite, error: ActserveError) -> Result:
    """Return a refusal; it is a fault if decoding everything succeeds for more than the documented share."""
    codec = codec_of(case.pieces[0])
    muxer = CONTAINERS[case.container] or RAW[codec]
    try:
        full = reference(path, case.stream_index, demuxer=DEMUXERS.get(muxer, muxer))
    except Exception as reason:  # the demuxer of the format reads no such stream either
        return Result(codec, "refused", f"{error.message} (full decoding: {type(reason).__name__})")
    is_readable = full.digests and full.num_errors <= MAX_BROKEN_SHARE * full.num_packets
    detail = f"{error.message} (full decoding: {len(full.digests)} frames, {full.num_errors} errors)"
    return Result(codec, "REFUSED" if is_readable else "refused", detail)


def run(count: int, *, seed: int, folder: Path, only: int | None = None) -> Totals:
    """Try `count` rewrites that can be written; an interrupt ends earlier, with the counts so far."""
    silence_ffmpeg_log()
    totals = Totals()
    with mock.patch("serve.video.decoder.FrameConverter", PlaneReader), suppress(KeyboardInterrupt):
        _run(totals, count, seed=seed, folder=folder, only=only)
    return totals


def _run(totals: Totals, count: int, *, seed: int, folder: Path, only: int | None) -> None:
    sources = {name: path for name, path in make_sources(folder).items() if codec_of(path)}
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
            _count_(totals, number, case, compare(path, case, random), is_verbose=only is not None)
        if only is not None:
            break


def _count_(totals: Totals, number: int, case: Rewrite, result: Result, *, is_verbose: bool) -> None:
    totals.cells[case.container, result.codec, result.outcome] += 1
    totals.num_renewed += result.is_renewed
    if result.outcome in ("refused", "REFUSED"):
        totals.refusals[result.codec, re.sub(r"\d+", "N", result.detail)] += 1
    line = f"{number}: {case.describe()}: {result.outcome}: {result.detail}"
    if result.outcome in FAULTS:
        totals.faults.append(line)
    if is_verbose or result.outcome in FAULTS:
        print(line, flush=True)


def _rows(totals: Totals, *, is_markdown: bool) -> Iterable[str]:
    outcomes = list(totals.by_outcome())
    form = "| {} | {} | {} |" if is_markdown else "{:11} {:12} {}"
    separator = " | " if is_markdown else " "
    yield form.format("container", "codec", separator.join(f"{outcome:>9}" for outcome in outcomes))
    if is_markdown:
        yield "| --- " * (2 + len(outcomes)) + "|"
    for container, codec in sorted({key[:2] for key in totals.cells}):
        numbers = (f"{totals.cells[container, codec, outcome]:9}" for outcome in outcomes)
        yield form.format(container, codec, separator.join(numbers))


def main() -> int:
    """Print the counts; return 1 if a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        totals = run(arguments.count, seed=arguments.seed, folder=Path(folder), only=arguments.only)
    print(*_rows(totals, is_markdown=arguments.table), sep="\n")
    for (codec, reason), number in totals.refusals.most_common():
        print(f"refused {number:4} {codec:12} {reason}")
    counts = {"rewrites": totals.cells.total(), "unwritable": totals.num_unwritable, "renewed": totals.num_renewed}
    print(json.dumps(counts | totals.by_outcome()))
    return 1 if totals.faults else 0


if __name__ == "__main__":
    sys.exit(main())
