"""The provenance of an exported network's metrics: the measurements of its run, or scored now where no search measured it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hardware_profiles.base import HardwareProfile
from nas.engine.store.base import RunStore
from nas.engine.store.memory import MemoryStore
from nas.errors import ExportFailedError
from nas.jobs.build.serving import writes_cache_in_place
from nas.jobs.build.trained_run import TrainedRun
from nas.jobs.evaluation.measuring_evaluator import MeasuringEvaluator
from nas.jobs.evaluation.scoring import InlineScoring
from nas.results.analysis.network_values import Point
from nas.results.export.preprocessing_graph import IMAGE, STEPS
from nas.search.problem.objectives import (
    EXACT_METRICS,
    ONNX_RUNTIME,
    Fidelity,
    Measurement,
    Objective,
    Request,
    Variant,
)
from nas.search.problem.tasks import SERVED_MEMORY
from nas.search.problem.variants import Variants
from supernets.data import BlockFormat, Format, ImageFormat, PairFormat, Part, RowFormat, TextFormat
from supernets.families.decoder.decoder_serving import FILLED, IDS, PADDING
from supernets.families.encoder_decoder.encoder_decoder_serving import SOURCE
from supernets.networks.module_to_onnx import INPUT
from supernets.space import Architecture

SOLVED = "solved"
"""The kind of a run's events that a network was solved for limits, with what was predicted of it and then measured."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The run and the store that a network's metrics come from.

    Attributes:
        metrics: those that the run measured of every network.
        profiles: names of the profiles that it measured on.
    """

    run: str
    metrics: Sequence[Objective]
    profiles: Sequence[str]
    variants: Variants
    store: RunStore

    def facts(self, point: Point, trained: TrainedRun) -> dict[str, Any]:
        """All facts of an exported network, JSON-able."""
        return {
            "run": self.run,
            "key": point.key,
            "architecture": dict(point.described),
            "family": _family_facts(trained.checkpoint.supernet.family.to_json()),
            "supernet_weights": trained.checkpoint.weights_digest,
            "source": point.source,
            "figures": {"values": dict(point.values), "errors": dict(point.errors), "test": dict(point.test or {})},
            "measured_with": {metric.name: self.measured_with(metric, point) for metric in self.metrics},
            "profiles": list(self.profiles),
            "classes": list(trained.data.dataset.class_names),
            "task": trained.data.job.config.task,
            "outputs": dict(trained.data.task.described(trained.data.dataset)),
            **({SOLVED: solved} if (solved := self._solved(point)) else {}),
        }

    def _solved(self, point: Point) -> Mapping[str, Any] | None:
        """What was predicted and measured of a network that was solved for limits, the last time; None for others."""
        events = (event.detail for event in reversed(self.store.events()) if event.kind == SOLVED)
        return next((detail for detail in events if detail[SOLVED] == point.key), None)

    def other_runtimes(self, variant: Variant) -> list[str]:
        """The runtimes, beside ONNX Runtime, in which a network of this variant was scored or measured."""
        facts = self.store.facts()
        profiles = facts.compatibility.get("profiles", {}).values() if facts is not None else ()
        runtimes = {variant.runtime, *(profile.get("runtime", ONNX_RUNTIME) for profile in profiles)}
        return sorted(runtimes - {ONNX_RUNTIME})

    @property
    def in_place(self) -> bool:
        """True if all profiles write into the cache of a language model."""
        facts = self.store.facts()
        profiles = facts.compatibility.get("profiles", {}).values() if facts is not None else ()
        return all(writes_cache_in_place(HardwareProfile(**profile)) for profile in profiles)

    def measured_with(self, metric: Objective, point: Point) -> Mapping[str, Any]:
        """Protocol, fidelity and environment of a metric: of the final measurement, where there is one that did not fail."""
        fidelities = (Fidelity.FINAL, Fidelity.SEARCH)
        requests = [self.variants.request(point.architecture, metric, fidelity) for fidelity in fidelities]
        stored = self.store.find(requests)
        measurement = next((stored[r] for r in requests if r in stored and stored[r].value is not None), None)
        if measurement is None:
            return {}
        recorded = {"protocol": measurement.protocol, "fidelity": measurement.request.fidelity.value}
        return {**recorded, "environment": dict(measurement.environment), **measurement.detail}

    def scored(self, point: Point) -> Measurement | None:
        """The network's metric of the task on the validation part, with a score for each example; None where it was not
        measured."""
        metric = next((metric for metric in self.metrics if metric.of_task), None)
        if metric is None:
            return None
        request = self.variants.request(point.architecture, metric)
        measured, samples = self.store.find([request]).get(request), self.store.samples(request)
        return None if measured is None or samples is None else replace(measured, samples=samples)


def _family_facts(data: Mapping[str, Any]) -> dict[str, Any]:
    """A family without the program of a captured model, which the exported network has itself."""
    inner = {"of": _family_facts(data["of"])} if "of" in data else {}
    return {key: value for key, value in data.items() if key != "program"} | inner


def preprocessing_facts(format: Format, in_graph: bool) -> dict[str, Any]:
    """The input of an exported network, and how a deployment makes it.

    Args:
        format: Format of the inputs.
        in_graph: True if the model resizes and normalises images itself.
    """
    input_facts: dict[str, Any]
    steps = format.to_json()
    match format:
        case ImageFormat():
            if in_graph:
                input_facts = {"name": IMAGE, "shape": ["batch", "height", "width", format.channels], "dtype": "uint8"}
                steps |= {"layout": "batch, row, column, channel", "in_graph": list(STEPS)}
            else:
                input_facts = {
                    "name": INPUT,
                    "shape": ["batch", format.channels, format.image_size, format.image_size],
                    "dtype": "float32",
                    "scale": "pixels in [0, 1], minus the mean, over the deviation, by channel",
                    "mean": list(format.mean),
                    "std": list(format.std),
                }
        case RowFormat():
            input_facts = {"name": INPUT, "shape": ["batch", len(format.columns)], "dtype": "float32"}
        case PairFormat():
            input_facts = {
                "name": SOURCE,
                "shape": ["batch", "tokens"],
                "dtype": "int64",
                "vocabulary": format.vocabulary,
                "also": f"{IDS} (batch, 1), int64: the separator, then the last token of each target; a step reads as past.* "
                "what the call before returned as present.*, and as memory.* what the first call returned",
                "tokenizer": "ids of the source, by the file .tokenizer.json beside the model, padded at the end with the "
                "separator",
            }
        case BlockFormat():
            input_facts = {
                "name": IDS,
                "shape": ["batch", "tokens"],
                "dtype": "int64",
                "vocabulary": format.vocabulary,
                "also": f"{PADDING} (batch,), int64: the tokens that pad each text at its beginning; a step reads one token a "
                f"text, and as past.* what the call before returned as present.*; where it has the input {FILLED} (1,), the "
                "number of tokens in these, they have room for more, and present.* may be in their memory",
                "tokenizer": "its ids, by the file .tokenizer.json beside the model, after the separator",
            }
        case TextFormat():
            input_facts = {
                "name": INPUT,
                "shape": ["batch", "tokens"],
                "dtype": "int64",
                "padding": format.padding,
                "max_tokens": format.max_tokens,
                "vocabulary": format.vocabulary,
                "tokenizer": "its ids, by the file .tokenizer.json beside the model, cut to max_tokens and padded at the end",
            }
    return {"input": input_facts, "preprocessing": steps}


def score_network(run: str, network: Architecture, trained: TrainedRun) -> tuple[Point, Provenance]:
    """A network of a training in fp32 with its metrics of the task, scored as a search scores them, and its computed costs.

    Raises:
        ExportFailedError: The network cannot be scored.
    """
    task, data = trained.data.job.task, trained.data.dataset
    task_metrics = (m for m in task.metrics if trained.data.task.metric_problem(m.name, data) is None)
    metrics = (*task_metrics, *(Objective.parse(name, []) for name in sorted(EXACT_METRICS - SERVED_MEMORY)))
    variants, store = Variants(), MemoryStore()
    checkpoint = trained.checkpoint
    requests = {metric.name: variants.request(network, metric) for metric in metrics}
    scored = task.scored(metrics)
    test = variants.test_request(network, scored)

    def evaluate(part: Part, wanted: list[Request]) -> None:
        evaluator = MeasuringEvaluator(
            InlineScoring(checkpoint.supernet, trained.data.calibration, part, trained.data.task),
            checkpoint.supernet.cost,
            {},
            weights=checkpoint.weights_digest,
            data=part.digest,
        )
        for measurement in evaluator.evaluate(wanted):
            store.add(measurement)

    evaluate(data.validation, list(requests.values()))
    evaluate(data.test, [test])
    measurements = store.find([*requests.values(), test])
    measured = {name: _value_and_error(measurements[request]) for name, request in requests.items()}
    point = Point(
        network,
        checkpoint.supernet.space,
        values={name: value for name, (value, _) in measured.items()},
        errors={name: error for name, (_, error) in measured.items()},
        test=dict(zip((scored.name, "error"), _value_and_error(measurements[test]), strict=True)),
    )
    return point, Provenance(run, metrics, (), variants, store)


def _value_and_error(measurement: Measurement) -> tuple[float, float]:
    if measurement.value is None:
        key, why = measurement.request.architecture.key, measurement.message
        raise ExportFailedError(f"network {key} cannot be scored: {why}", code="export.scoring-failed")
    return measurement.value, measurement.error or 0.0
