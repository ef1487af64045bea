"""Data-parallel training: process group, all-gather with and without gradients, reductions.

`torchrun` starts the processes and sets their ranks; in a single process the functions are no-ops. A batch does not
depend on the number of processes: process r of n takes its samples r, r + n, ...
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import nn as differentiable

from training.config import ConfigError, RunConfig


@dataclass(frozen=True, kw_only=True)
class RankInfo:
    """Rank of this process, number of processes, and device."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Return whether this is rank 0, which writes files and logs."""
        return self.rank == 0


def rank_and_count() -> tuple[int, int]:
    """Return (rank, number of processes); (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


@contextmanager
def process_group(device: torch.device) -> Iterator[RankInfo]:
    """Join the process group if `torchrun` started this process; leave it at the end."""
    begins = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if begins:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        rank, count = rank_and_count()
        yield RankInfo(rank=rank, count=count, device=device)
    finally:
        if begins:
            dist.destroy_process_group()


def local_batch_size(batch_size: int, num_ranks: int) -> int:
    """Return the number of samples per process.

    Raises:
        ConfigError: the batch is not divisible by the number of processes.
    """
    if batch_size % num_ranks:
        raise ConfigError(f"run.batch_size: a multiple of the {num_ranks} processes is needed, found {batch_size}")
    return batch_size // num_ranks


def check_batch_split(run: RunConfig, num_ranks: int) -> None:
    """Raise ConfigError if the batch cannot be split evenly."""
    share = local_batch_size(run.batch_size, num_ranks)
    if run.micro_batch and share % run.micro_batch:
        raise ConfigError(f"run.micro_batch: a divisor of a process's share {share} is needed: {run.micro_batch}")


def all_gather(rows: Tensor) -> Tensor:
    """Gather the rows [B/n, ...] of all processes as a batch [B, ...] in its order, with gradients.

    Each process then computes the loss of the whole batch. The backward pass sums the equal gradients of all processes,
    and the mean over processes in data-parallel training divides by their number again.
    """
    count = rank_and_count()[1]
    if count == 1:
        return rows
    parts = differentiable.all_gather(rows.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)  # sample i of process r stands at i * n + r


def all_gather_objects(rows: list[Any]) -> list[Any]:
    """Gather the rows of all processes in the order of ranks."""
    count = rank_and_count()[1]
    if count == 1:
        return rows
    parts: list[Any] = [None] * count
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


def mean_over_ranks(values: dict[str, Tensor]) -> dict[str, float]:
    """Return the means of scalars over the processes."""
    count = rank_and_count()[1]
    if count > 1:
        joined_values = torch.stack([value.detach().float() for value in values.values()])
        dist.all_reduce(joined_values)
        values = dict(zip(values, joined_values / count, strict=True))
    return {name: float(value) for name, value in values.items()}


def any_rank(fact: bool, device: torch.device) -> bool:
    """Return whether `fact` is true on any process."""
    if rank_and_count()[1] == 1:
        return fact
    flag = torch.tensor(float(fact), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())


def barrier() -> None:
    """Wait for all processes."""
    if rank_and_count()[1] > 1:
        dist.barrier()
