"""The methods that the benchmark of value compares: each makes a network for every limit of latency, and finetunes it."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from supernets.base import Supernet
from supernets.capture.space import SpaceOptions
from supernets.sorting import orders, taylor_importance
from supernets.space import Architecture, SearchSpace
from tests.benchmarks.any_model_value_search import LIMITS, SUPERNET_SHARE, searched, train_supernet
from tests.benchmarks.any_model_value_training import (
    WHOLE,
    Lesson,
    Setting,
    Stopwatch,
    captured_supernet,
    loss_of,
    plain_network,
)

_TAYLOR_BATCHES = 6


def by_latency(build: Callable[[float], nn.Module], watch: Stopwatch, rounds: int = 3) -> dict[float, nn.Module]:
    """For each limit the least reduced network found whose latency is at most 2 % above it.

    A grid, then interpolation for all limits at once: the networks of a round are measured in the same session.

    Args:
        build: the network at a degree of reduction, 0 to 1.
    """
    found: dict[float, tuple[float, nn.Module]] = {}

    def measure(amounts: Sequence[float]) -> None:
        new = {amount: build(amount) for amount in amounts if amount not in found}
        if new:
            ratios = watch.ratios([watch.onnx(own) for own in new.values()])
            found.update({k: (r, own) for (k, own), r in zip(new.items(), ratios, strict=True)})

    measure([0.0, 0.2, 0.4, 0.6, 0.8, 0.92])

    def least_reduced(limit: float) -> float:
        within = [a for a, (r, _) in found.items() if r <= 1.02 * limit]
        return min(within) if within else max(found)

    for _ in range(rounds):
        wanted = []
        for limit in LIMITS:
            fast = least_reduced(limit)
            slow = max((a for a in found if a < fast), default=fast)
            if slow < fast and found[fast][0] < 0.97 * limit:
                share = (found[slow][0] - limit) / (found[slow][0] - found[fast][0])
                wanted.append(round(slow + min(max(share, 0.1), 0.9) * (fast - slow), 3))
        measure(wanted)
    return {limit: copy.deepcopy(found[least_reduced(limit)][1]) for limit in LIMITS}


@dataclass(frozen=True)
class Made:
    """Networks by limit, with the CPU seconds of choosing them (training not included)."""

    networks: Mapping[float, nn.Module]
    choosing_s: float
    notes: Mapping[str, Any] = field(default_factory=dict)


def pruned(setting: Setting, kind: str, amount: float, gradients: Mapping[str, Tensor]) -> nn.Module:
    """The original pruned by Torch-Pruning: one ratio for all layers, or by the ranks of isomorphic groups."""
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
        pruner = tp.pruner.BasePruner(
            model, task.example(), importance=importance, pruning_ratio=amount, head_pruning_ratio=amount,
            num_heads=dict(heads), prune_num_heads=bool(heads), prune_head_dims=not heads, ignored_layers=ignored,
            round_to=8, max_pruning_ratio=0.95, global_pruning=kind == "isomorphic", isomorphic=kind == "isomorphic",
        )  # fmt: skip
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].clone() if name in gradients else None
    pruner.step()
    model.zero_grad(set_to_none=True)
    return plain_network(model, task)


def pruning(kind: str) -> Callable[[Setting], Made]:
    """The method of Torch-Pruning with a measure of importance."""

    def method(setting: Setting) -> Made:
        started = time.process_time()
        gradients = {} if kind == "magnitude" else gradients_of(setting)
        networks = by_latency(lambda amount: pruned(setting, kind, amount, gradients), setting.watch)
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
    supernet = captured_supernet(setting.original, setting.task, replace(WHOLE, keep=setting.task.keep))
    sort_by_taylor(supernet, setting.lesson)
    widths = [c for c in supernet.space.choices if c.name.endswith("width")]

    def build(amount: float) -> nn.Module:
        genes = {c.name: len(c.options) - 1 for c in supernet.space.choices}
        for choice in widths:
            genes[choice.name] = round((1 - amount) * (len(choice.options) - 1))
        return supernet.extract(_of(supernet.space, genes))

    networks = by_latency(build, setting.watch)
    choosing_s = time.process_time() - started
    return Made(setting.finetuned(networks), choosing_s)


def _of(space: SearchSpace, genes: Mapping[str, int]) -> Architecture:
    return space.canonical([genes[c.name] for c in space.choices])


def sort_by_taylor(supernet: Supernet, lesson: Lesson) -> None:
    """Sorts axes as ``sort: taylor`` of a job does."""
    rng = np.random.default_rng(0)
    batches = [lesson.batch(rng)[:2] for _ in range(_TAYLOR_BATCHES)]
    supernet.sort(orders(taylor_importance(supernet, batches, functional.cross_entropy)))


def ours(setting: Setting) -> Made:
    """Sort, train the supernet for a short time, search it with measured latencies, finetune one network for each limit."""
    started = time.process_time()
    supernet = captured_supernet(setting.original, setting.task, SpaceOptions())
    sort_by_taylor(supernet, setting.lesson)
    steps = train_supernet(supernet, setting)
    trained_s = time.process_time()
    chosen, notes = searched(supernet, setting)
    networks = {limit: supernet.extract(a) for limit, a in chosen.items()}
    choosing_s = time.process_time() - trained_s
    notes = {**notes, "supernet_steps": steps, "supernet_s": trained_s - started}
    return Made(setting.finetuned(networks, 1 - SUPERNET_SHARE), choosing_s, notes)


METHODS: Mapping[str, Callable[[Setting], Made]] = {
    "ours": ours,
    "magnitude": pruning("magnitude"),
    "Taylor": pruning("Taylor"),
    "isomorphic": pruning("isomorphic"),
    "uniform": uniform,
}
