"""How a job file's supernet is trained, as models (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from nas.config.errors import problem
from nas.config.section import Flag, Positive, Section, TwoOrMore


class AugmentConfig(Section):
    """Random changes to training images."""

    shift: Annotated[int, Field(strict=True, ge=0, le=64, description="a number of pixels from 0 to 64")] = 0
    flip: Flag = False


_BELONGS: Mapping[str, tuple[str, ...]] = {
    "random_subnets": ("sandwich", "attentive", "instatune"),
    "micro_batches": ("sorted",),
    "candidates": ("attentive",),
    "pick": ("attentive",),
    "label_weight": ("instatune",),
    "temperature": ("instatune",),
    "teacher_epochs": ("instatune",),
    "sort": ("instatune",),
}
"""Which training strategies a key belongs to; all others belong to every one."""
_ALONE = ("single-path", "sorted", "largest")
"""Training strategies in whose steps the largest network teaches nobody."""


def _distill(value: object) -> object:
    """What distillation is from; true and false as in job files of before there was a choice."""
    return {True: "largest", False: "none"}[value] if isinstance(value, bool) else value


class TrainingConfig(Section):
    """How the supernet is trained; not read where `supernet.from` names a trained one."""

    strategy: Literal["sandwich", "single-path", "sorted", "progressive", "attentive", "instatune", "largest"] = (
        "sandwich"
    )
    random_subnets: Annotated[int, Field(strict=True, ge=0, le=64, description="a whole number from 0 to 64")] = 2
    micro_batches: Annotated[int, Field(strict=True, ge=1, le=64, description="a whole number from 1 to 64")] = 4
    candidates: Annotated[int, Field(strict=True, ge=1, le=64, description="a whole number from 1 to 64")] = 3
    pick: Literal["best", "worst"] = "best"
    label_weight: Annotated[float, Field(strict=True, ge=0, le=1, description="a number from 0 to 1")] = 0.3
    temperature: Annotated[
        float, Field(strict=True, gt=0, le=100, description="a number greater than 0, at most 100")
    ] = 1.0
    teacher_epochs: Annotated[
        int | None, Field(strict=True, ge=1, le=10**6, description="a whole number of epochs, at least 1")
    ] = None
    """None: the teacher teaches in all epochs."""
    sort: Flag = False
    distill: Annotated[Literal["largest", "teacher", "none"], BeforeValidator(_distill)] = "largest"
    teacher: Annotated[
        str | None, Field(strict=True, min_length=1, pattern=r"^[^\x00]+$", description="a run's id or a folder")
    ] = None
    divergence: Literal["kl", "alpha"] = "kl"
    epochs: Positive = 12
    batch_size: TwoOrMore = 64
    learning_rate: Annotated[
        float, Field(strict=True, gt=0, le=100, description="a number greater than 0, at most 100")
    ] = 0.003
    weight_decay: Annotated[float, Field(strict=True, ge=0, le=100, description="a number from 0 to 100")] = 0.01
    augment: AugmentConfig = AugmentConfig()
    keep: Literal["last", "best"] = "last"
    threads: Annotated[int, Field(strict=True, ge=1, le=1024, description="a whole number from 1 to 1024")] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Annotated[int, Field(strict=True, ge=1, le=1024, description="a whole number from 1 to 1024")] = 1

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """The largest subnet teaches where it is in every step; a teacher that is named teaches."""
        if not isinstance(data, dict):
            return data
        alone, taught = data.get("strategy") in _ALONE, data.get("teacher") is not None
        filled: dict[str, Any] = {"distill": "teacher" if taught else "none" if alone else "largest"}
        if data.get("strategy") == "instatune":
            filled["random_subnets"] = 1  # the paper's
        return {**filled, **data}

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
        if self.strategy == "instatune" and self.distill == "none":
            raise problem("distill", "instatune teaches: expected largest or teacher; or take the strategy sandwich")
        if self.teacher_epochs is not None and self.distill != "teacher":
            raise problem(
                "teacher_epochs", f"is read with distill: teacher alone, got distill: {self.distill}; remove it"
            )
        if self.teacher_epochs is not None and self.teacher_epochs > self.epochs:
            raise problem("teacher_epochs", f"expected at most the {self.epochs} epochs, got {self.teacher_epochs}")
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
    def unread(self) -> tuple[str, ...]:
        """The keys of other strategies: this one does not read them."""
        return tuple(key for key, strategies in _BELONGS.items() if self.strategy not in strategies)

    @property
    def recipe(self) -> dict[str, Any]:
        """What of it changes the trained weights beside `TrainingSettings`, JSON-able: the strategy, its keys, who teaches."""
        return self.model_dump(mode="json", include={"strategy", "distill", "teacher", *_BELONGS} - set(self.unread))

    @property
    def teacher_path(self) -> Path | None:
        """`teacher` where it is a path (it has a slash), else None: then it is a run's id."""
        return Path(self.teacher) if self.teacher is not None and "/" in self.teacher else None
