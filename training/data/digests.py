"""Digests of the content of videos, to find equal files and near duplicates."""

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

HASHED_BYTES = 2**20  # read size
LOOKED_AT = 8  # frames per video, equally spaced
HASH_SIDE = 8  # side of the picture for difference hashes
NEAR_BITS = 6  # of 64: largest mean difference between near duplicates
COMPARED = 512  # rows per block of the comparison


def digest_of(entry: Entry) -> str:
    """Return the SHA-256 of a video file, or of all pictures of a folder.

    Raises:
        BadVideoError: a file is missing, or the folder is not a series of pictures.
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
            raise BadVideoError(f"{path.name} is not a file")
        with path.open("rb") as stream:
            while block := stream.read(HASHED_BYTES):
                total.update(block)
    return total.hexdigest()


def digest_or_none(entry: Entry) -> str | None:
    """Return the digest of an entry, or None if it cannot be read, which decoding reports."""
    try:
        return digest_of(entry)
    except (BadVideoError, OSError):
        return None


def picture_hash(frames: Sequence[UInt8Array]) -> UInt8Array:
    """Return the difference hash of frames [H, W, 3], 8 bytes per frame [8 * N]."""
    rows = []
    for frame in frames:
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(gray, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
        rows.append(np.packbits(small[:, 1:] > small[:, :-1]))
    return np.concatenate(rows)


def near_duplicates(paths: Sequence[Path], *, settings: DecodeSettings, workers: int) -> list[tuple[int, int]]:
    """Return pairs of near duplicates: recoded, scaled, or with other metadata.

    Frames at the same relative times are compared, so trimmed or shifted copies are not found. Videos that cannot be
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
    """Return pairs of rows [N, bytes] that differ in few bits; rows of uniform pictures are in no pair."""
    bits = np.unpackbits(hashes, axis=1).astype(np.float32)  # [N, 64 * frames]
    sizes = bits.sum(axis=1)
    for start in range(0, len(bits), COMPARED):
        part = bits[start : start + COMPARED]
        distance = sizes[start : start + COMPARED, None] + sizes[None] - 2 * part @ bits.T
        for one, other in np.argwhere(distance <= NEAR_BITS * LOOKED_AT).tolist():
            if start + one < other and sizes[start + one] and sizes[other]:
                yield start + one, other
