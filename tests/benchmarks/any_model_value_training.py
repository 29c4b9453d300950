"""Training at equal time, accuracy and measured latency, the same for every method of the benchmark of value."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hardware_profiles import Deployment, HardwareProfile, LatencyMeasurement, open_profiler
from hardware_profiles.measuring.profiler import MAX_BATCH
from hardware_profiles.runtime import run_calls
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.tracing import capture
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.base import Supernet
from supernets.sharing.spec import Correction, SharingSpec, Statistics
from supernets.training.checkpoint import make_supernet
from supernets.training.recalibration import recalibrate
from tests.benchmarks.any_model_value_tasks import Examples, ValueTask

BATCH = 64
_TEMPERATURE = 2.0
WHOLE = SpaceOptions(granularity="model", widths=tuple(i / 32 for i in range(2, 33)))
"""One width for all layers."""


@dataclass(frozen=True)
class Lesson:
    """The training examples of a task with the original's outputs, as they are and mirrored."""

    task: ValueTask
    logits: Tensor
    mirrored: Tensor

    @classmethod
    def of(cls, task: ValueTask, original: nn.Module) -> Lesson:
        """Computes the outputs once: no method spends time of its budget on them."""
        given = outputs(original, task, task.train.inputs)
        return cls(task, given, outputs(original, task, task.train.inputs.flip(-1)) if task.mirrored else given)

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Random examples: inputs, labels and the original's outputs."""
        rows = torch.from_numpy(rng.integers(len(self.task.train), size=BATCH))
        return self.rows(rows, mirrored=self.task.mirrored and rng.random() < 0.5)

    def rows(self, rows: Tensor, *, mirrored: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The examples of some rows."""
        inputs, logits = self.task.train.inputs[rows], (self.mirrored if mirrored else self.logits)[rows]
        return self.task.prepared(inputs.flip(-1) if mirrored else inputs), self.task.train.labels[rows], logits


def loss_of(found: Tensor, labels: Tensor, taught: Tensor | None) -> Tensor:
    """Cross-entropy, and in equal parts the divergence from the original's outputs where they are given."""
    own = functional.cross_entropy(found, labels)
    if taught is None:
        return own
    target = (taught / _TEMPERATURE).softmax(1)
    divergence = functional.kl_div((found / _TEMPERATURE).log_softmax(1), target, reduction="batchmean")
    return (own + divergence * _TEMPERATURE**2) / 2


def optimise(parameters: Sequence[nn.Parameter], steps: int, rate: float, step: Callable[[], Tensor]) -> None:
    """Steps of AdamW on what `step` returns, with the one-cycle schedule of the project's trainings."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, fused=True)
    rise = max(1, steps // 10)
    for i in range(steps):
        share = (i + 1) / rise if i < rise else 0.5 * (1 + math.cos(math.pi * (i - rise) / max(1, steps - rise)))
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        optimizer.zero_grad(set_to_none=True)
        step().backward()
        optimizer.step()


def train_original(task: ValueTask, seed: int) -> nn.Module:
    """The original model, trained on the labels."""
    torch.manual_seed(seed)
    model, rng = task.model().train(), np.random.default_rng([seed, 1])
    steps = task.epochs * len(task.train) // BATCH
    blank = torch.zeros(len(task.train), 1)
    lesson = Lesson(task, blank, blank)

    def step() -> Tensor:
        x, y, _ = lesson.batch(rng)
        return loss_of(model(x), y, None)

    optimise([p for p in model.parameters() if p.requires_grad], steps, task.learning_rate, step)
    return model.eval()


def finetune(network: nn.Module, lesson: Lesson, steps: int, seed: int) -> nn.Module:
    """The network after its steps, which are the same code for every method."""
    rng = np.random.default_rng([seed, 2])
    network.train()

    def step() -> Tensor:
        x, y, taught = lesson.batch(rng)
        return loss_of(network(x), y, taught)

    optimise([p for p in network.parameters() if p.requires_grad], steps, lesson.task.tuning_rate, step)
    return calibrated(network, lesson.task)


def calibrated(network: nn.Module, task: ValueTask, n: int = 512) -> nn.Module:
    """The network with statistics of training images."""
    return recalibrate(network, task.prepared(task.train.inputs[:n]).split(256))


def outputs(network: nn.Module, task: ValueTask, inputs: Tensor) -> Tensor:
    """The network's outputs in ONNX Runtime, (n, classes)."""
    return outputs_of_model(lower(network.eval(), task.example()), task, inputs)


def outputs_of_model(model: bytes, task: ValueTask, inputs: Tensor) -> Tensor:
    """The outputs of an ONNX model, (n, classes)."""
    calls = ({INPUT: task.prepared(own).contiguous().numpy()} for own in inputs.split(50))
    return torch.from_numpy(np.concatenate([found for (found,) in run_calls(model, calls)]))


def correct(network: nn.Module, task: ValueTask, part: Examples) -> Tensor:
    """Whether each example is classified correctly, (n,)."""
    return outputs(network, task, part.inputs).argmax(1) == part.labels


def step_costs(steps: Sequence[Callable[[], Tensor]], rounds: int = 8) -> list[float]:
    """CPU seconds of each step with its backward pass: the least of interleaved rounds."""
    least = [math.inf] * len(steps)
    for _ in range(rounds):
        for i, step in enumerate(steps):
            started = time.process_time()
            step().backward()
            least[i] = min(least[i], time.process_time() - started)
    return least


def relative_cost(networks: Sequence[Callable[[Tensor], Tensor]], original: nn.Module, lesson: Lesson) -> list[float]:
    """Training time of a step of each, as a share of the original's."""
    x, y, taught = lesson.batch(np.random.default_rng(0))
    original.train()

    def one(network: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        return lambda: loss_of(network(x), y, taught)

    base, *own = step_costs([one(original), *(one(network) for network in networks)])
    original.eval()
    return [cost / base for cost in own]


def captured_supernet(
    module: nn.Module, task: ValueTask, options: SpaceOptions = WHOLE, *, correction: Correction | None = None
) -> Supernet:
    """The supernet of a module, with its weights in their order."""
    found = capture(module.eval(), [task.example()])
    family = CapturedFamily(found.program, options, tensors=found.tensors)
    # As in a job without training, the largest network is the original with its statistics.
    statistics: Statistics | None = None if correction is None else "kept"
    return make_supernet(family, SharingSpec(correction=correction, statistics=statistics))


def plain_network(module: nn.Module, task: ValueTask) -> nn.Module:
    """A module as a captured network: all methods' networks train and run by the same code."""
    supernet = captured_supernet(module, task)
    return supernet.extract(supernet.space.largest)


class Stopwatch:
    """Latencies in ONNX Runtime on one thread, relative to the original's of the same session."""

    def __init__(self, task: ValueTask, original: nn.Module) -> None:
        profile = HardwareProfile("cpu-1-thread", batch_size=task.batch)
        self._profiler, self._task = open_profiler(profile), task
        self._input = {INPUT: task.example(task.batch).contiguous().numpy()}
        self.original, self.original_ms = self.onnx(original), 0.0

    def onnx(self, network: nn.Module) -> bytes:
        """The network's ONNX model."""
        return lower(network.eval(), self._task.example())

    def ratios(self, models: Sequence[bytes]) -> list[float]:
        """Latency of each over that of the original, which is measured in each session."""
        found: list[float] = []
        while len(found) < len(models):
            part = models[len(found) : len(found) + MAX_BATCH - 1]
            base, *own = self._profiler.measure(
                [Deployment.single(model, self._input) for model in (self.original, *part)]
            )
            assert isinstance(base, LatencyMeasurement), base.message
            self.original_ms = base.latency_ms
            for one in own:
                assert isinstance(one, LatencyMeasurement), one.message
                found.append(one.latency_ms / base.latency_ms)
        return found

    def close(self) -> None:
        """Ends the worker."""
        self._profiler.close()


@dataclass(frozen=True)
class Setting:
    """What every method gets: the task, the original, its lesson, the stopwatch, and the seed of trainings."""

    task: ValueTask
    original: nn.Module
    lesson: Lesson
    watch: Stopwatch
    seed: int

    @property
    def steps(self) -> float:
        """Training time of a method, in steps of the original."""
        return self.task.budget * len(self.task.train) / BATCH

    def finetuned(self, networks: Mapping[float, nn.Module]) -> dict[float, nn.Module]:
        """Networks by limit, finetuned for equal times that add up to the budget."""
        costs = relative_cost([n.train() for n in networks.values()], self.original, self.lesson)
        each = self.steps / len(networks)
        pairs = zip(networks.items(), costs, strict=True)
        return {k: finetune(n, self.lesson, round(each / cost), self.seed) for (k, n), cost in pairs}
