"""Sums of tensors over the workers of a data-parallel training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Reduction(Protocol):
    """One worker's view of all workers of a training.

    Attributes:
        rank: of this worker, from 0; worker 0 writes checkpoints and reports progress.
        size: number of workers.
    """

    rank: int
    size: int

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over the workers, all in one exchange; shapes must be equal on every worker."""
        ...


class Alone:
    """The reduction of a single worker, which changes nothing."""

    rank = 0
    size = 1

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        pass


class Group:
    """The default process group of torch.distributed, which must be initialised."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        if not tensors:
            return
        # One exchange for all tensors, because each exchange waits for the slowest worker.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))
