"""Gradients of a training step: forward passes, label and distillation losses, and their sum over workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.base import Distillation, LabelLoss, Pass, Supernet
from supernets.divergence import Divergence
from supernets.errors import TrainingError
from supernets.space import Architecture
from supernets.tasks import CLASSIFICATION, Task

CPU = torch.device("cpu")


class Reduction:
    """One worker's view of all workers of a training; here, of the only one.

    Attributes:
        rank: of this worker, from 0; worker 0 writes checkpoints and reports progress.
        size: number of workers.
    """

    rank = 0
    size = 1

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over the workers, all in one exchange; shapes must be equal on every worker."""


ALONE = Reduction()


class Group(Reduction):
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


class StepGradients:
    """Computes the gradients of a supernet's passes over one batch, or over this worker's share of it.

    Args:
        teacher: a frozen network for passes that distil from one.
    """

    def __init__(
        self,
        supernet: Supernet,
        divergence: Divergence,
        *,
        teacher: nn.Module | None,
        device: torch.device,
        workers: Reduction,
        task: Task = CLASSIFICATION,
    ) -> None:
        self._supernet, self._divergence, self._task = supernet, divergence, task
        self._device, self._workers = device, workers
        self.teacher: nn.Module | None = None
        if teacher is not None:
            self.set_teacher(teacher)

    def set_teacher(self, network: nn.Module) -> None:
        """Freezes a network and distils from it from now on."""
        self.teacher = network.to(self._device).eval().requires_grad_(False)

    def share(self, batch: Tensor) -> Tensor:
        """This worker's share of a batch, on the device."""
        return batch.tensor_split(self._workers.size)[self._workers.rank].to(self._device)

    @torch.no_grad()
    def loss(self, architecture: Architecture, images: Tensor, labels: Tensor) -> float:
        """A subnet's mean loss over all workers' shares, equal for each of them."""
        loss = self._task.loss(self._forward(self._supernet, images, architecture), labels, reduction="sum")
        sums = torch.stack([loss, loss.new_tensor(float(len(labels)))])
        self._workers.sum_([sums])
        return (sums[0] / sums[1]).item()

    def backward(self, passes: Sequence[Pass], images: Tensor, labels: Tensor, *, n: int) -> list[float]:
        """Adds the gradients of the passes over all workers to the parameters; returns each pass's loss.

        Args:
            images, labels: this worker's share.
            n: images of the whole batch.

        Raises:
            TrainingError: a pass distils from a frozen teacher that is missing or has other outputs.
        """
        losses = self._accumulate(passes, images, labels)
        if self._workers.size > 1:
            sums = [*(p.grad for p in self._supernet.sharing.parameters() if p.grad is not None), losses]
            for own in sums:
                own.mul_(len(images) / n)
            self._workers.sum_(sums)
        return cast(list[float], losses.tolist())

    def _accumulate(self, passes: Sequence[Pass], images: Tensor, labels: Tensor) -> Tensor:
        """Adds the gradients of the passes over this worker's share; returns their losses, (n_passes,)."""
        teaching = {term.teacher for p in passes for term in p.terms if isinstance(term, Distillation)}
        targets: dict[int, Tensor] = {}  # logits of passes that teach others
        frozen: dict[tuple[int, int], Tensor] = {}  # the frozen teacher's logits by part of the batch
        losses = []
        for index, p in enumerate(passes):
            i, n_parts = p.part
            x, y = images.tensor_split(n_parts)[i], labels.tensor_split(n_parts)[i]
            logits = self._forward(self._supernet, x, p.architecture)
            loss = logits.new_zeros(())
            for term in p.terms:
                match term:
                    case LabelLoss(weight):
                        loss = loss + weight * self._task.loss(logits, y)
                    case Distillation(teacher, weight, temperature):
                        if teacher is None and p.part not in frozen:
                            frozen[p.part] = self._frozen_logits(x, like=logits)
                        target = frozen[p.part] if teacher is None else targets[teacher]
                        distance = self._task.distance(logits / temperature, target / temperature, self._divergence)
                        loss = loss + weight * temperature**2 * distance
            loss.backward()
            losses.append(loss.detach())
            if index in teaching:
                targets[index] = logits.detach()
        return torch.stack(losses)

    @torch.no_grad()
    def _frozen_logits(self, images: Tensor, like: Tensor) -> Tensor:
        if self.teacher is None:
            problem = "the strategy distils from a frozen teacher, and there is none; set training.teacher"
            raise TrainingError(problem, code="training.no-teacher")
        logits = self._forward(self.teacher, images)
        if logits.shape != like.shape:
            raise TrainingError(
                f"the frozen teacher's outputs have the shape {tuple(logits.shape)}, the subnets' {tuple(like.shape)}; "
                "set training.teacher to a network of the same outputs",
                code="training.teacher-mismatch",
            )
        return logits

    def _forward(self, module: nn.Module, *args: Any) -> Tensor:
        """A network's logits in single precision; on an accelerator the forward runs in bfloat16."""
        if self._device == CPU:
            return cast(Tensor, module(*args))
        with torch.autocast(self._device.type, torch.bfloat16):
            return cast(Tensor, module(*args)).float()
