"""Spreads scoring over Ray actors: supernet, data and correction go once into the object store and are mapped, not copied."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter
from typing import Any

import ray
import torch
from numpy.typing import NDArray
from ray.util import deregister_serializer, register_serializer
from torch import Tensor

from nas.engine.evaluation.actors import ActorPool
from nas.engine.process_memory import release_free_memory
from nas.jobs.evaluation.scoring import InlineScoring, Scored, ScoringTask
from supernets.data import Part
from supernets.sharing.spec import SharingSpec
from supernets.tasks import Task
from supernets.training.checkpoint import family_from_json, make_supernet
from supernets.training.recalibration import SubnetCorrection


def _view(array: NDArray[Any]) -> Tensor:
    """A tensor over an array of the object store, without a copy; it is read-only, and nothing here writes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


@contextmanager
def _tensors_as_arrays() -> Iterator[None]:
    """Within it, what is put into the object store has arrays for tensors, which Ray maps in place of copying them."""
    register_serializer(Tensor, serializer=lambda tensor: tensor.detach().contiguous().numpy(), deserializer=_view)
    try:
        yield
    finally:
        deregister_serializer(Tensor)


class Scorer:
    """The worker in an actor: an `InlineScoring` over mapped arrays."""

    def __init__(
        self,
        family: Mapping[str, Any],
        programs: Mapping[str, Any],
        sharing: SharingSpec,
        weights: Mapping[str, Tensor],
        calibration: Part,
        part: Part,
        task: Task,
        correction: SubnetCorrection | None,
    ) -> None:
        torch.set_num_threads(1)
        restored = family_from_json(family)
        restored.plain(restored.space.largest)[0].programs().restore(programs)
        supernet = make_supernet(restored, sharing)
        supernet.sharing.load_state_dict(weights, strict=True, assign=True)
        self._scoring = InlineScoring(supernet, calibration, part, task, correction=correction)

    def __call__(self, task: ScoringTask) -> Scored:
        return self._scoring.score_one(task)


class RayPool(ActorPool[ScoringTask, Scored]):
    """`Scoring` by actors of one core each. When its run ends, what is timed afterwards has the cores to itself.

    Args:
        scoring: Scoring in this process, which the actors' equals; what it corrects subnets by is computed once, here.
        workers: the most actors; None for as many as there are CPUs.
        time_limit_s: Time limit for scoring one network, in seconds; None derives it from what the others took.
        note: called with a sentence when the pool waits for a CPU.
    """

    def __init__(
        self,
        scoring: InlineScoring,
        *,
        workers: int | None,
        time_limit_s: float | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(
            Scorer,
            lambda: _arguments(scoring),
            workers=workers,
            time_limit_s=time_limit_s,
            failure_of=attrgetter("failure"),
            note=note,
        )


def _arguments(scoring: InlineScoring) -> tuple[object, ...]:
    """The arguments of a `Scorer` that scores alike; what is large is in the object store."""
    family = scoring.supernet.family
    programs = family.plain(family.space.largest)[0].programs().to_json()
    with _tensors_as_arrays():
        weights = ray.put(dict(scoring.supernet.sharing.state_dict()))
        parts = [ray.put(replace(part, names=())) for part in (scoring.calibration, scoring.part)]
        correction = ray.put(scoring.extraction.correction)
    if scoring.extraction.correction is not None:
        scoring.extraction.correction = ray.get(correction)  # in place of this process's own copy
        release_free_memory()
    return family.to_json(), programs, scoring.supernet.sharing.spec, weights, *parts, scoring.task, correction
