"""Batches of one process out of several, the same whether a run was interrupted or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class Shard(Sampler[int]):
    """Endless indices of one process out of `world`, from `start` on: what a resumed run needs."""

    def __init__(self, start: int, rank: int, world: int) -> None:
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[int]:
        index = self.start + self.rank
        while True:
            yield index
            index += self.world


def batches(
    samples: Dataset[Any], batch_size: int, first_step: int, rank: int, world: int, workers: int
) -> Iterator[dict[str, Tensor]]:
    """Batches of one process from a step on, forever. Sample k of `samples` is the same in every run."""
    shard = Shard(first_step * batch_size * world, rank, world)
    return iter(
        DataLoader(samples, batch_size, sampler=shard, num_workers=workers, pin_memory=torch.cuda.is_available())
    )
