"""Data-parallel training: the process group, all-gather with and without gradients, and reductions.

`torchrun` starts the processes and sets their ranks; in a single process, collective operations have no effect. Batches
do not depend on the number of processes: process r of n takes the samples r, r + n, ... of the batch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import nn as dist_nn

from training.config import ConfigError, RunConfig


@dataclass(frozen=True, kw_only=True)
class RankInfo:
    """Rank and device of this process, and the number of processes."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main_process(self) -> bool:
        """Return whether this is rank 0, which writes files and logs."""
        return self.rank == 0


def rank_and_world_size() -> tuple[int, int]:
    """Return (rank, world size); (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


@contextmanager
def process_group(device: torch.device) -> Iterator[RankInfo]:
    """Join the process group while the context is active, if `torchrun` started this process."""
    must_join = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if must_join:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        rank, world_size = rank_and_world_size()
        yield RankInfo(rank=rank, world_size=world_size, device=device)
    finally:
        if must_join:
            dist.destroy_process_group()


def local_batch_size(batch_size: int, world_size: int) -> int:
    """Return the number of samples per process.

    Raises:
        ConfigError: the batch is not divisible by the number of processes.
    """
    if batch_size % world_size:
        raise ConfigError(
            f"run.batch_size must be a multiple of the number of processes ({world_size}), got {batch_size}"
        )
    return batch_size // world_size


def check_batch_split(run: RunConfig, world_size: int) -> None:
    """Check that the batch can be split evenly over processes and micro-batches.

    Raises:
        ConfigError: the batch cannot be split evenly.
    """
    local_size = local_batch_size(run.batch_size, world_size)
    if run.micro_batch and local_size % run.micro_batch:
        raise ConfigError(
            f"run.micro_batch must divide the batch of a process ({local_size} samples), got {run.micro_batch}"
        )


def all_gather(local: Tensor) -> Tensor:
    """Gather the samples [B/n, ...] of all n processes as a batch [B, ...], in the order of the batch, with gradients.

    Each process then computes the loss of the whole batch, so the n processes have equal gradients. The backward pass
    sums them; the gradient averaging of data-parallel training divides by n, which restores the gradient of the loss.
    """
    world_size = rank_and_world_size()[1]
    if world_size == 1:
        return local
    parts = dist_nn.all_gather(local.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)  # sample i of process r is at index i * n + r


def all_gather_objects(items: list[Any]) -> list[Any]:
    """Concatenate the lists of all processes in the order of ranks."""
    world_size = rank_and_world_size()[1]
    if world_size == 1:
        return items
    parts: list[Any] = [None] * world_size
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def mean_over_ranks(values: dict[str, Tensor]) -> dict[str, float]:
    """Return the means of scalars over all processes."""
    world_size = rank_and_world_size()[1]
    if world_size > 1:
        sums = torch.stack([value.detach().float() for value in values.values()])
        dist.all_reduce(sums)
        values = dict(zip(values, sums / world_size, strict=True))
    return {name: float(value) for name, value in values.items()}


def any_rank(condition: bool, device: torch.device) -> bool:
    """Return whether `condition` is true on any process."""
    if rank_and_world_size()[1] == 1:
        return condition
    flag = torch.tensor(float(condition), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())


def barrier() -> None:
    """Wait for all processes."""
    if rank_and_world_size()[1] > 1:
        dist.barrier()
