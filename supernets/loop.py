"""The optimiser's steps of a training: passes, losses, gradients, phases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.base import Distillation, LabelLoss, Pass, Phase, Supernet, TrainingStrategy, channels_last
from supernets.checkpoint import load_optimizer_tensors, optimizer_tensors
from supernets.data import Part, augment, batches, head
from supernets.divergence import Divergence, divergence
from supernets.errors import TrainingError
from supernets.recalibration import recalibrate
from supernets.reduction import Alone, Reduction
from supernets.space import Architecture

CPU = torch.device("cpu")
ALONE = Alone()
_WARM_UP_SHARE = 0.1
"""Share of a phase in which the learning rate rises (one-cycle schedule, Smith and Topin 2017, arXiv 1708.07120)."""


class Settings(Protocol):
    """What the steps depend on; see `supernets.trainer.TrainingSettings`."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def divergence(self) -> Divergence: ...
    @property
    def shift(self) -> int: ...
    @property
    def flip(self) -> bool: ...
    @property
    def calibration_images(self) -> int: ...
    @property
    def seed(self) -> int: ...


class Loop:
    """Runs epochs over a training part, any of them given the state that the one before left.

    Args:
        supernet: trained in place, on `device`.
        teacher: a frozen network for passes that learn from one; a phase's own takes its place.
        workers: those that train together, each on its share of every batch.

    Raises:
        TrainingError: the strategy has more phases than there are epochs.
    """

    def __init__(
        self,
        supernet: Supernet,
        part: Part,
        strategy: TrainingStrategy,
        settings: Settings,
        *,
        teacher: nn.Module | None = None,
        device: torch.device = CPU,
        workers: Reduction = ALONE,
    ) -> None:
        self._supernet, self._part, self._strategy, self._settings = supernet.to(device), part, strategy, settings
        self._device, self._workers = device, workers
        self._given_teacher = None if teacher is None else _frozen(teacher, device)
        self._own_teacher: nn.Module | None = None
        self._phases = tuple(strategy.phases(settings.epochs))
        self._optimizer = self._fresh_optimizer()
        self._ready: int | None = None
        """The phase whose optimiser this is."""

    def resume(self, epochs: int, optimizer: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> None:
        """Takes up the state after so many epochs; the supernet's weights are given apart."""
        if optimizer:
            load_optimizer_tensors(self._optimizer, self._names(), optimizer)
        self._ready = None if epochs == 0 else self._phase_of(epochs)[0]
        if teacher:
            # Laid out as the one that was saved: another layout gives other last bits.
            network = channels_last(self._supernet.family.build(self._supernet.space.largest))
            network.load_state_dict(dict(teacher), strict=True)
            self._own_teacher = _frozen(network, self._device)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimiser's state by name."""
        return optimizer_tensors(self._optimizer, self._names())

    def own_teacher(self) -> dict[str, Tensor]:
        """The tensors of the teacher that a phase left; none where none did."""
        return {} if self._own_teacher is None else {k: v.cpu() for k, v in self._own_teacher.state_dict().items()}

    def run_epoch(self, epoch: int, on_step: Callable[[int, int, float], None]) -> float:
        """One pass over the data; returns the mean over steps of the loss of the passes that first see a whole batch.

        All randomness comes from (seed, epoch): any epoch can be redone.

        Args:
            epoch: from 1.

        Raises:
            TrainingError: a loss or a weight is not finite, there is no frozen teacher, or there are too few images for one
                step.
        """
        settings, steps = self._settings, -(-len(self._part) // self._settings.batch_size)
        index, phase, before = self._phase_of(epoch)
        if self._ready != index:
            self._begin(index, phase)
        self._supernet.train()
        rng = np.random.default_rng([settings.seed, epoch])
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        step = (epoch - 1 - before) * steps
        total, count = 0.0, 0
        for images, labels in batches(self._part, settings.batch_size, generator=generator):
            rate = _one_cycle(step, phase.epochs * steps, settings.learning_rate * phase.learning_rate)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            if settings.shift or settings.flip:
                images = augment(images, generator, flip=settings.flip, pad=settings.shift)
            loss = self._step(index, images, labels, rng, epoch=epoch, step=count + 1)
            if loss is None:
                continue
            total, count, step = total + loss, count + 1, step + 1
            on_step((epoch - 1) * steps + count, settings.epochs * steps, loss)
        if count == 0:
            raise TrainingError(
                f"{len(self._part)} training images are too few for one step: each worker and each micro-batch needs 2; "
                "lower training.workers or training.micro_batches, or leave more images to train on"
            )
        # The last step's weights have been in no loss yet.
        bad = next((name for name, p in self._supernet.sharing.named_parameters() if not p.isfinite().all()), None)
        if bad is not None:
            raise TrainingError(f"the weights {bad} are not finite after epoch {epoch}; {_remedy(epoch)}")
        if phase.teach and epoch == before + phase.epochs:
            self._own_teacher = self._teacher_of_now()
        return total / count

    def _phase_of(self, epoch: int) -> tuple[int, Phase, int]:
        """The phase of an epoch, its index, and the epochs before it."""
        before = 0
        for index, phase in enumerate(self._phases):
            if epoch <= before + phase.epochs:
                return index, phase, before
            before += phase.epochs
        raise ValueError(f"epoch {epoch} of a training of {before}")

    def _begin(self, index: int, phase: Phase) -> None:
        if phase.before is not None:
            phase.before(self._supernet)
        if index > 0:  # moments are those of other weights where units were reordered
            self._optimizer = self._fresh_optimizer()
        self._ready = index

    def _groups(self) -> list[list[tuple[str, nn.Parameter]]]:
        """The parameters by name: those that weight decay shrinks, and the others."""
        sharing = self._supernet.sharing
        named, decayed = list(sharing.named_parameters()), sharing.decayed()
        return [[(n, p) for n, p in named if n in decayed], [(n, p) for n, p in named if n not in decayed]]

    def _fresh_optimizer(self) -> torch.optim.AdamW:
        decays = (self._settings.weight_decay, 0.0)
        return torch.optim.AdamW(
            [
                {"params": [p for _, p in group], "weight_decay": decay}
                for group, decay in zip(self._groups(), decays, strict=True)
            ],
            lr=self._settings.learning_rate,
            fused=True,
        )

    def _names(self) -> list[str]:
        """The optimiser's parameters in its order."""
        return [name for group in self._groups() for name, _ in group]

    def _teacher_of_now(self) -> nn.Module:
        network = self._supernet.extract(self._supernet.space.largest).cpu()
        recalibrate(network, head(self._part, self._settings.calibration_images).split(250))
        return _frozen(network, self._device)

    def _step(
        self, phase: int, images: Tensor, labels: Tensor, rng: np.random.Generator, *, epoch: int, step: int
    ) -> float | None:
        """One optimiser's step over this worker's share of a batch; returns the loss of the passes that first see all of it.

        A last batch that leaves a pass or a worker one image is left out (None): batch norm learns nothing from one.
        """
        n, workers = len(images), self._workers
        if n < 2 * workers.size and n < self._settings.batch_size:  # nor can a strategy look at losses on one image
            return None
        x = images.tensor_split(workers.size)[workers.rank].to(self._device)
        y = labels.tensor_split(workers.size)[workers.rank].to(self._device)
        self._optimizer.zero_grad(set_to_none=True)
        passes = self._strategy.plan(phase, rng, lambda architecture: self._probe(architecture, x, y))
        if n < 2 * workers.size * max(p.part[1] for p in passes) and n < self._settings.batch_size:
            return None
        losses = self._accumulate(passes, x, y)
        if workers.size > 1:
            gradients = [p.grad for p in self._supernet.sharing.parameters() if p.grad is not None]
            for gradient in gradients:
                gradient.mul_(len(x) / n)
            losses = losses * (len(x) / n)
            workers.sum_([*gradients, losses])
        told = losses.tolist()
        bad = next((i for i, loss in enumerate(told) if not math.isfinite(loss)), None)
        if bad is not None:
            raise TrainingError(
                f"the loss became {told[bad]} in epoch {epoch}, step {step}, of architecture {passes[bad].architecture.key}; "
                f"{_remedy(epoch)}"
            )
        self._optimizer.step()
        return float(sum(told[: passes[0].part[1]]))  # one, or as many as see a part each

    def _accumulate(self, passes: Sequence[Pass], images: Tensor, labels: Tensor) -> Tensor:
        """Adds up the gradients of a step's passes; returns their losses, (n_passes,)."""
        taught_by = {term.teacher for p in passes for term in p.terms if isinstance(term, Distillation)}
        teachers: dict[int, Tensor] = {}
        frozen: dict[tuple[int, int], Tensor] = {}
        """What the frozen teacher says of each part: passes that see the same part ask it once."""
        losses = []
        for index, p in enumerate(passes):
            i, n = p.part
            x, y = images.tensor_split(n)[i], labels.tensor_split(n)[i]
            logits = self._logits(x, p.architecture)
            loss = logits.new_zeros(())
            for term in p.terms:
                match term:
                    case LabelLoss(weight):
                        loss = loss + weight * functional.cross_entropy(logits, y)
                    case Distillation(teacher, weight, temperature):
                        if teacher is None and p.part not in frozen:
                            frozen[p.part] = self._frozen_logits(x, like=logits)
                        soft = frozen[p.part] if teacher is None else teachers[teacher]
                        far = divergence(self._settings.divergence, logits / temperature, soft / temperature)
                        loss = loss + weight * temperature**2 * far
            loss.backward()
            losses.append(loss.detach())
            if index in taught_by:
                teachers[index] = logits.detach()
        return torch.stack(losses)

    def _logits(self, images: Tensor, architecture: Architecture) -> Tensor:
        return self._forward(self._supernet, images, architecture)

    @torch.no_grad()
    def _frozen_logits(self, images: Tensor, like: Tensor) -> Tensor:
        teacher = self._own_teacher or self._given_teacher
        if teacher is None:
            raise TrainingError("the strategy distils from a frozen teacher, and there is none; name training.teacher")
        logits = self._forward(teacher, images)
        if logits.shape != like.shape:
            raise TrainingError(
                f"the frozen teacher's outputs are {tuple(logits.shape)} for this batch, and the subnets' {tuple(like.shape)}; "
                "name a training.teacher of the same classes"
            )
        return logits

    def _forward(self, module: nn.Module, *args: Any) -> Tensor:
        """A network's logits; in bfloat16 on an accelerator, where the losses are still taken in single precision."""
        if self._device == CPU:
            return cast(Tensor, module(*args))
        with torch.autocast(self._device.type, torch.bfloat16):
            return cast(Tensor, module(*args)).float()

    @torch.no_grad()
    def _probe(self, architecture: Architecture, images: Tensor, labels: Tensor) -> float:
        """The mean loss over all workers' shares, equal for each of them."""
        loss = functional.cross_entropy(self._logits(images, architecture), labels, reduction="sum")
        both = torch.stack([loss, loss.new_tensor(float(len(labels)))])
        self._workers.sum_([both])
        return (both[0] / both[1]).item()


def _remedy(epoch: int) -> str:
    """What is left of a training whose numbers are finite no more in this epoch, and what to do."""
    kept = "there is no checkpoint yet" if epoch == 1 else f"the checkpoint of epoch {epoch - 1} is kept"
    return f"{kept}: lower training.learning_rate and train anew"


def _frozen(network: nn.Module, device: torch.device) -> nn.Module:
    return network.to(device).eval().requires_grad_(False)


def _one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step: a linear rise over the first tenth, then a cosine to zero."""
    rise = max(1, round(steps * _WARM_UP_SHARE))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
