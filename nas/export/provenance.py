"""Where the metrics of an exported network come from, as its manifest and its ONNX metadata record it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nas.analysis.points import Point
from nas.build.trained_run import TrainedRun
from nas.problem.objectives import Fidelity, Measurement, Objective
from nas.problem.precision import Precisions
from nas.store.base import RunStore
from supernets.data import ImageFormat, TextFormat
from supernets.onnx_export import INPUT


@dataclass(frozen=True, slots=True)
class Provenance:
    """The run and the store that a network's metrics come from.

    Attributes:
        run: the run's id.
        metrics: those that the run measured of every network.
        profiles: names of the profiles that it measured on.
        store: holds the measurements.
    """

    run: str
    metrics: Sequence[Objective]
    profiles: Sequence[str]
    precisions: Precisions
    store: RunStore

    def facts(self, point: Point, trained: TrainedRun) -> dict[str, Any]:
        """All facts of an exported network, JSON-able."""
        return {
            "run": self.run,
            "key": point.key,
            "architecture": dict(point.described),
            "family": trained.checkpoint.supernet.family.to_json(),
            "supernet_weights": trained.checkpoint.weights_digest,
            "source": point.source,
            "figures": {"values": dict(point.values), "errors": dict(point.errors), "test": dict(point.test or {})},
            "measured_with": {metric.name: self.measured_with(metric, point) for metric in self.metrics},
            "profiles": list(self.profiles),
            "input": {"name": INPUT, **_input(trained.data.dataset.format)},
            "classes": list(trained.data.dataset.class_names),
        }

    def measured_with(self, metric: Objective, point: Point) -> Mapping[str, Any]:
        """Protocol, fidelity and environment of a metric: of the final measurement, where there is one that did not fail."""
        fidelities = (Fidelity.FINAL, Fidelity.SEARCH)
        requests = [self.precisions.request(point.architecture, metric, fidelity) for fidelity in fidelities]
        found = self.store.find(requests)
        measurement = next((found[r] for r in requests if r in found and found[r].value is not None), None)
        if measurement is None:
            return {}
        return {
            "protocol": measurement.protocol,
            "fidelity": measurement.request.fidelity.value,
            "environment": dict(measurement.environment),
            **measurement.detail,
        }

    def scored(self, point: Point) -> Measurement | None:
        """The network's accuracy on the validation part, with one bit per example; None where it was not measured."""
        accuracy = next((metric for metric in self.metrics if metric.metric == "accuracy"), None)
        if accuracy is None:
            return None
        request = self.precisions.request(point.architecture, accuracy)
        measured, samples = self.store.find([request]).get(request), self.store.samples(request)
        return None if measured is None or samples is None else replace(measured, samples=samples)


def _input(format: ImageFormat | TextFormat) -> dict[str, Any]:
    """How a deployment makes the network's input."""
    match format:
        case ImageFormat():
            return {
                "shape": ["batch", format.channels, format.image_size, format.image_size],
                "dtype": "float32",
                "scale": "pixels in [0, 1], minus the mean, over the deviation, by channel",
                "mean": list(format.mean),
                "std": list(format.std),
            }
        case TextFormat():
            return {
                "shape": ["batch", "tokens"],
                "dtype": "int64",
                "padding": format.padding,
                "max_tokens": format.max_tokens,
                "vocabulary": format.vocabulary,
                "tokenizer": "its ids, by the file .tokenizer.json beside the model, cut to max_tokens and padded at the end",
            }
