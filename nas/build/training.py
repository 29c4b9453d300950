"""Makes a job's training: strategy, settings and device."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from nas.config import SearchJob
from nas.config.training import TrainingConfig
from nas.errors import JobError
from supernets.base import Family, Supernet, TrainingStrategy
from supernets.loop import TrainingSettings
from supernets.space import Architecture
from supernets.strategies.attentive import AttentiveStrategy
from supernets.strategies.instatune import InstaTuneStrategy
from supernets.strategies.progressive import ProgressiveStrategy
from supernets.strategies.single_phase import (
    LargestStrategy,
    SandwichStrategy,
    SinglePathStrategy,
    SortedStrategy,
    Teacher,
)


def make_strategy(training: TrainingConfig, family: Family, untrained: Callable[[], Supernet]) -> TrainingStrategy:
    """The strategy that a job's training section names.

    Args:
        untrained: makes a supernet of the family, for strategies that choose networks by their costs.
    """
    space = family.space
    distill: Teacher = "frozen" if training.distill == "teacher" else training.distill
    alone: Literal["frozen", "none"] = "frozen" if distill == "frozen" else "none"
    match training.strategy:
        case "sandwich":
            return SandwichStrategy(space, training.random_subnets, distill)
        case "single-path":
            return SinglePathStrategy(space, alone)
        case "largest":
            return LargestStrategy(space, alone)
        case "sorted":
            return SortedStrategy(space, training.micro_batches, alone)
        case "progressive":
            return ProgressiveStrategy(family, distill)
        case "attentive":
            macs = partial(_macs, untrained())
            return AttentiveStrategy(space, macs, training.random_subnets, training.candidates, training.pick, distill)
        case "instatune":
            return InstaTuneStrategy(
                space, training.random_subnets, training.label_weight, training.temperature,
                teacher_epochs=(training.teacher_epochs or training.epochs) if distill == "frozen" else 0,
                sort=training.sort,
            )  # fmt: skip
        case other:
            assert_never(other)


def make_settings(job: SearchJob) -> TrainingSettings:
    """The settings of a job's training."""
    training = job.training
    return TrainingSettings(
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        divergence=training.divergence,
        shift=training.augment.shift,
        flip=training.augment.flip,
        calibration_images=job.calibration_images,
        keep=training.keep,
        threads=training.threads,
        seed=job.seed,
    )


def check_threads(training: TrainingConfig, *, source: str) -> None:
    """Rejects a training with more threads than this process may use cores.

    Raises:
        JobError: it has more.
    """
    cores = len(os.sched_getaffinity(0))
    if training.threads > cores:
        raise JobError(
            f"{source}: training.threads: {training.threads} threads, and this machine grants {cores} cores; lower it",
            code="job.too-many-threads",
        )


def find_device(training: TrainingConfig, *, source: str) -> torch.device:
    """The device of a training: an accelerator where the job allows it and torch finds one.

    Raises:
        JobError: the job asks for an accelerator that torch does not find.
    """
    available = torch.cuda.is_available()
    if training.device == "cuda" and not available:
        raise JobError(
            f"{source}: training.device: torch finds no CUDA device here; use auto or cpu", code="job.no-accelerator"
        )
    return torch.device("cuda" if training.device != "cpu" and available else "cpu")


def _macs(supernet: Supernet, networks: Sequence[Architecture]) -> NDArray[Any]:
    """Multiply-accumulates of networks, (n,)."""
    return np.asarray(supernet.costs(networks).macs.sum(axis=1), dtype=np.float64)
