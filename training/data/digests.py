"""Digests of the content of videos: what is the same file, and what nearly shows the same pictures."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.video.limits import DecodeSettings
from training.data.decoding.pool import for_each
from training.data.decoding.process import BadVideoError, DecodeProcess
from training.data.frame_folders import FrameFolderError, frame_files
from training.data.lists.rows import Entry

HASHED_BYTES = 2**20  # read at once
LOOKED_AT = 8  # frames of a video, at equal distances
HASH_SIDE = 8  # of the picture whose neighbours are compared
NEAR_BITS = 6  # of 64, on average over the frames, that two nearly equal videos may differ in
COMPARED = 512  # videos compared with all others at once


def digest_of(entry: Entry) -> str:
    """Return the SHA-256 of a video file, or of all pictures of a folder.

    Raises:
        BadVideoError: a file is missing, or the folder is no series of pictures.
        OSError: a file cannot be read.
    """
    total = hashlib.sha256()
    if entry.packed:
        for picture in entry.packed:
            total.update(picture)
        return total.hexdigest()
    paths = [entry.path]
    if entry.num_frames is not None:
        try:
            paths = frame_files(entry.path, entry.num_frames)
        except FrameFolderError as error:
            raise BadVideoError(str(error)) from error
    for path in paths:
        if not path.exists():
            raise BadVideoError(f"{path.name} is missing")
        if not path.is_file():
            raise BadVideoError(f"{path.name} is no file")
        with path.open("rb") as stream:
            while block := stream.read(HASHED_BYTES):
                total.update(block)
    return total.hexdigest()


def digest_or_none(entry: Entry) -> str | None:
    """Return the digest of an entry; None where it cannot be read, which is reported where it is decoded."""
    try:
        return digest_of(entry)
    except (BadVideoError, OSError):
        return None


def picture_hash(frames: Sequence[UInt8Array]) -> UInt8Array:
    """Return the difference hash of frames [H, W, 3], 8 bytes each [8 * N]: where a pixel is brighter than its left."""
    rows = []
    for frame in frames:
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(gray, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
        rows.append(np.packbits(small[:, 1:] > small[:, :-1]))
    return np.concatenate(rows)


def near_duplicates(paths: Sequence[Path], *, settings: DecodeSettings, workers: int) -> list[tuple[int, int]]:
    """Return pairs of videos that nearly show the same pictures: recoded, scaled, or with other metadata.

    Frames at the same shares of both videos are compared. A cut or a shift in time is not found. Videos that cannot be
    decoded are in no pair.
    """
    known: dict[int, UInt8Array] = {}

    def job(decoder: DecodeProcess, index: int) -> UInt8Array | None:
        try:
            frames, _ = decoder.frames(paths[index], _spread)
        except BadVideoError:
            return None
        return picture_hash(frames)

    for index, found in for_each(range(len(paths)), job, settings=settings, workers=workers):
        if found is not None:
            known[index] = found
    order = sorted(known)
    return [(order[one], order[other]) for one, other in _near(np.stack([known[i] for i in order]))] if order else []


def _spread(num_frames: int) -> Int64Array:
    return ((np.arange(LOOKED_AT) + 0.5) * num_frames / LOOKED_AT).astype(np.int64)


def _near(hashes: UInt8Array) -> Iterator[tuple[int, int]]:
    """Pairs of rows [N, bytes] that differ in few bits; a row of a flat picture says nothing and is in no pair."""
    bits = np.unpackbits(hashes, axis=1).astype(np.float32)  # [N, 64 * frames]
    sizes = bits.sum(axis=1)
    for start in range(0, len(bits), COMPARED):
        part = bits[start : start + COMPARED]
        distance = sizes[start : start + COMPARED, None] + sizes[None] - 2 * part @ bits.T
        for one, other in np.argwhere(distance <= NEAR_BITS * LOOKED_AT).tolist():
            if start + one < other and sizes[start + one] and sizes[other]:
                yield start + one, other
