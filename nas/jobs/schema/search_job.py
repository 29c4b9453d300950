"""The whole job file, as frozen models that check themselves (no torch)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from hardware_profiles.base import WEIGHT_PRECISIONS
from hardware_profiles.runtimes.shipped import RUNTIMES
from nas.errors import JobError, checked_path
from nas.jobs.schema.data import DATA_BY_TASK, DATA_SETS, SIZES, TEXT, DataConfig
from nas.jobs.schema.errors import conflict, missing_key, problem, reported, show, translate
from nas.jobs.schema.metrics import (
    BoundsConfig,
    MetricConfig,
    OwnMetrics,
    ServingConfig,
    check_distinct,
    check_own_metric,
    parse_metric,
)
from nas.jobs.schema.search import SearchConfig
from nas.jobs.schema.section import Section, names_of_stored_jobs, plugin_name, whole_number
from nas.jobs.schema.strict_yaml import dump_mapping, parse_mapping, read_text
from nas.jobs.schema.supernet import SharingConfig, SupernetConfig, training_of_model
from nas.jobs.schema.training import STRATEGIES, TrainingConfig
from nas.plugins import Kind
from nas.search.algorithms import ALGORITHMS
from nas.search.problem.objectives import (
    NO_METRICS,
    ONNX_RUNTIME,
    TIMED_METRICS,
    Constraint,
    Objective,
    Variant,
)
from nas.search.problem.tasks import (
    AGREEMENT,
    CACHED_EXPERTS,
    CHOICES,
    CLASSIFICATION,
    IMITATION,
    LANGUAGE,
    SERVED_MEMORY,
    SERVED_METRICS,
    SHIPPED,
    TaskMetrics,
)
from predictors.registry import PREDICTORS
from supernets.families.registry import FAMILIES

if TYPE_CHECKING:
    from nas.engine.store.stored_run import StoredRun

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
WHAT = "job file"
"""The name of its kind in errors."""
_DECODER = "decoder"
_PRETRAINED_RATE = 0.0001
"""Peak learning rate of a job that begins with pretrained weights, which the general default would destroy."""
_DECODER_RATE, _ADAPTER_RATE = 0.00003, 0.0003
"""The same of pretrained decoders: of their weights, and of adapters."""

_SectionT = TypeVar("_SectionT", bound=Section)
_Text = Annotated[
    str, Field(strict=True, min_length=1, max_length=1000, pattern=r"^[^\x00]+$", description="some text")
]


class SearchJob(Section):
    """A whole job."""

    name: Annotated[
        str, Field(strict=True, pattern=rf"^{_NAME.pattern}\z", description="1 to 64 letters, digits, - and _")
    ]
    """The beginning of the run's id."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32, description="a whole number from 0 to 4294967295")] = 1
    """The seed of everything random: with the same measurements, the same seed gives the same front."""
    data: DataConfig
    task: plugin_name(Kind.TASKS, SHIPPED) = CLASSIFICATION.name  # type: ignore[valid-type]  # as that of an algorithm
    supernet: SupernetConfig
    training: TrainingConfig = TrainingConfig()
    hardware: Annotated[
        tuple[_Text, ...], Field(min_length=1, description="a list of profile names or paths, e.g. [cpu-1-thread]")
    ] = ("cpu-1-thread",)
    """Hardware profiles on which latency is measured; `nas profiles` lists the names."""
    objectives: Annotated[
        tuple[_Text, ...], Field(min_length=1, description="a list of one or more, e.g. [accuracy, latency_ms]")
    ] = ("accuracy", "latency_ms")
    """The metrics to optimise; METRIC@PROFILE where there are several profiles."""
    metrics: dict[str, MetricConfig] = Field(
        default_factory=dict,
        description="a mapping from new metrics to plug-ins, e.g. {energy_mj: package.module:Class}",
    )
    """Metrics that plug-ins measure; objectives and constraints may name them beside the shipped ones."""
    constraints: dict[str, BoundsConfig] = Field(
        default_factory=dict, description="a mapping from metrics to their bounds, e.g. {latency_ms: {max: 2.0}}"
    )
    """Bounds that every network of the front satisfies, on objectives or other metrics."""
    precisions: Annotated[
        tuple[
            Annotated[
                Literal["fp32", "int8", "int4", "fp16", "bf16"], Field(description="fp32, int8, int4, fp16 or bf16")
            ],
            ...,
        ],
        Field(min_length=1, description="a list of fp32, int8, int4, fp16 and bf16, e.g. [fp32, int8]"),
    ] = ("fp32",)
    """The precisions that networks are deployed in; with several, the search chooses for each network. Of language models, int8
    and int4 are those of the weights alone; other networks have no int4."""
    serving: ServingConfig = ServingConfig()
    """Lengths and batch of a language model's calls."""
    runtimes: Annotated[
        tuple[plugin_name(Kind.RUNTIMES, RUNTIMES), ...] | None,  # type: ignore[valid-type]  # as that of an algorithm
        Field(min_length=1, description="a list of runtimes, e.g. [onnxruntime, openvino]"),
    ] = None
    """The runtimes of the networks on every profile; with several, the search chooses for each network. Profiles name their own
    runtimes by default."""
    lookup_tables: Annotated[
        tuple[Path, ...], Field(description="a list of files with lookup tables, at most one a profile")
    ] = ()
    """Measured latencies of blocks, which predict the latency of all networks."""
    search: SearchConfig = SearchConfig()
    warm_start: Annotated[
        tuple[Annotated[str, Field(strict=True, pattern=rf"^{_RUN.pattern}\z", description="a run's id")], ...],
        Field(description="a list of runs of the same supernet, e.g. [digits-cnn-1]"),
    ] = ()
    """Earlier searches of the same supernet, whose measurements are reused."""
    calibration_images: int = whole_number(2, 10**6, default=1000)
    """Training images that set a network's batch-norm statistics before it is scored."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Sets the defaults that depend on the task (objectives) or on the supernet (learning rate, distillation)."""
        if not isinstance(data, dict):
            return data
        task = SHIPPED.get(str(data.get("task")))
        if task is not None and task.name != CLASSIFICATION.name and data.get("objectives") is None:
            timed = "time_per_token_ms" if task.name == LANGUAGE else "latency_ms"
            data = {**data, "objectives": [task.metrics[0].name, timed]}
        supernet, training = data.get("supernet"), data.get("training", {})
        if not (isinstance(supernet, dict) and isinstance(training, dict)):
            return data
        if supernet.get("model") is not None:
            of = data.get("data")
            size = SIZES.get(str(of.get("name"))) if isinstance(of, Mapping) else None
            of_text = isinstance(of, Mapping) and of.get("name") == TEXT
            tuned = {"rate": _PRETRAINED_RATE} if of_text else {}
            return {**data, "training": training_of_model(supernet, training, size, **tuned)}
        family = FAMILIES.get(str(supernet.get("family")))
        has_teacher = training.get("teacher") is not None or training.get("strategy") == "instatune"
        if family is not None and not family.distills and not has_teacher:
            training = {"distill": "none", **training}
            data = {**data, "training": training}
        if training.get("learning_rate") is not None:
            return data
        rate = family and family.learning_rate
        if supernet.get("pretrained") is not None:
            of_decoder, adapters = supernet.get("family") == _DECODER, training.get("adapters") is not None
            rate = _ADAPTER_RATE if adapters else _DECODER_RATE if of_decoder else _PRETRAINED_RATE
        return data if rate is None else {**data, "training": {**training, "learning_rate": rate}}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for i, text in enumerate(self.hardware):
            if not is_profile_path(text) and not _NAME.fullmatch(text):
                raise problem(f"hardware[{i}]", f"expected a profile's name or path, got {show(text)}")
        for key in ("hardware", "warm_start", "precisions", "runtimes"):
            check_distinct(key, getattr(self, key) or ())
        self._check_task()
        if self.training.epochs == 0 and self.supernet.trains and not self.supernet.made_of_trained:
            text = "0 is for networks of supernet.pretrained or supernet.model, and the job names neither; expected 1 or more"
            raise conflict("training.epochs", text)
        if self.training.strategy == "sorted" and not self.supernet.nested and self.supernet.from_ is None:
            raise conflict(
                "supernet.nested",
                "the strategy sorted trains networks that are nested, one choice a dimension for all "
                "layers; write nested: true, or take another training.strategy",
            )
        if self.supernet.pretrained is not None and self.data.asks_for_vocabulary:
            raise conflict(
                "data.vocabulary",
                "supernet.pretrained has a tokenizer, and none is trained; remove it, or name a data.tokenizer",
            )
        if len(self.supernet.vocabularies) > 1:
            raise conflict(
                "supernet.space.vocabulary", "has several options, and networks have one vocabulary; give one"
            )
        if self.supernet.model is not None:
            self._check_model()
        self._check_training()
        if self.lookup_tables and len(self.runtimes or ()) > 1:
            raise conflict(
                "lookup_tables",
                "are each of one runtime, and the search chooses among several; remove them, or name one runtime",
            )
        self._check_metrics()
        if not any(map(is_profile_path, self.hardware)):  # a profile file's name is known only when it is read
            self._objectives(self.hardware, None, None)
            self._constraints(self.hardware, None, None)
        return self

    @property
    def names(self) -> dict[str, tuple[Kind, str, Collection[str]]]:
        """The names of the job that may be plug-ins, by key: the kind, the name, and the names of the shipped classes."""
        metrics = {f"metrics.{key}": (Kind.METRICS, metric.name, ()) for key, metric in self.metrics.items()}
        predictor = self.search.predictor
        return {
            "data.name": (Kind.DATA, self.data.name, DATA_SETS),
            "task": (Kind.TASKS, self.task, SHIPPED),
            "search.algorithm": (Kind.SEARCH, self.search.algorithm, ALGORITHMS),
            **({} if predictor is None else {"search.predictor": (Kind.PREDICTORS, predictor, PREDICTORS)}),
            "training.strategy": (Kind.STRATEGIES, self.training.strategy, STRATEGIES),
            "supernet.family": (Kind.FAMILIES, self.supernet.family, FAMILIES),
            **{f"runtimes[{i}]": (Kind.RUNTIMES, name, RUNTIMES) for i, name in enumerate(self.runtimes or ())},
            **metrics,
        }

    @property
    def first_variant(self) -> Variant:
        """The first precision in the first runtime that it names."""
        return Variant(self.precisions[0], self.runtimes[0] if self.runtimes else ONNX_RUNTIME)

    @property
    def rate_of_family(self) -> bool:
        """True if the peak learning rate is that of a plug-in's family, which is known once it is loaded."""
        has_own_rate = "learning_rate" in self.training.model_fields_set or self.supernet.pretrained is not None
        return not has_own_rate and self.supernet.family not in FAMILIES

    @property
    def plugins(self) -> dict[str, tuple[Kind, str]]:
        """The plug-ins that it names, by key; shipped classes are none."""
        return {key: (kind, name) for key, (kind, name, shipped) in self.names.items() if name not in shipped}

    def _check_training(self) -> None:
        """Checks what the training asks of the supernet and the task."""
        training, supernet = self.training, self.supernet
        of_decoder = supernet.family == _DECODER
        if training.distill == "original" and supernet.model is None and not (of_decoder and supernet.pretrained):
            raise conflict(
                "training.distill",
                "original is the model of supernet.model or the decoder of supernet.pretrained; "
                "the job names none: expected largest, teacher or none",
            )
        if training.top_k is not None and self.task not in (CLASSIFICATION.name, LANGUAGE):
            raise conflict(
                "training.top_k", f"is of the probabilities of classes, and the task is {self.task}; remove it"
            )
        if training.class_weights is not None and self.task != CLASSIFICATION.name:
            raise conflict(
                "training.class_weights", f"is of the classes of examples, and the task is {self.task}; remove it"
            )
        if training.activation_checkpointing and supernet.model is not None:
            raise conflict(
                "training.activation_checkpointing",
                "a supernet of a model has none; remove it, and raise training.accumulate to save memory",
            )
        if training.balance_loss == 0 and supernet.trains and getattr(supernet.space, "null_experts", None):
            raise conflict(
                "training.balance_loss",
                "is 0, and without it routers do not learn when to choose the null experts "
                "of supernet.space.null_experts; remove one of them",
            )
        kinds = supernet.kinds_of_experts()
        remedy = "and the networks have none that tokens are sent to; remove it, or take a space with experts"
        if training.entropy_loss and kinds is not None and "experts" not in kinds:
            raise conflict("training.entropy_loss", f"is of the routers of MLPs' experts, {remedy}")
        if training.parameters == "routers" and kinds is not None and not kinds:
            raise conflict("training.parameters", f"routers are those of experts, {remedy}")
        trained = supernet.pretrained is not None or supernet.network is not None
        sharing = supernet.sharing or SharingConfig()
        plain = sharing.model_copy(update={"correction": None}) == SharingConfig()
        if training.adapters is not None and not (of_decoder and trained and plain):
            raise conflict(
                "training.adapters",
                "are of a trained decoder (supernet.family: decoder, with pretrained) with sharing: slice; remove it",
            )
        if training.strategy == "differentiable" and not plain:
            raise conflict(
                "supernet.sharing", "the strategy differentiable needs slice; remove it, or change the strategy"
            )

    def _check_metrics(self) -> None:
        used = {text.partition("@")[0] for text in (*self.objectives, *self.constraints)}
        for name in self.metrics:
            check_own_metric(name)
            if name not in used:
                raise conflict(
                    f"metrics.{name}", "is neither an objective nor a constraint; name it in one, or remove it"
                )

    def _check_model(self) -> None:
        if self.data.of_text and str(self.supernet.model).startswith(("torchvision:", "timm:")):
            raise conflict(
                "supernet.model",
                f"takes images, and data.name: {self.data.name} is of sentences; take a model of sentences, "
                "transformers:FOLDER, or the family encoder",
            )

    def _check_task(self) -> None:
        if self.task not in SHIPPED and "objectives" not in self.model_fields_set:
            raise missing_key(
                "objectives", f"is missing; name a metric of the task {self.task}, e.g. [METRIC, latency_ms]"
            )
        task = next((task for task, names in DATA_BY_TASK.items() if self.data.name in names), self.task)
        if task != self.task and self.task in SHIPPED:
            raise conflict("task", f"{self.task} takes other labels than those of {self.data.name}; write {task}")
        names = DATA_BY_TASK.get(self.task, DATA_SETS)
        if self.data.name in DATA_SETS and self.data.name not in names:
            raise conflict("data.name", f"the task {self.task} takes {', '.join(names)}; got {self.data.name}")
        self._check_original()
        self._check_served()
        self._check_choices()
        self._check_expert_cache()
        if self.task != CLASSIFICATION.name and self.training.divergence != "kl":
            raise conflict(
                "training.divergence",
                f"alpha compares the probabilities of classes, and the task is {self.task}; remove it",
            )

    def _check_original(self) -> None:
        """A network is compared with the original where it is made of one."""
        of_model = self.supernet.model is not None or self.supernet.from_ is not None
        used = [name for name in (*self.objectives, *self.constraints) if name == AGREEMENT]
        if used and self.task in (CLASSIFICATION.name, IMITATION) and not of_model:
            raise conflict(
                "objectives", f"{AGREEMENT} is with the model of supernet.model, and the job names none; name one"
            )
        if self.task == IMITATION and not of_model:
            raise conflict("task", f"{IMITATION} is of the model of supernet.model, and the job names none; name one")
        if self.task == IMITATION and self.data.labels is None and self.data.name in DATA_SETS:
            raise missing_key(
                "data.labels", f"is missing; the task {IMITATION} takes examples without labels; write none"
            )
        if self.task == IMITATION and AGREEMENT not in used and self.supernet.sort == "taylor":
            fault = "taylor is by gradients of the loss, which are zero at the original without classes; take weights"
            raise conflict("supernet.sort", fault)

    def _check_served(self) -> None:
        """Language models are timed as they are served, by two models; other networks by one."""
        of_language = self.task == LANGUAGE
        for i, precision in enumerate(self.precisions):
            if of_language and precision not in WEIGHT_PRECISIONS:
                weight_precisions = ", ".join(WEIGHT_PRECISIONS)
                raise conflict(
                    f"precisions[{i}]", f"language models are in {weight_precisions}, and got {precision}; replace it"
                )
            if not of_language and precision == "int4":
                raise conflict(f"precisions[{i}]", f"int4 is of language models (task: {LANGUAGE}); take int8")
        if of_language and self.runtimes not in (None, (ONNX_RUNTIME,)):
            raise conflict("runtimes", f"networks of the task {LANGUAGE} are measured in {ONNX_RUNTIME}; remove it")
        if not of_language and self.serving.model_fields_set:
            raise conflict("serving", f"is of language models (task: {LANGUAGE}); remove it")
        served = ", ".join(SERVED_METRICS)
        for key, names in (("objectives", self.objectives), ("constraints", tuple(self.constraints))):
            for name in names:
                metric = name.partition("@")[0]
                if of_language and metric in TIMED_METRICS and metric not in (*SERVED_METRICS, *self.metrics):
                    raise conflict(key, f"a language model is timed as it is served: {served}; replace {name}")
                if not of_language and metric in SERVED_METRICS:
                    raise conflict(key, f"{name} is of language models (task: {LANGUAGE}); take latency_ms")
                if not of_language and metric in SERVED_MEMORY:
                    raise conflict(key, f"{name} is of language models (task: {LANGUAGE}); take parameters or peak_mib")

    def _check_expert_cache(self) -> None:
        """Metrics of a cache of experts need its size."""
        serving, key = self.serving, "serving.expert_cache"
        if serving.expert_cache is not None and serving.expert_cache_mib is not None:
            raise conflict(key, "and expert_cache_mib are the size of the same cache; remove one of them")
        used = [name for name in (*self.objectives, *self.constraints) if name in CACHED_EXPERTS]
        if used and self.task == LANGUAGE and not serving.caches_experts:
            raise missing_key(
                key,
                f"is missing, and {used[0]} is of a cache of experts; expected the number of experts of each layer "
                "that are in memory, or serving.expert_cache_mib",
            )

    def _check_choices(self) -> None:
        """Accuracies of choices are scored on questions, and these are for them alone."""
        used = [name for name in (*self.objectives, *self.constraints) if name in CHOICES]
        if used and self.task == LANGUAGE and self.data.choices is None:
            raise missing_key(
                "data.choices",
                f"is missing, and {used[0]} is scored on multiple-choice questions; expected a JSONL file with "
                "context, options and answer in each line",
            )
        if self.data.choices is not None and not used:
            raise conflict(
                "data.choices",
                f"is for {' and '.join(CHOICES)}, of which none is an objective or a constraint; name one, or "
                "remove it",
            )

    def _objectives(
        self, profiles: Sequence[str], metric_kinds: OwnMetrics, task: TaskMetrics | None
    ) -> list[Objective]:
        """The objectives, see `parse_metric`; raises a `problem` of the key where one is unknown or occurs twice."""
        objectives = [
            self._metric(text, f"objectives[{i}]", profiles, metric_kinds, task)
            for i, text in enumerate(self.objectives)
        ]
        check_distinct("objectives", [objective.name for objective in objectives])
        return objectives

    def _constraints(
        self, profiles: Sequence[str], metric_kinds: OwnMetrics, task: TaskMetrics | None
    ) -> list[Constraint]:
        """The constraints, as `_objectives`."""
        constraint_by_name: dict[str, Constraint] = {}
        for text, bounds in self.constraints.items():
            key = f"constraints.{text}"
            metric = self._metric(text, key, profiles, metric_kinds, task)
            if metric.name in constraint_by_name:
                raise problem(key, f"{show(metric.name)} occurs twice; keep one spelling", code="job.duplicate")
            constraint_by_name[metric.name] = bounds.constraint(metric, key)
        return list(constraint_by_name.values())

    def _metric(
        self, text: str, key: str, profiles: Sequence[str], metric_kinds: OwnMetrics, task: TaskMetrics | None
    ) -> Objective:
        return parse_metric(
            text,
            key,
            profiles,
            additional=self.metrics,
            task_name=self.task,
            metric_kinds=metric_kinds,
            task=task,
        )

    def parsed_constraints(
        self,
        profiles: Sequence[str],
        *,
        source: str,
        metric_kinds: OwnMetrics = NO_METRICS,
        task: TaskMetrics | None = None,
    ) -> list[Constraint]:
        """The constraints, given names and kinds as for `parsed_objectives`; raises `JobError` if one is invalid."""
        with reported(source):
            return self._constraints(profiles, metric_kinds, task)

    def parsed_objectives(
        self,
        profiles: Sequence[str],
        *,
        source: str,
        metric_kinds: OwnMetrics = NO_METRICS,
        task: TaskMetrics | None = None,
    ) -> list[Objective]:
        """The objectives, given the names of the profiles that `hardware` stands for (a profile file has its own name), what
        the additional metrics are and what the task's are; raises `JobError` if one is unknown or occurs twice."""
        with reported(source):
            return self._objectives(profiles, metric_kinds, task)

    def resolved(self, folder: Path) -> SearchJob:
        """The job with its paths, which are relative to `folder`, made absolute.

        Raises:
            JobError: a path begins with ``~`` and there is no such home folder.
        """

        def absolute(path: Path) -> Path:
            try:
                return Path(folder, path.expanduser()).absolute()
            except RuntimeError:
                text = f"{path}: there is no such home folder; write the path in full"
                raise JobError(text, code="job.invalid-value") from None

        def moved(section: _SectionT, **paths: Path | None) -> _SectionT:
            return section.model_copy(
                update={key: str(absolute(path)) for key, path in paths.items() if path is not None}
            )

        changed = {
            "data": self.data.model_copy(update={key: absolute(path) for key, path in self.data.paths.items()}),
            "supernet": moved(
                self.supernet, from_=self.supernet.from_path, pretrained=self.supernet.pretrained_path
            ).model_copy(update=self.supernet.of_user(absolute)),
            "training": moved(self.training, teacher=self.training.teacher_path),
            "hardware": tuple(str(absolute(Path(t))) if is_profile_path(t) else t for t in self.hardware),
            "lookup_tables": tuple(map(absolute, self.lookup_tables)),
        }
        return self.model_copy(update=changed)

    def to_yaml(self) -> str:
        """The job as YAML that `parse_job` reads back equal; defaults are written out, so that later ones do not change it."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        for key in self.training.unread:
            data["training"].pop(key, None)  # what is None was left out
        if self.rate_of_family:
            del data["training"]["learning_rate"]
        for section in (*data.values(), *data["metrics"].values()):
            if isinstance(section, dict) and section.get("settings") == {}:
                del section["settings"]
        if self.supernet.model is not None:
            del data["supernet"]["family"]
        for key in ("metrics", "serving"):
            if not data[key]:
                del data[key]
        return dump_mapping(data)


def is_profile_path(text: str) -> bool:
    """True if an entry of `hardware` is the path of a profile file, not a name in the catalog."""
    return "/" in text or text.endswith((".yaml", ".yml"))


def load_job(path: Path | str, *, stored: bool = False) -> SearchJob:
    """The job of a file, with its paths made absolute.

    Args:
        path: YAML file. Relative paths in it are relative to its folder.
        stored: True for the job file of a run, which can be read where the packages of its plug-ins are not installed.

    Raises:
        JobError: the file is missing or not YAML, or describes no job.
    """
    path = checked_path(WHAT, path)
    if stored:
        try:
            return parse_stored_job(read_text(path, noun=WHAT), source=str(path)).resolved(path.absolute().parent)
        except JobError as error:
            hint = (
                "It is the job file of a run, which cannot be resumed or exported without it; restore it from a copy."
            )
            raise JobError(f"{error}\n{hint}", code=error.code, fields=error.fields) from None
    return parse_job(read_text(path, noun=WHAT), source=str(path)).resolved(path.absolute().parent)


def stored_job(run: StoredRun) -> SearchJob:
    """The job file that a run was started with; raises `JobError` if it is missing or damaged."""
    return load_job(run.folder.job_file, stored=True)


def parse_job(text: str, *, source: str) -> SearchJob:
    """The job that a YAML text describes, named `source` in errors; relative paths stay as they are.

    Raises:
        JobError: the text is not YAML, or describes no job.
    """
    return job_of(parse_mapping(text, source=source, noun=WHAT), source=source)


def parse_stored_job(text: str, *, source: str) -> SearchJob:
    """The job of a run's text, as `parse_job`, without keys of earlier versions; packages of its plug-ins may be missing."""
    data = parse_mapping(text, source=source, noun=WHAT)
    search = data.get("search")
    if isinstance(search, dict):
        current_keys = {key: value for key, value in search.items() if key not in SearchConfig.former_keys}
        data = {**data, "search": current_keys}
    with names_of_stored_jobs():
        return job_of(data, source=source)


def job_of(data: Mapping[str, Any], *, source: str) -> SearchJob:
    """The job that a mapping describes, as `parse_job` reads one from a text; raises `JobError` if it describes none."""
    try:
        return SearchJob.model_validate(data)
    except ValidationError as error:
        raise translate(error, SearchJob, source=source) from None
