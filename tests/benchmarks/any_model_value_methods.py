"""The methods that the benchmark of value compares: each makes a network for every limit of latency, and finetunes it."""

from __future__ import annotations

import copy
import functools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from supernets.networks.capture.space import SpaceOptions
from supernets.sharing.base import Supernet
from supernets.sharing.sorting import orders, taylor_importance
from supernets.space import Architecture, SearchSpace
from supernets.training.recalibration import Extraction
from tests.benchmarks.any_model_value_search import solved_networks
from tests.benchmarks.any_model_value_tasks import Examples, ValueTask
from tests.benchmarks.any_model_value_training import (
    BATCH,
    WHOLE,
    Lesson,
    Setting,
    captured_supernet,
    loss_of,
    outputs_of_model,
    plain_network,
)

T = TypeVar("T")
LIMITS = (0.7, 0.5, 0.3)
"""Latencies relative to the original's."""
_USED = 0.9
"""Of a limit, at least: finetuning gains more for larger networks than their losses before it tell."""
_SCORED = 1000
"""Validation examples on which a search scores."""
_TAYLOR_BATCHES = 6
CALIBRATION = 512
"""Number of training examples to which networks of ours are fitted."""
SLACK = 1.02
"""Networks of the other methods may be this much slower than a limit; those of ours may not."""


def by_latency(builds: Sequence[Callable[[float], nn.Module]], setting: Setting) -> dict[float, nn.Module]:
    """For each limit the network of the most MACs found whose latency is at most 2 % above it.

    A grid, then interpolation for all limits at once: the networks of a round are measured in the same session.

    Args:
        builds: ways to make the network of a degree of reduction, 0 to 1.

    Raises:
        RuntimeError: no network is fast enough for a limit.
    """
    watch = setting.watch

    def ratios(networks: Sequence[nn.Module]) -> list[float]:
        return watch.ratios([watch.onnx(network) for network in networks])

    found = [network for build in builds for network in reduced(build, ratios, LIMITS)]
    chosen = {}
    for limit in LIMITS:
        within = [network for ratio, network in found if ratio <= SLACK * limit]
        if not within:
            raise RuntimeError(f"the fastest network has {min(r for r, _ in found):.2f} of the latency, wanted {limit}")
        chosen[limit] = copy.deepcopy(max(within, key=lambda network: macs(network, setting.task)))
    return chosen


def reduced(
    build: Callable[[float], T], ratios: Callable[[Sequence[T]], list[float]], limits: Sequence[float], rounds: int = 3
) -> list[tuple[float, T]]:
    """Networks with their relative latencies: a grid of degrees of reduction, and some near each limit.

    Args:
        build: makes the network of a degree of reduction, 0 to 1.
        ratios: measures the relative latencies of networks.
    """
    found: dict[float, tuple[float, T]] = {}

    def measure(amounts: Sequence[float]) -> None:
        new = {amount: build(amount) for amount in amounts if amount not in found}
        if new:
            pairs = zip(new.items(), ratios(list(new.values())), strict=True)
            found.update({amount: (ratio, own) for (amount, own), ratio in pairs})

    measure([0.0, 0.2, 0.4, 0.6, 0.8, 0.92])
    for _ in range(rounds):
        wanted = []
        for limit in limits:
            fast = min((a for a, (r, _) in found.items() if r <= SLACK * limit), default=0.0)
            slow = max((a for a in found if a < fast), default=fast)
            if slow < fast and found[fast][0] < 0.97 * limit:
                share = (found[slow][0] - limit) / (found[slow][0] - found[fast][0])
                wanted.append(round(slow + min(max(share, 0.1), 0.9) * (fast - slow), 3))
        measure(wanted)
    return list(found.values())


def macs(network: nn.Module, task: ValueTask) -> float:
    """Multiply-accumulates of a network for one example."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(task.example(1))
    return float(counter.get_total_flops()) / 2


@dataclass(frozen=True)
class Made:
    """Networks by limit, with the CPU seconds of choosing them (training not included)."""

    networks: Mapping[float, nn.Module]
    choosing_s: float
    notes: Mapping[str, Any] = field(default_factory=dict)


def pruned(
    setting: Setting, kind: str, amount: float, gradients: Mapping[str, Tensor], *, multiple: int
) -> nn.Module:  # fmt: skip
    """The original pruned by Torch-Pruning: one ratio for all layers, or by the ranks of isomorphic groups.

    Args:
        multiple: of channels. Torch-Pruning leaves a layer as it is where rounding leaves no channel; here one multiple stays.
    """
    tp = import_module("torch_pruning")
    model, task = copy.deepcopy(setting.original).eval(), setting.task
    importance = (
        tp.importance.GroupMagnitudeImportance(p=2) if kind == "magnitude" else tp.importance.GroupTaylorImportance()
    )
    heads, classes = task.heads(model), int(setting.lesson.logits.shape[1])
    ignored = [own for own in model.modules() if isinstance(own, nn.Linear) and own.out_features == classes]
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that parameters outside layers are pruned in their last dimension, which is right
        pruner = _at_least_one_multiple(tp.pruner.BasePruner)(
            model, task.example(), importance=importance, pruning_ratio=amount, head_pruning_ratio=amount,
            num_heads=dict(heads), prune_num_heads=bool(heads), prune_head_dims=not heads, ignored_layers=ignored,
            round_to=multiple, max_pruning_ratio=0.95, global_pruning=kind == "isomorphic", isomorphic=kind == "isomorphic",
        )  # fmt: skip
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].clone() if name in gradients else None
    pruner.step()
    model.zero_grad(set_to_none=True)
    return plain_network(model, task)


@functools.cache
def _at_least_one_multiple(pruner: type[Any]) -> type[Any]:
    class Pruner(pruner):  # type: ignore[misc]
        def _round_to(self, n_pruned: int, current_channels: int, round_to: int) -> int:
            found: int = super()._round_to(n_pruned, current_channels, round_to)
            return min(found, max(current_channels - round_to, 0))

    return Pruner


def pruning(kind: str) -> Callable[[Setting], Made]:
    """The method of Torch-Pruning with a measure of importance."""

    def method(setting: Setting) -> Made:
        started = time.process_time()
        gradients = {} if kind == "magnitude" else gradients_of(setting)
        own = [
            functools.partial(pruned, setting, kind, gradients=gradients, multiple=n) for n in setting.task.multiples
        ]
        networks = by_latency(own, setting)
        choosing_s = time.process_time() - started
        return Made(setting.finetuned(networks), choosing_s)

    return method


def gradients_of(setting: Setting) -> dict[str, Tensor]:
    """The gradients of the original's loss, summed over batches."""
    model, rng = copy.deepcopy(setting.original).eval(), np.random.default_rng(0)
    for _ in range(_TAYLOR_BATCHES):
        x, y, _taught = setting.lesson.batch(rng)
        loss_of(model(x), y, None).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def uniform(setting: Setting) -> Made:
    """All widths at the same fraction, with the sorting of ours."""
    started = time.process_time()
    networks = by_latency([uniform_build(setting, multiple) for multiple in setting.task.multiples], setting)
    choosing_s = time.process_time() - started
    return Made(setting.finetuned(networks), choosing_s)


def uniform_build(setting: Setting, multiple: int) -> Callable[[float], nn.Module]:
    options = replace(WHOLE, keep=setting.task.keep, multiple=multiple)
    supernet = captured_supernet(setting.original, setting.task, options)
    sort_by_taylor(supernet, setting.lesson)
    widths = [c for c in supernet.space.choices if c.name.endswith("width")]

    def build(amount: float) -> nn.Module:
        genes = {c.name: len(c.options) - 1 for c in supernet.space.choices}
        for choice in widths:
            genes[choice.name] = round((1 - amount) * (len(choice.options) - 1))
        return supernet.extract(_of(supernet.space, genes))

    return build


def _of(space: SearchSpace, genes: Mapping[str, int]) -> Architecture:
    return space.canonical([genes[c.name] for c in space.choices])


def sort_by_taylor(supernet: Supernet, lesson: Lesson) -> None:
    """Sorts axes as ``sort: taylor`` of a job does."""
    rng = np.random.default_rng(0)
    batches = [lesson.batch(rng)[:2] for _ in range(_TAYLOR_BATCHES)]
    supernet.sort(orders(taylor_importance(supernet, batches, functional.cross_entropy)))


def ours(setting: Setting) -> Made:
    """Sort, solve for corrected networks with measured latencies without training, finetune one network for each limit."""
    started, task = time.process_time(), setting.task
    supernet = captured_supernet(setting.original, task, SpaceOptions(), correction="least-squares").eval()
    sort_by_taylor(supernet, setting.lesson)
    inputs = task.prepared(task.train.inputs[:CALIBRATION])
    extraction = Extraction(supernet, inputs.split(BATCH), keeps_corrected=True)
    validation = Examples(task.validation.inputs[:_SCORED], task.validation.labels[:_SCORED])

    def loss(model: bytes) -> float:
        return loss_of(outputs_of_model(model, task, validation.inputs), validation.labels, None).item()

    measured = solved_networks(supernet, extraction, setting.watch, LIMITS, loss)
    networks, notes = {}, dict[str, Any]()
    for limit in LIMITS:
        within = [network for network in measured if network.ratio <= limit]
        near = [network for network in within if network.ratio >= _USED * limit] or within
        best = min(near, key=lambda network: network.loss)
        networks[limit] = extraction(best.architecture)
        values = {name: str(value) for name, value in supernet.space.values(best.architecture).items()}
        notes[str(limit)] = {**values, "loss": best.loss, "measured": best.ratio}
    seconds = time.process_time() - started
    return Made(setting.finetuned(networks), seconds, {**notes, "evaluations": len(measured)})


METHODS: Mapping[str, Callable[[Setting], Made]] = {
    "ours": ours,
    "magnitude": pruning("magnitude"),
    "Taylor": pruning("Taylor"),
    "isomorphic": pruning("isomorphic"),
    "uniform": uniform,
}
