"""The supernet and the protocols of its three plug-ins: family, sharing and training strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernets.errors import SpaceError
from supernets.experts.layer import ExpertLayer
from supernets.networks.family_program import Programs, View, outline, programs_of
from supernets.networks.live_subnets import clone_tree, place, standalone
from supernets.networks.module_layout import layout_of
from supernets.networks.network import extracted_from
from supernets.space import Architecture, SearchSpace
from supernets.space.axes import Axes, Axis, Dim, NamedDims, axes_in
from supernets.space.cost import Cost, CostTable

if TYPE_CHECKING:
    from supernets.sharing.spec import SharingSpec

_invalid_order = partial(SpaceError, code="order.invalid")
_STACK_NDIM = 3
"""Number of dimensions of the weights of experts: experts, outputs and inputs."""


class Family(ABC):
    """A kind of network with elastic dimensions.

    Attributes:
        name: Name by which checkpoints load it, ``module:Class`` for a class that is not the project's own.
        positions: Maximum number of tokens of a text or sentence that its networks read; None for any number, and for other
            inputs.
        head: Facts of the head that trains and decodes the raw outputs of its networks, JSON-able, with its ``kind``, see
            `supernets.tasks.detection.heads`; None for networks whose outputs are answers.
        has_experts: Whether layers of its networks have experts in place of MLPs.
    """

    name: str
    positions: int | None = None
    has_experts: bool = False

    @property
    def head(self) -> Mapping[str, Any] | None:
        return None

    @cached_property
    def space(self) -> SearchSpace:
        """The choices of its networks, which each kind of family sets."""
        raise SpaceError(
            f"the family {self.name} has no space; set self.space in its __init__", code="family.inconsistent"
        )

    @cached_property
    def axes(self) -> Axes:
        """The elastic dimensions by name; by default those in `named_dims`, of which smaller networks have the first units."""
        return {name: Axis(name, size) for name, size in self.sizes(self.space.largest).items()}

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """Names of modules by which costs are reported and latency tables are made; together they hold every parameter.

        By default the modules of the template that have parameters.
        """
        return tuple(name for name, module in outline(self).named_children() if any(True for _ in module.parameters()))

    @cached_property
    def matrices(self) -> Mapping[str, tuple[int, int]]:
        """The dimensions of the outputs and of the inputs of weights of convolutions and linear layers, by the weights' names.

        ``(0, 1)`` for torch's own layers, ``(1, 2)`` for stacks of experts' weights. By default those of the template.
        """
        matrices: dict[str, tuple[int, int]] = {}
        for name, module in outline(self).named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                matrices[f"{name}.weight"] = (0, 1)
            elif isinstance(module, ExpertLayer):
                tensors = module.named_parameters(recurse=False)
                stacks = (key for key, tensor in tensors if tensor.ndim == _STACK_NDIM)
                matrices |= {f"{name}.{stack}": (1, 2) for stack in stacks}
        return matrices

    @abstractmethod
    def template(self) -> nn.Module:
        """The largest network, freshly initialised (from torch's global generator, which the caller seeds)."""

    @abstractmethod
    def named_dims(self) -> Mapping[str, NamedDims]:
        """Dimensions of some tensors of the template that give axes their names, e.g. ``{"1.weight": ("width", ...)}``.

        Where an axis is found in several tensors is inferred from what the network computes with them; where it is not, since
        their sizes could differ, name it in each. Dimensions that no named axis reaches are not elastic.
        """

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of every parameter and buffer of the template."""
        return self.programs().dims()

    @abstractmethod
    def example(self, batch_size: int = 1) -> Tensor:
        """An input of zeros.

        Args:
            batch_size: Number of examples, the size of the input's first dimension; at least 1.
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Everything needed to rebuild this family, for checkpoints."""

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        """Axis sizes of an architecture; by default, the options of the choices with the names of the axes in `named_dims`.

        Args:
            architecture: A canonical network of the family's space. For a layer that it lacks, any size may be returned: it is
                not read.

        Raises:
            SpaceError: an axis has no choice of its name, and the method is not overridden.
        """
        values = self.space.values(architecture)
        dims = (dim for dims in self.named_dims().values() for dim in dims if not isinstance(dim, EllipsisType))
        names = [name for dim in dims for name in sorted(axes_in(dim))]
        if without_choice := [name for name in names if name not in values]:
            problem = (
                f"named_dims has the axis {without_choice[0]}, and the space no choice of this name; override sizes"
            )
            raise SpaceError(f"sizes of the family {self.name}: {problem}", code="family.inconsistent")
        return {name: cast(int, values[name]) for name in names}

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        """Names of the template's modules, and of single tensors, that the architecture lacks; none by default.

        Args:
            architecture: A canonical network of the family's space.
        """
        return frozenset()

    def initialised(self, network: nn.Module) -> nn.Module:
        """A network fresh from its constructors, with its weights initialised as a template's; by default as it is.

        Args:
            network: A network of the family of any size, which is changed in place.
        """
        return network

    @property
    def trained(self) -> bool:
        """True if templates have the weights of a trained network, with which the experts of a mixture begin."""
        return False

    def plain(self, architecture: Architecture) -> tuple[Family, Architecture]:
        """The family that it wraps, whose networks have programs, and the network in that one's space; by default itself.

        Args:
            architecture: A canonical network of this family's space.
        """
        return self, architecture

    def views(self) -> Sequence[View]:
        """Further ways in which its networks are called, whose programs checkpoints keep; none by default."""
        return ()

    def programs(self) -> Programs:
        """The programs of its networks, captured from the template where they are first needed; of plain families alone."""
        return programs_of(self)

    def standalone(self, tree: nn.Module, architecture: Architecture, weights: Mapping[str, Tensor]) -> nn.Module:
        """A plain module of one network, with copies of its weights.

        Args:
            tree: a template, whose own tensors are not read.
            architecture: The network, by which `dropped` names the modules that the copy of the tree lacks.
            weights: every tensor of the network, by the template's names.
        """
        return standalone(clone_tree(tree, self.dropped(architecture)), weights)


class Sharing(nn.Module, ABC):
    """Owns the stored tensors of a supernet and derives each subnet's tensors from them."""

    spec: SharingSpec
    """Everything needed to rebuild this sharing, for checkpoints."""

    @abstractmethod
    def weights(self, architecture: Architecture) -> dict[str, Tensor]:
        """A subnet's tensors by the template's names, on the autograd graph; buffers are cloned in training mode.

        Args:
            architecture: A canonical network of the family's space. The tensors of the modules that it drops are absent.
        """

    def placed(self, tree: nn.Module, architecture: Architecture) -> nn.Module:
        """A clone of the template with a subnet's tensors, or with others that give the same outputs; in place.

        Args:
            tree: A clone of `template` without the modules that the architecture drops; its tensors are replaced.
            architecture: A canonical network of the family's space.
        """
        return place(tree, self.weights(architecture))

    @abstractmethod
    def permute(self, axis: str, order: Tensor) -> None:
        """Reorders an axis in every stored tensor that has it; the largest network's outputs do not change.

        Args:
            axis: Name of an axis of the family that is sliced by prefix; `Supernet.sort` checks it.
            order: (size,), int64, a permutation: the new index i gets the old index order[i]; `Supernet.sort` checks it.
        """

    @property
    @abstractmethod
    def template(self) -> nn.Module:
        """The module tree that live subnets are cloned from."""

    def trainable(self) -> frozenset[str]:
        """Names of the template's parameters that extracted networks train, whatever is trained of this sharing."""
        named_parameters = self.template.named_parameters(remove_duplicate=False)
        return frozenset(name for name, parameter in named_parameters if parameter.requires_grad)

    def fixed(self) -> frozenset[str]:
        """Names of the parameters that are not trained."""
        return frozenset(name for name, parameter in self.named_parameters() if not parameter.requires_grad)

    def decayed(self) -> frozenset[str]:
        """Names of the parameters under weight decay: matrices and kernels, not biases and norms."""
        return frozenset(name for name, parameter in self.named_parameters() if parameter.ndim > 1)


class Supernet(nn.Module):
    """All subnets of a family over one set of stored tensors.

    Train with `supernet(x, architecture)`; score, measure and export only modules from `extract` after `recalibrate`.

    Args:
        family: The kind of network, which gives the search space, the axes and the blocks.
        sharing: The stored tensors, of this family. `make_supernet` makes both fit each other, which is not checked here.
    """

    def __init__(self, family: Family, sharing: Sharing) -> None:
        super().__init__()
        self.family = family
        self.sharing = sharing
        self._last_costs: tuple[list[Architecture], CostTable] | None = None
        self._layout = layout_of(sharing.template)

    @property
    def space(self) -> SearchSpace:
        """The family's search space."""
        return self.family.space

    def weights(self, architecture: Architecture) -> dict[str, Tensor]:
        """A subnet's tensors, as the sharing derives them.

        Args:
            architecture: A canonical network of the space, which is not checked.
        """
        return self.sharing.weights(architecture)

    def subnet(self, architecture: Architecture) -> nn.Module:
        """A live subnet. Use it for one step only: an optimiser step makes its tensors stale.

        Args:
            architecture: A canonical network of the space, which is not checked.
        """
        return self.sharing.placed(clone_tree(self.sharing.template, self.family.dropped(architecture)), architecture)

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """The outputs of a subnet.

        Args:
            x: A batch of inputs, of the shape of `Family.example`: images (n, c, h, w), token ids (n, tokens), ...
            architecture: A canonical network of the space, which is not checked.
        """
        return cast(Tensor, self.subnet(architecture)(x))

    def extract(self, architecture: Architecture) -> nn.Module:
        """A plain module with its own storage, in eval mode; `recalibrate` it before you measure it.

        Args:
            architecture: A canonical network of the space.

        Raises:
            SpaceError: the architecture is not a canonical one of the space.
        """
        self.space.check(architecture)
        with torch.no_grad():
            module = self.family.standalone(self.sharing.template, architecture, self.weights(architecture))
        trainable = self.sharing.trainable()
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in trainable)
        module.eval()
        if layout_of(self.sharing.template) != self._layout:  # no network of the family any more
            return module
        plain, network = self.family.plain(architecture)
        return extracted_from(module, plain.programs(), network)

    def sort(self, orders: Mapping[str, Tensor]) -> None:
        """Reorders axes in every stored tensor that has them, for `supernets.sharing.sorting`.

        The outputs of the largest subnet do not change, those of others do. The moments of an optimiser no longer match
        the weights: restart it.

        Args:
            orders: (size,) by axis, a permutation: new index i gets the old index order[i].

        Raises:
            SpaceError: an axis is unknown or of kernels, or its order is not a permutation.
        """
        for name, order in orders.items():
            axis = self.family.axes.get(name)
            if axis is None or axis.slice != "prefix":
                raise _invalid_order(f"{name!r} is not a sortable axis; expected a prefix axis")
            if not torch.equal(order.sort().values.cpu(), torch.arange(axis.size)):
                raise _invalid_order(f"the order of axis {name} does not have each of 0 to {axis.size - 1} once")
        for name, order in orders.items():
            self.sharing.permute(name, order)

    def cost(self, architecture: Architecture) -> Cost:
        """Exact parameters, MACs and activation bytes for one example, total and by block.

        Args:
            architecture: A canonical network of the space, which is not checked.
        """
        return self.costs([architecture]).cost(0)

    def costs(self, architectures: Sequence[Architecture]) -> CostTable:
        """`cost` of many architectures at once, as arrays, which must not be changed.

        Those of the last call are kept: a search predicts several metrics of the same candidates.

        Args:
            architectures: Canonical networks of the space, which may repeat; the rows of the arrays have their order.
        """
        requested, last = list(architectures), self._last_costs
        if last is None or last[0] != requested:
            last = self._last_costs = requested, self._costs(requested)
        return last[1]

    def _costs(self, architectures: Sequence[Architecture]) -> CostTable:
        inner = [self.family.plain(architecture) for architecture in architectures]
        plain, networks = inner[0][0] if inner else self.family, [network for _, network in inner]
        table = plain.programs().costs(axis_sizes(plain, networks), [plain.dropped(network) for network in networks])
        return table.of_blocks(self.family.blocks)


def axis_sizes(family: Family, architectures: Sequence[Architecture]) -> dict[str, NDArray[np.int64]]:
    """Axis sizes of n architectures, each (n,), by axis."""
    sizes_by_architecture = [family.sizes(architecture) for architecture in architectures]
    return {name: np.array([sizes[name] for sizes in sizes_by_architecture], dtype=np.int64) for name in family.axes}


@dataclass(frozen=True, slots=True)
class LabelLoss:
    """The task's loss against the labels."""

    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Distillation:
    """The task's distance (of a classification, a divergence set in the training's settings) from a teacher's detached outputs.

    Attributes:
        teacher: index of a previous pass of the same step over the same part of the batch; None for the training's frozen
            teacher.
        temperature: divides the logits of both; the divergence is multiplied by its square, so that gradients keep their
            scale (Hinton et al. 2015, arXiv 1503.02531).
    """

    teacher: int | None
    weight: float = 1.0
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward pass of an optimiser step.

    Attributes:
        part: ``(i, n)``: the pass uses the i-th of n equal parts of the step's batch.
        subnet: makes the live subnet, if it is another than the architecture's own; called for each part of a batch.
    """

    architecture: Architecture
    terms: tuple[LabelLoss | Distillation, ...]
    part: tuple[int, int] = (0, 1)
    subnet: Callable[[Supernet], nn.Module] | None = None


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs of a training with their own learning-rate schedule and optimiser.

    Attributes:
        name: Name for display, e.g. ``kernel``.
        epochs: Number of epochs.
        learning_rate: Peak of its learning rate, relative to the training's.
        before: Function that is called once with the supernet before the first epoch; it must not change the largest
            network's outputs.
        teach: Whether the largest subnet at the end of the phase becomes the frozen teacher of the following phases.
    """

    name: str
    epochs: int
    learning_rate: float = 1.0
    before: Callable[[Supernet], None] | None = None
    teach: bool = False


BatchLoss = Callable[[Architecture], float]
"""Returns a subnet's current loss on the step's batch, without gradients."""


class TrainingStrategy(Protocol):
    """Chooses the subnets of each training step and their losses."""

    def phases(self, epochs: int) -> Sequence[Phase]:
        """The phases of a training; their epochs add up to `epochs`.

        Args:
            epochs: Number of epochs of the whole training, at least 1.

        Raises:
            TrainingError: there are fewer epochs than phases.
        """

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        """The passes of one optimiser step; their gradients are summed.

        Args:
            phase: index of the step's phase.
            rng: Generator by which the subnets are sampled; the same for all workers, whose plans must be equal.
            batch_loss: Returns a subnet's current loss on the step's batch; each call costs one forward pass of the subnet.
        """


@runtime_checkable
class ScheduledStrategy(TrainingStrategy, Protocol):
    """A strategy whose choice of subnets depends on how much of a phase is done."""

    def at(self, progress: float) -> TrainingStrategy:
        """The strategy of a step, before which this share of its phase's steps is done: 0 for the first, 1 for the last."""


@runtime_checkable
class LearningStrategy(TrainingStrategy, Protocol):
    """A strategy that learns which network is good: the weights are trained on the first half of the training part, and after
    each of their steps the strategy on as many examples of the second half, by gradients of a plan of its own."""

    def optimizer(self, steps: int) -> torch.optim.Optimizer:
        """Returns an optimiser of the named parameters that the strategy learns.

        Args:
            steps: Number of the training's steps.
        """

    def penalty(self) -> Tensor:
        """Returns the term that is added to the loss by which the strategy learns, a scalar."""

    def chosen_architecture(self) -> Architecture:
        """Returns the architecture that the strategy would choose by what it has learned so far."""
