"""What the workers of a data-parallel training do together: one sum of their gradients a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Reduction(Protocol):
    """One worker's view of all workers of a training.

    Attributes:
        rank: which of them this is, from 0; the first one writes checkpoints and tells of progress.
        size: how many there are.
    """

    rank: int
    size: int

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over the workers, all in one exchange; every worker gives equal shapes."""
        ...


class Alone:
    """A training of one worker: there is nothing to add."""

    rank = 0
    size = 1

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        pass


class Group:
    """The default process group of torch.distributed, which somebody has made."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        if not tensors:
            return
        # One exchange for all: a small network has a hundred tensors, and each exchange waits for the slowest worker.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))
