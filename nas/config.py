"""The job file: what a search is made of, as frozen models that check themselves (no torch)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nas.config_errors import problem, restated, show, translate
from nas.errors import JobError, UnknownNameError
from nas.objectives import Constraint, Objective
from nas.sharing_config import SharingConfig
from nas.space_config import CNNSpaceConfig, ResNetSpaceConfig, Section, Spec, ViTSpaceConfig
from nas.strict_yaml import dump_mapping, parse_mapping, read_text
from supernets.errors import SpaceError
from supernets.families.presets import PRESETS
from supernets.families.vit_spec import ViTSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
WHAT = "job file"
"""What errors call it."""

# Every field of plain values has a description that completes "expected ...": it is what errors say.
_Positive = Annotated[int, Field(strict=True, ge=1, le=10**6, description="a whole number of at least 1")]
_TwoOrMore = Annotated[int, Field(strict=True, ge=2, le=10**6, description="a whole number of at least 2")]
_Flag = Annotated[bool, Field(strict=True, description="true or false")]
_Text = Annotated[
    str, Field(strict=True, min_length=1, max_length=1000, pattern=r"^[^\x00]+$", description="some text")
]


def _check_part(value: object) -> object:
    """Lets through a number of images (a whole number, at least 2) or a share (between 0 and 1)."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= 10**9):
        return value
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise problem("", f"expected a number of images (at least 2) or a share between 0 and 1, got {show(value)}")


_Part = Annotated[int | float | None, BeforeValidator(_check_part)]


class DataConfig(Section):
    """Where the images come from, and how many are set aside for validation and test (None: the data set's own way)."""

    name: Literal["digits", "fashion-mnist", "image-folder"]
    path: Annotated[Path | None, Field(description="the path of a folder")] = None
    image_size: Annotated[
        int | None, Field(strict=True, ge=4, le=1024, description="a whole number of pixels from 4 to 1024")
    ] = None
    channels: Annotated[Literal[1, 3] | None, Field(description="1 (grey) or 3 (colour)")] = None
    validation: _Part = None
    test: _Part = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "image-folder" and self.path is None:
            raise problem("path", "is missing; expected image-folder's folder, with one folder of images a class")
        if self.name == "digits" and self.path is not None:
            raise problem(
                "path", f"digits ships with scikit-learn and has no files; got {show(str(self.path))}, remove it"
            )
        shares = [part for part in (self.validation, self.test) if isinstance(part, float)]
        if sum(shares) >= 1:
            raise problem("validation", f"with test it takes {sum(shares):g} of the images; leave some to train on")
        return self


_Space = CNNSpaceConfig | ResNetSpaceConfig | ViTSpaceConfig
_SPACES: dict[str, type[CNNSpaceConfig] | type[ResNetSpaceConfig] | type[ViTSpaceConfig]] = {
    "mobile-cnn": CNNSpaceConfig,
    "resnet": ResNetSpaceConfig,
    "vit": ViTSpaceConfig,
}
"""The model of a space by the name of the family."""
_PLAIN = "slice"


class SupernetConfig(Section):
    """The supernet: a family with a preset and/or a space, or a trained one to start from (`from`)."""

    family: Literal["mobile-cnn", "resnet", "vit"] = "mobile-cnn"
    preset: Annotated[str | None, Field(strict=True, max_length=64, description="the name of a preset, e.g. tiny")] = (
        None
    )
    space: _Space | None = None
    nested: _Flag = False
    sharing: Annotated[SharingConfig | None, Field(description="slice, or a mapping with mixture, kernels or both")] = (
        None
    )
    """None with `from` alone: as the trained supernet shares."""
    from_: Annotated[
        str | None,
        Field(strict=True, alias="from", min_length=1, pattern=r"^[^\x00]+$", description="a run's id or a folder"),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Sharing is plain where nothing says otherwise, and has a word for it."""
        if not isinstance(data, dict) or (data.get("sharing") is None and data.get("from") is not None):
            return data
        return {**data, "sharing": {} if data.get("sharing") in (None, _PLAIN) else data["sharing"]}

    @field_serializer("sharing", mode="wrap")
    def _sharing_written(self, value: SharingConfig | None, written: SerializerFunctionWrapHandler) -> object:
        return _PLAIN if value == SharingConfig() else written(value)

    @field_validator("space", mode="before")
    @classmethod
    def _check_space(cls, value: object, info: ValidationInfo) -> _Space | None:
        """The space as the family has it; which one that is, the field's type does not tell."""
        if value is None or "family" not in info.data:
            return None
        model = _SPACES[info.data["family"]]
        try:
            return model.model_validate(value)
        except ValidationError as error:
            raise restated(error, model) from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        presets = PRESETS[self.family]
        if self.preset is not None and self.preset not in presets:
            raise problem("preset", str(UnknownNameError("preset", self.preset, presets)))
        if self.preset is None and self.space is None and self.from_ is None:
            raise problem("", f"expected a preset ({', '.join(presets)}), a space, or from (a trained run); got none")
        try:
            spec = self.spec()
        except SpaceError as error:
            key, _, text = str(error).partition(": ")
            raise problem(f"space.{key}", text) from None
        if spec is not None and spec.single:
            key = "space" if isinstance(spec, ViTSpec) else "space.stages"
            raise problem(key, "every list has one option, so there is one network; give some list a second")
        return self

    def spec(self) -> Spec | None:
        """The space: the preset, with the keys of `space` in place of its own; None where only `from` is given.

        With `from` and a space, the trained supernet's space must be this one.
        """
        preset = None if self.preset is None else PRESETS[self.family][self.preset]
        return preset if self.space is None else self.space.spec(preset)

    @property
    def from_path(self) -> Path | None:
        """`from` where it is a path (it has a slash), else None: then it is a run's id."""
        return Path(self.from_) if self.from_ is not None and "/" in self.from_ else None


class AugmentConfig(Section):
    """Random changes to training images."""

    shift: Annotated[int, Field(strict=True, ge=0, le=64, description="a number of pixels from 0 to 64")] = 0
    flip: _Flag = False


_BELONGS: Mapping[str, tuple[str, ...]] = {
    "random_subnets": ("sandwich", "attentive"),
    "micro_batches": ("sorted",),
    "candidates": ("attentive",),
    "pick": ("attentive",),
}
"""Which training strategies a key belongs to; all others belong to every one."""
_ALONE = ("single-path", "sorted", "largest")
"""Training strategies in whose steps the largest network teaches nobody."""


def _distill(value: object) -> object:
    """What distillation is from; true and false as in job files of before there was a choice."""
    return {True: "largest", False: "none"}[value] if isinstance(value, bool) else value


class TrainingConfig(Section):
    """How the supernet is trained; not read where `supernet.from` names a trained one."""

    strategy: Literal["sandwich", "single-path", "sorted", "progressive", "attentive", "largest"] = "sandwich"
    random_subnets: Annotated[int, Field(strict=True, ge=0, le=64, description="a whole number from 0 to 64")] = 2
    micro_batches: Annotated[int, Field(strict=True, ge=1, le=64, description="a whole number from 1 to 64")] = 4
    candidates: Annotated[int, Field(strict=True, ge=1, le=64, description="a whole number from 1 to 64")] = 3
    pick: Literal["best", "worst"] = "best"
    distill: Annotated[Literal["largest", "teacher", "none"], BeforeValidator(_distill)] = "largest"
    teacher: Annotated[
        str | None, Field(strict=True, min_length=1, pattern=r"^[^\x00]+$", description="a run's id or a folder")
    ] = None
    divergence: Literal["kl", "alpha"] = "kl"
    epochs: _Positive = 12
    batch_size: _TwoOrMore = 64
    learning_rate: Annotated[float, Field(strict=True, gt=0, description="a number greater than 0")] = 0.003
    weight_decay: Annotated[float, Field(strict=True, ge=0, description="a number of at least 0")] = 0.01
    augment: AugmentConfig = AugmentConfig()
    threads: Annotated[int, Field(strict=True, ge=1, le=1024, description="a whole number of at least 1")] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Annotated[int, Field(strict=True, ge=1, le=1024, description="a whole number of at least 1")] = 1

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """The largest subnet teaches where it is in every step; a teacher that is named teaches."""
        if isinstance(data, dict) and "distill" not in data:
            alone = data.get("strategy") in _ALONE
            return {**data, "distill": "teacher" if data.get("teacher") is not None else "none" if alone else "largest"}
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in sorted(self.model_fields_set & _BELONGS.keys()):
            if self.strategy not in _BELONGS[key]:
                of = " and ".join(_BELONGS[key])
                raise problem(key, f"belongs to the strategy {of}, got strategy {self.strategy}; remove {key}")
        if self.distill == "largest" and self.strategy in _ALONE:
            raise problem(
                "distill", f"with the strategy {self.strategy} there is no step in which the largest subnet could teach "
                "others; expected none or teacher",
            )  # fmt: skip
        if self.distill == "teacher" and self.teacher is None:
            raise problem("teacher", "is missing; name the run, or the folder, of a trained supernet to learn from")
        if self.distill != "teacher" and self.teacher is not None:
            raise problem("teacher", f"is read with distill: teacher alone, got distill: {self.distill}; remove one")
        parts = self.micro_batches if self.strategy == "sorted" else 1
        if self.batch_size < 2 * parts * self.workers:
            who = f" of {self.workers} workers" if self.workers > 1 else ""
            each = f"{parts} micro-batches{who}" if parts > 1 else f"{self.workers} workers"
            raise problem(
                "batch_size", f"a batch of {self.batch_size} has no 2 images for each of {each}; expected at least "
                f"{2 * parts * self.workers}",
            )  # fmt: skip
        return self

    @property
    def teacher_path(self) -> Path | None:
        """`teacher` where it is a path (it has a slash), else None: then it is a run's id."""
        return Path(self.teacher) if self.teacher is not None and "/" in self.teacher else None


class PlateauConfig(Section):
    """A search ends where so many evaluations raised the hypervolume by no more than this share of it."""

    evaluations: _Positive = 40
    gain: Annotated[float, Field(strict=True, ge=0, lt=1, description="a share from 0 to below 1, e.g. 0.001")] = 0.001


class SearchConfig(Section):
    """How the space is searched, and what may be spent: evaluations, and what ends it earlier."""

    algorithm: Literal[
        "guided", "nsga2", "nsga2-uniform", "age-moea", "u-nsga3", "moead", "regularized-evolution", "local-search",
        "linas", "optuna-tpe", "optuna-gp", "optuna-nsga3", "random",
    ] = "guided"  # fmt: skip
    evaluations: _TwoOrMore = 100
    minutes: Annotated[float | None, Field(strict=True, gt=0, description="a number of minutes greater than 0")] = None
    plateau: PlateauConfig | None = None
    batch: _Positive = 8
    screen_images: Annotated[
        int | None, Field(strict=True, ge=50, le=10**9, description="a whole number of images, at least 50")
    ] = None
    workers: Annotated[int | None, Field(strict=True, ge=1, le=1024, description="a whole number of at least 1")] = None
    time_limit_s: Annotated[
        float | None, Field(strict=True, gt=0, description="a number of seconds greater than 0")
    ] = None
    tune_seconds: Annotated[
        float, Field(strict=True, ge=0, le=3600, description="a number of seconds from 0 to 3600")
    ] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.plateau is not None and self.plateau.evaluations >= self.evaluations:
            raise problem(
                "plateau.evaluations",
                f"expected fewer than the {self.evaluations} evaluations of the search, or it ends nothing; got "
                f"{self.plateau.evaluations}",
            )
        return self


def _check_bound(value: object) -> object:
    """Lets through a finite number."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
        return value
    raise problem("", f"expected a finite number, got {show(value)}")


_Bound = Annotated[float | None, BeforeValidator(_check_bound)]


class BoundsConfig(Section):
    """What a figure must keep, in its own unit: at least `min`, at most `max`, or both."""

    min: _Bound = None
    max: _Bound = None

    @model_validator(mode="before")
    @classmethod
    def _check_mapping(cls, value: object) -> object:
        if not isinstance(value, dict | BoundsConfig):
            raise problem("", f"expected min, max or both, e.g. {{max: 2.0}}, got {show(value)}")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise problem("", "has no bound; expected min, max or both, e.g. {max: 2.0}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise problem("", f"nothing is at least {self.min:g} and at most {self.max:g}; lower min or raise max")
        return self

    def constraint(self, figure: Objective, key: str) -> Constraint:
        """The constraint on a figure, as the engine takes it; `key` is where the bounds stand.

        Raises:
            PydanticCustomError: the figure cannot be what a bound says.
        """
        for name, bound in (("min", self.min), ("max", self.max)):
            if bound is None:
                continue
            if figure.metric == "accuracy" and bound > 1:
                share = f"; write {bound / 100:g}" if bound <= 100 else ""
                raise problem(f"{key}.{name}", f"accuracy is a share between 0 and 1, got {bound:g}{share}")
            if bound < 0 or (name == "max" and bound == 0):
                raise problem(
                    f"{key}.{name}", f"{figure.metric} is always above 0; expected a number above 0, got {bound:g}"
                )
        return Constraint(figure, self.min, self.max)


class SearchJob(Section):
    """A whole job."""

    name: Annotated[
        str, Field(strict=True, pattern=rf"^{_NAME.pattern}\z", description="1 to 64 letters, digits, - and _")
    ]
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32, description="a whole number from 0 to 4294967295")] = 1
    data: DataConfig
    supernet: SupernetConfig
    training: TrainingConfig = TrainingConfig()
    hardware: Annotated[
        tuple[_Text, ...], Field(min_length=1, description="a list of profile names or paths, e.g. [cpu-1-thread]")
    ] = ("cpu-1-thread",)
    objectives: Annotated[
        tuple[_Text, ...], Field(min_length=1, description="a list of one or more, e.g. [accuracy, latency_ms]")
    ] = ("accuracy", "latency_ms")
    constraints: dict[str, BoundsConfig] = Field(
        default_factory=dict, description="a mapping from figures to their bounds, e.g. {latency_ms: {max: 2.0}}"
    )
    precisions: Annotated[
        tuple[Annotated[Literal["fp32", "int8", "fp16", "bf16"], Field(description="fp32, int8, fp16 or bf16")], ...],
        Field(min_length=1, description="a list of fp32, int8, fp16 and bf16, e.g. [fp32, int8]"),
    ] = ("fp32",)
    lookup_tables: Annotated[
        tuple[Path, ...], Field(description="a list of files that `nas calibrate` wrote, at most one a profile")
    ] = ()
    search: SearchConfig = SearchConfig()
    warm_start: Annotated[
        tuple[Annotated[str, Field(strict=True, pattern=rf"^{_RUN.pattern}\z", description="a run's id")], ...],
        Field(description="a list of runs of the same supernet, e.g. [digits-cnn-1]"),
    ] = ()
    calibration_images: _TwoOrMore = 1000

    @model_validator(mode="after")
    def _check(self) -> Self:
        for i, text in enumerate(self.hardware):
            if not is_profile_path(text) and not _NAME.fullmatch(text):
                raise problem(f"hardware[{i}]", f"expected a profile's name or path, got {show(text)}")
            if text in self.hardware[:i]:
                raise problem(f"hardware[{i}]", f"{show(text)} comes twice; keep one")
        if self.training.strategy == "sorted" and not self.supernet.nested and self.supernet.from_ is None:
            raise problem(
                "supernet.nested", "the strategy sorted trains networks that are nested, one choice a dimension for all "
                "layers; write nested: true, or take another training.strategy",
            )  # fmt: skip
        for i, run in enumerate(self.warm_start):
            if run in self.warm_start[:i]:
                raise problem(f"warm_start[{i}]", f"{show(run)} comes twice; keep one")
        for i, precision in enumerate(self.precisions):
            if precision in self.precisions[:i]:
                raise problem(f"precisions[{i}]", f"{show(precision)} comes twice; keep one")
        if not any(map(is_profile_path, self.hardware)):  # a profile file's name is known only when it is read
            self._parse_objectives(self.hardware)
            self._parse_constraints(self.hardware)
        return self

    def _parse_objectives(self, profiles: Sequence[str]) -> list[Objective]:
        found: list[Objective] = []
        for i, text in enumerate(self.objectives):
            try:
                objective = Objective.parse(text, profiles)
            except UnknownNameError as error:
                raise problem(f"objectives[{i}]", str(error)) from None
            if objective in found:
                raise problem(f"objectives[{i}]", f"{show(objective.name)} comes twice; keep one")
            found.append(objective)
        return found

    def _parse_constraints(self, profiles: Sequence[str]) -> list[Constraint]:
        found: dict[str, Constraint] = {}
        for text, bounds in self.constraints.items():
            key = f"constraints.{text}"
            try:
                figure = Objective.parse(text, profiles)
            except UnknownNameError as error:
                raise problem(key, str(error).replace("unknown objective", "unknown figure", 1)) from None
            if figure.name in found:
                raise problem(key, f"{show(figure.name)} comes twice, by two spellings; keep one")
            found[figure.name] = bounds.constraint(figure, key)
        return list(found.values())

    def parsed_constraints(self, profiles: Sequence[str], *, source: str) -> list[Constraint]:
        """The constraints, given the names of the profiles as for `parsed_objectives`.

        Raises:
            JobError: a figure is unknown or comes twice, or cannot be what a bound says.
        """
        try:
            return self._parse_constraints(profiles)
        except PydanticCustomError as error:
            context = error.context or {}
            key, text = str(context["key"]), str(context["text"])
            raise JobError(f"{source}: {key}: {text}", fields=[(key, text)]) from None

    def parsed_objectives(self, profiles: Sequence[str], *, source: str) -> list[Objective]:
        """The objectives, given the names of the profiles that `hardware` stands for (a profile file has its own name).

        Raises:
            JobError: an objective is unknown or comes twice.
        """
        try:
            return self._parse_objectives(profiles)
        except PydanticCustomError as error:
            context = error.context or {}
            key, text = str(context["key"]), str(context["text"])
            raise JobError(f"{source}: {key}: {text}", fields=[(key, text)]) from None

    def resolved(self, folder: Path) -> SearchJob:
        """The job with its relative paths, which are relative to `folder`, made absolute.

        Raises:
            JobError: a path begins with ``~`` and there is no such home.
        """

        def absolute(path: Path) -> Path:
            try:
                return Path(folder, path.expanduser()).absolute()
            except RuntimeError:
                raise JobError(f"{path}: '~' stands for no home folder here; write the path in full") from None

        data, supernet = self.data, self.supernet
        if data.path is not None:
            data = data.model_copy(update={"path": absolute(data.path)})
        if supernet.from_path is not None:
            supernet = supernet.model_copy(update={"from_": str(absolute(supernet.from_path))})
        training = self.training
        if training.teacher_path is not None:
            training = training.model_copy(update={"teacher": str(absolute(training.teacher_path))})
        hardware = tuple(str(absolute(Path(t))) if is_profile_path(t) else t for t in self.hardware)
        changed = {"data": data, "supernet": supernet, "training": training, "hardware": hardware}
        return self.model_copy(update=changed | {"lookup_tables": tuple(absolute(path) for path in self.lookup_tables)})

    def to_yaml(self) -> str:
        """The job as YAML that `parse_job` reads back equal, defaults written out, lest later ones change it."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        for key, strategies in _BELONGS.items():
            if self.training.strategy not in strategies:
                del data["training"][key]
        return dump_mapping(data)


def is_profile_path(text: str) -> bool:
    """Whether an entry of `hardware` is a profile file's path, not a name of the catalog."""
    return "/" in text or text.endswith((".yaml", ".yml"))


def load_job(path: Path | str) -> SearchJob:
    """The job of a file, with its paths made absolute.

    Raises:
        JobError: the file is missing, is no YAML, or says something that cannot be done.
    """
    path = Path(path)
    return parse_job(read_text(path, what=WHAT), source=str(path)).resolved(path.absolute().parent)


def parse_job(text: str, *, source: str) -> SearchJob:
    """The job that a YAML text describes; relative paths stay as they are.

    Args:
        source: what the text is called in errors; usually its path.

    Raises:
        JobError: the text is no YAML, or says something that cannot be done.
    """
    return job_of(parse_mapping(text, source=source, what=WHAT), source=source)


def job_of(data: Mapping[str, Any], *, source: str) -> SearchJob:
    """The job that a mapping describes, as `parse_job` reads one from a text.

    Raises:
        JobError: it says something that cannot be done.
    """
    try:
        return SearchJob.model_validate(data)
    except ValidationError as error:
        raise translate(error, SearchJob, source=source) from None
