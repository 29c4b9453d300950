"""Additional metrics of a job, measured by plug-ins in the process that evaluates."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from numbers import Real
from typing import Any

from numpy.typing import NDArray

from hardware_profiles.base import HardwareProfile
from nas.engine.evaluation.metric import MeasuredNetwork, Metric
from nas.errors import NasError, PluginError
from nas.plugins import PluginRef, calling
from nas.search.problem.objectives import Measurement, Request, Status
from supernets.networks.module_to_onnx import INPUT
from supernets.space.cost import Cost


class OwnMetrics:
    """Answers requests for the metrics of plug-ins.

    Args:
        metrics: Plug-ins and their metrics, by the metric's name.
        inputs: Examples, (n, ...).
        labels: Labels of the examples, (n,).
        profiles: Hardware profiles by name and runtime.
    """

    def __init__(
        self,
        metrics: Mapping[str, tuple[PluginRef, Metric]],
        *,
        inputs: NDArray[Any],
        labels: NDArray[Any],
        profiles: Mapping[tuple[str, str], HardwareProfile],
    ) -> None:
        self._metrics, self._profiles = metrics, profiles
        self._network = partial(MeasuredNetwork, inputs=inputs, labels=labels, input_name=INPUT)

    def __contains__(self, metric: str) -> bool:
        return metric in self._metrics

    def measurement(self, request: Request, model: bytes, cost: Cost) -> Measurement:
        """The answer to a request for a network with this ONNX model; an error of the plug-in is a failure that names it.

        The digests of weights and data are the caller's to add.
        """
        ref, metric = self._metrics[request.metric]
        started = time.perf_counter()
        profile = None if request.profile is None else self._profiles[request.profile, request.runtime]
        network = self._network(
            request.architecture,
            request.precision,
            model,
            cost=cost,
            profile=profile,
            runtime=request.runtime,
        )
        new_measurement = partial(Measurement, request, protocol=f"plug-in {ref.target} {ref.version}".strip())
        try:
            with calling(ref, "measure"):
                answer = metric.measure(network)
            value, error = _checked_answer(ref, answer)
        except NasError as failure:
            return new_measurement(
                Status.FAILED, None, None, message=str(failure), seconds=time.perf_counter() - started
            )
        return new_measurement(Status.OK, value, error, seconds=time.perf_counter() - started)


def _checked_answer(ref: PluginRef, answer: object) -> tuple[float, float]:
    expected = "expected a value and its standard error, e.g. (1.25, 0.0)"
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise PluginError(f"{ref}: measure returned {answer!r:.80}; {expected}")
    if not all(isinstance(part, Real) and not isinstance(part, bool) for part in answer):
        kinds = ", ".join(type(part).__name__ for part in answer)
        raise PluginError(f"{ref}: measure returned ({kinds}); {expected}")
    value, error = map(float, answer)
    if not math.isfinite(value) or not math.isfinite(error) or error < 0:
        raise PluginError(f"{ref}: measure returned ({value}, {error}); expected finite numbers, the error at least 0")
    return value, error
