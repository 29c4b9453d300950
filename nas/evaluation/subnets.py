"""Scores subnets: extracts one, recalibrates it, lowers it to ONNX, and takes the accuracy of that: what ships is scored."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hardware_profiles.quantize import convert
from hardware_profiles.runtime import run_model, runtime_version
from supernets.base import Supernet
from supernets.onnx_export import INPUT, onnx_model
from supernets.recalibration import recalibrate
from supernets.space import Architecture

CALIBRATION_BATCH = 250
_SCORING_BATCH = 100
"""Images a call of the runtime; its activations stay in the cache, and larger ones were slower."""


def in_precision(model: bytes, precision: str, calibration: Sequence[Tensor]) -> bytes:
    """An ONNX model in the precision that it is scored, timed and shipped in.

    Args:
        calibration: batches of training images, (n, c, h, w) each; lower precisions take their ranges from the first.

    Raises:
        PrecisionError: the model cannot be converted.
    """
    return convert(model, precision, [{INPUT: calibration[0].numpy()}])


@dataclass(frozen=True, slots=True)
class Task:
    """What is wanted of one network in a precision: its accuracy, its ONNX model, or both, of one recalibrated module.

    Attributes:
        images: the accuracy is taken on so many, the first ones; None for all.
        built: the model, where an earlier task gave it.
    """

    architecture: Architecture
    precision: str
    accuracy: bool
    model: bool
    images: int | None = None
    built: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of a task.

    Attributes:
        correct: one bit an image (`np.packbits`); None unless the accuracy was asked for.
        n_correct: number of images classified rightly.
        model: serialised ONNX; None unless it was asked for.
        failure: why there is nothing, or "".
        environment: where and with what it was scored, JSON-able.
    """

    task: Task
    correct: bytes | None = field(default=None, repr=False)
    n_correct: int = 0
    model: bytes | None = field(default=None, repr=False)
    seconds: float = 0.0
    failure: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)


def scoring_environment() -> dict[str, Any]:
    """Of a figure that is scored in this process."""
    return {"torch": torch.__version__, "onnxruntime": runtime_version(), "machine": platform.machine(), "threads": 1}


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
        self._images, self._labels = images.numpy(), labels.numpy()

    def score(self, tasks: Sequence[Task]) -> Iterator[Scored]:
        for task in tasks:
            yield self.score_one(task)

    def score_one(self, task: Task) -> Scored:
        """The result of one task; whatever goes wrong with the candidate becomes its failure."""
        started = time.perf_counter()
        try:
            model = task.built or self._build(task)
            correct, n_correct = None, 0
            if task.accuracy:
                # ONNX Runtime is three to four times faster than torch here, and it is what users deploy.
                images, labels = self._images[: task.images], self._labels[: task.images]
                (logits,) = run_model(model, {INPUT: images}, batch_size=_SCORING_BATCH)
                hits = logits.argmax(axis=1) == labels
                correct, n_correct = np.packbits(hits).tobytes(), int(hits.sum())
        except Exception as error:  # one candidate's failure never ends a search; it is recorded and shown
            return Scored(task, failure=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - started)
        shipped, seconds = model if task.model else None, time.perf_counter() - started
        return Scored(task, correct, n_correct, shipped, seconds, environment=scoring_environment())

    def _build(self, task: Task) -> bytes:
        module = recalibrate(self._supernet.extract(task.architecture), self._calibration)
        model = onnx_model(module, self._calibration[0][:2])
        return in_precision(model, task.precision, self._calibration)

    def close(self) -> None:
        """Nothing to end."""
