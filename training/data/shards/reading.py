"""Read videos from WebDataset shards: tar files for sequential reads from slow disks and networks.

A sample is a video file, or the pictures of a folder (`00001.jpg` ...), with its label (`cls`) and its source (`json`).
`shards.json` beside the tar files has their counts; shards without it are counted once when they are opened.
"""

import glob
import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import braceexpand
from torch.utils.data import get_worker_info
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

from serve.independence import source_of_name
from serve.lists.errors import AnnotationError
from training.data.bad_videos import Failure
from training.data.decoding.process import BadVideoError
from training.data.lists.rows import Entry
from training.data.lists.video_files import SUFFIXES

INDEX = "shards.json"
OTHER_VIDEO = "video"  # field of a video whose file name has an unknown suffix
_PICTURE = re.compile(r"\d+\.(jpg|jpeg|png|bmp|webp)")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file and its number of samples."""

    path: Path
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class PackedSample:
    """A sample in a shard."""

    name: str  # shard and key
    number: tuple[int, int]  # shard, index in it
    fields: dict[str, Any]

    def label(self) -> int:
        """Return the number in the field `cls`.

        Raises:
            BadVideoError: there is no label.
        """
        try:
            return int(self.fields["cls"])
        except (KeyError, ValueError) as error:
            raise BadVideoError("the sample has no label: a field `cls` with a number") from error

    def group(self) -> str:
        """The group that the list declared, else the source that the file name tells of; "" where there is neither."""
        try:
            origin = json.loads(self.fields["json"])
        except (KeyError, ValueError):
            return ""  # shards of other programs
        if not isinstance(origin, dict):
            return ""
        return str(origin.get("group") or source_of_name(str(origin.get("file", ""))) or "")

    def entry(self, scratch: Path) -> Entry:
        """Return the sample as an entry; a video is written to `scratch` first.

        Raises:
            BadVideoError: it has no label or no video.
        """
        label = self.label()
        pictures = [self.fields[name] for name in sorted(self.fields) if _PICTURE.fullmatch(name)]
        if pictures:
            return Entry(
                path=Path(self.name), label=label, num_frames=len(pictures), packed=pictures, group=self.group()
            )
        video = next((name for name in self.fields if f".{name}" in SUFFIXES or name == OTHER_VIDEO), None)
        if video is None:
            raise BadVideoError(f"the sample has no video: {', '.join(sorted(self.fields)) or 'nothing'}")
        path = scratch / f"sample.{video}"
        path.write_bytes(self.fields[video])
        return Entry(path=path, label=label, group=self.group())


def find_shards(pattern: str) -> list[Shard]:
    """Return the shards of a folder, or of a pattern with braces and stars, sorted by name.

    Raises:
        AnnotationError: there are none.
    """
    if Path(pattern).is_dir():
        paths = sorted(Path(pattern).glob("*.tar"))
    else:
        expanded = [pattern] if Path(pattern).exists() else list(braceexpand.braceexpand(pattern))
        paths = sorted({Path(name) for part in expanded for name in (glob.glob(part) if "*" in part else [part])})  # noqa: PTH207
    if not paths:
        raise AnnotationError(f"{pattern}: no shard matches")
    counts: dict[Path, int] = {}
    for folder in {path.parent for path in paths}:
        counts |= {folder / item["name"]: item["samples"] for item in read_index(folder).get("shards", ())}
    return [Shard(path=path, num_samples=counts[path] if path in counts else _count(path)) for path in paths]


def read_index(folder: Path) -> dict[str, Any]:
    """Return the content of `shards.json` of a folder; empty without one.

    Raises:
        AnnotationError: it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{folder / INDEX} cannot be read: {error}") from error
    return found


def shards_of_worker(num_shards: int, *, rank: int, num_ranks: int) -> range:
    """Return the shards that this loading process reads in a single pass: its share of those of its rank."""
    worker = get_worker_info()
    place, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
    return range(num_shards)[rank::num_ranks][place::num_workers]


def samples_of(shard: Shard, number: int, failures: list[Failure]) -> Iterator[PackedSample]:
    """Yield the samples of one shard; add missing ones to `failures`."""
    faults: list[str] = []

    def note(error: Exception) -> bool:
        faults.append(f"{type(error).__name__}: {error.args[0] if error.args else ''}")
        return True

    def source() -> Iterator[dict[str, Any]]:
        try:
            with shard.path.open("rb") as stream:
                yield {"url": shard.path.name, "stream": stream}
        except OSError as error:
            note(error)

    found = 0
    for fields in group_by_keys(tar_file_expander(source(), handler=note), handler=note):
        if found < shard.num_samples:
            key = fields["__key__"]
            contents = {name: value for name, value in fields.items() if not name.startswith("__")}
            yield PackedSample(name=f"{shard.path.name}:{key}", number=(number, found), fields=contents)
        found += 1
    for place in range(found, shard.num_samples):
        reason = faults[0] if faults else "the shard is shorter than its index says"
        failures.append(Failure(f"{shard.path}: sample {place}", reason))


def _count(path: Path) -> int:
    """Count the distinct keys of a shard without index."""
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in archive if member.isreg() and not member.name.startswith("__")]
    except (OSError, tarfile.TarError) as error:
        raise AnnotationError(f"{path} cannot be read as a shard: {error}") from error
    keys = [base_plus_ext(name)[0] for name in names]
    return sum(1 for key, _ in itertools.groupby(keys) if key is not None)
