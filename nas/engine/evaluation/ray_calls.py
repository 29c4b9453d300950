"""Calls of a metric function by Ray actors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nas.engine.evaluation.actors import ActorPool
from nas.engine.evaluation.metric_function import CallResult, MetricFunction, Values, checked_call, name_of

_Task = tuple[int, Values]


class _Caller:
    """The worker in an actor."""

    def __init__(self, function: MetricFunction, metrics: Sequence[str]) -> None:
        self._function, self._metrics = function, metrics

    def do(self, task: _Task) -> CallResult:
        return checked_call(self._function, self._metrics, task[1])


class RayCalls:
    """`Calls` by an `ActorPool` of one core each; a call whose actor dies or is overdue is made again, three times in all.

    Args:
        workers: the most actors; None for as many as there are CPUs.
        time_limit_s: Time limit of one call, in seconds; None derives it from what the others took.
    """

    def __init__(
        self, function: MetricFunction, metrics: Sequence[str], *, workers: int | None, time_limit_s: float | None
    ) -> None:
        self._name = name_of(function)
        self._pool: ActorPool[_Task, CallResult] = ActorPool(
            _Caller, (function, tuple(metrics)), workers=workers, time_limit_s=time_limit_s
        )

    def run(self, tasks: Sequence[Values]) -> Iterator[tuple[int, CallResult]]:
        for outcome in self._pool.run(list(enumerate(tasks))):
            place, values = outcome.task
            failed = CallResult({}, f"{self._name}({dict(values)}): {outcome.failure}", seconds=outcome.seconds)
            yield place, outcome.result or failed

    def close(self) -> None:
        self._pool.close()
