"""Plans of jobs: the size, costs and extremes of the space, and an estimate of the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

from numpy.typing import NDArray

from hardware_profiles.base import Deployment, HardwareProfile
from hardware_profiles.errors import ProfilingError
from hardware_profiles.profiler_factory import open_profiler
from nas.engine.formatting import guidance_text
from nas.engine.process_memory import PeakMemory
from nas.engine.run_usage import keep_plan
from nas.errors import EvaluationError
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.build.measurement_reuse import Reuse
from nas.jobs.build.search_objects import first_modelled
from nas.jobs.build.serving import Serving, writes_cache_in_place
from nas.jobs.evaluation.measuring_evaluator import served_by
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH, in_precision
from nas.jobs.evaluation.serving_inputs import serving_inputs
from nas.jobs.planning.estimate import Memory, Times, estimate
from nas.jobs.planning.language_models import LanguageModels, language_models
from nas.jobs.planning.latencies import measure_all
from nas.search.algorithms import label_of
from nas.search.problem.tasks import SERVED_METRICS
from supernets.data import LabelSummary, TextFormat, label_summary
from supernets.families.captured.captured_family import CapturedFamily
from supernets.families.captured.inspection import Inspection, inspect_model
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.space.cost import Cost


@dataclass(frozen=True, slots=True)
class Extreme:
    """The smallest or the largest network of a space, with latency and noise floor (ms per batch) by ``PROFILE`` in fp32 or
    ``PROFILE in PRECISION``, and energy with its error (mJ per batch) where the job measures it."""

    architecture: Architecture
    cost: Cost
    latency_ms: dict[str, tuple[float, float]]
    energy_mj: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a job.

    Attributes:
        size: exact number of candidates: networks times variants.
        noun: Noun for the data set's examples.
        images: numbers of examples in the three parts of the data.
        n_cut: number of sentences cut to ``data.max_tokens``; None for other data.
        n_skipped: number of files that cannot be used and were left out.
        warning: Warning about the data set, one line, or "".
        warm_start: Measurements of other runs that the search reuses, one line, or "".
        models_from: the number of the first evaluation that models choose; None for an algorithm without models.
    """

    name: str
    size: int
    n_choices: int
    smallest: Extreme
    largest: Extreme
    noun: str
    images: dict[str, int]
    n_cut: int | None
    n_skipped: int
    warning: str
    evaluations: int
    algorithm: str
    models_from: int | None
    warm_start: str
    epochs: int | None
    times: Times | None = None
    memory: Memory | None = None
    """The peak memory of the job's processes; None where no times are estimated."""
    model: Inspection | None = None
    """The elastic axes of a user's model; None for other supernets."""
    language: LanguageModels | None = None
    """The elastic dimensions of language models and the texts that they read; None for other networks."""
    serving: Serving | None = None
    """The calls by which language models and encoder-decoders are timed; None for other networks."""
    labels: LabelSummary | None = None
    """The boxes or pixels of each class; None for other labels."""
    unmeasured: dict[str, Exception] = field(default_factory=dict)
    """Why nothing can be measured on a profile, by its name; a search would end with this."""

    @property
    def guidance(self) -> str:
        """The evaluation from which models choose, with a warning where the budget ends before; "" without models."""
        text = guidance_text(self.algorithm, self.models_from, self.evaluations)
        if self.models_from is None or not self.ends_before_models:
            return text
        return f"warning: {text}; raise search.evaluations, e.g. to {2 * self.models_from}"

    @property
    def budget_note(self) -> str:
        """A warning where the budget exceeds the space; "" where it does not."""
        if self.evaluations <= self.size:
            return ""
        return (
            f"warning: search.evaluations is {self.evaluations:,}, and the space has {self.size:,} architectures; the search "
            "ends when all are evaluated"
        )

    @property
    def expected(self) -> dict[str, Any]:
        """The estimates of ``time`` and ``memory``, JSON-able; None where there are none."""
        return {
            "time": None if self.times is None else self.times.to_json(),
            "memory": None if self.memory is None else asdict(self.memory),
        }

    @property
    def ends_before_models(self) -> bool:
        """True if the budget ends before models choose any network."""
        return self.models_from is not None and self.models_from > self.evaluations

    def to_json(self) -> dict[str, Any]:
        """The output of `nas plan --json`."""
        return {
            "name": self.name,
            "space": {"size": self.size, "choices": self.n_choices},
            "smallest": _extreme_json(self.smallest),
            "largest": _extreme_json(self.largest),
            "images": self.images,
            "cut_sentences": self.n_cut,
            "skipped_files": self.n_skipped,
            "evaluations": self.evaluations,
            "models_from": self.models_from,
            "epochs": self.epochs,
            "warnings": [
                text
                for text in (self.warning, self.budget_note, self.guidance if self.ends_before_models else "")
                if text
            ],
            **self.expected,
            **({} if self.model is None else {"model": self.model.to_json()}),
            **({} if self.language is None else {"language_models": self.language.to_json()}),
            **({} if self.labels is None else {"labels": self.labels.to_json()}),
            **({} if self.serving is None else {"serving": self.serving.to_json()}),
            **(
                {"unmeasured": {name: str(error) for name, error in self.unmeasured.items()}} if self.unmeasured else {}
            ),
        }


def plan(built_job: BuiltJob, reuse: Reuse, *, time: bool = True, inline: bool = False, start_s: float = 0.0) -> Plan:
    """The plan of a checked job, with the measured latency of the smallest and the largest network on each of its profiles.

    A profile on which one of the two cannot be measured is among the plan's `unmeasured`, and the plan has no times then.
    The runs of the job on this machine compare what they take with the last plan that has times.

    Args:
        reuse: Measurements of other runs that the search reuses.
        time: also estimate the job's time and memory.
        inline: the search runs in one process.
        start_s: Seconds that this process took until the job was checked; 0 where it was started for other work.
    """
    job, data = built_job.job.config, built_job.data.dataset
    times, memory = None, None
    with PeakMemory() as peak:
        supernet = built_job.current()
        (smallest, largest), unmeasured = _measure_extremes(built_job, supernet)
        if time and not unmeasured:
            times, memory = estimate(built_job, supernet, peak, inline=inline, start_s=start_s)
    job_plan = Plan(
        name=job.name,
        size=built_job.space.size,
        n_choices=len(built_job.space),
        smallest=smallest,
        largest=largest,
        noun=data.format.noun,
        images={part: len(getattr(data, part).labels) for part in ("train", "validation", "test")},
        n_cut=data.format.n_cut if isinstance(data.format, TextFormat) else None,
        n_skipped=len(data.skipped),
        warning=data.warning,
        evaluations=job.search.evaluations,
        algorithm=label_of(job.search.algorithm, job.search.predictor or ""),
        models_from=first_modelled(
            built_job, known_candidates=reuse.known_candidates, n_prior=len(reuse.prior_results)
        ),
        warm_start=str(reuse),
        epochs=None if built_job.checkpoint is not None else job.training.epochs,
        language=language_models(built_job),
        labels=label_summary(data),
        serving=built_job.serving,
        times=times,
        memory=memory,
        model=_inspected(built_job),
        unmeasured=unmeasured,
    )
    if times is not None:
        keep_plan(built_job.job.runs, job.to_yaml(), job_plan.expected, inline=inline)
    return job_plan


def _measure_extremes(built_job: BuiltJob, supernet: Supernet) -> tuple[list[Extreme], dict[str, Exception]]:
    """The smallest and the largest network, and why nothing can be measured on a profile, by its name."""
    ends = [supernet.space.smallest, supernet.space.largest]
    extremes, unmeasured = [Extreme(a, supernet.cost(a), {}) for a in ends], dict[str, Exception]()
    models, several = _Models(built_job, supernet, ends), len(built_job.job.variants.runtimes) > 1
    seed = built_job.job.config.seed
    for (_, runtime), profile in built_job.job.deployed.items():
        energy = profile.name in built_job.job.energy_profiles
        with (
            _noting(unmeasured, profile.name),
            open_profiler(profile, seed=seed, await_first=False, energy=energy) as profiler,
        ):
            for precision, name in product(reversed(built_job.job.variants.precisions), models.names(profile)):
                how = [*([precision] if precision != "fp32" else []), *([runtime] if several else [])]
                where = ", ".join(filter(None, (" in ".join([profile.name, *how]), name)))
                deployments = models.deployments(profile, precision, name)
                results = measure_all(profiler, deployments, [f"network {a.key} on profile {where}" for a in ends])
                for end, result in zip(extremes, results, strict=True):
                    end.latency_ms[where] = (result.latency_ms, result.latency_ms * result.resolution)
                    if result.energy_mj is not None:
                        end.energy_mj[where] = (result.energy_mj, result.energy_error_mj or 0.0)
    return extremes, unmeasured


class _Models:
    """The timed models of some networks of a supernet; models of language models, which may be large, are made one by one."""

    def __init__(self, built_job: BuiltJob, supernet: Supernet, networks: Sequence[Architecture]) -> None:
        self._built_job, self._supernet, self._networks, self._task = built_job, supernet, networks, built_job.data.task
        self._built: list[bytes] = []
        if not self._task.served(supernet.extract(networks[0])):
            shown = built_job.data.dataset.validation.inputs[:2]
            self._built = [onnx_model(supernet.extract(network), shown) for network in networks]

    def names(self, profile: HardwareProfile) -> list[str]:
        """The names of the models by which networks are served on a profile; "" for the one model of other networks."""
        if self._built:
            return [""]
        return list(
            dict.fromkeys(served_by(metric, in_place=writes_cache_in_place(profile)) for metric in SERVED_METRICS)
        )

    def deployments(self, profile: HardwareProfile, precision: str, name: str) -> Iterator[Deployment]:
        """The deployment of each network, by the model of this name in a precision."""
        return (self._deployment(i, profile, precision, name) for i in range(len(self._networks)))

    def _deployment(self, i: int, profile: HardwareProfile, precision: str, name: str) -> Deployment:
        plain = self._built[i] if self._built else self._task.served(self._supernet.extract(self._networks[i]))[name]
        model = in_precision(plain, precision, self._built_job.data.calibration.split(CALIBRATION_BATCH), self._task)
        return Deployment.single(model, *_inputs(self._built_job, profile, model, name))


@contextmanager
def _noting(reasons: dict[str, Exception], profile: str) -> Iterator[None]:
    """Notes why a profile cannot be measured."""
    try:
        yield
    except (ProfilingError, EvaluationError) as error:
        reasons[profile] = error


def _inputs(
    built_job: BuiltJob, profile: HardwareProfile, model: bytes, served: str
) -> list[Mapping[str, NDArray[Any]]]:
    """The inputs of each call of a model; `served` is the name of one of those by which a network is served, or ""."""
    examples = built_job.data.timed_batches(profile)
    if not served or built_job.serving is None:
        return [{INPUT: batch} for batch in examples]
    return [serving_inputs(model, texts, context_tokens=built_job.serving.context_tokens) for texts in examples]


def _inspected(built_job: BuiltJob) -> Inspection | None:
    """The elastic axes of the user's model, which were proved when it was captured; None without such a model."""
    model, family = built_job.model, built_job.family
    if model is None or not isinstance(family, CapturedFamily):
        return None
    return inspect_model(model, family.options, proof=False)


def _extreme_json(extreme: Extreme) -> dict[str, Any]:
    cost = asdict(extreme.cost)
    cost["blocks"] = [{"name": name, **block} for name, block in cost["blocks"]]
    for block in cost["blocks"]:
        block.pop("blocks")
    measured = {
        f"{metric}@{name}": pair
        for metric in ("latency_ms", "energy_mj")
        for name, pair in getattr(extreme, metric).items()
    }
    values, errors = ({name: pair[k] for name, pair in measured.items()} for k in (0, 1))
    return {"key": extreme.architecture.key, **cost, **values, "errors": errors}
