"""Write a list as WebDataset shards: unchanged videos, or the pictures of folders of frames.

    python -m training shard dataset/videos_train.txt shards/ --classes dataset/classes.csv

Samples are shuffled by a seed, because readers shuffle only within a buffer. Each shard is written atomically;
`shards.json` with counts and class names is written last.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from webdataset.writer import TarWriter

from serve.files import write_atomically
from serve.lists.errors import AnnotationError
from training.data.frame_folders import FrameFolderError, frame_files
from training.data.lists.rows import Entry
from training.data.lists.video_files import SUFFIXES
from training.data.progress import progress_bar
from training.data.shards.reading import INDEX, OTHER_VIDEO


def write_shards(
    entries: Sequence[Entry], names: Sequence[str], out: Path, *, samples_per_shard: int, seed: int
) -> dict[str, Any]:
    """Write all readable entries into `out`, a new or empty folder; return the content of the index.

    Files are copied, not decoded, so damaged videos are found only when they are checked or read.

    Raises:
        AnnotationError: the folder is not empty, or no entry can be read.
        OSError: the shards cannot be written.
    """
    if out.exists() and any(path.name != ".partial" for path in out.iterdir()):
        raise AnnotationError(f"{out} is not empty; give a new or empty folder")
    shutil.rmtree(out / ".partial", ignore_errors=True)
    (out / ".partial").mkdir(parents=True)
    order = np.random.default_rng(seed).permutation(len(entries)).tolist()
    failures: list[dict[str, str]] = []
    shards: list[dict[str, Any]] = []
    with progress_bar("writing", total=len(entries)) as bar:
        for number, start in enumerate(range(0, len(order), samples_per_shard)):
            partial = out / ".partial" / f"shard-{number:06d}.tar"
            count = 0
            with partial.open("wb") as stream:
                writer = TarWriter(stream, encoder=False, mtime=0)  # deterministic output
                for index in order[start : start + samples_per_shard]:
                    sample = _sample(index, entries[index], names, failures)
                    if sample is not None:
                        writer.write(sample)
                        count += 1
                    bar.advance(is_failure=sample is None)
                writer.close()
            if count:
                partial.rename(out / partial.name)
                shards.append({"name": partial.name, "samples": count})
            else:
                partial.unlink()
    if not shards:
        raise AnnotationError(f"none of {len(entries)} entries can be read; the first: {failures[0]['reason']}")
    index = {
        "shards": shards,
        "samples": sum(shard["samples"] for shard in shards),
        "classes": list(names),
        "failures": failures,
    }
    write_atomically(out / INDEX, json.dumps(index, ensure_ascii=False, indent=1))
    (out / ".partial").rmdir()
    return index


def _sample(index: int, entry: Entry, names: Sequence[str], failures: list[dict[str, str]]) -> dict[str, Any] | None:
    """Return one sample; its key has no dots, since the field name begins at the first dot."""
    try:
        contents = _video(entry.path) if entry.num_frames is None else _pictures(entry.path, entry.num_frames)
    except FrameFolderError as error:
        failures.append({"path": str(entry.path), "reason": str(error)})
        return None
    except OSError as error:
        failures.append({"path": str(entry.path), "reason": f"{error.strerror} ({type(error).__name__})"})
        return None
    origin = {"file": entry.path.name, "label": entry.label, "name": names[entry.label], "group": entry.group}
    return {
        "__key__": f"{index:09d}",
        "cls": str(entry.label).encode(),
        "json": json.dumps(origin).encode(),
        **contents,
    }


def _video(path: Path) -> dict[str, bytes]:
    suffix = path.suffix.lower()
    return {suffix[1:] if suffix in SUFFIXES else OTHER_VIDEO: path.read_bytes()}


def _pictures(folder: Path, num_frames: int) -> dict[str, bytes]:
    return {
        f"{number:05d}{path.suffix.lower()}": path.read_bytes()
        for number, path in enumerate(frame_files(folder, num_frames), start=1)
    }
