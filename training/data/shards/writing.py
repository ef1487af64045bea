"""Write the entries of a list as WebDataset shards: video files as they are, or the images of frame folders.

    python -m training shard dataset/videos_train.txt shards/ --classes dataset/classes.csv

Samples are shuffled with a fixed seed, because readers shuffle only within a buffer. Each shard is written atomically;
the index `shards.json`, with the numbers of samples and the class names, is written last.
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
from training.data.lists.video_files import VIDEO_SUFFIXES
from training.data.progress import progress_bar
from training.data.shards.reading import INDEX_NAME, UNKNOWN_VIDEO_FIELD


def write_shards(
    entries: Sequence[Entry], names: Sequence[str], out: Path, *, samples_per_shard: int, seed: int
) -> dict[str, Any]:
    """Write all readable entries into `out`, a new or empty folder; return the content of the index.

    Files are copied, not decoded, so a damaged video is noticed only when it is checked or read.

    Raises:
        AnnotationError: the folder `out` is not empty, or no entry can be read.
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
        for shard_number, start in enumerate(range(0, len(order), samples_per_shard)):
            partial = out / ".partial" / f"shard-{shard_number:06d}.tar"
            count = 0
            with partial.open("wb") as stream:
                writer = TarWriter(stream, encoder=False, mtime=0)  # mtime=0 makes the output deterministic
                for index in order[start : start + samples_per_shard]:
                    sample = _make_sample(index, entries[index], names, failures)
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
        raise AnnotationError(
            f"none of {len(entries)} entries can be read; the first error is: {failures[0]['reason']}"
        )
    document = {
        "shards": shards,
        "samples": sum(shard["samples"] for shard in shards),
        "classes": list(names),
        "failures": failures,
    }
    write_atomically(out / INDEX_NAME, json.dumps(document, ensure_ascii=False, indent=1))
    (out / ".partial").rmdir()
    return document


def _make_sample(
    index: int, entry: Entry, names: Sequence[str], failures: list[dict[str, str]]
) -> dict[str, Any] | None:
    """Return one sample, or None if the entry cannot be read, which is added to `failures`.

    The key is a number, because a field name begins at the first dot of a file name.
    """
    try:
        contents = _read_video(entry.path) if entry.num_frames is None else _read_images(entry.path, entry.num_frames)
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


def _read_video(path: Path) -> dict[str, bytes]:
    suffix = path.suffix.lower()
    return {suffix[1:] if suffix in VIDEO_SUFFIXES else UNKNOWN_VIDEO_FIELD: path.read_bytes()}


def _read_images(folder: Path, num_frames: int) -> dict[str, bytes]:
    return {
        f"{number:05d}{path.suffix.lower()}": path.read_bytes()
        for number, path in enumerate(frame_files(folder, num_frames), start=1)
    }
