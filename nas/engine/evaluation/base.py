"""The protocols of evaluators, and of the pool of workers that does their tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

from nas.search.problem.objectives import Measurement, Request

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


class Evaluator(Protocol):
    """Turns requests into measurements: by measuring, from a table, from a store, or by handing them on."""

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """One measurement a request, as each arrives, in any order; a candidate's failure is a FAILED measurement.

        Args:
            requests: Metrics to measure, each of one architecture in one variant; usually those of a whole batch.

        Raises:
            NasError: nothing can be measured at all (the worker is gone for good, the data are missing, ...).
        """

    def close(self) -> None:
        """Ends the processes that it started; idempotent."""


class StreamingEvaluator(Evaluator, Protocol):
    """An evaluator to which candidates can be given one by one, while it evaluates others."""

    def slots(self) -> int:
        """The number of candidates that it evaluates at once now; 0 where it is always given batches."""

    def start(self, requests: Sequence[Request]) -> None:
        """Begins to measure metrics, all of one architecture."""

    def arrived(self) -> Sequence[Measurement]:
        """The measurements that arrived since the last call, at least one of what was started: waits for it.

        Raises as `evaluate`.
        """


def slots_of(evaluator: Evaluator) -> int:
    """The slots of a streaming evaluator; 0 of any other one."""
    return cast(StreamingEvaluator, evaluator).slots() if hasattr(evaluator, "slots") else 0


@dataclass(frozen=True, slots=True)
class Outcome(Generic[TaskT, ResultT]):
    """A task's result, or why there is none.

    Attributes:
        failure: Why the pool gave the task up; "" where the result is what the worker returned.
        seconds: Wall time of the last try, as a pool of several processes saw it.
    """

    task: TaskT
    result: ResultT | None
    failure: str = ""
    seconds: float = 0.0


class Pool(Protocol[TaskT, ResultT]):
    """Does tasks by workers: one after another in this process, or spread over processes."""

    def run(self, tasks: Sequence[TaskT]) -> Iterator[Outcome[TaskT, ResultT]]:
        """One outcome a task, as each is done, in any order; nothing else may have been started."""

    def slots(self) -> int:
        """The number of tasks that it does at once now, at least 1; 0 where it never does more than one."""

    def start(self, task: TaskT) -> None:
        """Adds a task to those that wait for a worker."""

    def finished(self) -> Sequence[Outcome[TaskT, ResultT]]:
        """The outcomes of tasks that were started: waits for at least one; none if nothing was started."""

    def close(self) -> None:
        """Ends the processes that it started; idempotent."""


class InlinePool(Generic[TaskT, ResultT]):
    """Does tasks one after another in this process."""

    def __init__(self, worker: Callable[[TaskT], ResultT]) -> None:
        self._worker = worker
        self._waiting: list[TaskT] = []

    def run(self, tasks: Sequence[TaskT]) -> Iterator[Outcome[TaskT, ResultT]]:
        return (Outcome(task, self._worker(task)) for task in tasks)

    def slots(self) -> int:
        return 0

    def start(self, task: TaskT) -> None:
        self._waiting.append(task)

    def finished(self) -> Sequence[Outcome[TaskT, ResultT]]:
        if not self._waiting:
            return []
        task = self._waiting.pop(0)
        return [Outcome(task, self._worker(task))]

    def close(self) -> None:
        """Nothing was started."""
