"""The protocols of an evaluator, and of the pool of workers that does its tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

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
        """One outcome a task, as each is done, in any order."""

    def close(self) -> None:
        """Ends the processes that it started; idempotent."""


class InlinePool(Generic[TaskT, ResultT]):
    """Does tasks one after another in this process."""

    def __init__(self, worker: Callable[[TaskT], ResultT]) -> None:
        self._worker = worker

    def run(self, tasks: Sequence[TaskT]) -> Iterator[Outcome[TaskT, ResultT]]:
        return (Outcome(task, self._worker(task)) for task in tasks)

    def close(self) -> None:
        """Nothing was started."""
