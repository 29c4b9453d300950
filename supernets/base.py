"""The supernet and the three plug-ins that make it: family, sharing and training strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from supernets.axes import Axes, Dim, check_dims
from supernets.cost import Cost, CostModel, CostTable
from supernets.errors import SpaceError
from supernets.live import clone_tree, place
from supernets.space import Architecture, SearchSpace

if TYPE_CHECKING:
    from supernets.sharing.spec import SharingSpec


class Family(Protocol):
    """A kind of network with elastic dimensions."""

    name: str
    space: SearchSpace
    axes: Axes
    blocks: tuple[str, ...]
    """Module names that costs are given by; together they hold every parameter."""
    geometry: tuple[str, ...]
    """Axes on whose sizes the positions of every layer depend, as those of a CNN do on the resolution; often none."""
    attention: Mapping[str, Dim]
    """Attention modules by name, with the channels of their queries: two products of matrices that no tensor tells of."""

    def template(self, like: Architecture | None = None) -> nn.Module:
        """The largest network, freshly initialised (from torch's global generator, which the caller seeds).

        Args:
            like: an architecture whose sizes of the `geometry` it is to have; None for the largest there too.
        """
        ...

    def initialised(self, network: nn.Module) -> nn.Module:
        """A network that `build` has just made, with its weights as a template's are drawn."""
        ...

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of every parameter and buffer of the template."""
        ...

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        """Axis sizes of an architecture."""
        ...

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        """Names of the template's modules that the architecture lacks."""
        ...

    def build(self, architecture: Architecture) -> nn.Module:
        """A plain module made by its constructor, independent of the template; its names are the template's."""
        ...

    def example(self, batch_size: int = 1) -> Tensor:
        """An input of zeros."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Everything that it takes to make this family again, for checkpoints."""
        ...


class Sharing(nn.Module, ABC):
    """Owns the stored tensors of a supernet and makes a subnet's tensors of them."""

    spec: SharingSpec
    """Everything that it takes to share so again, for checkpoints."""

    @abstractmethod
    def weights(self, architecture: Architecture) -> dict[str, Tensor]:
        """The tensors of a subnet by the template's names, on the autograd graph; buffers are cloned in training."""

    @abstractmethod
    def permute(self, axis: str, order: Tensor) -> None:
        """Reorders the units of an axis in every stored tensor that has it; the largest network's function stays."""

    @property
    @abstractmethod
    def template(self) -> nn.Module:
        """The module tree that live subnets are cloned from."""

    def decayed(self) -> frozenset[str]:
        """Names of the parameters that weight decay shrinks: the matrices and kernels, not the biases and norms."""
        return frozenset(name for name, parameter in self.named_parameters() if parameter.ndim > 1)


def channels_last(module: nn.Module) -> nn.Module:
    """The module with its tensors laid out so that depthwise convolutions are about twice as fast on CPUs."""
    return cast(nn.Module, module.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


class Supernet(nn.Module):
    """All subnets of a family over one set of stored tensors. `supernet(x, architecture)` is for training.

    Whatever is scored, measured or exported is an extracted module after `recalibrate`.

    Raises:
        SpaceError: the family's dims do not fit its template.
    """

    def __init__(self, family: Family, sharing: Sharing) -> None:
        super().__init__()
        self.family = family
        self.sharing = sharing
        dims = family.dims()
        template = family.template()
        check_dims({name: t.shape for name, t in template.state_dict().items()}, dims, family.axes)
        self._cost_model = CostModel(
            template, dims, family.blocks, family.example(), attention=family.attention, like=family.template
        )

    @property
    def space(self) -> SearchSpace:
        """The architectures that this supernet holds."""
        return self.family.space

    def weights(self, architecture: Architecture) -> dict[str, Tensor]:
        """The tensors of a subnet: the only place where sharing is decided."""
        return self.sharing.weights(architecture)

    def subnet(self, architecture: Architecture) -> nn.Module:
        """A live subnet, for one step: never keep it over an optimiser's step."""
        tree = clone_tree(self.sharing.template, self.family.dropped(architecture))
        return place(tree, self.weights(architecture))

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """The outputs of a subnet."""
        return cast(Tensor, self.subnet(architecture)(x))

    def extract(self, architecture: Architecture) -> nn.Module:
        """A plain module of its own storage, in eval mode; recalibrate it before anything is measured on it."""
        self.space.check(architecture)
        module = channels_last(self.family.build(architecture))
        with torch.no_grad():
            module.load_state_dict(self.weights(architecture), strict=True)
        return module.eval()

    def sort(self, orders: Mapping[str, Tensor]) -> None:
        """Reorders the units of axes in every stored tensor that has them, as `supernets.sorting` says.

        The largest subnet computes what it did, the others something else. Moments that an optimiser keeps are those of
        other weights from then on: start it anew.

        Args:
            orders: (size,) by axis, a permutation: position i gets the unit order[i].

        Raises:
            SpaceError: an axis is unknown or of kernels, or its order is no permutation.
        """
        for name, order in orders.items():
            axis = self.family.axes.get(name)
            if axis is None or axis.slice != "prefix":
                raise SpaceError(f"{name!r} is no axis whose units can be sorted; take one whose first units are used")
            if not torch.equal(order.sort().values.cpu(), torch.arange(axis.size)):
                raise SpaceError(f"the order of axis {name} is no permutation of its {axis.size} units")
        for name, order in orders.items():
            self.sharing.permute(name, order)

    def cost(self, architecture: Architecture) -> Cost:
        """Exact parameters, MACs and activation bytes for one example, total and by block."""
        return self.costs([architecture]).cost(0)

    def costs(self, architectures: Sequence[Architecture]) -> CostTable:
        """The same for many architectures at once, as arrays."""
        rows = [self.family.sizes(a) for a in architectures]
        sizes = {name: np.array([row[name] for row in rows], dtype=np.int64) for name in self.family.axes}
        geometry = self.family.geometry
        geometries = np.stack([sizes[name] for name in geometry], axis=1) if geometry else None
        dropped = [self.family.dropped(a) for a in architectures]
        return self._cost_model.costs(architectures, sizes, dropped, geometries)


@dataclass(frozen=True, slots=True)
class LabelLoss:
    """Cross-entropy against the labels."""

    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Distillation:
    """The divergence, which the training's settings name, from the (detached) outputs of a teacher.

    Attributes:
        teacher: index of an earlier pass of the same step, which must have seen the same part of the batch; None for the
            training's frozen teacher.
        temperature: that both sides' logits are divided by; the divergence is then multiplied by its square, so that its
            gradients keep their size (Hinton et al. 2015, arXiv 1503.02531).
    """

    teacher: int | None
    weight: float = 1.0
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward of an optimiser's step.

    Attributes:
        part: ``(i, n)``: it sees the i-th of n equal parts of the step's batch.
    """

    architecture: Architecture
    terms: tuple[LabelLoss | Distillation, ...]
    part: tuple[int, int] = (0, 1)


@dataclass(frozen=True)
class Phase:
    """A stretch of a training: a learning-rate schedule and an optimiser of its own.

    Attributes:
        name: for people, e.g. ``kernel``.
        epochs: how many it lasts.
        learning_rate: its peak, relative to the training's.
        before: done to the supernet once, before its first epoch; the largest network's function must stay.
        teach: whether the largest subnet, as it is when the phase ends, is the frozen teacher of the phases after it.
    """

    name: str
    epochs: int
    learning_rate: float = 1.0
    before: Callable[[Supernet], None] | None = None
    teach: bool = False


class TrainingStrategy(Protocol):
    """Decides which subnets a step trains, and against what; the trainer owns the loop, the optimiser and the reduction."""

    def phases(self, epochs: int) -> Sequence[Phase]:
        """How a training of so many epochs is divided; the phases' epochs add up to it.

        Raises:
            TrainingError: there are fewer epochs than phases.
        """
        ...

    def plan(self, phase: int, rng: np.random.Generator, probe: Callable[[Architecture], float]) -> Sequence[Pass]:
        """The passes of one optimiser's step; their gradients are summed.

        Args:
            phase: index of the phase that the step belongs to.
            probe: gives a subnet's current loss on the step's batch, for strategies that choose by it.
        """
        ...
