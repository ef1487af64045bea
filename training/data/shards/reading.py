"""Read videos from WebDataset shards: tar files for sequential reads from slow disks and networks.

A sample consists of a video file or frame images (`00001.jpg`, ...), the label (`cls`), and the origin (`json`).
The index `shards.json` beside the tar files contains their numbers of samples; without an index, the samples are
counted when the shards are opened.
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
from training.data.lists.video_files import VIDEO_SUFFIXES

INDEX_NAME = "shards.json"
UNKNOWN_VIDEO_FIELD = "video"  # name of the field for a video whose file name has an unknown suffix
_IMAGE_FIELD = re.compile(r"\d+\.(jpg|jpeg|png|bmp|webp)")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file and its number of samples."""

    path: Path
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class ShardSample:
    """A sample of a shard."""

    name: str  # file name of the shard and key of the sample, for messages
    number: tuple[int, int]  # (index of the shard, index of the sample in it)
    fields: dict[str, Any]  # field name -> content

    def label(self) -> int:
        """Return the label, the number in the field `cls`.

        Raises:
            BadVideoError: the field is missing or is not a number.
        """
        try:
            return int(self.fields["cls"])
        except (KeyError, ValueError) as error:
            raise BadVideoError("the sample has no label: a field `cls` with a number") from error

    def group(self) -> str:
        """Return the declared group, or the source derived from the file name, or an empty string."""
        try:
            origin = json.loads(self.fields["json"])
        except (KeyError, ValueError):
            return ""  # a shard that another program wrote
        if not isinstance(origin, dict):
            return ""
        return str(origin.get("group") or source_of_name(str(origin.get("file", ""))) or "")

    def entry(self, scratch: Path) -> Entry:
        """Return the sample as an entry; a video file is written to the folder `scratch` first.

        Raises:
            BadVideoError: the sample has no label or no video.
        """
        label = self.label()
        images = [self.fields[name] for name in sorted(self.fields) if _IMAGE_FIELD.fullmatch(name)]
        if images:
            return Entry(
                path=Path(self.name), label=label, num_frames=len(images), encoded_images=images, group=self.group()
            )
        video = next(
            (name for name in self.fields if f".{name}" in VIDEO_SUFFIXES or name == UNKNOWN_VIDEO_FIELD), None
        )
        if video is None:
            raise BadVideoError(f"the sample has no video; its fields are {', '.join(sorted(self.fields)) or 'empty'}")
        path = scratch / f"sample.{video}"
        path.write_bytes(self.fields[video])
        return Entry(path=path, label=label, group=self.group())


def find_shards(pattern: str) -> list[Shard]:
    """Return the shards in a folder, or those that match a pattern with braces or stars, sorted by name.

    Raises:
        AnnotationError: no shard is found, or a shard or an index cannot be read.
    """
    if Path(pattern).is_dir():
        paths = sorted(Path(pattern).glob("*.tar"))
    else:
        expanded = [pattern] if Path(pattern).exists() else list(braceexpand.braceexpand(pattern))
        paths = sorted({Path(name) for part in expanded for name in (glob.glob(part) if "*" in part else [part])})  # noqa: PTH207
    if not paths:
        raise AnnotationError(f"{pattern}: no shard (.tar) was found")
    counts: dict[Path, int] = {}
    for folder in {path.parent for path in paths}:
        counts |= {folder / item["name"]: item["samples"] for item in read_index(folder).get("shards", ())}
    return [Shard(path=path, num_samples=counts[path] if path in counts else _count_samples(path)) for path in paths]


def read_index(folder: Path) -> dict[str, Any]:
    """Return the content of `shards.json` in a folder, or an empty dict if the file does not exist.

    Raises:
        AnnotationError: the file cannot be read.
    """
    try:
        document: dict[str, Any] = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{folder / INDEX_NAME} cannot be read: {error}") from error
    return document


def shards_of_worker(num_shards: int, *, rank: int, world_size: int) -> range:
    """Return the indices of the shards that this loading process reads if each shard is read once by any process."""
    worker = get_worker_info()
    worker_id, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
    return range(num_shards)[rank::world_size][worker_id::num_workers]


def read_samples(shard: Shard, shard_index: int, failures: list[Failure]) -> Iterator[ShardSample]:
    """Yield the samples of one shard; append a failure to `failures` for each missing sample."""
    errors: list[str] = []

    def record(error: Exception) -> bool:
        errors.append(f"{type(error).__name__}: {error.args[0] if error.args else ''}")
        return True

    def open_shard() -> Iterator[dict[str, Any]]:
        try:
            with shard.path.open("rb") as stream:
                yield {"url": shard.path.name, "stream": stream}
        except OSError as error:
            record(error)

    num_read = 0
    for fields in group_by_keys(tar_file_expander(open_shard(), handler=record), handler=record):
        if num_read < shard.num_samples:
            key = fields["__key__"]
            contents = {name: value for name, value in fields.items() if not name.startswith("__")}
            yield ShardSample(name=f"{shard.path.name}:{key}", number=(shard_index, num_read), fields=contents)
        num_read += 1
    for index in range(num_read, shard.num_samples):
        reason = errors[0] if errors else "the shard has fewer samples than its index says"
        failures.append(Failure(f"{shard.path}: sample {index}", reason))


def _count_samples(path: Path) -> int:
    """Count the distinct keys of a shard that is not in an index."""
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in archive if member.isreg() and not member.name.startswith("__")]
    except (OSError, tarfile.TarError) as error:
        raise AnnotationError(f"{path} cannot be read as a shard: {error}") from error
    keys = [base_plus_ext(name)[0] for name in names]
    return sum(1 for key, _ in itertools.groupby(keys) if key is not None)
