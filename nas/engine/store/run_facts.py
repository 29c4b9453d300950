"""The facts of a run: what it is, written once when it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from nas.errors import StoreError
from nas.plugins import PluginRef
from nas.search.algorithms import label_of
from nas.search.problem.objectives import EXACT_METRICS, ONNX_RUNTIME, Constraint, Goal, Objective, Request, metrics_of
from nas.search.problem.tasks import CLASSIFICATION, TaskMetrics
from nas.search.problem.variants import Variants, environment_name
from supernets.space import Architecture, SearchSpace

Kind = Literal["training", "search"]
VERSION = 2
"""The version of the stored facts. Version 1 has the same keys without this one; those with a default below are optional."""


@dataclass(frozen=True, slots=True)
class ReusedRun:
    """Another run whose measurements a run takes, and which of them.

    Attributes:
        profiles: the hardware profiles whose measurements come from the same environment and protocol, as ``NAME`` or
            ``NAME in RUNTIME``.
        accuracy: True if its metrics of the task do, scored in ONNX Runtime.
        scored_in: the other runtimes in which they do.
        failures: reuse its failures, too: what failed there has failed here.
        without: metrics that another plug-in, or another version of it, measured there.
    """

    run: str
    profiles: tuple[str, ...]
    accuracy: bool = True
    failures: bool = False
    without: tuple[str, ...] = ()
    scored_in: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The reused run of a mapping that `asdict` returned, of this version or an earlier one."""
        lists = {key: tuple(data.get(key) or ()) for key in ("profiles", "without", "scored_in")}
        return cls(**{**data, **lists})

    @property
    def environments(self) -> frozenset[str]:
        """The names of the environments whose measurements it gives."""
        scored = [*([ONNX_RUNTIME] if self.accuracy else []), *self.scored_in]
        return frozenset([f"profile {name}" for name in self.profiles] + [environment_name(None, r) for r in scored])

    def has(self, request: Request) -> bool:
        """True if the other run's measurement of a request is valid for this run."""
        if request.metric in self.without:
            return False
        of = environment_name(request.profile, request.runtime)
        return of in self.environments or (request.profile is None and request.metric in EXACT_METRICS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFacts:
    """The facts of a search beside those of a training.

    Attributes:
        space: The space of candidates; see `Variants`.
        reused: the runs whose measurements it takes.
        prior_results: Results of a warm start by network, in the order measured: its ``key`` and its ``figures``, name ->
            [value, error], both null where that run has none. Copied, so that a resumed search begins from the same even
            if the other runs are gone.
        known_candidates: Candidates of a warm start that have a value of every metric: evaluated first, beside the budget.
        predictor: Name of the predictor that the job gives the algorithm; "" for none.
        models_from: the number of the first evaluation that models choose if none before it fails; None for an algorithm
            without models, and in runs of version 0.1.
        task: stored unless it is classification, the only one of earlier versions.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    profiles: tuple[str, ...] = ()
    variants: Variants = Variants()  # noqa: RUF009 - a frozen value
    algorithm: str = ""
    predictor: str = ""
    reused: tuple[ReusedRun, ...] = ()
    prior_results: tuple[Mapping[str, Any], ...] = ()
    known_candidates: tuple[Architecture, ...] = ()
    models_from: int | None = None
    task: TaskMetrics = CLASSIFICATION

    @property
    def label(self) -> str:
        """The algorithm with its predictor."""
        return label_of(self.algorithm, self.predictor)

    def n_spent(self, n_candidates: int) -> int:
        """The evaluations of the budget among this number of evaluated candidates, the first of which are known ones."""
        return max(0, n_candidates - len(self.known_candidates))

    @property
    def metrics(self) -> list[Objective]:
        """The metrics that are measured of every candidate."""
        return metrics_of(self.objectives, self.constraints)

    @property
    def scored(self) -> Objective:
        """The metric by which networks are scored on the test part."""
        return self.task.scored(self.metrics)

    def to_json(self) -> dict[str, Any]:
        """Plain data by stored key."""
        return {
            "space": self.space.to_json(has_titles=True),
            "objectives": [objective.name for objective in self.objectives],
            "constraints": [constraint.to_json() for constraint in self.constraints],
            "own_metrics": {
                m.name: {"unit": m.unit, "goal": str(m.goal), **({"scored": True} if m.scored else {})}
                for m in self.metrics
                if not m.is_shipped
            },
            "profiles": list(self.profiles),
            "precisions": list(self.variants.precisions),
            "runtimes": list(self.variants.runtimes),
            "algorithm": self.algorithm,
            "predictor": self.predictor,
            "sources": [asdict(run) for run in self.reused],
            "learnt": list(self.prior_results),
            "known": [architecture.key for architecture in self.known_candidates],
            "models_from": self.models_from,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The facts that `to_json` wrote, of this version or an earlier one."""
        profiles, task = tuple(data["profiles"]), _task_of(data)
        described = data.get("own_metrics") or {}
        metric_by_name = {o.name: o for o in task.metrics} | {
            name: Objective(name, metric["unit"], Goal(metric["goal"]), scored=bool(metric.get("scored")))
            for name, metric in described.items()
        }
        return cls(
            task=task,
            space=SearchSpace.from_json(data["space"]),
            objectives=tuple(
                metric_by_name.get(name) or Objective.parse(name, profiles) for name in data["objectives"]
            ),
            constraints=tuple(Constraint.from_json(c, profiles, metric_by_name) for c in data.get("constraints") or ()),
            profiles=profiles,
            variants=Variants(
                tuple(data.get("precisions") or ("fp32",)), tuple(data.get("runtimes") or (ONNX_RUNTIME,))
            ),
            algorithm=data.get("algorithm") or "",
            predictor=data.get("predictor") or "",
            reused=tuple(map(ReusedRun.from_json, data.get("sources") or ())),
            prior_results=tuple(data.get("learnt") or ()),
            known_candidates=tuple(map(Architecture.parse, data.get("known") or ())),
            models_from=data.get("models_from"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The facts of a run, which never change.

    Attributes:
        name: Name of its job.
        compatibility: Facts that measurements must share with the run's own to be combined with them, JSON-able; see
            `nas.engine.store.compatibility`.
        epochs: Number of epochs of its training; 0 where its supernet was trained before.
        plugins: Plug-ins that its job names, with their packages and versions.
        task: see `SearchFacts`.
        search: Facts of its search; None for a training.
    """

    name: str
    seed: int = 0
    compatibility: Mapping[str, Any]
    epochs: int = 0
    plugins: tuple[PluginRef, ...] = ()
    task: TaskMetrics = CLASSIFICATION
    search: SearchFacts | None = None

    @property
    def kind(self) -> Kind:
        """``training`` if the run only trains a supernet, ``search`` if it also searches it."""
        return "training" if self.search is None else "search"

    def to_json(self) -> dict[str, Any]:
        """Plain data by stored key."""
        values = {
            "facts_version": VERSION,
            "kind": self.kind,
            "name": self.name,
            "seed": self.seed,
            "conditions": self.compatibility,
            "epochs": self.epochs,
            "plugins": [ref.to_json() for ref in self.plugins],
            **({} if self.task == CLASSIFICATION else {"task": self.task.to_json()}),
        }
        return values if self.search is None else values | self.search.to_json()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self | None:
        """The facts that `to_json` wrote, of this version or an earlier one; None where there is no ``kind``.

        Earlier versions wrote one key at a time and the kind last, so that without it the others may be incomplete.

        Raises:
            StoreError: they are of a later version.
            KeyError, TypeError, ValueError, UnknownNameError, SpaceError: they are damaged.
        """
        if "kind" not in data:
            return None
        if data.get("facts_version", 1) > VERSION:
            raise StoreError(
                f"the run was written by a later version of this program (facts of version {data['facts_version']}; this one "
                f"reads up to {VERSION}); open it with that version",
                code="store.unknown-version",
            )
        return cls(
            name=data.get("name") or "",
            seed=data.get("seed") or 0,
            compatibility=data.get("conditions") or {},
            epochs=data.get("epochs") or 0,
            plugins=tuple(map(PluginRef.from_json, data.get("plugins") or ())),
            task=_task_of(data),
            search=SearchFacts.from_json(data) if data["kind"] == "search" else None,
        )


def _task_of(data: Mapping[str, Any]) -> TaskMetrics:
    """The task of stored facts; earlier versions had classification alone."""
    return TaskMetrics.from_json(data["task"]) if data.get("task") else CLASSIFICATION
