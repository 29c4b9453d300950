"""Spreads scoring over Ray actors: supernet and images go once into the object store and are mapped, not copied."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.exceptions import RayError
from torch import Tensor

from nas.errors import EvaluationError
from nas.evaluation.subnets import InlineScoring, Scored, Task
from supernets.base import Supernet
from supernets.checkpoint import family_from_json, make_supernet

_TRIES = 3
"""How often a task whose actor died is given to another one before it is recorded as failed."""

Arrays = Mapping[str, NDArray[Any]]


def start_ray(address: str | None = None, *, cpus: int | None = None) -> None:
    """Connects to a running cluster, or starts one in this process's name; does nothing where one is connected already.

    Raises:
        EvaluationError: no cluster answers at the address, or none can be started.
    """
    if ray.is_initialized():
        return
    # Idle workers spin otherwise, which costs a two-core machine most of its speed.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        if address is not None:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        else:
            ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"the cluster at {address}" if address else "Ray"
        raise EvaluationError(f"cannot reach {where}: {error}; run with --inline to do without") from error


def stop_ray() -> None:
    """Leaves the cluster, and ends it where this process started it."""
    if ray.is_initialized():
        ray.shutdown()


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
    """`Scoring` by actors of one core each; a task whose actor dies goes to a fresh one, a bounded number of times.

    Args:
        sharing: how the supernet shares (its name in the job file).
        workers: actors.
    """

    def __init__(
        self, supernet: Supernet, calibration: Tensor, images: Tensor, labels: Tensor, *, sharing: str, workers: int
    ) -> None:
        weights = {name: tensor.detach().numpy() for name, tensor in supernet.sharing.state_dict().items()}
        parts = {"calibration": calibration.numpy(), "images": images.numpy(), "labels": labels.numpy()}
        self._arguments = (supernet.family.to_json(), sharing, ray.put(weights), ray.put(parts))
        self._actor_class = ray.remote(num_cpus=1)(_Scorer)
        self._workers = workers
        self._idle: list[Any] = []
        self._n_actors = 0

    def score(self, tasks: Sequence[Task]) -> Iterator[Scored]:
        waiting = [(task, 1) for task in reversed(tasks)]
        running: dict[Any, tuple[Any, Task, int]] = {}
        while waiting or running:
            while waiting and (actor := self._take()) is not None:
                task, attempt = waiting.pop()
                running[actor.score_one.remote(task)] = (actor, task, attempt)
            done, _ = ray.wait(list(running), num_returns=1)
            actor, task, attempt = running.pop(done[0])
            try:
                scored = ray.get(done[0])
            except RayError as error:  # the actor died, or its node did: a candidate's own errors are results
                self._n_actors -= 1
                ray.kill(actor)
                if attempt < _TRIES:
                    waiting.append((task, attempt + 1))
                else:
                    yield Scored(task, failure=f"its worker died {_TRIES} times: {error}")
            else:
                self._idle.append(actor)
                yield scored

    def _take(self) -> Any | None:
        """An idle actor, or a new one while there may be more; None when all are busy."""
        if self._idle:
            return self._idle.pop()
        if self._n_actors < self._workers:
            self._n_actors += 1
            return self._actor_class.remote(*self._arguments)
        return None

    def close(self) -> None:
        for actor in self._idle:
            ray.kill(actor)
        self._idle, self._n_actors = [], 0


def available_cpus() -> int:
    """CPUs that the connected cluster offers."""
    return max(1, int(np.floor(ray.cluster_resources().get("CPU", 1))))
