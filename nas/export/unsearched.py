"""A network that was picked without a search: its figures are taken once it is, for its export."""

from __future__ import annotations

from nas.analysis.points import Point
from nas.build.trained_run import TrainedRun
from nas.errors import ExportFailedError
from nas.evaluation.measured import Measured
from nas.evaluation.scoring import InlineScoring
from nas.export.bundle import Origin
from nas.problem.objectives import EXACT_METRICS, Measurement, Objective, Request
from nas.problem.precision import Precisions
from nas.store.memory import MemoryStore
from supernets.data import Part
from supernets.space import Architecture


def score_picked(run: str, network: Architecture, trained: TrainedRun) -> tuple[Point, Origin]:
    """A network in fp32 with its accuracies, scored here as a search would, and its computed costs; nothing is timed.

    The test part is put before it only now that it is chosen.

    Args:
        run: the training that it is of.

    Raises:
        ExportFailedError: it cannot be scored.
    """
    figures = tuple(Objective.parse(name, []) for name in ("accuracy", *sorted(EXACT_METRICS)))
    precisions, store = Precisions(), MemoryStore()
    checkpoint, data = trained.checkpoint, trained.data.dataset
    requests = {figure.name: precisions.request(network, figure) for figure in figures}
    test = precisions.test_request(network)

    def take(part: Part, wanted: list[Request]) -> None:
        scoring = InlineScoring(checkpoint.supernet, trained.data.calibration, part)
        evaluator = Measured(
            scoring, checkpoint.supernet.cost, {},
            n_images=len(part.labels), weights=checkpoint.weights_digest, data=part.digest,
        )  # fmt: skip
        for measurement in evaluator.evaluate(wanted):
            store.add(measurement)

    take(data.validation, list(requests.values()))
    take(data.test, [test])
    found = store.find([*requests.values(), test])
    share, error = _figure(found[test])
    taken = {name: _figure(found[request]) for name, request in requests.items()}
    point = Point(
        network,
        checkpoint.supernet.space,
        values={name: value for name, (value, _) in taken.items()},
        errors={name: error for name, (_, error) in taken.items()},
        test={"accuracy": share, "error": error},
    )
    return point, Origin(run, figures, (), precisions, store)


def _figure(measurement: Measurement) -> tuple[float, float]:
    """A measured figure and its error."""
    if measurement.value is None:
        raise ExportFailedError(
            f"network {measurement.request.architecture.key} cannot be scored: {measurement.message}"
        )
    return measurement.value, measurement.error or 0.0
