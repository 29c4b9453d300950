"""Scores subnets: extracts one, recalibrates it, takes its accuracy, and lowers that same module to ONNX for timing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from supernets.base import Supernet
from supernets.onnx_export import to_onnx_quick
from supernets.recalibration import recalibrate
from supernets.scoring import correct_predictions
from supernets.space import Architecture

CALIBRATION_BATCH = 250


@dataclass(frozen=True, slots=True)
class Task:
    """What to do with one architecture: take its accuracy, lower it to ONNX, or both from one recalibrated module."""

    architecture: Architecture
    accuracy: bool
    model: bool


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of a task.

    Attributes:
        correct: one bit an image (`np.packbits`); None unless the accuracy was asked for.
        n_correct: number of images classified rightly.
        model: serialised ONNX; None unless it was asked for.
        failure: why there is nothing, or "".
    """

    task: Task
    correct: bytes | None = field(default=None, repr=False)
    n_correct: int = 0
    model: bytes | None = field(default=None, repr=False)
    seconds: float = 0.0
    failure: str = ""


class Scoring(Protocol):
    """Does tasks, here or spread over processes."""

    def score(self, tasks: Sequence[Task]) -> Iterator[Scored]:
        """One result a task, as each is done, in any order; a task's failure is a result that says so."""
        ...

    def close(self) -> None:
        """Ends the processes that it started; idempotent."""
        ...


class InlineScoring:
    """Scores in this process, on one part of the data.

    Args:
        calibration: (n, c, h, w) training images for the batch-norm statistics: the same ones for every subnet.
        images: (m, c, h, w) the images that accuracy is taken on; labels: (m,).
    """

    def __init__(self, supernet: Supernet, calibration: Tensor, images: Tensor, labels: Tensor) -> None:
        self._supernet = supernet.eval()
        self._calibration = calibration.split(CALIBRATION_BATCH)
        self._images, self._labels = images, labels

    def score(self, tasks: Sequence[Task]) -> Iterator[Scored]:
        for task in tasks:
            yield self.score_one(task)

    def score_one(self, task: Task) -> Scored:
        """The result of one task; whatever goes wrong with the candidate becomes its failure."""
        started = time.perf_counter()
        try:
            module = recalibrate(self._supernet.extract(task.architecture), self._calibration)
            correct, n_correct = None, 0
            if task.accuracy:
                hits = correct_predictions(module, self._images, self._labels).numpy()
                correct, n_correct = np.packbits(hits).tobytes(), int(hits.sum())
            model = to_onnx_quick(module, self._images[:2]) if task.model else None
        except Exception as error:  # one candidate's failure never ends a search; it is recorded and shown
            return Scored(task, failure=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - started)
        return Scored(task, correct, n_correct, model, time.perf_counter() - started)

    def close(self) -> None:
        """Nothing to end."""
