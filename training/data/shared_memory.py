"""Check before a run that shared memory suffices for the batches of loading processes."""

import os
from pathlib import Path

from training.config import ConfigError, DataConfig

FOLDER = Path("/dev/shm")  # noqa: S108  # where torch puts shared tensors on Linux
PREFETCH = 2  # batches that each worker prefetches
MIB = 1 << 20


def bytes_of_clip(data: DataConfig) -> int:
    """Return the bytes of a clip uint8 [T, 3, S, S]."""
    return data.num_frames * 3 * data.image_size**2


def require_shared_memory(clip_bytes: int, *, batch_size: int, workers: int, folder: Path = FOLDER) -> None:
    """Require enough shared memory for the batches of all workers and the one in use.

    Raises:
        ConfigError: there is too little; the message has the needed and the free size.
    """
    if not workers or not folder.is_dir():
        return
    wanted = clip_bytes * batch_size * (workers * PREFETCH + 1)
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if wanted > free:
        raise ConfigError(
            f"data.workers: {workers} loading processes hold up to {wanted / MIB:.0f} MiB of clips in {folder}, where "
            f"{free / MIB:.0f} MiB are free; enlarge it (docker run --shm-size), or use fewer workers, a smaller "
            "run.batch_size or data.workers=0"
        )
