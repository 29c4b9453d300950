"""Scoring of subnets: extract, recalibrate, export to ONNX, and take the metrics of the ONNX model, which is what ships."""

from __future__ import annotations

import copy
import math
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardware_profiles.quantize import convert, convert_weights
from hardware_profiles.runtime import run_calls, runtime_version
from hardware_profiles.runtimes.lookup import find_runtime
from nas.engine.evaluation.base import InlinePool, Pool
from nas.engine.process_memory import LARGE_BYTES, release_free_memory
from nas.errors import EvaluationError
from nas.search.problem.example_scores import encoded
from nas.search.problem.objectives import ONNX_RUNTIME, Variant
from supernets.data import Part, by_length
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.tasks import CLASSIFICATION, Score, Task
from supernets.tasks.illustration import Illustration
from supernets.training.recalibration import Extraction, SubnetCorrection

CALIBRATION_BATCH = 250


def in_precision(model: bytes, precision: str, calibration: Sequence[Tensor], task: Task = CLASSIFICATION) -> bytes:
    """An ONNX model in the precision that it is scored, timed and shipped in.

    Args:
        calibration: batches of training inputs, (n, ...) each; lower precisions take their ranges from the first, unless the
            task has `weights_alone`.

    Raises:
        PrecisionError: the model cannot be converted.
    """
    if task.weights_alone:
        return convert_weights(model, precision)
    return convert(model, precision, [{INPUT: calibration[0].numpy()}])


def outputs_of(
    model: bytes | Path, part: Part, runtime: str = ONNX_RUNTIME, *, together: int = Task.scored_together
) -> NDArray[np.float32]:
    """The outputs of an ONNX model for every example of a part, (n, ...), in the part's order.

    Args:
        model: The serialised ONNX model, or its file.
        part: The part of the data.
        runtime: Runtime of the model.
        together: Number of examples of each call of the runtime.

    Raises:
        ModelError: the model does not run.
    """
    return answers(model, by_length(part, together), runtime)


def answers(
    model: bytes | Path, batches: Sequence[tuple[Tensor, Tensor]], runtime: str = ONNX_RUNTIME
) -> NDArray[np.float32]:
    """`outputs_of`, of batches as `by_length` makes them."""
    # ONNX Runtime is three to four times faster than torch here, and it is what users deploy.
    call_outputs = run_calls(model, ({INPUT: inputs.numpy()} for _, inputs in batches), runtime=runtime)
    outputs = np.concatenate([answered[0] for answered in call_outputs])
    order = torch.cat([chosen for chosen, _ in batches]).numpy()
    out = np.empty_like(outputs)
    out[order] = outputs
    return out


@dataclass(frozen=True, slots=True)
class ScoringTask:
    """One network in a variant to be scored: its metrics, its ONNX model, or both.

    Attributes:
        metrics: names of metrics of the job's task.
        served: names of the models that are needed of those by which the network is deployed, where these are others
            (`Task.served`).
        built: the model, where an earlier task gave it.
    """

    architecture: Architecture
    variant: Variant
    metrics: tuple[str, ...]
    model: bool
    built: bytes | None = field(default=None, repr=False)
    served: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExampleScores:
    """A value of a metric with its standard error and the scores of single examples.

    Attributes:
        samples, detail: see `nas.search.problem.example_scores.encoded`.
    """

    value: float
    error: float
    samples: bytes = field(repr=False)
    detail: Mapping[str, Any]

    @classmethod
    def from_score(cls, score: Score, *, by: str) -> ExampleScores:
        """The score of a task; `EvaluationError` where its value is not finite.

        Args:
            by: the task and its metric, for the error.
        """
        if not math.isfinite(score.value):
            message = f"its {by} is {score.value}; expected a finite number"
            raise EvaluationError(message, code="evaluation.not-scored")
        return cls(score.value, score.error, *encoded(score.examples))


@dataclass(frozen=True, slots=True)
class Scored:
    """The result of a task.

    Attributes:
        scores: Scores by the name of each metric that was asked for.
        model: serialised ONNX; None unless it was asked for.
        served: the models by which it is deployed, by name; empty unless they were asked for.
        failure: why there is nothing, or "".
        environment: Machine and libraries with which it was scored, JSON-able.
    """

    task: ScoringTask
    scores: Mapping[str, ExampleScores] = field(default_factory=dict)
    model: bytes | None = field(default=None, repr=False)
    served: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    seconds: float = 0.0
    failure: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def _written(model: bytes) -> Iterator[Path]:
    """The file of a model, which is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="nas-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        yield path


def scoring_environment(runtime: str = ONNX_RUNTIME) -> dict[str, Any]:
    """The environment of metrics that are scored in this process, in a runtime."""
    implementation, version = find_runtime(runtime), runtime_version(runtime)
    runtime_fact = {} if runtime == ONNX_RUNTIME else {"runtime": f"{implementation.label} {version}"}
    versions = {"torch": torch.__version__, implementation.package: version, **runtime_fact}
    return {**versions, "machine": platform.machine(), "threads": 1}


Scoring = Pool[ScoringTask, Scored]
"""Scores networks, here or spread over processes; the failure of a network is a result, too."""


class InlineScoring(InlinePool[ScoringTask, Scored]):
    """Scores in this process, on one part of the data.

    Args:
        calibration: Examples of the training part, to recalibrate or correct subnets: the same examples for every one.
        part: The part of the data that metrics are taken on.
        task: The task, fitted to the data.
        correction: That of the same scoring in another process; None computes it where it is needed.
    """

    def __init__(
        self,
        supernet: Supernet,
        calibration: Part,
        part: Part,
        task: Task = CLASSIFICATION,
        *,
        correction: SubnetCorrection | None = None,
    ) -> None:
        super().__init__(self.score_one)
        self.supernet, self.calibration, self.part, self.task = supernet.eval(), calibration, part, task
        self._calibration = calibration.split(CALIBRATION_BATCH)
        self.extraction = Extraction(supernet, self._calibration, keeps_corrected=True, correction=correction)
        self._batches: dict[str, list[tuple[Tensor, Tensor]]] = {}
        """Batches by the digest of their examples."""

    def on(self, part: Part) -> InlineScoring:
        """The same scoring on another part of the data, by networks that are corrected once for both."""
        scoring = copy.copy(self)
        InlinePool.__init__(scoring, scoring.score_one)
        scoring.part, scoring._batches = part, {}
        return scoring

    def score_one(self, task: ScoringTask) -> Scored:
        """The result of one task; any error of the candidate becomes its failure."""
        started = time.perf_counter()
        try:
            of_network = [name for name in task.metrics if name in self.task.of_network]
            wanted = (task.model or len(task.metrics) > len(of_network)) and task.built is None
            network = self.extraction(task.architecture) if wanted or task.served or of_network else None
            scores = self._network_scores(network, of_network) if network is not None and of_network else {}
            model = self._build(network, task.variant.precision) if wanted and network is not None else task.built
            if model is not None and len(model) > LARGE_BYTES:
                with _written(model) as path:  # a runtime that reads it copies what it needs
                    del model, network
                    release_free_memory()
                    scores |= self._scores(path, task)
                    shipped = path.read_bytes() if task.model else None
                network = self.extraction(task.architecture) if task.served else None
            else:
                scores |= {} if model is None else self._scores(model, task)
                shipped = model if task.model else None
                del model
            served = {} if network is None else self._served(network, task)
        except Exception as error:  # one candidate's failure never ends a search; it is recorded and shown
            return Scored(task, failure=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - started)
        seconds = time.perf_counter() - started
        del network
        if max(map(len, (shipped or b"", *served.values()))) > LARGE_BYTES:
            release_free_memory()
        return Scored(task, scores, shipped, served, seconds, environment=scoring_environment(task.variant.runtime))

    def illustrate(self, architecture: Architecture, variant: Variant, n_classes: int) -> Illustration:
        """What is shown of a network's outputs on the part, of a task that `illustrates`.

        Raises:
            Exception: whatever its extraction, its conversion or its runtime raises.
        """
        model = self._build(self.extraction(architecture), variant.precision)
        outputs = answers(model, self._batched(self.part), variant.runtime)
        return self.task.illustrated(outputs, self.part.labels.numpy(), n_classes)

    def _scores(self, model: bytes | Path, task: ScoringTask) -> dict[str, ExampleScores]:
        """A task's metrics; the model runs once on the examples of several."""
        outputs: dict[str, NDArray[np.float32]] = {}
        scores = {}
        for name in task.metrics:
            if name in self.task.of_network:
                continue
            part = self.task.examples(name, self.part)
            if part.digest not in outputs:
                outputs[part.digest] = answers(model, self._batched(part), task.variant.runtime)
            answered = outputs[part.digest]
            score = self.task.score(name, answered, part.labels.numpy())
            scores[name] = ExampleScores.from_score(score, by=f"{name} of the task {self.task.name}")
        return scores

    def _network_scores(self, network: nn.Module, names: Sequence[str]) -> dict[str, ExampleScores]:
        """Metrics of the network's own forward."""
        scores = self.task.network_scores(names, network, self.part)
        return {
            name: ExampleScores.from_score(score, by=f"{name} of the task {self.task.name}")
            for name, score in scores.items()
        }

    def _batched(self, part: Part) -> list[tuple[Tensor, Tensor]]:
        """The batches of a part."""
        if part.digest not in self._batches:
            self._batches[part.digest] = by_length(part, self.task.scored_together)
        return self._batches[part.digest]

    def _build(self, network: nn.Module, precision: str) -> bytes:
        return self._in_precision(onnx_model(self.task.scored(network), self._calibration[0][:2]), precision)

    def _served(self, network: nn.Module, task: ScoringTask) -> dict[str, bytes]:
        models = self.task.served(network) if task.served else {}
        needed_models = {name: models[name] for name in task.served if name in models}
        return {name: self._in_precision(model, task.variant.precision) for name, model in needed_models.items()}

    def _in_precision(self, model: bytes, precision: str) -> bytes:
        return in_precision(model, precision, self._calibration, self.task)
