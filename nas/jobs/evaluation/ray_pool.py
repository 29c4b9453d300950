"""Spreads scoring over Ray actors: supernet and data go once into the object store and are mapped, not copied."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import ray
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.engine.evaluation.actors import ActorPool
from nas.jobs.evaluation.scoring import InlineScoring, Scored, ScoringTask
from supernets.data import Part
from supernets.sharing.base import Supernet
from supernets.sharing.spec import SharingSpec
from supernets.tasks import CLASSIFICATION, Task
from supernets.training.checkpoint import family_from_json, make_supernet

Arrays = Mapping[str, NDArray[Any]]
PackedPart = tuple[NDArray[Any], NDArray[Any], str, int | None, "PackedPart | None"]
"""The fields of a `Part`, its tensors as arrays, without its names."""


def _view(array: NDArray[Any]) -> Tensor:
    """A tensor over an array of the object store, without a copy; it is read-only, and nothing here writes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _packed(part: Part) -> PackedPart:
    questions = None if part.questions is None else _packed(part.questions)
    return part.inputs.numpy(), part.labels.numpy(), part.digest, part.padding, questions


def _unpacked(part: PackedPart) -> Part:
    inputs, labels, digest, padding, questions = part
    unpacked_questions = None if questions is None else _unpacked(questions)
    return Part(_view(inputs), _view(labels), digest, padding, questions=unpacked_questions)


class Scorer:
    """The worker in an actor: an `InlineScoring` over mapped arrays."""

    def __init__(
        self,
        family: Mapping[str, Any],
        programs: Mapping[str, Any],
        sharing: SharingSpec,
        weights: Arrays,
        calibration: PackedPart,
        part: PackedPart,
        task: Task,
    ) -> None:
        torch.set_num_threads(1)
        restored = family_from_json(family)
        restored.plain(restored.space.largest)[0].programs().restore(programs)
        supernet = make_supernet(restored, sharing)
        tensors = {name: _view(array) for name, array in weights.items()}
        supernet.sharing.load_state_dict(tensors, strict=True, assign=True)
        self._scoring = InlineScoring(supernet, _unpacked(calibration), _unpacked(part), task)

    def __call__(self, task: ScoringTask) -> Scored:
        return self._scoring.score_one(task)


class RayPool(ActorPool[ScoringTask, Scored]):
    """`Scoring` by actors of one core each. When its run ends, what is timed afterwards has the cores to itself.

    Args:
        workers: the most actors; None for as many as there are CPUs.
        time_limit_s: Time limit for scoring one network, in seconds; None derives it from what the others took.
        note: called with a sentence when the pool waits for a CPU.
    """

    def __init__(
        self,
        supernet: Supernet,
        calibration: Part,
        part: Part,
        *,
        workers: int | None,
        task: Task = CLASSIFICATION,
        time_limit_s: float | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        weights = {name: tensor.detach().numpy() for name, tensor in supernet.sharing.state_dict().items()}
        parts = (ray.put(_packed(calibration)), ray.put(_packed(part)))
        family = supernet.family
        programs = family.plain(family.space.largest)[0].programs().to_json()
        arguments = (family.to_json(), programs, supernet.sharing.spec, ray.put(weights), *parts, task)
        super().__init__(
            Scorer, arguments, workers=workers, time_limit_s=time_limit_s, failure_of=attrgetter("failure"), note=note
        )
