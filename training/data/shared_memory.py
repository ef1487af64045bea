"""Check before a run that there is enough shared memory for the batches of the loading processes."""

import os
from pathlib import Path

from training.config import ConfigError, DataConfig

SHARED_MEMORY_DIR = Path("/dev/shm")  # noqa: S108  # where torch puts shared tensors on Linux
PREFETCH_FACTOR = 2  # batches that each worker loads in advance, the default of DataLoader
MIB = 1 << 20


def clip_num_bytes(data: DataConfig) -> int:
    """Return the size in bytes of a clip uint8 [T, 3, S, S]."""
    return data.num_frames * 3 * data.image_size**2


def check_shared_memory(clip_bytes: int, *, batch_size: int, workers: int, folder: Path = SHARED_MEMORY_DIR) -> None:
    """Check that shared memory has room for the prefetched batches of all workers and the batch in use.

    Raises:
        ConfigError: there is too little free space; the message contains the required and the free size.
    """
    if not workers or not folder.is_dir():
        return
    required = clip_bytes * batch_size * (workers * PREFETCH_FACTOR + 1)
    stat = os.statvfs(folder)
    free = stat.f_bavail * stat.f_frsize
    if required > free:
        raise ConfigError(
            f"data.workers: {workers} loading processes need up to {required / MIB:.0f} MiB of shared memory, but "
            f"{folder} has {free / MIB:.0f} MiB free; enlarge it (docker run --shm-size), or use fewer workers, a "
            "smaller run.batch_size or data.workers=0"
        )
