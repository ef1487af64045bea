"""Detect video files by suffix, and files of unknown suffix by opening them with the decoder."""

from collections.abc import Sequence
from pathlib import Path

from serve.video.limits import DecodeSettings
from training.data.decoding.pool import for_each, processors
from training.data.decoding.process import BadVideoError, DecodeProcess

# fmt: off
SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".dv", ".flv", ".gif", ".m2ts", ".m4v", ".mj2", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogg", ".ogv", ".rm", ".rmvb", ".ts", ".webm", ".wmv",
})
# Files that are often stored beside videos. The decoder can open some pictures, but a picture is not a video here.
NEVER = frozenset({
    ".bmp", ".csv", ".html", ".jpeg", ".jpg", ".json", ".jsonl", ".lock", ".log", ".md", ".npy", ".npz", ".parquet",
    ".pdf", ".pkl", ".png", ".pt", ".py", ".sh", ".srt", ".tar", ".tsv", ".txt", ".vtt", ".wav", ".webp", ".xml",
    ".yaml", ".yml", ".zip",
})
# fmt: on
PROBE_SECONDS = 20.0


def is_known_suffix(suffix: str) -> bool:
    """Return whether a suffix is that of a video."""
    return suffix.lower() in SUFFIXES


def is_video(paths: Sequence[Path]) -> list[bool]:
    """Return whether each file is a video; open files of unknown suffix in a decode process."""
    found = {path: is_known_suffix(path.suffix) for path in paths}
    unknown = [path for path in paths if not found[path] and path.suffix.lower() not in NEVER]
    if unknown:
        settings = DecodeSettings.model_validate({"threads": 1, "deadline_seconds": PROBE_SECONDS})
        for path, opens in for_each(unknown, _opens, settings=settings, workers=min(processors(), len(unknown))):
            found[path] = opens
    return [found[path] for path in paths]


def _opens(decoder: DecodeProcess, path: Path) -> bool:
    try:
        decoder.probe(path)
    except BadVideoError:
        return False
    return True
