"""Scoring of subnets: extract, recalibrate, export to ONNX, and take the accuracy of the ONNX model, which is what ships."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardware_profiles.quantize import convert
from hardware_profiles.runtime import run_calls, runtime_version
from supernets.base import Supernet
from supernets.data import Part, by_length
from supernets.module_to_onnx import INPUT, onnx_model
from supernets.recalibration import recalibrate
from supernets.space import Architecture

CALIBRATION_BATCH = 250
_SCORING_BATCH = 100
"""Examples a call of the runtime; its activations stay in the cache, and larger ones were slower."""


def in_precision(model: bytes, precision: str, calibration: Sequence[Tensor]) -> bytes:
    """An ONNX model in the precision that it is scored, timed and shipped in.

    Args:
        calibration: batches of training inputs, (n, ...) each; lower precisions take their ranges from the first.

    Raises:
        PrecisionError: the model cannot be converted.
    """
    return convert(model, precision, [{INPUT: calibration[0].numpy()}])


def logits_of(model: bytes, part: Part) -> NDArray[np.float32]:
    """What an ONNX model answers to every example of a part, (n, classes), in the part's order; or `ModelError`."""
    return answers(model, by_length(part, _SCORING_BATCH))


def answers(model: bytes, batches: Sequence[tuple[Tensor, Tensor]]) -> NDArray[np.float32]:
    """`logits_of`, of batches as `by_length` makes them."""
    # ONNX Runtime is three to four times faster than torch here, and it is what users deploy.
    found = run_calls(model, ({INPUT: inputs.numpy()} for _, inputs in batches))
    logits = np.concatenate([outputs[0] for outputs in found])
    order = torch.cat([chosen for chosen, _ in batches]).numpy()
    out = np.empty_like(logits)
    out[order] = logits
    return out


@dataclass(frozen=True, slots=True)
class Task:
    """One network in a precision to be scored: its accuracy, its ONNX model, or both.

    Attributes:
        images: the accuracy is taken on this number of examples, the first ones; None for all.
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
    """The result of a task.

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
    """The environment of accuracies that are scored in this process."""
    return {"torch": torch.__version__, "onnxruntime": runtime_version(), "machine": platform.machine(), "threads": 1}


class Scoring(Protocol):
    """Does tasks, here or spread over processes."""

    def score(self, tasks: Sequence[Task]) -> Iterator[Scored]:
        """One result per task, as each is done, in any order; a failure is a result, too."""

    def close(self) -> None:
        """Ends the processes that it started; idempotent."""


class InlineScoring:
    """Scores in this process, on one part of the data.

    Args:
        calibration: of the training part, for the batch-norm statistics: the same examples for every subnet.
        part: that accuracy is taken on.
    """

    def __init__(self, supernet: Supernet, calibration: Part, part: Part) -> None:
        self._supernet = supernet.eval()
        self._calibration = calibration.split(CALIBRATION_BATCH)
        self._part, self._labels = part, part.labels.numpy()
        self._batches: dict[int, list[tuple[Tensor, Tensor]]] = {}
        """By number of examples, the first ones."""

    def score(self, tasks: Sequence[Task]) -> Iterator[Scored]:
        for task in tasks:
            yield self.score_one(task)

    def score_one(self, task: Task) -> Scored:
        """The result of one task; any error of the candidate becomes its failure."""
        started = time.perf_counter()
        try:
            model = task.built or self._build(task)
            correct, n_correct = None, 0
            if task.accuracy:
                logits = answers(model, self._first(task.images))
                hits = logits.argmax(axis=1) == self._labels[: len(logits)]
                correct, n_correct = np.packbits(hits).tobytes(), int(hits.sum())
        except Exception as error:  # one candidate's failure never ends a search; it is recorded and shown
            return Scored(task, failure=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - started)
        shipped, seconds = model if task.model else None, time.perf_counter() - started
        return Scored(task, correct, n_correct, shipped, seconds, environment=scoring_environment())

    def _first(self, n: int | None) -> list[tuple[Tensor, Tensor]]:
        """Batches of the first `n` examples; of all for None."""
        n = len(self._part) if n is None else min(n, len(self._part))
        if n not in self._batches:
            few = replace(self._part, inputs=self._part.inputs[:n], labels=self._part.labels[:n])
            self._batches[n] = by_length(few, _SCORING_BATCH)
        return self._batches[n]

    def _build(self, task: Task) -> bytes:
        module = recalibrate(self._supernet.extract(task.architecture), self._calibration)
        model = onnx_model(module, self._calibration[0][:2])
        return in_precision(model, task.precision, self._calibration)

    def close(self) -> None:
        """Nothing to end."""
