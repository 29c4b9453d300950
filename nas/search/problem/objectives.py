"""Objectives, constraints, requests, measurements (the stored atoms) and evaluations."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.errors import UnknownNameError
from supernets.space import Architecture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Every command that reads a job file imports this module: numpy is loaded where there are arrays.


class Goal(StrEnum):
    """Directions in which a metric is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class Fidelity(StrEnum):
    """The protocol, and the part of the data, that a measurement used."""

    SCREEN = "screen"
    """A metric of the task on the first examples of the validation part; in runs of earlier versions."""
    SEARCH = "search"
    """A metric of the task on the validation part; latency by the short protocol."""
    FINAL = "final"
    """Latency by the longer protocol."""
    TEST = "test"
    """A metric of the task on the test part, which no search sees."""


class Status(StrEnum):
    """The outcome of a measurement."""

    OK = "ok"
    NOISY = "noisy"
    """There is a value, with its wider error."""
    FAILED = "failed"
    """There is no value; `Measurement.message` is the reason."""
    SKIPPED = "skipped"
    """Not measured; in runs of earlier versions, because other values had shown that it was not worth the cost."""


class MetricKind(NamedTuple):
    """Unit, goal and origin of a metric's values.

    Attributes:
        unit: Unit of the values; "" without one.
        goal: Direction that is better.
        per_profile: True if the values belong to a hardware profile.
        scored: True if a task scores them on examples, as the accuracy.
        title: Its name for people; "" where the metric's own is shown.
    """

    unit: str
    goal: Goal
    per_profile: bool = False
    scored: bool = False
    title: str = ""


_METRICS: Mapping[str, MetricKind] = {
    "accuracy": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Accuracy"),
    "agreement": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Agreement"),
    "top5_accuracy": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Top-5 accuracy"),
    "macro_f1": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Macro F1"),
    "auroc": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Area under the ROC curve"),
    "balanced_accuracy": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Balanced accuracy"),
    "mae": MetricKind("", Goal.MINIMIZE, scored=True, title="Mean absolute error"),
    "r2": MetricKind("", Goal.MAXIMIZE, scored=True, title="R²"),
    "average_precision": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Average precision"),
    "map": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Mean average precision"),
    "map_50": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Mean average precision at IoU 0.5"),
    "map_small": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Mean average precision, small objects"),
    "map_medium": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Mean average precision, medium objects"),
    "map_large": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Mean average precision, large objects"),
    "miou": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Mean intersection over union"),
    "pixel_accuracy": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Accuracy of pixels"),
    "perplexity": MetricKind("", Goal.MINIMIZE, scored=True, title="Perplexity"),
    "bits_per_byte": MetricKind("bits", Goal.MINIMIZE, scored=True, title="Bits per byte"),
    "choice_accuracy": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Accuracy of choices"),
    "normalised_choice_accuracy": MetricKind(
        "share", Goal.MAXIMIZE, scored=True, title="Accuracy of choices by likelihood per byte"
    ),
    "cache_hit_rate": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Hit rate of the cache of experts"),
    "expert_loads_per_token": MetricKind("", Goal.MINIMIZE, scored=True, title="Experts loaded per token"),
    "segment_cache_hit_rate": MetricKind(
        "share", Goal.MAXIMIZE, scored=True, title="Best hit rate of the cache of experts"
    ),
    "segment_routing_f1": MetricKind("share", Goal.MAXIMIZE, scored=True, title="Consistency of routing"),
    "active_experts_mean": MetricKind("", Goal.MINIMIZE, scored=True, title="Active experts of a token"),
    "macs_mean": MetricKind("MACs", Goal.MINIMIZE, scored=True, title="Mean multiply-accumulates"),
    "latency_ms": MetricKind("ms", Goal.MINIMIZE, per_profile=True, title="Latency"),
    "throughput": MetricKind("images/s", Goal.MAXIMIZE, per_profile=True, title="Throughput"),
    "peak_mib": MetricKind("MiB", Goal.MINIMIZE, per_profile=True, title="Peak memory"),
    "session_ms": MetricKind("ms", Goal.MINIMIZE, per_profile=True, title="Time to load"),
    "energy_mj": MetricKind("mJ", Goal.MINIMIZE, per_profile=True, title="Energy"),
    "time_to_first_token_ms": MetricKind("ms", Goal.MINIMIZE, per_profile=True, title="Time to first token"),
    "time_per_token_ms": MetricKind("ms", Goal.MINIMIZE, per_profile=True, title="Time per token"),
    "tokens_per_second": MetricKind("tokens/s", Goal.MAXIMIZE, per_profile=True, title="Tokens per second"),
    "kv_cache_mib": MetricKind("MiB", Goal.MINIMIZE, title="Cache"),
    "model_mib": MetricKind("MiB", Goal.MINIMIZE, title="Weights"),
    "resident_mib": MetricKind("MiB", Goal.MINIMIZE, title="Weights in memory"),
    "macs": MetricKind("MACs", Goal.MINIMIZE, title="Multiply-accumulates"),
    "parameters": MetricKind("parameters", Goal.MINIMIZE, title="Parameters"),
    "activation_bytes": MetricKind("bytes", Goal.MINIMIZE, title="Activations"),
}
SCORED_METRICS = frozenset(metric for metric, kind in _METRICS.items() if kind.scored)
"""Metrics of the shipped tasks."""
LOGARITHMIC_METRICS = frozenset({"perplexity"})
"""Positive metrics whose logarithm is an average over examples, so that their ratios count."""
NO_METRICS: Mapping[str, MetricKind] = MappingProxyType({})
EXACT_METRICS = frozenset({"macs", "parameters", "activation_bytes", "kv_cache_mib", "model_mib", "resident_mib"})
"""Metrics that are computed, never measured or predicted."""
TIMED_METRICS = frozenset(metric for metric, kind in _METRICS.items() if kind.per_profile)
"""Metrics of a deployment timed on a hardware profile: latency, examples per second, the peak memory of creating and running
the session, the time to create it, and the energy of a call."""
_OF_TOKENS = ("time_to_first_token_ms", "time_per_token_ms", "tokens_per_second", "kv_cache_mib")
"""Metrics of language models alone."""
ENERGY = "energy_mj"
"""Metric that needs counters of the machine. A job's additional metric may have its name, and then replaces it."""


@dataclass(frozen=True, slots=True)
class Objective:
    """One metric to optimise; `name` is ``metric`` or ``metric@profile``.

    Attributes:
        name: ``metric`` or ``metric@profile``.
        unit: Unit of the values; "" without one.
        goal: Direction that is better.
        scored: True for a metric of a task that is not shipped; see `of_task`.
    """

    name: str
    unit: str
    goal: Goal
    scored: bool = field(default=False, compare=False, repr=False)

    @property
    def metric(self) -> str:
        """The name without its profile."""
        return self.name.partition("@")[0]

    @property
    def profile(self) -> str | None:
        """The hardware profile of a measured cost, or None."""
        return self.name.partition("@")[2] or None

    @property
    def is_shipped(self) -> bool:
        """True for a metric of this package, with its unit and goal, so that its name alone describes it."""
        kind = _METRICS.get(self.metric)
        return kind is not None and kind[:3] == (self.unit, self.goal, self.profile is not None)

    @property
    def title(self) -> str:
        """Its name for people, without a profile."""
        return _METRICS[self.metric].title if self.is_shipped else self.metric

    @property
    def of_task(self) -> bool:
        """True if a task scores the metric on examples, as the accuracy."""
        return self.scored or self.metric in SCORED_METRICS

    @property
    def sign(self) -> float:
        """+1 to minimise, -1 to maximise: values are multiplied by it, so that algorithms always minimise."""
        return 1.0 if self.goal is Goal.MINIMIZE else -1.0

    @classmethod
    def parse(
        cls,
        text: str,
        profiles: Sequence[str],
        *,
        extra_metrics: Mapping[str, MetricKind] = NO_METRICS,
        task: Collection[str] = ("accuracy",),
        where: str = "",
        measured: Sequence[Objective] = (),
    ) -> Objective:
        """The objective that a user names; ``latency_ms`` alone is enough where there is one profile.

        Args:
            text: A metric, or ``METRIC@PROFILE``.
            profiles: Names of the hardware profiles.
            extra_metrics: Metrics beside the shipped ones.
            task: The shipped metrics of the task.
            where: Beginning of the error's message.
            measured: Objectives of a run, which are searched first, and listed by an error; without any, the error lists all
                that a job with these profiles can have.

        Raises:
            UnknownNameError: There is no such objective with these profiles.
        """
        of_run = [o for o in measured if text in (o.name, o.metric)]
        if len(of_run) == 1:
            return of_run[0]
        available, metrics = (
            known_objectives(profiles, extra_metrics=extra_metrics, task=task),
            {**_METRICS, **extra_metrics},
        )
        metric, _, profile = text.partition("@")
        per_profile = metric in metrics and metrics[metric].per_profile and not profile
        if per_profile and len(profiles) == 1:
            text = f"{metric}@{profiles[0]}"
        if text not in available:
            hint = ""
            if per_profile:
                alternatives = " or ".join(f"{metric}@{p}" for p in profiles)
                hint = (
                    f"With several profiles, say which: {alternatives}."
                    if profiles
                    else "Only a search times networks."
                )
            listed = [o.name for o in measured] or sorted(
                available, key=lambda name: _rank(name, {*task, *extra_metrics})
            )
            if len(profiles) == 1 and not profile:
                listed = [name.removesuffix(f"@{profiles[0]}") for name in listed]
            raise UnknownNameError("objective", text, listed, where=where, hint=hint, parameter=where)
        kind = metrics[metric]
        return cls(text, kind.unit, kind.goal, scored=kind.scored and metric not in _METRICS)


def _rank(name: str, metrics_of_job: Collection[str]) -> int:
    """The place of an objective in the list of an error: those that every job of this kind can have come first."""
    metric = name.partition("@")[0]
    usual = ("latency_ms", "macs", "parameters")
    return 0 if metric in metrics_of_job else 3 if metric in _OF_TOKENS else 1 if metric in usual else 2


def shipped_objectives(*metrics: str) -> tuple[Objective, ...]:
    """The objectives of metrics of this package, none of which belongs to a hardware profile."""
    return tuple(Objective(metric, _METRICS[metric].unit, _METRICS[metric].goal) for metric in metrics)


ACCURACY = Objective("accuracy", "share", Goal.MAXIMIZE)
"""The share of examples that a network classifies rightly: the metric of classification."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """Bounds on a metric, in its natural sign and unit; a candidate within all bounds of a job is feasible.

    Attributes:
        metric: Metric that is bounded; an objective of the search or a further metric.
        minimum: Smallest value that satisfies the constraint, in the metric's unit; None for no lower bound.
        maximum: Largest value that satisfies the constraint, in the metric's unit and at least `minimum`; None for no upper
            bound.

    Raises:
        ValueError: no bound, one that is not finite, or bounds that nothing can satisfy.
    """

    metric: Objective
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if not bounds or not all(map(math.isfinite, bounds)):
            raise ValueError(f"{self.metric.name}: expected a finite minimum, maximum or both, got {bounds}")
        if bounds != sorted(bounds):
            raise ValueError(f"{self.metric.name}: nothing is at least {self.minimum:g} and at most {self.maximum:g}")

    def violation(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Amounts by which values violate the bounds, as a share of the bound (of 1 where it is 0), same shape.

        0 within both bounds; NaN for NaN.

        Args:
            values: Values of the metric in its unit and natural sign, of any shape; NaN where there is none.
        """
        import numpy as np

        return sum((np.maximum(slack, 0.0) for slack in self.slacks(values).values()), np.zeros(np.shape(values)))

    def slacks(self, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Amounts by which values miss each bound that is set, ``maximum`` and ``minimum``, same shape.

        They are negative within the bound, and shares of the bound (of 1 where it is 0); NaN for NaN.

        Args:
            values: Values of the metric in its unit and natural sign, of any shape; NaN where there is none.
        """
        bounds = {"maximum": (self.maximum, 1.0), "minimum": (self.minimum, -1.0)}
        bound_by_kind = {kind: (bound, sign) for kind, (bound, sign) in bounds.items() if bound is not None}
        return {kind: sign * (values - bound) / (abs(bound) or 1.0) for kind, (bound, sign) in bound_by_kind.items()}

    def to_json(self) -> dict[str, Any]:
        """Its form in a run's store and in `--json`: ``figure``, ``min`` and ``max`` (null for none)."""
        return {"figure": self.metric.name, "min": self.minimum, "max": self.maximum}

    @classmethod
    def from_json(
        cls,
        data: Mapping[str, Any],
        profiles: Sequence[str],
        extra_metrics: Mapping[str, Objective] = MappingProxyType({}),
    ) -> Constraint:
        """The constraint that `to_json` wrote, in a run with these profiles and with further metrics, by name.

        Args:
            data: Mapping with ``figure``, the name of the metric, and ``min`` and ``max``, its bounds (None for none).
            profiles: Names of the run's hardware profiles; a metric of a profile must belong to one of them.
            extra_metrics: Metrics by name that are looked up before the shipped ones: those of the run's task and of plug-ins.
        """
        name = str(data["figure"])
        return cls(extra_metrics.get(name) or Objective.parse(name, profiles), data["min"], data["max"])


def metrics_of(objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> list[Objective]:
    """The metrics of every evaluation: the objectives, then the metrics of constraints alone."""
    return list(dict.fromkeys([*objectives, *(constraint.metric for constraint in constraints)]))


def known_objectives(
    profiles: Iterable[str],
    *,
    extra_metrics: Mapping[str, MetricKind] = NO_METRICS,
    task: Collection[str] = ("accuracy",),
) -> list[str]:
    """Names of all objectives that a job with these hardware profiles, further metrics and metrics of its task can have."""
    names, metrics = list(profiles), {**_METRICS, **extra_metrics}
    timed = [f"{m}@{p}" for m, kind in metrics.items() if kind.per_profile for p in names]
    untimed = [m for m, kind in metrics.items() if not kind.per_profile and (m in task or m not in SCORED_METRICS)]
    return timed + untimed


def is_shipped_metric(name: str) -> bool:
    """Returns True if this package has a metric of this name, without a profile."""
    return name in _METRICS


ONNX_RUNTIME = "onnxruntime"
"""The runtime of a deployment that names none."""


class Variant(NamedTuple):
    """How a network is deployed: its precision, and the runtime that runs it."""

    precision: str = "fp32"
    runtime: str = ONNX_RUNTIME

    def __str__(self) -> str:
        """``int8``, or ``int8@openvino``: the runtime where it is not ONNX Runtime."""
        return self.precision if self.runtime == ONNX_RUNTIME else f"{self.precision}@{self.runtime}"

    @classmethod
    def parse(cls, text: str) -> Variant:
        """The variant that `str` gave."""
        precision, _, runtime = text.partition("@")
        return cls(precision, runtime or ONNX_RUNTIME)


@dataclass(frozen=True, slots=True)
class Request:
    """One metric of one architecture in one variant, to be measured; the key of a `Measurement` inside a run.

    Attributes:
        architecture: Network to measure.
        metric: Name of the metric without a profile, e.g. ``latency_ms``.
        profile: Name of the hardware profile to measure on; None for a metric that belongs to no profile.
        fidelity: Protocol and part of the data to measure with.
        precision: Precision that the network is deployed in, e.g. ``fp32`` or ``int8``.
        runtime: Runtime in which a metric of the task is scored and a profile is measured. In a job without `runtimes` whose
            profiles have several runtimes, each profile is measured in its own, and this is the one for scoring.
    """

    architecture: Architecture
    metric: str
    profile: str | None = None
    fidelity: Fidelity = Fidelity.SEARCH
    precision: str = "fp32"
    runtime: str = ONNX_RUNTIME

    @property
    def name(self) -> str:
        """Its metric, as objectives and results name it: ``metric`` or ``metric@profile``."""
        return self.metric if self.profile is None else f"{self.metric}@{self.profile}"

    @property
    def variant(self) -> Variant:
        """The precision and the runtime."""
        return Variant(self.precision, self.runtime)


_WITHOUT_VALUE = (Status.FAILED, Status.SKIPPED)
TOO_NOISY = "too_noisy"
"""In the detail of a measurement that failed: whether the noise of the machine was the reason."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The stored atom: one value with its error, or the reason why there is none.

    Attributes:
        request: Architecture, metric and variant that the value belongs to.
        status: Outcome of the measurement; OK and NOISY have a value.
        value: Value in its objective's unit and natural sign; None exactly when `status` is FAILED or SKIPPED.
        error: One standard error (metrics of a task) or the noise floor times the value (latency); 0 for exact values.
        weights: Digest of the weights that were measured; "" where they do not matter.
        data: Digest of the images used; "" where they do not matter.
        protocol: Name and version of the way of measuring, e.g. ``interleaved-floor/v5``.
        environment: Machine and versions, JSON-able.
        detail: Further values (p50, preempted share, ...), JSON-able.
        samples: Raw samples, compressed: latency runs, or a score for each example (`nas.search.problem.example_scores`);
            kept in a table of their own.
        attempt: Number of the try: 0 for the first try; retries count up.
        seconds: Wall time of the measurement.
        message: Reason for people why there is no value; "" otherwise.
        committed: Time when a store committed it, in seconds since the epoch; 0 outside a store.
    """

    request: Request
    status: Status
    value: float | None
    error: float | None
    weights: str = ""
    data: str = ""
    protocol: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    samples: bytes | None = field(default=None, repr=False)
    attempt: int = 0
    seconds: float = 0.0
    message: str = ""
    committed: float = field(default=0.0, compare=False)

    def __post_init__(self) -> None:
        check_value(self.value, self.status)

    @property
    def too_noisy(self) -> bool:
        """True if the measurement failed for the noise of the machine."""
        return self.status is Status.FAILED and bool(self.detail.get(TOO_NOISY))


def check_value(value: float | None, status: Status) -> None:
    """Raises `ValueError` where a value is missing, or a measurement that failed or was skipped has one."""
    if (value is None) != (status in _WITHOUT_VALUE):
        raise ValueError(f"a measurement has a value unless it failed or was skipped; got {value} with status {status}")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All metrics of one candidate, objectives and constrained ones: a view over its measurements, by name.

    Attributes:
        architecture: Candidate that was evaluated.
        measurements: Measurement of each metric by the name of its objective, ``metric`` or ``metric@profile``.
    """

    architecture: Architecture
    measurements: Mapping[str, Measurement]

    @property
    def failed(self) -> bool:
        """True if any measurement failed."""
        return any(m.status is Status.FAILED for m in self.measurements.values())

    @property
    def too_noisy(self) -> bool:
        """True if the evaluation failed, and only for the noise of the machine."""
        failed = [m for m in self.measurements.values() if m.status is Status.FAILED]
        return bool(failed) and all(m.too_noisy for m in failed)

    @property
    def screened_out(self) -> bool:
        """True if some of its metrics were not measured: models may learn from it, but it enters no front."""
        return any(m.status is Status.SKIPPED for m in self.measurements.values())

    def value(self, objective: Objective) -> float:
        """The value in its natural sign; NaN where it failed, or was not requested.

        Args:
            objective: Objective or constrained metric, which is looked up by its name; its goal does not change the sign of the
                value.
        """
        measurement = self.measurements.get(objective.name)
        return math.nan if measurement is None or measurement.value is None else measurement.value


def minimised(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """Values as an (n, n_objectives) array in which smaller is better everywhere; NaN for failures."""
    import numpy as np

    out = np.array([[o.sign * e.value(o) for o in objectives] for e in evaluations], dtype=np.float64)
    return out.reshape(len(evaluations), len(objectives))
