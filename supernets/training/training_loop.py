"""Training epochs: phases, optimiser steps and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from supernets.data import Part, batches, head
from supernets.errors import TrainingError
from supernets.experts.losses import check_trained, freeze_all_but_routers
from supernets.sharing.base import LearningStrategy, Phase, ScheduledStrategy, Supernet, TrainingStrategy
from supernets.space import Architecture
from supernets.tasks import CLASSIFICATION, Task
from supernets.training.checkpoint import load_optimizer_tensors, optimizer_tensors
from supernets.training.gradients import ALONE, CPU, Reduction, StepGradients, StepOptions
from supernets.training.recalibration import recalibrate

Examples = tuple[Tensor, Tensor]
"""Inputs and labels."""
_LEARNED, _VALUE = "strategy.", "value."
"""Prefixes of the names of a strategy's tensors in a checkpoint, and of its learned parameters among these."""
_WARM_UP_SHARE = 0.1
"""Share of a phase in which the learning rate rises (one-cycle schedule, Smith and Topin 2017, arXiv 1708.07120)."""


@dataclass(frozen=True)
class TrainingSettings(StepOptions):
    """The hyperparameters of a training: those of a step's gradients, and others.

    Attributes:
        epochs: Number of passes over the training part; 0 keeps the weights as they are.
        batch_size: Number of examples of an optimiser step, of all workers together; of these, a strategy that learns takes
            half.
        learning_rate: the peak of the one-cycle schedule.
        weight_decay: AdamW's decay of matrices and kernels, relative to the learning rate; biases and norms have none.
        shift: pixels of random translation; 0 for none.
        flip: whether images are mirrored left to right with probability 1/2.
        calibration_images: training images for batch-norm statistics.
        keep: the final weights: those of the last epoch, or of the epoch after which the largest network had the best
            validation score (0, before the first epoch, included).
        threads: torch's threads; the weights are bitwise repeatable for a given number.
        seed: Seed, at least 0, of all random numbers of an epoch, together with the epoch's number.
        clip_norm: the largest norm of a step's gradient, which a larger one is scaled to; None for no limit.
        parameters: The parameters that are trained: all of the supernet's, or those of the routers of experts alone.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    shift: int = 0
    flip: bool = False
    calibration_images: int = 1000
    keep: Literal["last", "best"] = "last"
    threads: int = 1
    seed: int = 0
    clip_norm: float | None = None
    parameters: Literal["all", "routers"] = "all"


class Loop:
    """Trains a supernet epoch by epoch over a training part; an epoch depends only on the state after the previous one.

    Args:
        supernet: The supernet, trained in place, on `device`.
        teacher: a frozen network for passes that distil from one; the teacher that a phase leaves replaces it.

    Raises:
        TrainingError: the strategy has more phases than there are epochs, or there are no routers for what is of them alone.
    """

    def __init__(
        self,
        supernet: Supernet,
        part: Part,
        strategy: TrainingStrategy,
        settings: TrainingSettings,
        *,
        teacher: nn.Module | None = None,
        device: torch.device = CPU,
        workers: Reduction = ALONE,
        task: Task = CLASSIFICATION,
    ) -> None:
        self._supernet, self._part, self._strategy, self._settings = supernet.to(device), part, strategy, settings
        self._workers, self._task = workers, task
        if settings.parameters == "routers":
            freeze_all_but_routers(supernet)
        if settings.entropy_loss:
            check_trained(supernet)
        self._gradients = StepGradients(supernet, settings, teacher=teacher, device=device, workers=workers, task=task)
        self._learning = _Learning.of(strategy, part, settings, self._gradients)
        self._own_teacher: nn.Module | None = None
        self._phases = tuple(strategy.phases(settings.epochs))
        self._optimizer = self._new_optimizer()
        self._ready: int | None = None
        """Index of the phase that the optimiser belongs to."""

    def resume(self, epochs: int, optimizer: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> None:
        """Restores the state after `epochs` epochs; the caller restores the supernet's weights."""
        if optimizer:
            learned = {name: tensor for name, tensor in optimizer.items() if name.startswith(_LEARNED)}
            load_optimizer_tensors(self._optimizer, {n: t for n, t in optimizer.items() if n not in learned})
            if self._learning is not None:
                self._learning.restore({name.removeprefix(_LEARNED): tensor for name, tensor in learned.items()})
        self._ready = None if epochs == 0 else self._phase_of(epochs)[0]
        if teacher:
            # In the layout of the saved one: another layout changes the last bits.
            supernet = self._supernet
            network = supernet.family.standalone(supernet.sharing.template, supernet.space.largest, teacher)
            self._teach_by(network)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimiser's state by name, with what the strategy has learned and the state of its own."""
        learned = {} if self._learning is None else self._learning.tensors()
        return optimizer_tensors(self._optimizer) | {f"{_LEARNED}{name}": tensor for name, tensor in learned.items()}

    def found(self) -> Architecture | None:
        """The network that the strategy has found so far, if it learns one."""
        return None if self._learning is None else self._learning.strategy.chosen_architecture()

    def own_teacher(self) -> dict[str, Tensor]:
        """The tensors of the teacher that a phase left; empty if none did."""
        return {} if self._own_teacher is None else {k: v.cpu() for k, v in self._own_teacher.state_dict().items()}

    @property
    def unchanged(self) -> frozenset[str]:
        """Names of the supernet's tensors that stay as they are once the first phase has begun: those that are not trained,
        unless a later phase may reorder them."""
        reordered = any(phase.before is not None for phase in self._phases[1:])
        return frozenset() if reordered else self._supernet.sharing.fixed()

    def begin(self, epoch: int) -> None:
        """Begins the phase of an epoch, which may sort the supernet, unless it has begun."""
        index, phase, _ = self._phase_of(epoch)
        if self._ready != index:
            self._begin(index, phase)

    def run_epoch(self, epoch: int, on_step: Callable[[int, int, float], None]) -> float:
        """Trains one epoch; returns the mean over steps of the loss of the first passes that cover a whole batch.

        All randomness comes from (seed, epoch), so that any epoch can be repeated.

        Args:
            epoch: Number of the epoch, from 1.
            on_step: called with the steps done, the total number of steps and the loss.

        Raises:
            TrainingError: a loss or a weight is not finite, there is no frozen teacher, or too few images for a step.
        """
        settings, steps = self._settings, -(-len(self._part) // self._settings.batch_size)
        index, phase, before = self._phase_of(epoch)
        self.begin(epoch)
        self._supernet.train()
        rng = np.random.default_rng([settings.seed, epoch])
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        step = (epoch - 1 - before) * steps
        total, count = 0.0, 0
        for (images, labels), learning_batch in self._batches(generator):
            rate = _one_cycle(step, phase.epochs * steps, settings.learning_rate * phase.learning_rate)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            strategy = self._strategy_at(step / max(1, phase.epochs * steps - 1))
            where = f"epoch {epoch}, step {count + 1}"
            loss = self._step(strategy, index, images, labels, rng, where=where, epoch=epoch)
            if loss is None:
                continue
            if learning_batch is not None and self._learning is not None:
                self._learning.step(strategy, index, *learning_batch, rng)
            total, count, step = total + loss, count + 1, step + 1
            on_step((epoch - 1) * steps + count, settings.epochs * steps, loss)
        if count == 0:
            problem = f"{len(self._part)} training images are too few: each worker and each micro-batch needs 2"
            advice = "lower training.workers or training.micro_batches, or use more training images"
            raise TrainingError(f"{problem}; {advice}", code="training.too-few-images")
        # No loss has covered the weights of the last step yet.
        bad = next((name for name, p in self._supernet.sharing.named_parameters() if not p.isfinite().all()), None)
        if bad is not None:
            raise _not_finite(f"the weights {bad} are not finite after epoch {epoch}", epoch)
        if phase.teach and epoch == before + phase.epochs:
            network = self._supernet.extract(self._supernet.space.largest).cpu()
            self._teach_by(recalibrate(network, head(self._part, settings.calibration_images).split(250)))
        return total / count

    def _batches(self, generator: torch.Generator) -> Iterator[tuple[Examples, Examples | None]]:
        """The examples of each step, with changes: those that train the weights, and others from which the strategy learns."""
        size, settings = self._settings.batch_size, self._settings

        def shown(part: Part, size: int) -> Iterator[Examples]:
            for images, labels in batches(part, size, generator=generator):
                if settings.shift or settings.flip:
                    images, labels = self._task.augmented(
                        images, labels, generator, flip=settings.flip, pad=settings.shift
                    )
                yield images, labels

        if self._learning is None:
            yield from ((examples, None) for examples in shown(self._part, size))
        else:
            first, second = (shown(half, -(-size // 2)) for half in self._learning.halves)
            yield from zip(first, second, strict=True)

    def _phase_of(self, epoch: int) -> tuple[int, Phase, int]:
        """The index of an epoch's phase, the phase, and the epochs before it."""
        before = 0
        for index, phase in enumerate(self._phases):
            if epoch <= before + phase.epochs:
                return index, phase, before
            before += phase.epochs
        raise ValueError(f"epoch {epoch} of a training of {before}")

    def _begin(self, index: int, phase: Phase) -> None:
        if phase.before is not None:
            phase.before(self._supernet)
        if index > 0:  # after a reordering, the moments no longer match the weights
            self._optimizer = self._new_optimizer()
        self._ready = index

    def _teach_by(self, network: nn.Module) -> None:
        self._gradients.set_teacher(network)
        self._own_teacher = network

    def _new_optimizer(self) -> torch.optim.AdamW:
        settings, sharing = self._settings, self._supernet.sharing
        parameters, decayed = [(n, p) for n, p in sharing.named_parameters() if p.requires_grad], sharing.decayed()
        groups = [
            {"params": [(n, p) for n, p in parameters if n in decayed], "weight_decay": settings.weight_decay},
            {"params": [(n, p) for n, p in parameters if n not in decayed], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate, fused=True)

    def _strategy_at(self, progress: float) -> TrainingStrategy:
        """The strategy of a step, before which this share of its phase is done."""
        return (
            self._strategy.at(min(1.0, progress)) if isinstance(self._strategy, ScheduledStrategy) else self._strategy
        )

    def _step(
        self,
        strategy: TrainingStrategy,
        phase: int,
        images: Tensor,
        labels: Tensor,
        rng: np.random.Generator,
        *,
        where: str,
        epoch: int,
    ) -> float | None:
        """One optimiser step over a batch; returns the loss of the first passes that cover the batch.

        None, without a step, if the last batch is so small that a pass or a worker has one image: batch norm cannot use it.
        """
        n, min_images, last = len(images), 2 * self._workers.size, len(images) < self._settings.batch_size
        if last and n < min_images:  # checked before the plan, since strategies may compute losses
            return None
        x, y = self._gradients.share(images), self._gradients.share(labels)
        self._optimizer.zero_grad(set_to_none=True)
        passes = strategy.plan(phase, rng, lambda architecture: self._gradients.loss(architecture, x, y))
        if last and n < min_images * max(p.part[1] for p in passes):
            return None
        losses = self._gradients.backward(passes, x, y, n=n)
        for loss, subnet_pass in zip(losses, passes, strict=True):
            if not math.isfinite(loss):
                raise _not_finite(f"the loss is {loss} in {where}, architecture {subnet_pass.architecture.key}", epoch)
        if self._settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._supernet.sharing.parameters(), self._settings.clip_norm)
        self._optimizer.step()
        return float(sum(losses[: passes[0].part[1]]))  # of one pass over the batch, or of one pass per part


class _Learning:
    """The parameters that a strategy learns beside the training of the weights."""

    def __init__(
        self, strategy: LearningStrategy, part: Part, settings: TrainingSettings, gradients: StepGradients
    ) -> None:
        self.strategy, self._gradients = strategy, gradients
        self._optimizer = strategy.optimizer(settings.epochs * -(-len(part) // settings.batch_size))
        n, x, y = len(part) // 2, part.inputs, part.labels
        self.halves = [replace(part, inputs=x[i : i + n], labels=y[i : i + n]) for i in (0, n)]
        """The examples that train the weights, and those from which the strategy learns; each has every class."""

    @classmethod
    def of(
        cls, strategy: TrainingStrategy, part: Part, settings: TrainingSettings, gradients: StepGradients
    ) -> _Learning | None:
        """The learning of a strategy; None for one that learns nothing."""
        return cls(strategy, part, settings, gradients) if isinstance(strategy, LearningStrategy) else None

    def step(
        self, strategy: TrainingStrategy, phase: int, images: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> None:
        """One step, by the strategy's plan. The weights' next step forgets the gradients that this one leaves."""
        self._optimizer.zero_grad(set_to_none=True)
        x, y = self._gradients.share(images), self._gradients.share(labels)
        passes = strategy.plan(phase, rng, lambda architecture: self._gradients.loss(architecture, x, y))
        self._gradients.backward(passes, x, y, n=len(images))
        self.strategy.penalty().backward()
        self._optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """The learned parameters, and the state of the optimiser, by name."""
        values = {f"{_VALUE}{name}": parameter.detach() for name, parameter in self._named()}
        return optimizer_tensors(self._optimizer) | values

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores the result of `tensors`."""
        with torch.no_grad():
            for name, parameter in self._named():
                parameter.copy_(tensors[f"{_VALUE}{name}"])
        state = {name: tensor for name, tensor in tensors.items() if not name.startswith(_VALUE)}
        load_optimizer_tensors(self._optimizer, state)

    def _named(self) -> list[tuple[str, Tensor]]:
        groups = self._optimizer.param_groups
        return [pair for group in groups for pair in zip(group["param_names"], group["params"], strict=True)]


def _not_finite(problem: str, epoch: int) -> TrainingError:
    state = "there is no checkpoint yet" if epoch == 1 else f"the checkpoint of epoch {epoch - 1} is kept"
    return TrainingError(
        f"{problem}; {state}: lower training.learning_rate and train again", code="training.not-finite"
    )


def _one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step: a linear rise over the first tenth, then a cosine to zero."""
    rise = max(1, round(steps * _WARM_UP_SHARE))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
