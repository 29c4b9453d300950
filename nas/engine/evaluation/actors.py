"""A pool of Ray actors: when an actor dies, hangs or leaves with its node, its task is retried and the actor replaced."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from nas.engine.evaluation.base import Outcome, ResultT, TaskT
from nas.engine.formatting import without_ansi
from nas.errors import EvaluationError

TRIES = 3
"""Tries of a task; also the number of actors in a row that may be lost before they have started."""
_LOOK_S = 1.0
"""Between two looks at the resources of the cluster, while no answer arrives."""
_PATIENCE_S = 60.0
"""Longest time without any CPU, or without an answer from an idle actor: Ray takes about ten seconds to notice that a node
is dead or that a killed driver's CPUs are free, and a restarted node is back in less than a minute."""
_START_S = 120.0
"""Longest time for an actor to start: loading torch takes seconds, fetching the weights through a slow network a minute.
An actor whose CPU went to another program, or with its node, never starts."""
_RESUME_HINT = "What was measured is kept, and a resume continues from there"

_FIRST_LIMIT_S = 1800.0
"""Time limit of a task before any has been done."""
_LIMIT_FACTOR, _MIN_LIMIT_S = 20.0, 60.0
"""Afterwards, the limit is this multiple of the longest task so far, and at least a minute."""

_SHORT_S, _DEPTH = 0.2, 2
"""Tasks shorter than this are queued at the actors, two each, because sending one takes milliseconds; longer ones wait for
the first actor that is free."""


@dataclass(frozen=True, slots=True)
class _Try(Generic[TaskT]):
    """A task that waits or is being done, with its failures and the nodes where they were."""

    task: TaskT
    n_failed: int = 0
    nodes: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Running(Generic[TaskT]):
    """A task at an actor, begun at `since`: infinity while the actor does another one before."""

    actor: Any
    tried: _Try[TaskT]
    since: float


class PoolActor:
    """The process that Ray runs: a worker and its node."""

    patience_s = 1.0
    """How long a task waits for one of a lower turn: Ray's calls may overtake each other, and one may never arrive."""

    def __init__(self, make: Callable[..., Callable[[Any], Any]], *arguments: object) -> None:
        self._worker = make(*arguments)
        self._turns, self._turn = threading.Condition(), 0

    def node(self) -> str:
        """The id of its node; an answer shows that the actor has started and is idle."""
        with self._turns:
            return str(ray.get_runtime_context().get_node_id())

    def do(self, turn: int, task: Any) -> Any:
        """The result of a task, done after those of lower turns (from 0), while a thread sends the previous answer."""
        with self._turns:  # held until the task is done
            self._turns.wait_for(lambda: self._turn >= turn, self.patience_s)
            try:
                return self._worker(task)
            finally:
                self._turn = max(self._turn, turn + 1)
                self._turns.notify_all()


class ActorPool(Generic[TaskT, ResultT]):
    """Does tasks by actors of one core each; while tasks wait, the number of actors follows the free CPUs of the cluster.

    Only started actors get tasks. A task whose actor dies or does not answer in time, or whose worker raises, is retried,
    on another node where there is one, `TRIES` times in all.

    Args:
        make: makes a worker in its actor, from `arguments` (references to the object store are resolved). The worker does one
            task at a time; a result is sent while the next task is done, so it must not change any more.
        arguments: The arguments, or a function that makes them once, when the first actor is started.
        workers: the most actors; None for as many as there are CPUs.
        time_limit_s: Time limit of one try, in seconds; None derives it from the longest task so far.
        failure_of: why a result is a failure, or ""; such a task is retried, too, and its last result returned.
        note: called with a sentence when the pool waits for a CPU.
    """

    def __init__(
        self,
        make: Callable[..., Callable[[TaskT], ResultT]],
        arguments: Sequence[object] | Callable[[], Sequence[object]] = (),
        *,
        workers: int | None = None,
        time_limit_s: float | None = None,
        failure_of: Callable[[ResultT], str] = lambda result: "",
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._make, self._arguments = make, arguments
        self._actor_class = ray.remote(num_cpus=1, max_concurrency=_DEPTH)(PoolActor)
        self._workers, self._time_limit_s = workers, time_limit_s
        self._failure_of, self._note = failure_of, note
        self._nodes: dict[Any, str] = {}  # by actor: its node, "" while it starts
        self._starting: dict[Any, tuple[Any, float]] = {}  # by awaited answer: the actor, and its deadline
        self._running: dict[Any, _Running[TaskT]] = {}  # by awaited answer
        self._owed: dict[Any, list[Any]] = {}  # by started actor: the answers that it owes, in order
        self._n_tasks: dict[Any, int] = {}  # by started actor: number of tasks that it was given
        self._n_lost, self._ended, self._longest_s = 0, -math.inf, 0.0
        self._waiting: list[_Try[TaskT]] = []  # the next one last
        self._n_slots, self._counted = 0, -math.inf

    @cached_property
    def _worker_arguments(self) -> Sequence[object]:
        return self._arguments() if callable(self._arguments) else self._arguments

    def run(self, tasks: Sequence[TaskT]) -> Iterator[Outcome[TaskT, ResultT]]:
        """One outcome per task, as each is done, in any order.

        When it ends, no actor is starting any more, so that the cores are free for timing.

        Raises:
            EvaluationError: there was no CPU at all for a minute, or actors cannot start.
        """
        self._waiting = [_Try(task) for task in reversed(tasks)]
        if self._running or time.monotonic() > self._ended + _LOOK_S:
            self._check_idle_actors()
        while self._waiting or self._running or self._starting:
            yield from self._next_outcomes()
        self._ended = time.monotonic()

    def slots(self) -> int:
        """Actors that there are, or for which CPUs are free; twice as many where tasks are so short that they are queued."""
        if self._workers == 1:
            return 0
        if time.monotonic() > self._counted + _LOOK_S:
            self._n_slots, self._counted = len(self._nodes) + max(0, self._free_cpus()), time.monotonic()
        n_actors = max(1, self._n_slots)
        return self._depth * (n_actors if self._workers is None else min(n_actors, self._workers))

    def start(self, task: TaskT) -> None:
        self._waiting.insert(0, _Try(task))

    def finished(self) -> Sequence[Outcome[TaskT, ResultT]]:
        """The outcomes of tasks that were started: waits for at least one; none if nothing was started.

        Raises as `run`.
        """
        while self._waiting or self._running:
            if outcomes := self._next_outcomes():
                self._ended = time.monotonic()
                return outcomes
        return []

    def _next_outcomes(self) -> list[Outcome[TaskT, ResultT]]:
        """Gives out tasks, and waits for an answer or for the next look; returns the outcomes of all that have answered."""
        self._start(len(self._waiting))
        self._hand_out(self._waiting)
        awaited = [*self._running, *self._starting]
        done, others = ray.wait(awaited, num_returns=1, timeout=self._until_overdue())
        if done and others:
            done += ray.wait(others, num_returns=len(others), timeout=0)[0]
        outcomes = []
        for answer in done or self._overdue():
            if answer in self._starting:
                self._admit(answer)
            elif answer in self._running and (outcome := self._finish(self._first(answer))) is not None:
                outcomes.append(outcome)
        return outcomes

    def close(self) -> None:
        """Ends all actors; idempotent."""
        for actor in list(self._nodes):
            self._drop(actor)
        self._starting, self._running, self._waiting = {}, {}, []

    @property
    def limit_s(self) -> float:
        """The time limit of a try now."""
        return _limit_s(self._longest_s) if self._time_limit_s is None else self._time_limit_s

    @property
    def _depth(self) -> int:
        """The number of tasks that an actor is given at once."""
        return _DEPTH if 0 < self._longest_s < _SHORT_S else 1

    def _hand_out(self, waiting: list[_Try[TaskT]]) -> None:
        """Gives waiting tasks to idle actors, the last ones first; short tasks also to actors that have one."""
        for depth in range(1, 1 + self._depth):
            for i in reversed(range(len(waiting))):
                if all(len(owed) >= depth for owed in self._owed.values()):
                    break
                if (actor := self._free_for(waiting[i], depth)) is not None:
                    tried, owed = waiting.pop(i), self._owed[actor]
                    answer = actor.do.remote(self._n_tasks[actor], tried.task)
                    self._n_tasks[actor] += 1
                    self._running[answer] = _Running(actor, tried, math.inf if owed else time.monotonic())
                    owed.append(answer)

    def _free_for(self, tried: _Try[TaskT], depth: int) -> Any | None:
        """An actor with fewer than `depth` tasks, on a node where this task has not failed; None while those are busy."""
        fresh = [actor for actor, node in self._nodes.items() if node not in tried.nodes]
        return next((a for a in fresh or self._nodes if len(self._owed.get(a, range(depth))) < depth), None)

    def _until_overdue(self) -> float:
        """Seconds to wait for an answer: until the next look, or until a task is overdue."""
        first = min((task.since for task in self._running.values()), default=math.inf)
        return max(0.0, min(_LOOK_S, first + self.limit_s - time.monotonic()))

    def _overdue(self) -> list[Any]:
        now = time.monotonic()
        late = [answer for answer, task in self._running.items() if now >= task.since + self.limit_s]
        return late + [answer for answer, (_, until) in self._starting.items() if now > until]

    def _first(self, answer: Any) -> Any:
        """The first answer that an actor owes: when its second task is answered, or it died, the first has an answer, too."""
        first = self._owed[self._running[answer].actor][0]
        return first if first == answer or ray.wait([first], timeout=_LOOK_S)[0] else answer

    def _finish(self, answer: Any) -> Outcome[TaskT, ResultT] | None:
        """The outcome of a task that was answered or is overdue, or whose actor died; None where it is retried."""
        running = self._running[answer]
        tried = running.tried
        seconds = max(0.0, time.monotonic() - running.since)  # 0 of a second task whose first has no answer yet
        node, result = self._nodes[running.actor], None
        try:
            result = ray.get(answer, timeout=0)
        except GetTimeoutError:
            failure = f"it took longer than the limit of {self.limit_s:.3g} s (`time_limit_s` sets it)"
            self._waiting += self._lose(answer)
        except RayTaskError as error:  # raised by the worker, which lives
            failure = _last_line(error)
            self._end_task(answer)
        except RayError as error:  # the actor died, or its node did
            failure = f"its worker died ({_last_line(error)})"
            self._waiting += self._lose(answer)
        else:
            self._n_lost = 0
            self._end_task(answer)
            failure = self._failure_of(result)
            if not failure:
                self._longest_s = max(self._longest_s, seconds)
                return Outcome(tried.task, result, "", seconds)
        n_failed = tried.n_failed + 1
        if n_failed < TRIES:
            self._waiting.append(_Try(tried.task, n_failed, tried.nodes | {node}))
            return None
        return Outcome(tried.task, result, f"{failure}, the last of {n_failed} tries", seconds)

    def _end_task(self, answer: Any) -> None:
        """Records that a task ended and that its actor begins its next one."""
        owed = self._owed[self._running.pop(answer).actor]
        owed.remove(answer)
        if owed:
            self._running[owed[0]].since = time.monotonic()

    def _lose(self, answer: Any) -> list[_Try[TaskT]]:
        """Drops the actor of a task; returns the tasks that it had not begun, whose failures do not count."""
        actor = self._running.pop(answer).actor
        unstarted = [self._running.pop(owed_answer).tried for owed_answer in self._owed[actor] if owed_answer != answer]
        self._drop(actor)
        return unstarted

    def _check_idle_actors(self) -> None:
        """Keeps the actors that answer; the others died while idle."""
        actor_by_answer = {actor.node.remote(): actor for actor in self._nodes}
        self._starting, self._running, self._owed = {}, {}, {}
        ray.wait(list(actor_by_answer), num_returns=max(1, len(actor_by_answer)), timeout=_PATIENCE_S)
        for answer, actor in actor_by_answer.items():
            self._take_in(answer, actor)

    def _start(self, n_waiting: int) -> None:
        """Starts actors for tasks without one, as far as CPUs are free; waits for a CPU while there is no actor."""
        wanted = n_waiting - sum(not owed for owed in self._owed.values()) - len(self._starting)
        if self._workers is not None:
            wanted = min(wanted, self._workers - len(self._nodes))
        if wanted < 1:
            return
        for _ in range(min(wanted, self._free_cpus() if self._nodes else _wait_for_cpu(self._free_cpus, self._note))):
            actor = self._actor_class.remote(self._make, *self._worker_arguments)
            self._nodes[actor] = ""
            self._starting[actor.node.remote()] = actor, time.monotonic() + _START_S

    def _free_cpus(self) -> int:
        """Actors that would find a CPU now, by the cluster's report, which may be some seconds old."""
        free = int(ray.available_resources().get("CPU", 0)) - len(self._starting)  # not all of these have theirs yet
        return min(free, _cpus() - len(self._nodes))

    def _admit(self, answer: Any) -> None:
        """Adds an actor that has started; counts one that died before, or is overdue, as lost."""
        error = self._take_in(answer, self._starting.pop(answer)[0])
        overdue = isinstance(error, GetTimeoutError) and bool(self._nodes)  # it found no CPU, and others continue
        self._n_lost = self._n_lost + (not overdue) if error else 0
        if self._n_lost >= TRIES:
            raise EvaluationError(
                f"{TRIES} scoring actors in a row did not start (the last: {_last_line(error)}); every node that offers CPUs "
                f"needs this package in the same version, and memory for one actor per CPU; or set `workers` to fewer. "
                f"{_RESUME_HINT}",
                code="evaluation.actors-not-starting",
            ) from error

    def _take_in(self, answer: Any, actor: Any) -> RayError | None:
        """Adds an actor that has answered; drops any other, and returns why."""
        try:
            self._nodes[actor] = ray.get(answer, timeout=0)
        except RayError as error:  # its death, or the timeout
            self._drop(actor)
            return error
        self._owed[actor] = []
        self._n_tasks.setdefault(actor, 0)
        return None

    def _drop(self, actor: Any) -> None:
        ray.kill(actor)
        for by_actor in (self._nodes, self._owed, self._n_tasks):
            by_actor.pop(actor, None)


def _limit_s(longest_s: float) -> float:
    """The time limit of a task, by the longest one so far; 0 for none so far."""
    return max(_MIN_LIMIT_S, _LIMIT_FACTOR * longest_s) if longest_s else _FIRST_LIMIT_S


def _wait_for_cpu(free_cpus: Callable[[], int], note: Callable[[str], None]) -> int:
    """The number of free CPUs, once there is one; `EvaluationError` if there is none for a minute."""
    until, noted = time.monotonic() + _PATIENCE_S, False
    while (free := free_cpus()) < 1:
        total = _cpus()
        state = f"all {total} CPUs of the Ray cluster are taken" if total else "no node of the Ray cluster offers a CPU"
        remedy = "add a node (`ray start --address=HEAD`), or end what holds CPUs (see `ray status`)"
        if time.monotonic() > until:
            raise EvaluationError(
                f"no CPU was free for {_PATIENCE_S:.0f} s, so nothing can be scored: {state}; {remedy}. {_RESUME_HINT}",
                code="cluster.no-cpu",
            )
        if not noted:
            note(f"{state}; waiting up to {_PATIENCE_S:.0f} s for one: {remedy}")
        noted = True
        time.sleep(_LOOK_S)
    return free


def _cpus() -> int:
    return int(ray.cluster_resources().get("CPU", 0))


def _last_line(error: BaseException | None) -> str:
    """The last line of an error of Ray's, after its traces."""
    lines = [line.strip() for line in without_ansi(str(error)).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
