"""Ray actors that do tasks: where one dies, hangs or leaves with its node, its task is tried elsewhere, and it is replaced."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from nas.errors import EvaluationError

TRIES = 3
"""How often a task is tried before it is given up; and how many actors in a row may be lost before they have started."""
_LOOK_S = 1.0
"""Between two looks at what the cluster offers, while nothing comes in."""
_PATIENCE_S = 60.0
"""How long there may be no CPU at all, or no answer from an idle actor: Ray takes some ten seconds to find out that a node
is dead or that a killed driver's CPUs are free, and a node that was started again is back in less than a minute."""
_START_S = 120.0
"""How long an actor may take to start: loading torch takes seconds, fetching the weights through a slow network a minute.
One whose CPU went to another program, or with its node, never starts."""
_KEPT = "What was measured is kept; then go on with `nas resume`"

_FIRST_LIMIT_S = 1800.0
"""How long a task may take while none has been done that would tell what they take."""
_LIMIT_FACTOR, _LEAST_LIMIT_S = 20.0, 60.0
"""Afterwards it may take so many times what the longest took, and never less than a minute: machines have bad moments."""

_SHORT_S, _DEPTH = 0.2, 2
"""While tasks take less than this, each actor has its next one with it: the way there takes milliseconds. Longer ones wait for
whoever is free first."""

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")
_TakenT = TypeVar("_TakenT", contravariant=True)
_MadeT = TypeVar("_MadeT", covariant=True)


class Worker(Protocol[_TakenT, _MadeT]):
    """What an actor holds: it is made there, and does one task at a time.

    A result is sent while the next task is done, so nothing changes it any more.
    """

    def do(self, task: _TakenT) -> _MadeT: ...


@dataclass(frozen=True, slots=True)
class Outcome(Generic[TaskT, ResultT]):
    """What came of a task: a result, or why there is none.

    Attributes:
        seconds: wall time of the last try, as the pool saw it.
    """

    task: TaskT
    result: ResultT | None
    failure: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Try(Generic[TaskT]):
    """A task that waits or is being done: how often it failed, and on which nodes."""

    task: TaskT
    n_failed: int = 0
    nodes: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Running(Generic[TaskT]):
    """A task that an actor has, which it began at `since`: infinity while it has another one before."""

    actor: Any
    tried: _Try[TaskT]
    since: float


class PoolActor:
    """What Ray runs in a process of its own: a worker, and where it is."""

    patience_s = 1.0
    """How long a task waits for one of a lower turn: Ray's calls overtake each other by moments, and one may never come."""

    def __init__(self, make: Callable[..., Worker[Any, Any]], *arguments: object) -> None:
        self._worker = make(*arguments)
        self._turns, self._turn = threading.Condition(), 0

    def node(self) -> str:
        """The id of the node that it is on; its answer says that it has started, and does nothing now."""
        with self._turns:
            return str(ray.get_runtime_context().get_node_id())

    def do(self, turn: int, task: Any) -> Any:
        """Does a task once those of lower turns are done, while another thread sends the last one's answer.

        Args:
            turn: from 0, one more with each task.
        """
        with self._turns:  # held until the task is done
            self._turns.wait_for(lambda: self._turn >= turn, self.patience_s)
            try:
                return self._worker.do(task)
            finally:
                self._turn = max(self._turn, turn + 1)
                self._turns.notify_all()


class ActorPool(Generic[TaskT, ResultT]):
    """Does tasks by actors of one core each; while tasks wait, their number follows the CPUs that are free in the cluster.

    Only actors that have started are given tasks, so none waits for a place. A task whose actor dies or does not answer in
    time, or whose worker raises, is tried again, on another node where there is one, `TRIES` times in all.

    Args:
        make: makes a worker in its actor, from `arguments` (references to the object store are resolved).
        workers: the most actors; None for as many as there are CPUs.
        time_limit_s: for one try; None derives it from the longest task so far.
        failure_of: why a result is none ("" where it is one); such a task is tried again too, and the last result given.
        note: told in a sentence when there is something to wait for.
        resources: that an actor needs besides its CPU.
    """

    def __init__(
        self,
        make: Callable[..., Worker[TaskT, ResultT]],
        arguments: Sequence[object] = (),
        *,
        workers: int | None = None,
        time_limit_s: float | None = None,
        failure_of: Callable[[ResultT], str] = lambda result: "",
        note: Callable[[str], None] = lambda text: None,
        resources: dict[str, float] | None = None,
    ) -> None:
        self._arguments = (make, *arguments)
        self._actor_class = ray.remote(num_cpus=1, max_concurrency=_DEPTH, resources=resources)(PoolActor)
        self._workers, self._time_limit_s = workers, time_limit_s
        self._failure_of, self._note = failure_of, note
        self._nodes: dict[Any, str] = {}  # by actor, those starting, idle or at a task: its node, "" while it starts
        self._starting: dict[Any, tuple[Any, float]] = {}  # by the answer that is awaited: the actor, and until when
        self._running: dict[Any, _Running[TaskT]] = {}  # by the answer that is awaited
        self._at: dict[Any, list[Any]] = {}  # by actor that has started: the answers that it owes, in their order
        self._given: dict[Any, int] = {}  # by actor that has started: how many tasks it was given
        self._n_lost = 0
        self._ended = -math.inf
        self._longest_s = 0.0

    def run(self, tasks: Sequence[TaskT]) -> Iterator[Outcome[TaskT, ResultT]]:
        """One outcome a task, as each is done, in any order.

        When it ends, no actor is starting any more: what is timed afterwards has the cores to itself.

        Raises:
            EvaluationError: there was no CPU at all for a minute, or actors cannot start.
        """
        waiting = [_Try(task) for task in reversed(tasks)]
        if self._running or time.monotonic() > self._ended + _LOOK_S:
            self._call_roll()
        while waiting or self._running or self._starting:
            self._start(len(waiting))
            self._hand_out(waiting)
            done, _ = ray.wait([*self._running, *self._starting], num_returns=1, timeout=self._until_overdue())
            for answer in done or self._overdue():
                if answer in self._starting:
                    self._admit(answer)
                    continue
                outcome = self._finish(self._first(answer), waiting)
                if outcome is not None:
                    yield outcome
        self._ended = time.monotonic()

    def close(self) -> None:
        """Ends all actors; idempotent."""
        for actor in list(self._nodes):
            self._drop(actor)
        self._starting, self._running = {}, {}

    @property
    def limit_s(self) -> float:
        """How long a try may take now."""
        if self._time_limit_s is not None:
            return self._time_limit_s
        if not self._longest_s:
            return _FIRST_LIMIT_S
        return max(_LEAST_LIMIT_S, _LIMIT_FACTOR * self._longest_s)

    def _hand_out(self, waiting: list[_Try[TaskT]]) -> None:
        """Gives waiting tasks to actors that have none, the last ones first; short ones also to those that have one."""
        for depth in range(1, 1 + (_DEPTH if 0 < self._longest_s < _SHORT_S else 1)):
            for i in reversed(range(len(waiting))):
                if all(len(own) >= depth for own in self._at.values()):
                    break
                actor = self._free_for(waiting[i], depth)
                if actor is not None:
                    tried, own = waiting.pop(i), self._at[actor]
                    answer = actor.do.remote(self._given[actor], tried.task)
                    self._given[actor] += 1
                    self._running[answer] = _Running(actor, tried, math.inf if own else time.monotonic())
                    own.append(answer)

    def _free_for(self, tried: _Try[TaskT], depth: int) -> Any | None:
        """An actor with fewer than so many tasks, on a node where this one has not failed; None while such a one is busy."""
        fresh = [actor for actor, node in self._nodes.items() if node not in tried.nodes]
        return next((a for a in fresh or self._nodes if len(self._at.get(a, range(depth))) < depth), None)

    def _until_overdue(self) -> float:
        """Seconds to wait for an answer: until the next look, or until the first task is overdue."""
        first = min((task.since for task in self._running.values()), default=math.inf)
        return max(0.0, min(_LOOK_S, first + self.limit_s - time.monotonic()))

    def _overdue(self) -> list[Any]:
        now = time.monotonic()
        late = [answer for answer, task in self._running.items() if now >= task.since + self.limit_s]
        return late + [answer for answer, (_, until) in self._starting.items() if now > until]

    def _first(self, answer: Any) -> Any:
        """The first answer that an actor owes: who answers its second task, or died, has one to the first, or in a moment."""
        first = self._at[self._running[answer].actor][0]
        return first if first == answer or ray.wait([first], timeout=_LOOK_S)[0] else answer

    def _finish(self, answer: Any, waiting: list[_Try[TaskT]]) -> Outcome[TaskT, ResultT] | None:
        """The outcome of a task that was answered or is overdue, or whose actor died.

        None where it waits to be tried again.
        """
        running = self._running[answer]
        tried = running.tried
        seconds = max(0.0, time.monotonic() - running.since)  # 0 of a second task whose first has no answer yet
        node, result = self._nodes[running.actor], None
        try:
            result = ray.get(answer, timeout=0)
        except GetTimeoutError:
            failure = f"it took longer than the limit of {self.limit_s:.3g} s (search.time_limit_s in the job file)"
            waiting += self._lose(answer)
        except RayTaskError as error:  # raised by the worker, which lives
            failure = _last_line(error)
            self._go_on(answer)
        except RayError as error:  # the actor died, or its node did
            failure = f"its worker died ({_last_line(error)})"
            waiting += self._lose(answer)
        else:
            self._n_lost = 0
            self._go_on(answer)
            failure = self._failure_of(result)
            if not failure:
                self._longest_s = max(self._longest_s, seconds)
                return Outcome(tried.task, result, "", seconds)
        n_failed = tried.n_failed + 1
        if n_failed < TRIES:
            waiting.append(_Try(tried.task, n_failed, tried.nodes | {node}))
            return None
        return Outcome(tried.task, result, f"{failure}, the last of {n_failed} tries", seconds)

    def _go_on(self, answer: Any) -> None:
        """A task came to an end, and its actor begins the next one that it has."""
        own = self._at[self._running.pop(answer).actor]
        own.remove(answer)
        if own:
            self._running[own[0]].since = time.monotonic()

    def _lose(self, answer: Any) -> list[_Try[TaskT]]:
        """A task was its actor's last one; returns those that it had not begun, which are not charged with it."""
        actor = self._running.pop(answer).actor
        others = [self._running.pop(other).tried for other in self._at[actor] if other != answer]
        self._drop(actor)
        return others

    def _call_roll(self) -> None:
        """Makes idle the actors that answer; others died since the last call, which no task is charged with."""
        asked = {actor.node.remote(): actor for actor in self._nodes}
        self._starting, self._running, self._at = {}, {}, {}
        ray.wait(list(asked), num_returns=max(1, len(asked)), timeout=_PATIENCE_S)
        for answer, actor in asked.items():
            self._take_in(answer, actor)

    def _start(self, n_waiting: int) -> None:
        """Starts actors for tasks that none is there for, as far as CPUs are free; waits for one while there is no actor."""
        wanted = n_waiting - sum(not own for own in self._at.values()) - len(self._starting)
        if self._workers is not None:
            wanted = min(wanted, self._workers - len(self._nodes))
        if wanted < 1:
            return
        for _ in range(min(wanted, self._room() if self._nodes else self._await_room())):
            actor = self._actor_class.remote(*self._arguments)
            self._nodes[actor] = ""
            self._starting[actor.node.remote()] = actor, time.monotonic() + _START_S

    def _room(self) -> int:
        """Actors that would find a CPU now, by what the cluster says, which may be some seconds old."""
        free = int(ray.available_resources().get("CPU", 0)) - len(self._starting)  # not all of these have theirs yet
        return min(free, _cpus() - len(self._nodes))

    def _await_room(self) -> int:
        """As `_room`, once there is some; tells what it waits for.

        Raises:
            EvaluationError: there is none for a minute.
        """
        until, told = time.monotonic() + _PATIENCE_S, False
        while (room := self._room()) < 1:
            total = _cpus()
            state = (
                f"all {total} CPUs of the Ray cluster are taken" if total else "no node of the Ray cluster offers a CPU"
            )
            mend = "add a node (`ray start --address=HEAD`), or end what holds CPUs (see `ray status`)"
            if time.monotonic() > until:
                raise EvaluationError(
                    f"no CPU was free for {_PATIENCE_S:.0f} s, so nothing can be scored: {state}; {mend}. {_KEPT}"
                )
            if not told:
                self._note(f"{state}; waiting up to {_PATIENCE_S:.0f} s for one: {mend}")
            told = True
            time.sleep(_LOOK_S)
        return room

    def _admit(self, answer: Any) -> None:
        """Takes in an actor that has started; one that died in doing so, or is overdue, is lost."""
        error = self._take_in(answer, self._starting.pop(answer)[0])
        overdue = isinstance(error, GetTimeoutError) and bool(
            self._nodes
        )  # others live: it found no place, and they go on
        self._n_lost = self._n_lost + (not overdue) if error else 0
        if self._n_lost >= TRIES:
            raise EvaluationError(
                f"{TRIES} scoring actors in a row did not start (the last: {_last_line(error)}); every node that offers "
                "CPUs needs this package in the same version, and memory for an actor a CPU, or set `workers` to fewer. "
                f"{_KEPT}"
            ) from error

    def _take_in(self, answer: Any, actor: Any) -> RayError | None:
        """Makes an actor idle that has answered; drops any other, and returns why."""
        try:
            self._nodes[actor] = ray.get(answer, timeout=0)
        except RayError as error:  # its death, or the timeout
            self._drop(actor)
            return error
        self._at[actor] = []
        self._given.setdefault(actor, 0)
        return None

    def _drop(self, actor: Any) -> None:
        ray.kill(actor)
        del self._nodes[actor]
        self._at.pop(actor, None)
        self._given.pop(actor, None)


def _cpus() -> int:
    return int(ray.cluster_resources().get("CPU", 0))


def _last_line(error: BaseException | None) -> str:
    """What an error of Ray's comes down to, which it says after its traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
