"""The training section of a job file (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from nas.jobs.schema.errors import conflict, missing_key, problem, show
from nas.jobs.schema.section import (
    Flag,
    OptionalPath,
    Section,
    Settings,
    number,
    plugin_name,
    positive,
    settings,
    whole_number,
)
from nas.plugins import Kind
from supernets.sharing.spec import MAX_RANK


class AugmentConfig(Section):
    """Random changes to training images."""

    shift: int = whole_number(0, 64, default=0, of="pixels")
    """The most that images are moved in each direction."""
    flip: Flag = False
    """Mirrors half of the images."""


class AdaptersConfig(Section):
    """Low-rank adapters (LoRA) of the linear layers, which are trained in place of the weights."""

    rank: int = whole_number(1, MAX_RANK, default=8)
    """The rank of the change of a layer's weights."""


STRATEGIES = (
    "sandwich",
    "single-path",
    "sorted",
    "progressive",
    "attentive",
    "instatune",
    "smoe-dropout",
    "differentiable",
    "largest",
)
"""The names of the shipped strategies."""
_BELONGS: Mapping[str, tuple[str, ...]] = {
    "random_subnets": ("sandwich", "attentive", "instatune"),
    "largest_epochs": ("sandwich",),
    "micro_batches": ("sorted",),
    **dict.fromkeys(("candidates", "pick"), ("attentive",)),
    "target": ("differentiable",),
    **dict.fromkeys(("label_weight", "temperature", "teacher_epochs", "sort"), ("instatune",)),
}
"""The training strategies that a key belongs to; the other keys belong to all of them."""
_ALONE = ("single-path", "sorted", "smoe-dropout", "differentiable", "largest")
"""Training strategies that do not train the largest network in every step, so that it cannot teach the others."""


def own_teacher(strategy: object) -> Literal["largest", "none"]:
    """The teacher of the subnets where a job has no frozen teacher."""
    return "none" if strategy in _ALONE else "largest"


def _distill(value: object) -> object:
    """The teacher's kind; true and false are read too, as in job files of the first version."""
    return {True: "largest", False: "none"}[value] if isinstance(value, bool) else value


_Weight = Annotated[float, Field(gt=0, le=10**6)]
_CLASS_WEIGHTS = "balanced, or a list of a number greater than 0 for each class, at most 1000000"


def _class_weights(value: object) -> object:
    """The weights of classes; checked here, since an error of a union would name its parts."""

    def is_weight(number: object) -> bool:
        return isinstance(number, int | float) and not isinstance(number, bool) and 0 < number <= 10**6

    is_list = isinstance(value, list | tuple) and len(value) >= 2 and all(map(is_weight, value))
    if value is not None and value != "balanced" and not is_list:
        raise problem("", f"expected {_CLASS_WEIGHTS}; got {show(value)}")
    return value


class TrainingConfig(Section):
    """How the supernet is trained; not read if `supernet.from` names a trained supernet to search."""

    strategy: plugin_name(Kind.STRATEGIES, STRATEGIES) = "sandwich"  # type: ignore[valid-type]  # made from the names
    """The strategy that chooses the networks of each step: sandwich takes the largest, the smallest and random ones."""
    settings: Settings = settings()
    """Settings of a strategy that a plug-in provides."""
    random_subnets: int = whole_number(0, 64, default=2)
    """Random networks in each step, of the strategies sandwich, attentive and instatune."""
    largest_epochs: int = whole_number(0, 10**6, default=0, of="epochs")
    """The first epochs, which train the largest network alone. Then axes are sorted by importance, and the other epochs train
    all networks, by a third of the learning rate; of the strategy sandwich."""
    micro_batches: int = whole_number(1, 64, default=4)
    """Parts of a batch, each of which trains another network; of the strategy sorted."""
    candidates: int = whole_number(1, 64, default=3)
    """Networks of which one is trained; of the strategy attentive."""
    pick: Literal["best", "worst"] = "best"
    """The candidate that is trained, the best or the worst; of the strategy attentive."""
    label_weight: float = number(0, 1, default=0.3)
    """The weight of the labels beside the teacher's outputs; of the strategy instatune."""
    temperature: float = positive(100, default=1.0)
    """Divides the outputs before they are compared; of the strategy instatune."""
    teacher_epochs: int | None = whole_number(1, 10**6, default=None, of="epochs")
    """None: the teacher teaches in all epochs."""
    target: float = positive(1, default=0.5)
    """Multiply-accumulates of the network that the strategy differentiable looks for, as a share of the largest network's."""
    sort: Flag = False
    """Sorts units by their importance before the training; of the strategy instatune."""
    distill: Annotated[Literal["largest", "teacher", "original", "none"], BeforeValidator(_distill)] = "largest"
    """The teacher of the networks beside the labels: the largest network, the named teacher, the model that the supernet is
    made of (original), or none."""
    teacher: Annotated[OptionalPath, Field(description="a run's id or a folder")] = None
    """The trained supernet whose largest network teaches, with `distill: teacher`."""
    divergence: Literal["kl", "alpha"] = "kl"
    """How outputs are compared with the teacher's."""
    top_k: int | None = whole_number(1, 2**24, default=None, of="classes")
    """The most probable classes (tokens) of a teacher that are distilled, with the others as one more, to save memory; None:
    all of them."""
    epochs: int = whole_number(0, 10**6, default=12)
    """Passes over the training part; 0 searches a pretrained network or a model without training."""
    batch_size: int = whole_number(2, 10**6, default=64)
    """Examples of a step."""
    accumulate: int = whole_number(1, 10**6, default=1, of="parts")
    """Parts of a step's batch, computed one after the other, to save memory; the result is that of the whole batch, except for
    batch norms."""
    activation_checkpointing: Flag = False
    """Computes activations within blocks again in the backward pass, in place of keeping them, to save memory."""
    class_weights: Annotated[
        Literal["balanced"] | tuple[_Weight, ...] | None,
        BeforeValidator(_class_weights),
        Field(description=_CLASS_WEIGHTS),
    ] = None
    """The weights of the examples of each class in the loss, scaled to a mean of 1 over the training part: balanced makes all
    classes count the same; a list has one number for each class in the order of the data's classes. None: all examples count
    the same."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The precision of forwards; auto is bfloat16 on an accelerator, else float32. Weights and losses are in float32."""
    balance_loss: float = number(0, 100, default=0.01)
    """The weight of the loss by which routers spread tokens over experts; of networks with experts."""
    router_z_loss: float = number(0, 100, default=0.001)
    """The weight of the loss by which the outputs of routers stay small; of networks with experts."""
    entropy_loss: float = number(0, 100, default=0.0)
    """The weight of the loss by which routers give few experts high probabilities; of networks with experts, for `top_p`."""
    parameters: Literal["all", "routers"] = "all"
    """The weights that are trained: all, or those of the routers of experts alone."""
    adapters: Annotated[AdaptersConfig | None, Field(description="a mapping, e.g. {rank: 8}")] = None
    """Trains low-rank adapters (LoRA) of the linear layers of a pretrained decoder, with norms and routers of experts, in place
    of all weights."""
    learning_rate: float = positive(100, default=0.003)
    """The peak of its schedule."""
    weight_decay: float = number(0, 100, default=0.01)
    """Decoupled, as in AdamW; of matrices and kernels, not of norms and biases."""
    clip_norm: float | None = positive(10**6, default=None)
    """The largest norm of a step's gradient, which a larger one is scaled to; None for no limit."""
    augment: AugmentConfig = AugmentConfig()
    keep: Literal["last", "best"] = "last"
    """The epoch whose weights are kept: the last one, or the best one on the validation part."""
    threads: int = whole_number(1, 1024, default=1)
    """CPU threads that torch uses."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes an accelerator where there is one."""
    workers: int = whole_number(1, 1024, default=1)
    """Processes of a Ray cluster that train together."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Sets the default of `distill`: the teacher that is named, else the largest subnet if every step trains it."""
        if not isinstance(data, dict):
            return data
        taught = data.get("teacher") is not None
        filled: dict[str, Any] = {"distill": "teacher" if taught else own_teacher(data.get("strategy"))}
        if data.get("strategy") == "instatune":
            filled["random_subnets"] = 1  # the paper's
        return {**filled, **data}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.settings and self.strategy in STRATEGIES:
            raise conflict(
                "settings", f"are those of a plug-in, and {self.strategy} is a shipped strategy; remove them"
            )
        for key in sorted(self.model_fields_set & _BELONGS.keys()):
            if self.strategy not in _BELONGS[key]:
                of = " and ".join(_BELONGS[key])
                raise conflict(key, f"belongs to the strategy {of}, got strategy {self.strategy}; remove {key}")
        if self.distill == "largest" and self.strategy in _ALONE:
            why = f"in the strategy {self.strategy} the largest subnet has no step in which to teach others"
            raise conflict("distill", f"{why}; expected none, teacher or (of a model) original")
        if self.distill == "teacher" and self.teacher is None:
            raise missing_key("teacher", "is missing; name the run, or the folder, of a trained supernet to learn from")
        if self.distill != "teacher" and self.teacher is not None:
            raise conflict("teacher", f"is read only with distill: teacher, got distill: {self.distill}; remove one")
        if self.strategy == "instatune" and self.distill == "none":
            raise conflict("distill", "instatune needs a teacher; expected largest, teacher, or the strategy sandwich")
        if self.teacher_epochs is not None and self.distill not in ("teacher", "original"):
            raise conflict("teacher_epochs", f"needs distill: teacher, got distill: {self.distill}; remove it")
        if self.teacher_epochs is not None and self.teacher_epochs > self.epochs:
            raise problem("teacher_epochs", f"expected at most the {self.epochs} epochs, got {self.teacher_epochs}")
        if 0 < self.epochs <= self.largest_epochs:
            expected = f"expected fewer than the {self.epochs} epochs, got {self.largest_epochs}"
            raise problem("largest_epochs", f"{expected}; lower it, or raise epochs")
        if self.keep == "best" and (self.largest_epochs or self.strategy == "progressive"):
            why = "best is by the largest network, which may be best before the others are trained"
            remedy = "largest_epochs" if self.largest_epochs else "use another strategy than progressive"
            raise conflict("keep", f"{why}; remove keep or {remedy}")
        if self.top_k is not None and (self.distill == "none" or self.divergence != "kl"):
            raise conflict(
                "top_k", "is of distillation by the divergence kl; remove top_k, or set distill and divergence"
            )
        if self.adapters is not None and self.parameters != "all":
            raise conflict("parameters", "routers alone are trained without adapters; remove one of them")
        if self.strategy == "differentiable":
            self._check_differentiable()
        if self.accumulate * self.workers > self.batch_size:
            limit = f"expected at most {self.batch_size // self.workers}, the examples of a step for each worker"
            raise problem("accumulate", f"{limit}; got {self.accumulate}")
        noun, n = "workers", self.workers
        if self.strategy == "sorted":
            noun, n = "micro-batches", self.micro_batches * self.workers
        if self.strategy == "differentiable":
            noun, n = "halves", 2
        if self.batch_size < 2 * n:
            raise problem("batch_size", f"expected at least {2 * n}, 2 for each of {n} {noun}; got {self.batch_size}")
        return self

    def _check_differentiable(self) -> None:
        if self.workers > 1:
            raise conflict("workers", f"the strategy differentiable needs 1, got {self.workers}; remove workers")
        if self.epochs == 0:
            raise conflict(
                "epochs", "the strategy differentiable finds its network in epochs; expected at least 1, got 0"
            )
        if self.keep == "best":
            why = "best is by the largest network, and the strategy differentiable finds another one in the last epoch"
            raise conflict("keep", f"{why}; remove keep")

    @property
    def adapter_rank(self) -> int | None:
        """The rank of the adapters that are trained; None where the weights are trained."""
        return None if self.adapters is None else self.adapters.rank

    @property
    def unread(self) -> tuple[str, ...]:
        """The keys of other strategies: this one does not read them."""
        return tuple(key for key, strategies in _BELONGS.items() if self.strategy not in strategies)

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings beside `TrainingSettings` that change the trained weights, JSON-able: strategy, its keys, teacher."""
        keys = {"strategy", "distill", "teacher", *_BELONGS} - set(self.unread)
        optional = {key for key in ("settings", "class_weights") if getattr(self, key)}
        return self.model_dump(mode="json", include=keys | optional)

    @property
    def teacher_path(self) -> Path | None:
        """`teacher` if it is a path (it has a slash), else None: then it is a run's id."""
        return Path(self.teacher) if self.teacher is not None and "/" in self.teacher else None
