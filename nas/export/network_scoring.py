"""Scores one network that no search has measured, for its export."""

from __future__ import annotations

from nas.analysis.points import Point
from nas.build.trained_run import TrainedRun
from nas.errors import ExportFailedError
from nas.evaluation.measured import Measured
from nas.evaluation.scoring import InlineScoring
from nas.export.provenance import Provenance
from nas.problem.objectives import EXACT_METRICS, Measurement, Objective, Request
from nas.problem.precision import Precisions
from nas.store.memory import MemoryStore
from supernets.data import Part
from supernets.space import Architecture


def score_network(run: str, network: Architecture, trained: TrainedRun) -> tuple[Point, Provenance]:
    """A network in fp32 with its accuracies, scored as a search scores them, and its computed costs; nothing is timed.

    Args:
        run: id of the training.

    Raises:
        ExportFailedError: it cannot be scored.
    """
    metrics = tuple(Objective.parse(name, []) for name in ("accuracy", *sorted(EXACT_METRICS)))
    precisions, store = Precisions(), MemoryStore()
    checkpoint, data = trained.checkpoint, trained.data.dataset
    requests = {metric.name: precisions.request(network, metric) for metric in metrics}
    test = precisions.test_request(network)

    def evaluate(part: Part, wanted: list[Request]) -> None:
        evaluator = Measured(
            InlineScoring(checkpoint.supernet, trained.data.calibration, part), checkpoint.supernet.cost, {},
            n_images=len(part.labels), weights=checkpoint.weights_digest, data=part.digest,
        )  # fmt: skip
        for measurement in evaluator.evaluate(wanted):
            store.add(measurement)

    evaluate(data.validation, list(requests.values()))
    evaluate(data.test, [test])
    found = store.find([*requests.values(), test])
    measured = {name: _value_and_error(found[request]) for name, request in requests.items()}
    point = Point(
        network,
        checkpoint.supernet.space,
        values={name: value for name, (value, _) in measured.items()},
        errors={name: error for name, (_, error) in measured.items()},
        test=dict(zip(("accuracy", "error"), _value_and_error(found[test]), strict=True)),
    )
    return point, Provenance(run, metrics, (), precisions, store)


def _value_and_error(measurement: Measurement) -> tuple[float, float]:
    if measurement.value is None:
        raise ExportFailedError(
            f"network {measurement.request.architecture.key} cannot be scored: {measurement.message}",
            code="export.scoring-failed",
        )
    return measurement.value, measurement.error or 0.0
