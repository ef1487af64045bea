"""Flip bytes in the media data of clips, and count which of the frames that change are marked as corrupt or refused.

    python -m tests.fuzz.damage --count 600 [--seed 1]

Each mutant has 1, 4 or 16 flipped bytes in the data of random packets; headers of the container stay intact. As many
frames are sampled as in a request. A frame is wrong if its planes differ from those that the intact clip shows at that
time. Prints a Markdown table by codec and one JSON line last.
"""

import argparse
import collections
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import av
import numpy as np

from serve.arrays import Int64Array
from serve.errors import ActserveError
from serve.video.decode import open_video, read_frames
from serve.video.decoded_frames import DecodedFrames
from serve.video.limits import DecodeSettings
from serve.video.streams import silence_ffmpeg_log
from tests.fuzz.cases import codec_of
from tests.fuzz.reference import PlaneReader, digest
from tests.fuzz.sources import make_sources

NUM_SAMPLED = 8
CONTAINERS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".3gp", ".asf", ".flv")  # packets lie in one piece in the file
SETTINGS = DecodeSettings(threads=2)  # with the default share of corrupt frames


@dataclass
class Counts:
    """Of one codec."""

    mutants: int = 0
    refused: int = 0  # as a whole: too many frames are corrupt, or none can be decoded
    unchanged: int = 0  # mutants whose sampled frames are all right
    wrong_frames: int = 0  # sampled frames of answered mutants that differ from the intact clip
    marked_frames: int = 0  # of these
    undetected_frames: int = 0  # of these
    silent_mutants: int = 0  # mutants with a wrong frame and without any mark
    false_alarms: int = 0  # frames that are marked, but right

    def __add__(self, other: "Counts") -> "Counts":
        mine, others = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + others[name] for name in mine})


def mutant(path: Path, random: np.random.Generator) -> bytes | None:
    """Return the file with flipped bytes; None if no packet is found in it."""
    data = bytearray(path.read_bytes())
    places = [place for place in _packets(path, bytes(data)) if len(place) > 8]
    if not places:
        return None
    for _ in range(int(random.choice([1, 4, 16]))):
        place = places[int(random.integers(len(places)))]
        data[int(random.choice(place))] ^= int(random.integers(1, 256))
    return bytes(data)


def _packets(path: Path, data: bytes) -> list[range]:
    """Return where the packets of the first video track lie in the file."""
    found: list[range] = []
    at = 0
    with av.open(str(path), metadata_errors="replace") as container:
        for packet in container.demux(container.streams.video[0]):
            begin = data.find(bytes(packet), at) if packet.size else -1
            if begin >= 0:
                at = begin + packet.size
                found.append(range(begin, at))
    return found


def measure(path: Path, changed: Path) -> Counts:
    """Compare the sampled frames of a mutant with those that the intact clip shows at the same times."""
    intact = _read(path, np.arange)
    by_time = {round(float(t), 4): intact.values[i] for i, t in enumerate(intact.timeline.pts_seconds)}
    try:
        found = _read(changed, _centres)
    except ActserveError:
        return Counts(mutants=1, refused=1)
    times = found.timeline.pts_seconds
    wrong = {index for index, name in found.values.items() if by_time.get(round(float(times[index]), 4)) != name}
    marked = found.corrupt_indices
    return Counts(
        mutants=1,
        unchanged=not wrong,
        wrong_frames=len(wrong),
        marked_frames=len(wrong & marked),
        undetected_frames=len(wrong - marked),
        silent_mutants=bool(wrong and not marked and not found.num_broken_packets),
        false_alarms=len(marked - wrong),
    )


def _read(path: Path, choose: object) -> DecodedFrames:
    return read_frames(open_video(path, SETTINGS), choose, transform=digest, settings=SETTINGS)  # type: ignore[arg-type]


def _centres(num_frames: int) -> Int64Array:
    return ((2 * np.arange(NUM_SAMPLED) + 1) * num_frames / (2 * NUM_SAMPLED)).astype(np.int64)


def run(count: int, *, seed: int, folder: Path) -> dict[str, Counts]:
    """Measure `count` mutants; the codecs take turns."""
    silence_ffmpeg_log()
    by_codec: dict[str, list[Path]] = collections.defaultdict(list)
    for path in make_sources(folder).values():
        if path.suffix in CONTAINERS and codec_of(path) and _is_intact(path):
            by_codec[codec_of(path)].append(path)
    totals: dict[str, Counts] = collections.defaultdict(Counts)
    codecs = sorted(by_codec)
    with mock.patch("serve.video.decoder.FrameConverter", PlaneReader):
        for number in range(count):
            random = np.random.default_rng([seed, number])
            codec = codecs[number % len(codecs)]
            path = by_codec[codec][int(random.integers(len(by_codec[codec])))]
            changed = folder / f"mutant{path.suffix}"
            data = mutant(path, random)
            if data is not None:
                changed.write_bytes(data)
                totals[codec] += measure(path, changed)
    return dict(totals)


def _is_intact(path: Path) -> bool:
    """Return whether all frames can be decoded without a mark."""
    try:
        reading = _read(path, np.arange)
    except ActserveError:
        return False
    return not reading.corrupt_indices and not reading.num_broken_packets


def main() -> int:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        totals = run(arguments.count, seed=arguments.seed, folder=Path(folder))
    names = list(asdict(Counts()))
    print("| codec |", " | ".join(name.replace("_", " ") for name in names), "|")
    print("| --- " * (1 + len(names)) + "|")
    total = sum(totals.values(), Counts())
    for codec, counts in [*sorted(totals.items()), ("all", total)]:
        print(f"| {codec} |", " | ".join(str(value) for value in asdict(counts).values()), "|")
    print(json.dumps(asdict(total)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
