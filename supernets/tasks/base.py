"""The protocol of a task, with defaults for most of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from supernets.data import DataSet, Part, augment
from supernets.tasks.divergence import Divergence
from supernets.tasks.illustration import Illustration

if TYPE_CHECKING:
    from supernets.tasks.agreement import OriginalOutputs

Reduction = Literal["mean", "sum"]
_ROUNDING = 1e-12
"""Standard errors of shares that are no larger are those of equal scores."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number by which networks are compared.

    Attributes:
        unit: ``share`` for a number from 0 to 1 that is shown in per cent; "" for a plain number.
        maximize: True if more is better.
    """

    name: str
    unit: str = ""
    maximize: bool = True


@dataclass(frozen=True, eq=False, slots=True)
class Score:
    """The value of a metric on some examples.

    Attributes:
        error: one standard error.
        examples: (n,), bool or float, in the order of the examples: their mean's standard error is the value's, and the
            standard error of the difference of two networks is that of the mean of their differences. For a metric that is a
            mean these are the terms of it; for others, jackknife pseudo-values or an influence function.
    """

    value: float
    error: float
    examples: NDArray[Any]

    @classmethod
    def of(cls, value: float, examples: NDArray[Any]) -> Score:
        """The score with the standard error of the mean of the examples' scores; infinite for fewer than two examples."""
        n = len(examples)
        error = float(np.std(examples.astype(np.float64), ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
        return cls(value, error, examples)

    @classmethod
    def of_share(cls, value: float, examples: NDArray[Any]) -> Score:
        """The score of a share that is no mean, with the standard error of the mean of the examples' scores.

        Where these are all equal, as for a share of 0 or 1, an error of 0 would look certain. It is then half the width of the
        score interval of one standard error (Wilson 1927): 1 / (2 (n + 1)).
        """
        score = cls.of(value, examples)
        certain = 0.5 / (len(examples) + 1)
        return cls(value, certain, examples) if score.error <= _ROUNDING else score


class Task(ABC):
    """The problem that networks are trained and scored for: loss, metrics, distillation.

    Attributes:
        name: Name in job files and in stored records; a plug-in has its own.
        metrics: The metrics that it can score; the first is the one that trainings show and keep the best weights by.
        targets: The kind of labels that data must have: ``classes``, ``numbers``, ``sets`` (of labels), or a data set's own.
        spatial: True if targets move with the pixels of an image, so that shifting and mirroring inputs alone would be wrong;
            a task that moves them itself overrides `augmented`, and says False.
        weights_alone: True if int8 and int4 are those of the weights, and activations are quantized when the network runs; else
            by ranges from training examples.
        verbs: The verb of a network's work on an example, and its participle, for messages: ``classifies``, ``classified``.
    """

    name: ClassVar[str]
    metrics: tuple[Metric, ...]
    targets: ClassVar[str]
    spatial: ClassVar[bool] = False
    weights_alone: ClassVar[bool] = False
    verbs: ClassVar[tuple[str, str]] = ("answers", "answered")
    decodes: ClassVar[bool] = False
    """True if the outputs that are scored have no losses: boxes after suppression, or a class for each pixel."""
    needs_head: ClassVar[bool] = False
    """True if a head trains and decodes the networks' outputs, see `with_head`."""
    illustrates: ClassVar[bool] = False
    """True if outputs are shown on images; see `illustrated`."""
    of_network: frozenset[str] = frozenset()
    """Metrics that are computed from a network's own forward (`network_scores`), not from its outputs."""
    scored_together: int = 100
    """Examples that a score is computed of at once; larger batches do not fit the caches of processors."""

    def prepared(self, data: DataSet) -> DataSet:
        """The data as the task trains and scores on them; by default as they are.

        A task whose labels no data set has makes them here of the examples (`Part.of`, with its `targets` for the data set's).
        """
        return data

    def for_data(self, data: DataSet) -> Self:
        """The task with the parameters that it takes from the training part (a scale, for instance); raises `DataError` for
        unfit labels."""
        return self

    def metric_problem(self, metric: str, data: DataSet) -> str | None:
        """The reason why a metric has no meaning on data, and what to do; None, the default, where it has one.

        Jobs ask before anything is trained.

        Args:
            metric: Name of the metric.
            data: Data as the task prepared them.
        """
        return None

    def with_original(self, original: OriginalOutputs) -> Task:
        """The task for networks that are made of a trained one, of which it may score the agreement; by default as it is.

        Args:
            original: Outputs of that network, which `examples` takes in place of labels.
        """
        return self

    def with_head(self, facts: Mapping[str, Any] | None) -> Task:
        """The task for networks whose raw outputs a head trains and decodes; by default as it is.

        Args:
            facts: Facts of the head, as `supernets.sharing.base.Family.head` has them; None for networks without one.
        """
        return self

    @abstractmethod
    def n_outputs(self, data: DataSet) -> int | None:
        """The number of outputs (of images' outputs, of channels) that a family's networks must have; None for those that the
        user's model has."""

    def examples(self, metric: str, part: Part) -> Part:
        """The examples that a metric is scored on; by default those of the part. Raises `DataError` where it has none."""
        return part

    def scored(self, network: nn.Module) -> nn.Module:
        """The network whose outputs `score` takes; by default as it is.

        A task of which these are much smaller than the outputs in training (losses in place of logits) makes it here.
        """
        return network

    def served(self, network: nn.Module) -> Mapping[str, bytes]:
        """The ONNX models by which a network is deployed, by name, where they are others than the one that is scored; by
        default none. Raises `ExportError` where it cannot be deployed."""
        return {}

    def augmented(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator, *, flip: bool, pad: int
    ) -> tuple[Tensor, Tensor]:
        """A batch of images (n, c, h, w) and their targets with random changes, as `supernets.data.augment` makes them; by
        default the targets stay."""
        return augment(inputs, generator, flip=flip, pad=pad), targets

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each example, (n,), differentiable in the outputs (n, ...); also of the outputs that are scored, unless
        the task `decodes`."""

    def loss(self, outputs: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        """The mean or the sum of the losses over a batch, ()."""
        losses = self.losses(outputs, targets)
        return losses.mean() if reduction == "mean" else losses.sum()

    def distance(self, outputs: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        """The mean distance over a batch from a teacher's outputs, (), differentiable in the subnet's; by default half the
        squared difference, summed over outputs, which is the KL divergence of normal distributions of deviation 1."""
        return 0.5 * functional.mse_loss(outputs, teacher.detach(), reduction="none").flatten(1).sum(1).mean()

    def distilled(self, targets: Tensor) -> Tensor | None:
        """A mask of the outputs (n, m, classes) that are compared with a teacher's, (n, m), bool, by the mean over examples of
        the mean over these outputs. None, the default, for `distance`."""
        return None

    @abstractmethod
    def score(self, metric: str, outputs: NDArray[np.float32], targets: NDArray[Any]) -> Score:
        """The value of one of the metrics for the outputs (n, ...) to its `examples`, which have these targets (n, ...)."""

    def network_scores(self, metrics: Sequence[str], network: nn.Module, part: Part) -> Mapping[str, Score]:
        """The values of some of the metrics `of_network`, by name, of an extracted network on examples of a part."""
        raise NotImplementedError(f"the task {self.name} has no metrics {', '.join(metrics)} of a network's forward")

    def alike(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
        """A mask of the examples for which two networks' outputs (n, ...) mean the same, (n,); by default those that differ by
        at most 2 % of the outputs' deviation."""
        difference = np.abs(first - second).reshape(len(first), -1).max(axis=1)
        return np.asarray(difference <= _SAME * max(float(first.std()), 1e-12), dtype=np.bool_)

    def aligned(self, outputs: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scored outputs of a runtime (n, ...) so that their numbers can be compared with a reference's; by default as they
        are.

        A task whose outputs jump where numbers within `nas.jobs.evaluation.parity.MAX_PARITY` decide, as the order of
        detections does, takes the reference's there.
        """
        return outputs

    def illustrated(self, outputs: NDArray[Any], targets: NDArray[Any], n_classes: int) -> Illustration:
        """What pictures and charts show of a network's scored outputs (n, ...) to a part with these targets (n, ...), of a task
        that `illustrates`."""
        raise NotImplementedError(f"the task {self.name} has no pictures")

    def described(self, data: DataSet) -> Mapping[str, Any]:
        """The facts about the outputs that a deployment needs, JSON-able; part of an export's manifest."""
        return {}


_SAME = 0.02
