"""Detect video files by their suffix; files with an unknown suffix are opened with the decoder."""

from collections.abc import Sequence
from pathlib import Path

from serve.video.limits import DecodeSettings
from training.data.decoding.pool import for_each, num_processors
from training.data.decoding.process import BadVideoError, DecodeProcess

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".dv", ".flv", ".gif", ".m2ts", ".m4v", ".mj2", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogg", ".ogv", ".rm", ".rmvb", ".ts", ".webm", ".wmv",
})
# Files that are often stored beside videos. The decoder can open still images, but they are not treated as videos.
NON_VIDEO_SUFFIXES = frozenset({
    ".bmp", ".csv", ".html", ".jpeg", ".jpg", ".json", ".jsonl", ".lock", ".log", ".md", ".npy", ".npz", ".parquet",
    ".pdf", ".pkl", ".png", ".pt", ".py", ".sh", ".srt", ".tar", ".tsv", ".txt", ".vtt", ".wav", ".webp", ".xml",
    ".yaml", ".yml", ".zip",
})
# fmt: on
PROBE_SECONDS = 20.0  # time limit for opening a file


def is_known_suffix(suffix: str) -> bool:
    """Return whether a suffix, such as `.mp4`, is that of a video file."""
    return suffix.lower() in VIDEO_SUFFIXES


def detect_videos(paths: Sequence[Path]) -> list[bool]:
    """Return for each file whether it is a video; files with an unknown suffix are opened in a decode process."""
    is_video = {path: is_known_suffix(path.suffix) for path in paths}
    unknown = [path for path in paths if not is_video[path] and path.suffix.lower() not in NON_VIDEO_SUFFIXES]
    if unknown:
        settings = DecodeSettings.model_validate({"threads": 1, "deadline_seconds": PROBE_SECONDS})
        workers = min(num_processors(), len(unknown))
        for path, can_open in for_each(unknown, _can_open, settings=settings, workers=workers):
            is_video[path] = can_open
    return [is_video[path] for path in paths]


def _can_open(decoder: DecodeProcess, path: Path) -> bool:
    try:
        decoder.probe(path)
    except BadVideoError:
        return False
    return True
