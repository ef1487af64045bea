"""What the container fuzzer draws: clips to join, where to cut them, and what their new container claims."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.errors import ActserveError
from serve.video.streams import open_container
from tests.fuzz.sources import ENCODES

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
# These muxers write any codec, but no demuxer can tell afterwards which codec it was.
CARRIED = {
    "mpegts": {"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"},
    "vob": {"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"},
}
HAS_EDIT_LISTS = ("mp4", "mov", "3gp")
HAS_TRACK_FLAGS = (*HAS_EDIT_LISTS, "mkv", "webm")
# part of the media that each edit shows, in shares of its duration; None: an empty edit of one second
EDITS: dict[str, tuple[tuple[float, float] | None, ...]] = {
    "start": ((0.4, 1.0),), "end": ((0.0, 0.6),), "empty": (None, (0.0, 1.0)),
    "gap": ((0.1, 0.4), (0.6, 0.9)), "back": ((0.5, 0.8), (0.1, 0.4)),
}  # fmt: skip


@dataclass(frozen=True)
class Rewrite:
    """One case, drawn from a random number generator."""

    pieces: tuple[Path, ...]
    container: str
    starts: tuple[int, ...]  # first packet taken of each piece
    flags: str  # of the packets: "kept", "all" key frames, "none" but the first
    offset: str  # of the times: "zero", "negative", "wrapped", "late"
    drops: int  # each so many-th packet gets a gap behind it; 0: none
    edits: str = ""  # a key of `EDITS`; empty: as the muxer writes it
    decoy: Path | None = None  # another clip in a disabled track
    is_decoy_first: bool = False

    @property
    def stream_index(self) -> int:
        """Index of the track that players show."""
        return 1 if self.decoy is not None and self.is_decoy_first else 0

    def describe(self) -> str:
        """Return one line."""
        pieces = "+".join(f"{path.name}[{start}:]" for path, start in zip(self.pieces, self.starts, strict=True))
        decoy = "" if self.decoy is None else f" decoy={self.decoy.name}@{1 - self.stream_index}"
        edits = f" edits={self.edits}" if self.edits else ""
        return f"{pieces} -> {self.container} keys={self.flags} times={self.offset} gaps={self.drops}{edits}{decoy}"


def draw(random: np.random.Generator, sources: dict[str, Path]) -> Rewrite:
    """Draw a case; half of the first pieces are synthetic clips, because each of these has another habit."""
    synthetic = [name for name in sources if name in ENCODES]
    names = synthetic if synthetic and random.random() < 0.5 else list(sources)
    first = sources[names[int(random.integers(len(names)))]]
    pieces = [first]
    if random.random() < 0.3:
        alike = [path for path in sources.values() if codec_of(path) == codec_of(first)]
        pieces.append(alike[int(random.integers(len(alike)))])
    # A second piece is never cut: what of its pictures without references is shown, only decoding them all can tell.
    starts = tuple(int(random.integers(1, 20)) if not n and random.random() < 0.2 else 0 for n, _ in enumerate(pieces))
    container = str(random.choice(list(CONTAINERS)))
    has_edits = container in HAS_EDIT_LISTS and random.random() < 0.5
    has_decoy = container in HAS_TRACK_FLAGS and random.random() < 0.3
    return Rewrite(
        pieces=tuple(pieces),
        container=container,
        starts=starts,
        flags=str(random.choice(["kept", "kept", "all", "none"])),
        offset=str(random.choice(["zero", "zero", "negative", "wrapped", "late"])),
        drops=int(random.choice([0, 0, 0, 7])),
        edits=str(random.choice(list(EDITS))) if has_edits else "",
        decoy=list(sources.values())[int(random.integers(len(sources)))] if has_decoy else None,
        is_decoy_first=bool(random.random() < 0.5),
    )


_CODECS: dict[Path, str] = {}


def codec_of(path: Path) -> str:
    """Return the codec of the first video stream; empty where there is none."""
    if path not in _CODECS:
        try:
            with open_container(path) as container:
                videos = container.streams.video
                _CODECS[path] = videos[0].codec_context.codec.canonical_name if videos else ""
        except ActserveError:
            _CODECS[path] = ""
    return _CODECS[path]
