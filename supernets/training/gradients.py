"""Gradients of a training step: forward passes, label and distillation losses, and their sum over workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernets.errors import TrainingError
from supernets.experts.losses import Routed, balance_loss, entropy_loss, record_routing, z_loss
from supernets.networks.live_subnets import checkpointed
from supernets.sharing.base import Distillation, LabelLoss, Pass, Supernet
from supernets.space import Architecture
from supernets.tasks import CLASSIFICATION, Task
from supernets.tasks.divergence import Divergence, TopLogits, divergence, top_divergence, top_logits

CPU = torch.device("cpu")


class Reduction:
    """One worker's view of all workers of a training; here, of the only one.

    Attributes:
        rank: Number of this worker, from 0; worker 0 writes checkpoints and reports progress.
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


Precision = Literal["auto", "float32", "bfloat16"]
Target = Tensor | TopLogits
"""The form of a teacher's outputs until the subnets that learn from them have run."""


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Options of the gradients of a step; but for rounding, only `divergence`, `top_k` and losses of routers change them.

    Attributes:
        divergence: Distance of a classification from the teacher: ``kl``, or ``alpha`` for the adaptive alpha-divergence (see
            `supernets.tasks.divergence`).
        top_k: distil from the teacher's k most probable classes and the rest (see `top_divergence`); None for all.
        accumulate: parts that a step's batch is divided into; their gradients are added up, and memory holds the activations
            of one. They have two examples or more, and may be fewer, where a network has batch norms, whose statistics are
            each part's own.
        activation_checkpointing: compute the activations within blocks again in the backward pass, in place of keeping them.
        precision: Precision of forwards; ``auto`` is bfloat16 on an accelerator, else float32. Weights, losses and the
            optimiser's state are in float32.
        balance_loss, router_z_loss, entropy_loss: factors of the losses of the routers of experts
            (`supernets.experts.losses`), in each pass of a network that has some, times the weights of the pass's losses. They
            are of each part of a batch.
    """

    divergence: Divergence = "kl"
    top_k: int | None = None
    accumulate: int = 1
    activation_checkpointing: bool = False
    precision: Precision = "auto"
    balance_loss: float = 0.01
    router_z_loss: float = 0.001
    entropy_loss: float = 0.0


class StepGradients:
    """Computes the gradients of a supernet's passes over one batch, or over this worker's share of it.

    Args:
        teacher: a frozen network for passes that distil from one.
    """

    def __init__(
        self,
        supernet: Supernet,
        options: StepOptions,
        *,
        teacher: nn.Module | None,
        device: torch.device,
        workers: Reduction,
        task: Task = CLASSIFICATION,
    ) -> None:
        self._supernet, self._options, self._task = supernet, options, task
        self._device, self._workers = device, workers
        factors = options.balance_loss, options.router_z_loss, options.entropy_loss
        losses = zip(factors, (balance_loss, z_loss, entropy_loss), strict=True)
        self._router_losses = [(factor, loss) for factor, loss in losses if factor]
        template = supernet.sharing.template
        self._least = 2 if any(isinstance(module, _BatchNorm) for module in template.modules()) else 1
        self._halved = options.precision == "bfloat16" or (options.precision == "auto" and device != CPU)
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
        n = self._n_parts(len(images))
        parts = zip(images.tensor_split(n), labels.tensor_split(n), strict=True)
        make_subnet = partial(self._supernet.subnet, architecture)
        losses = [self._task.loss(self._subnet_logits(x, make_subnet()), y, reduction="sum") for x, y in parts]
        loss = torch.stack(losses).sum()
        sums = torch.stack([loss, loss.new_tensor(float(len(labels)))])
        self._workers.sum_([sums])
        return (sums[0] / sums[1]).item()

    def backward(self, passes: Sequence[Pass], images: Tensor, labels: Tensor, *, n: int) -> list[float]:
        """Adds the gradients of the passes over all workers to the parameters; returns each pass's loss.

        Args:
            images, labels: this worker's share.
            n: Number of images of the whole batch.

        Raises:
            TrainingError: a pass distils from a frozen teacher that is missing or has other outputs.
        """
        n_parts = self._n_parts(len(images) // max(p.part[1] for p in passes))
        losses = torch.stack([self._backward_part(passes, images, labels, (i, n_parts)) for i in range(n_parts)]).sum(0)
        if self._workers.size > 1:
            sums = [*(p.grad for p in self._supernet.sharing.parameters() if p.grad is not None), losses]
            for tensor in sums:
                tensor.mul_(len(images) / n)
            self._workers.sum_(sums)
        return cast(list[float], losses.tolist())

    def _n_parts(self, n_examples: int) -> int:
        """The number of parts that a batch of n examples, or a pass's part of it, is divided into."""
        return max(1, min(self._options.accumulate, n_examples // self._least))

    def _backward_part(
        self, passes: Sequence[Pass], images: Tensor, labels: Tensor, accumulated: tuple[int, int]
    ) -> Tensor:
        """Adds the gradients of the passes over the i-th of n parts of what each covers; returns their losses, (n_passes,),
        weighted by the part's share of the examples."""
        distilled = [(p.part, term) for p in passes for term in p.terms if isinstance(term, Distillation)]
        targets: dict[tuple[int | None, tuple[int, int], float], Target] = {}
        losses = []
        for index, p in enumerate(passes):
            x, y, share = _part(images, labels, p.part, accumulated)
            shape = None
            for part, term in distilled:
                key = (None, part, term.temperature)
                if term.teacher is None and part == p.part and key not in targets:
                    logits = self._frozen_logits(x)
                    shape, targets[key] = logits.shape, self._target(logits, term.temperature)
            routing: list[Routed] = []
            subnet = self._supernet.subnet(p.architecture) if p.subnet is None else p.subnet(self._supernet)
            logits = self._subnet_logits(x, subnet, routing)
            if shape is not None and logits.shape != shape:
                raise TrainingError(
                    f"the frozen teacher's outputs have the shape {tuple(shape)}, the subnets' {tuple(logits.shape)}; "
                    "set training.teacher to a network of the same outputs",
                    code="training.teacher-mismatch",
                )
            loss = logits.new_zeros(())
            for loss_term in p.terms:
                match loss_term:
                    case LabelLoss(weight):
                        loss = loss + weight * self._task.loss(logits, y)
                    case Distillation(teacher, weight, temperature):
                        distance = self._distance(logits, targets[teacher, p.part, temperature], temperature, y)
                        loss = loss + weight * temperature**2 * distance
            loss = share * loss
            # The tensors of a pass's own subnet are on the graph of all parts.
            retain = p.subnet is not None and accumulated[0] + 1 < accumulated[1]
            router_loss = sum(loss_term.weight for loss_term in p.terms) * self._router_loss(routing)
            (loss + share * router_loss).backward(retain_graph=retain)
            losses.append(loss.detach())
            for part, term in distilled:
                if term.teacher == index:
                    targets[index, part, term.temperature] = self._target(logits.detach(), term.temperature)
        return torch.stack(losses)

    def _target(self, logits: Tensor, temperature: float) -> Target:
        softened, k = _softened(logits, temperature), self._options.top_k
        return softened if k is None else top_logits(softened.flatten(0, -2), k)

    def _distance(self, logits: Tensor, target: Target, temperature: float, labels: Tensor) -> Tensor:
        softened, mask = _softened(logits, temperature), self._task.distilled(labels)
        weights = None if mask is None else _example_weights(mask, softened.dtype)
        if isinstance(target, TopLogits):
            return top_divergence(softened.flatten(0, -2), target, weights)
        if weights is None:
            return self._task.distance(softened, target, self._options.divergence)
        return divergence(self._options.divergence, softened.flatten(0, -2), target.flatten(0, -2), weights)

    @torch.no_grad()
    def _frozen_logits(self, images: Tensor) -> Tensor:
        if self.teacher is None:
            problem = "the strategy distils from a frozen teacher, and there is none; set training.teacher"
            raise TrainingError(problem, code="training.no-teacher")
        return self._forward(self.teacher, images)

    def _router_loss(self, routing: list[Routed]) -> Tensor | float:
        """The losses of the routers of one pass, times their factors."""
        return sum((factor * loss(routing) for factor, loss in self._router_losses), 0.0) if routing else 0.0

    def _subnet_logits(self, images: Tensor, subnet: nn.Module, routing: list[Routed] | None = None) -> Tensor:
        """A live subnet's logits; those of its routers are added to `routing`."""
        if routing is not None and self._router_losses:
            record_routing(subnet, routing)
        if self._options.activation_checkpointing:
            subnet = checkpointed(subnet, self._supernet.family.blocks[:-1])  # the last one's outputs are kept anyway
        return self._forward(subnet, images)

    def _forward(self, module: nn.Module, images: Tensor) -> Tensor:
        """A network's logits in single precision; the forward may run in bfloat16."""
        if not self._halved:
            return cast(Tensor, module(images))
        with torch.autocast(self._device.type, torch.bfloat16):
            return cast(Tensor, module(images)).float()


def _part(
    images: Tensor, labels: Tensor, of_pass: tuple[int, int], accumulated: tuple[int, int]
) -> tuple[Tensor, Tensor, float]:
    """A part of a pass's part of a batch, with its labels, and its share of that part's examples."""
    (i, n), (j, m) = of_pass, accumulated
    pass_images, y = images.tensor_split(n)[i], labels.tensor_split(n)[i].tensor_split(m)[j]
    return pass_images.tensor_split(m)[j], y, len(y) / max(1, len(pass_images))


def _example_weights(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights (n x m,) of the outputs in a mask (n, m), in a mean over examples of the mean over their outputs."""
    weights = mask.to(dtype)
    return (weights / weights.sum(1, keepdim=True).clamp(min=1) / len(weights)).flatten()


def _softened(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1 else logits / temperature
