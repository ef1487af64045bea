"""Hashes of video contents, to find equal files and near duplicates."""

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

READ_SIZE = 2**20  # bytes per read
NUM_HASHED_FRAMES = 8  # per video, equally spaced in time
HASH_SIZE = 8  # a difference hash has HASH_SIZE * HASH_SIZE bits per frame
MAX_NEAR_DISTANCE = 6  # largest Hamming distance between near duplicates: bits of 64, averaged over frames
BLOCK_ROWS = 512  # hashes that are compared with all others at a time


def digest_of(entry: Entry) -> str:
    """Return the SHA-256 of a video file, or of all frame images of an entry that is stored as images.

    Raises:
        BadVideoError: a file is missing, or the folder does not contain one series of frame images.
        OSError: a file cannot be read.
    """
    sha256 = hashlib.sha256()
    if entry.encoded_images:
        for image in entry.encoded_images:
            sha256.update(image)
        return sha256.hexdigest()
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
            while block := stream.read(READ_SIZE):
                sha256.update(block)
    return sha256.hexdigest()


def digest_or_none(entry: Entry) -> str | None:
    """Return the digest of an entry, or None if it cannot be read; decoding reports the error later."""
    try:
        return digest_of(entry)
    except (BadVideoError, OSError):
        return None


def difference_hash(frames: Sequence[UInt8Array]) -> UInt8Array:
    """Return the difference hashes of N frames [H, W, 3], concatenated: 8 bytes per frame, [8 * N]."""
    hashes = []
    for frame in frames:
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(gray, (HASH_SIZE + 1, HASH_SIZE), interpolation=cv2.INTER_AREA)
        hashes.append(np.packbits(small[:, 1:] > small[:, :-1]))
    return np.concatenate(hashes)


def find_near_duplicates(paths: Sequence[Path], *, settings: DecodeSettings, workers: int) -> list[tuple[int, int]]:
    """Return pairs of indices of near duplicates: the same video re-encoded, resized or with different metadata.

    Frames at the same relative times are compared, so trimmed or shifted copies are not found. Undecodable videos are
    skipped.
    """
    hashes: dict[int, UInt8Array] = {}

    def job(decoder: DecodeProcess, index: int) -> UInt8Array | None:
        try:
            frames, _ = decoder.frames(paths[index], _hashed_frame_indices)
        except BadVideoError:
            return None
        return difference_hash(frames)

    for index, video_hash in for_each(range(len(paths)), job, settings=settings, workers=workers):
        if video_hash is not None:
            hashes[index] = video_hash
    if not hashes:
        return []
    indices = sorted(hashes)
    pairs = _similar_pairs(np.stack([hashes[index] for index in indices]))
    return [(indices[first], indices[second]) for first, second in pairs]


def _hashed_frame_indices(num_frames: int) -> Int64Array:
    return ((np.arange(NUM_HASHED_FRAMES) + 0.5) * num_frames / NUM_HASHED_FRAMES).astype(np.int64)


def _similar_pairs(hashes: UInt8Array) -> Iterator[tuple[int, int]]:
    """Yield index pairs of hashes [N, bytes] that differ in few bits; hashes of uniform frames (all 0) are skipped."""
    bits = np.unpackbits(hashes, axis=1).astype(np.float32)  # [N, 64 * frames]
    popcounts = bits.sum(axis=1)
    for start in range(0, len(bits), BLOCK_ROWS):
        block = bits[start : start + BLOCK_ROWS]
        distance = popcounts[start : start + BLOCK_ROWS, None] + popcounts[None] - 2 * block @ bits.T
        for row, second in np.argwhere(distance <= MAX_NEAR_DISTANCE * NUM_HASHED_FRAMES).tolist():
            first = start + row
            if first < second and popcounts[first] and popcounts[second]:
                yield first, second
