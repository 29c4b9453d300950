"""Spreads scoring over Ray actors: supernet and images go once into the object store and are mapped, not copied."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
import torch
from numpy.typing import NDArray
from ray.exceptions import GetTimeoutError, RayError
from torch import Tensor

from nas.errors import EvaluationError
from nas.evaluation.subnets import InlineScoring, Scored, Task
from supernets.base import Supernet
from supernets.checkpoint import family_from_json, make_supernet

_TRIES = 3
"""How often a task whose actor died is given to another one before it is recorded as failed; and how many actors in a row
may be lost before they have started."""
_LOOK_S = 1.0
"""Between two looks at what the cluster offers, while nothing comes in."""
_PATIENCE_S = 60.0
"""How long there may be no CPU at all, or no answer from an idle actor: Ray takes some ten seconds to find out that a node
is dead or that a killed driver's CPUs are free, and a node that was started again is back in less than a minute."""
_START_S = 120.0
"""How long an actor may take to start: loading torch takes seconds, fetching the weights through a slow network a minute.
One whose CPU went to another program, or with its node, never starts."""
_KEPT = "What was measured is kept; then go on with `nas resume`"

Arrays = Mapping[str, NDArray[Any]]


def _view(array: NDArray[Any]) -> Tensor:
    """A tensor over an array of the object store, without a copy; it is read-only, and nothing here writes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class _Scorer:
    """What runs in an actor: an `InlineScoring` over mapped arrays."""

    def __init__(self, family: Mapping[str, Any], sharing: str, weights: Arrays, images: Arrays) -> None:
        torch.set_num_threads(1)
        supernet = make_supernet(family_from_json(family), sharing)
        tensors = {name: _view(array) for name, array in weights.items()}
        supernet.sharing.load_state_dict(tensors, strict=True, assign=True)
        parts = {name: _view(array) for name, array in images.items()}
        self._scoring = InlineScoring(supernet, parts["calibration"], parts["images"], parts["labels"])

    def score_one(self, task: Task) -> Scored:
        return self._scoring.score_one(task)


class RayPool:
    """`Scoring` by actors of one core each; while tasks wait, their number follows the CPUs that are free in the cluster.

    Only actors that have started are given tasks, so none waits for a place. A task whose actor dies goes to the next idle
    one, a bounded number of times.

    Args:
        sharing: how the supernet shares (its name in the job file).
        workers: the most actors; None for as many as there are CPUs.
    """

    def __init__(
        self, supernet: Supernet, calibration: Tensor, images: Tensor, labels: Tensor, *,
        sharing: str, workers: int | None,
    ) -> None:  # fmt: skip
        weights = {name: tensor.detach().numpy() for name, tensor in supernet.sharing.state_dict().items()}
        parts = {"calibration": calibration.numpy(), "images": images.numpy(), "labels": labels.numpy()}
        self._arguments = (supernet.family.to_json(), sharing, ray.put(weights), ray.put(parts))
        self._actor_class = ray.remote(num_cpus=1)(_Scorer)
        self._workers = workers
        self._actors: list[Any] = []  # starting, idle or at a task
        self._starting: dict[Any, tuple[Any, float]] = {}  # by the answer that is awaited: the actor, and until when
        self._idle: list[Any] = []
        self._n_lost = 0

    def score(self, tasks: Sequence[Task]) -> Iterator[Scored]:
        """See `Scoring`. When it ends, no actor is starting any more: what is timed afterwards has the cores to itself.

        Raises:
            EvaluationError: there was no CPU at all for a minute, or actors cannot start.
        """
        waiting = [(task, 1) for task in reversed(tasks)]
        running: dict[Any, tuple[Any, Task, int]] = {}
        self._call_roll()
        while waiting or running or self._starting:
            self._start(len(waiting))
            while waiting and self._idle:
                actor, (task, attempt) = self._idle.pop(), waiting.pop()
                running[actor.score_one.remote(task)] = (actor, task, attempt)
            done, _ = ray.wait([*running, *self._starting], num_returns=1, timeout=_LOOK_S)
            now = time.monotonic()
            for answer in done or [answer for answer, (_, until) in self._starting.items() if now > until]:
                if answer in self._starting:
                    self._admit(answer)
                    continue
                actor, task, attempt = running.pop(answer)
                try:
                    scored = ray.get(answer)
                except RayError as error:  # the actor died, or its node did: a candidate's own errors are results
                    self._drop(actor)
                    if attempt < _TRIES:
                        waiting.append((task, attempt + 1))
                    else:
                        yield Scored(task, failure=f"its worker died {_TRIES} times: {error}")
                else:
                    self._n_lost = 0
                    self._idle.append(actor)
                    yield scored

    def _call_roll(self) -> None:
        """Makes idle the actors that answer; others died since the last call, which no task is charged with."""
        asked = {actor.__ray_ready__.remote(): actor for actor in self._actors}
        self._starting, self._idle = {}, []
        ray.wait(list(asked), num_returns=max(1, len(asked)), timeout=_PATIENCE_S)
        for answer, actor in asked.items():
            self._take_in(answer, actor)

    def _start(self, n_waiting: int) -> None:
        """Starts actors for tasks that none is there for, as far as CPUs are free; waits for one while there is no actor."""
        wanted = n_waiting - len(self._idle) - len(self._starting)
        if self._workers is not None:
            wanted = min(wanted, self._workers - len(self._actors))
        if wanted < 1:
            return
        until = time.monotonic() + _PATIENCE_S
        while (room := self._room()) < 1 and not self._actors:
            if time.monotonic() > until:
                raise EvaluationError(
                    f"no CPU was free in the Ray cluster for {_PATIENCE_S:.0f} s, so nothing can be scored: add a node (`ray "
                    f"start --address=HEAD`), or end what holds CPUs (see `ray status`). {_KEPT}"
                )
            time.sleep(_LOOK_S)
        for _ in range(min(wanted, room)):
            actor = self._actor_class.remote(*self._arguments)
            self._actors.append(actor)
            self._starting[actor.__ray_ready__.remote()] = actor, time.monotonic() + _START_S

    def _room(self) -> int:
        """Actors that would find a CPU now, by what the cluster says, which may be some seconds old."""
        free = int(ray.available_resources().get("CPU", 0)) - len(self._starting)  # not all of these have theirs yet
        return min(free, int(ray.cluster_resources().get("CPU", 0)) - len(self._actors))

    def _admit(self, answer: Any) -> None:
        """Takes in an actor that has started; one that died in doing so, or is overdue, is lost."""
        error = self._take_in(answer, self._starting.pop(answer)[0])
        overdue = isinstance(error, GetTimeoutError) and bool(
            self._actors
        )  # others live: it found no place, and they go on
        self._n_lost = self._n_lost + (not overdue) if error else 0
        if self._n_lost >= _TRIES:
            why = str(error).strip().splitlines()[-1]  # Ray says it after its traces
            raise EvaluationError(
                f"{_TRIES} scoring actors in a row did not start (the last: {why}); every node that offers CPUs needs this "
                f"package in the same version, and memory for an actor a CPU, or set `workers` to fewer. {_KEPT}"
            ) from error

    def _take_in(self, answer: Any, actor: Any) -> RayError | None:
        """Makes an actor idle that has answered; drops any other, and returns why."""
        try:
            ray.get(answer, timeout=0)
        except RayError as error:  # its death, or the timeout
            self._drop(actor)
            return error
        self._idle.append(actor)
        return None

    def _drop(self, actor: Any) -> None:
        ray.kill(actor)
        self._actors.remove(actor)

    def close(self) -> None:
        for actor in list(self._actors):
            self._drop(actor)
        self._starting, self._idle = {}, []
