"""The JSON models of the results of runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import WithJsonSchema

from nas.service.api.schemas.common import Figure, ObjectiveInfo, Schema
from nas.service.api.schemas.runs import RunStatusName

NetworkStatus = Literal["all", "front", "measured", "noisy", "too-noisy", "failed", "screened-out"]
"""A filter of evaluated networks: all, on the front, measured within the protocol's noise, measured with more noise than
that, without a value for the noise of the machine or for another reason, or skipped before all of their measurements."""
CurvePoint = Annotated[
    tuple[int, float],
    WithJsonSchema(
        {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2, "examples": [[60, 0.83]]}
    ),
]
"""(evaluations, hypervolume); described without tuples, which few client generators support."""


class Network(Schema):
    """One architecture with its metrics."""

    key: str
    number: int | None  # Its position on the run's front, from 0; None for others
    architecture: dict[str, Any]  # Option values by the names of the choices
    figures: dict[str, Figure]
    source: Literal["measured", "predicted"]
    fidelity: Literal["search", "final"]
    test: Figure | None  # Accuracy on the test split, which no search uses
    within_limits: bool  # Whether it satisfies the job's constraints
    status: Literal["measured", "noisy", "too-noisy", "failed", "screened-out", ""] = (
        ""  # In lists of evaluated networks
    )
    reason: str = ""  # Why it failed or was screened out
    evaluation: int | None = None  # Its number in the order of evaluation, from 1; in lists of evaluated networks


class Front(Schema):
    """A run's front, the cheapest first, and the smallest and largest networks of its space."""

    run: str
    profile: str | None  # None for the joint front of all profiles
    objectives: tuple[ObjectiveInfo, ...]
    members: tuple[Network, ...]
    smallest: Network | None
    largest: Network | None
    nearest: Network | None  # The network with the least violation of the constraints where none satisfies them


class NetworksPage(Schema):
    """Some of a run's evaluated networks."""

    run: str
    total: int
    offset: int
    networks: tuple[Network, ...]


class EpochInfo(Schema):
    """One epoch of a training: scores by the training's metric and losses on validation examples; None where not recorded."""

    epoch: int
    loss: float | None  # Of the training
    largest: float | None
    smallest: float | None
    largest_loss: float | None
    smallest_loss: float | None
    seconds: float | None


class Training(Schema):
    """The training of a run's supernet, by epoch."""

    epochs: int
    history: tuple[EpochInfo, ...]
    best: int | None  # The epoch whose weights are kept; None where the last one's are
    metric: ObjectiveInfo  # What the largest and the smallest network are scored by: the first metric of the run's task
    title: str  # Of the metric, for people, with the unit that it is shown in


class PredictorInfo(Schema):
    """How well one objective is predicted, by cross-validation, now and after each fit."""

    objective: str
    latest: dict[str, Any]
    history: tuple[dict[str, Any], ...]


class StepModel(Schema):
    """The model of one metric in one step of a search."""

    kendall_tau: float | None  # Cross-validated rank agreement
    weights: dict[str, float]  # Of every model in the mean, by name, the largest first; they sum to 1


class SearchStep(Schema):
    """One step of a search; without numbers of candidates and without models where its networks were not chosen by models."""

    step: int  # From 0, which evaluates the smallest, the largest and the known networks
    proposed: int  # Networks that were asked for
    measured: int  # Of these, those with a value of every metric
    generations: int | None  # Of the evolution over predictions; 0 where a small space was listed
    bred: int | None  # Networks of these generations
    candidates: int | None  # Different ones that were not known before
    models: dict[str, StepModel]  # By name of the metric


class SearchSteps(Schema):
    """Some of the steps of a search; none of searches without models, and of runs of earlier versions."""

    run: str
    total: int
    offset: int
    steps: tuple[SearchStep, ...]


class ComparedRun(Schema):
    """One run of a comparison."""

    run: str
    status: RunStatusName
    front: tuple[Network, ...]
    hypervolume: float | None  # Of its front from the common reference point, in the common objectives
    curve: tuple[CurvePoint, ...]  # (evaluations, hypervolume) over the search, from the common reference point


class CommonMember(Schema):
    """A member of the common front of several searches, which is on the front of one of them."""

    run: str
    key: str


class JobDifference(Schema):
    """A key in which the job files of several runs differ."""

    key: str  # Its path, e.g. ``search.evaluations``
    values: dict[str, str | None]  # By run, as YAML; null where the job has no such key


class Comparison(Schema):
    """Several searches in their common objectives."""

    objectives: tuple[ObjectiveInfo, ...]
    reference: dict[str, float]
    runs: tuple[ComparedRun, ...]
    common_front: tuple[CommonMember, ...] = ()  # The cheapest first; empty where there are obstacles
    obstacles: tuple[str, ...] = ()  # Why values of the runs cannot be compared
    job_differences: tuple[JobDifference, ...] = ()
