"""An evaluator that calls a function of a candidate's values, and the check of what the function returns."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from nas.engine.evaluation.base import Outcome, Pool
from nas.search.problem.objectives import Measurement, Request, Status
from supernets.space import Architecture, Option, SearchSpace

Values = Mapping[str, Option]
"""The options of a candidate by the names of its active choices."""
MetricFunction = Callable[[Values], Mapping[str, float]]
"""The values of a candidate's metrics, by name."""

PROTOCOL = "function/v1"
_FRAMES = 8
"""Innermost frames of a traceback that are kept."""
_LONGEST = 200
"""Characters of a candidate's values in a message."""


class Call(NamedTuple):
    """A candidate that the function is called for, and what it is called with."""

    architecture: Architecture
    values: Values


@dataclass(frozen=True, slots=True)
class CallResult:
    """The outcome of one call.

    Attributes:
        values: Values by the name of each metric; empty where the call failed.
        failure: why there are no values, naming the function; "" where there are.
        traceback: Traceback of the exception that the function raised; "" for none.
        seconds: wall time of the call.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    traceback: str = ""
    seconds: float = 0.0


def name_of(function: object) -> str:
    """The name of a function in messages; of another object, its class's."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def checked_call(function: MetricFunction, metrics: Sequence[str], call: Call) -> CallResult:
    """Calls the function and checks that it returns a finite number for each metric.

    What it raises (but for `KeyboardInterrupt` and `SystemExit`) makes the call fail, not the search.
    """
    start = time.perf_counter()
    shown = str(dict(call.values))
    called = f"{name_of(function)}({shown if len(shown) <= _LONGEST else f'{shown[:_LONGEST]}...'})"
    try:
        returned = function(call.values)
    except Exception as error:
        text = f"{called} raised {type(error).__name__}: {error}".rstrip(": ")
        return CallResult({}, text, traceback.format_exc(limit=-_FRAMES), time.perf_counter() - start)
    seconds = time.perf_counter() - start
    metric_values, problem = _checked_values(returned, metrics)
    return CallResult({}, f"{called} {problem}", "", seconds) if problem else CallResult(metric_values, seconds=seconds)


def _checked_values(returned: object, metrics: Sequence[str]) -> tuple[dict[str, float], str]:
    """The metrics in what a function returned, and what is wrong with it; "" for nothing."""
    expected = f"expected a dict with a finite number for {' and '.join(map(repr, metrics))}"
    if not isinstance(returned, Mapping):
        return {}, f"returned {_quoted(returned)}; {expected}"
    value_by_name: dict[str, float] = {}
    for name in metrics:
        if name not in returned:
            had = ", ".join(map(repr, returned)) or "nothing"
            return {}, f"returned no {name!r} (but {had}); {expected}"
        number = _number(returned[name])
        if number is None or not math.isfinite(number):
            return {}, f"returned {_quoted(returned[name])} as {name!r}; {expected}"
        value_by_name[name] = number
    return value_by_name, ""


def _number(value: Any) -> float | None:
    """A number, also of numpy or torch, as a float; None for anything else."""
    if not hasattr(value, "__float__") and not hasattr(value, "__index__"):  # a text, among others
        return None
    if getattr(value, "ndim", 0):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _quoted(value: object) -> str:
    shown = repr(value)
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    return shown if value is None or isinstance(value, float) else f"{shown} ({type(value).__name__})"


class FunctionEvaluator:
    """Measures a candidate by one call of a function that gives all of its metrics; implements `StreamingEvaluator`.

    A call that fails gives a FAILED measurement of each metric, with the traceback in its detail. An error of 0 is
    recorded, since a function returns values alone: values of equal candidates count as different wherever they differ.

    Args:
        calls: Calls the function by `checked_call`.
        name: Name of the function, for the failures of calls without a result.
    """

    def __init__(self, space: SearchSpace, calls: Pool[Call, CallResult], name: str) -> None:
        self._space, self._calls, self._name = space, calls, name
        self._wanted: dict[Architecture, list[Request]] = {}

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        self._wanted = {}
        for request in requests:
            self._wanted.setdefault(request.architecture, []).append(request)
        for outcome in self._calls.run(list(map(self._call, self._wanted))):
            yield from self._measurements(outcome)

    def slots(self) -> int:
        return self._calls.slots()

    def start(self, requests: Sequence[Request]) -> None:
        architecture = requests[0].architecture
        self._wanted[architecture] = list(requests)
        self._calls.start(self._call(architecture))

    def arrived(self) -> Sequence[Measurement]:
        return [measurement for outcome in self._calls.finished() for measurement in self._measurements(outcome)]

    def _call(self, architecture: Architecture) -> Call:
        return Call(architecture, self._space.values(architecture))

    def _measurements(self, outcome: Outcome[Call, CallResult]) -> list[Measurement]:
        architecture, values = outcome.task
        lost = f"{self._name}({dict(values)}): {outcome.failure}"
        result = outcome.result or CallResult(failure=lost, seconds=outcome.seconds)
        return [_measurement(request, result) for request in self._wanted.pop(architecture)]

    def close(self) -> None:
        self._calls.close()


def _measurement(request: Request, result: CallResult) -> Measurement:
    if result.failure:
        detail = {"traceback": result.traceback} if result.traceback else {}
        return Measurement(
            request,
            Status.FAILED,
            None,
            None,
            protocol=PROTOCOL,
            message=result.failure,
            detail=detail,
            seconds=result.seconds,
        )
    value = result.values[request.name]
    return Measurement(request, Status.OK, value, 0.0, protocol=PROTOCOL, seconds=result.seconds)
