"""Base of the transformer families: their modules, layers of experts, and the choice of layers by depth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar, cast

from torch import Tensor, nn

from supernets.experts.layer import ExpertLayer
from supernets.families.shared.spec_family import Stack, StackedFamily
from supernets.families.shared.transformer_spec import ExpertsSpec
from supernets.networks.tokens import attend
from supernets.space import Architecture, Choice, Option
from supernets.space.axes import Concat, Dim, NamedDims

INITIAL_STD, _INITIAL_WIDTH = 0.02, 768
"""Deviation of fresh weights of linear layers in BERT-base (arXiv 1810.04805) and ViT-Base (arXiv 2010.11929), and their
width."""
KINDS = ("experts", "active_experts")
"""Choices of a layer of experts, and axes of its tensors."""
RANK, NULLS, TOP_P = "expert_rank", "null_experts", "top_p"
"""Three more: where a layer's experts read tokens through a common base, where it has experts that compute nothing, and where
tokens have as many experts as have a sum of probabilities."""
SHARED = "shared"
"""The value of `ExpertsSpec.routers` for a network that has one router."""
STACKS = ("mlp.up", "mlp.gate", "mlp.down")
"""Suffixes of the names of the weights of all experts of a layer."""


def scaled_std(weight: Tensor) -> float:
    """The deviation of fresh weights (..., inputs): at 0.02, networks of tens of channels learn several times more slowly."""
    return float(INITIAL_STD * (_INITIAL_WIDTH / weight.shape[-1]) ** 0.5)


class Attention(nn.Module):
    """Self-attention of (n, tokens, width), perhaps under a mask.

    The number of heads follows from the channels of `qkv`, so that a live subnet's smaller tensors need no correction.
    """

    def __init__(self, width: int, heads: int, *, head_size: int) -> None:
        super().__init__()
        self.head_size = head_size
        self.qkv = nn.Linear(width, 3 * heads * head_size)
        self.project = nn.Linear(heads * head_size, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        return cast(Tensor, self.project(attend(query, key, value, self.head_size, mask)))

    def extra_repr(self) -> str:
        return f"head_size={self.head_size}"


class PreNormLayer(nn.Module):
    """Attention, then an MLP or experts, each on normalised tokens and with a skip."""

    def __init__(self, width: int, *, heads: int, head_size: int, mlp: nn.Module, epsilon: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=epsilon)
        self.attention = Attention(width, heads, head_size=head_size)
        self.norm2 = nn.LayerNorm(width, eps=epsilon)
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + cast(Tensor, self.mlp(self.norm2(x)))


LayerT = TypeVar("LayerT", bound=nn.Module)


class TransformerFamily(StackedFamily):
    """A space of transformers of elastic depth and width, whose layers have each their own heads and hidden channels.

    The depth keeps the first layers, or layers spread over all (`LayersSpec.kept`), each under its number. A layer's first
    heads are shared, its first experts, where it has some, and the first hidden channels of its MLP or of each expert.
    """

    name: str
    spec: Any
    """The spec; its fields are ``head_size``, ``depth``, ``width``, ``heads``, those of `elastic` and of an `ExpertsSpec`."""
    n_classes: int
    layer: ClassVar[str] = "layer"
    """Name of a layer in the names of choices and axes; with an s, in those of modules."""
    elastic: tuple[str, ...] = ("heads", "hidden")
    """Dimensions that each layer chooses."""
    gated: bool = False
    """True if MLPs and experts are gated."""
    biased: bool = True
    """True if MLPs and experts have biases."""
    activation: str = "gelu"
    """Activation of MLPs and experts."""
    inner: str = "0.weight"
    """The tensor of an MLP whose outputs are its hidden channels."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        self.has_experts = spec.experts is not None
        choices = Choice("depth", spec.depth), Choice("width", spec.width)
        options = {name: getattr(spec, name) for name in self.elastic}
        self.stacks = (Stack(choices, f"{self.layer}s", self.layer, options, ("embedding",), ("head",)),)

    def modules_of_layers(self, name: str) -> tuple[str, ...]:
        """The paths of a module of each layer, as ``attention`` or ``mlp``."""
        return tuple(f"{layer}.{name}" for layer in self.stacks[0].modules)

    def layer_options(self) -> Mapping[str, tuple[Option, ...]]:
        """The options that each layer has, by the names of its choices."""
        return {name: getattr(self.spec, name) for name in (*self.elastic, *expert_kinds(self.spec))}

    def layer_choices(self, stack: Stack, layer: str, requires: tuple[str, int] | None) -> Iterable[Choice]:
        return [*super().layer_choices(stack, layer, requires), *expert_choices(self.spec, layer, requires)]

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        sizes = dict(super().sizes(architecture))
        if self.spec.top_p is not None:  # whose axis has as many units as options up to the chosen one
            for layer in self.stacks[0].layers:
                sizes[f"{layer}.{TOP_P}"] = 1 + self.spec.top_p.index(sizes[f"{layer}.{TOP_P}"])
        return sizes

    @property
    def max_hidden(self) -> int:
        """Hidden channels of the MLP, or of each expert, of the largest network's layers."""
        return cast(int, self.spec.hidden[-1])

    def mlp(self) -> nn.Module:
        """The MLP, or the experts, of a layer of the largest network."""
        spec, width = self.spec, self.spec.width[-1]
        if not self.has_experts:
            return self.dense(width, self.max_hidden)
        layer = ExpertLayer(
            width,
            self.max_hidden,
            experts=spec.experts[-1],
            active=spec.active_experts[-1],
            gates=spec.gates,
            gated=self.gated,
            activation=self.activation,
            bias=self.biased,
            rank=None if spec.expert_rank is None else spec.expert_rank[-1],
            nulls=0 if spec.null_experts is None else spec.null_experts[-1],
            top_p=spec.top_p or (),
            shared=None if spec.shared_hidden is None else self.dense(width, spec.shared_hidden),
            shared_gate=spec.shared_gate,
            own_router=spec.routers != SHARED,
        )
        if layer.router is not None:
            layer.router.requires_grad_(spec.routers == "learned")
        return layer

    def dense(self, width: int, hidden: int) -> nn.Module:
        """An MLP of these sizes."""
        return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    @abstractmethod
    def constructed(self) -> nn.Module:
        """The largest network from its constructors."""

    def attention_dims(self, layer: str) -> Mapping[str, NamedDims]:
        """Dimensions of a layer's attention, by the name of the layer's choices."""
        return {"qkv.weight": ((3, f"{layer}.heads", self.spec.head_size), "width")}

    def layer_dims(self, stack: Stack, layer: str) -> Mapping[str, NamedDims]:
        mlp: Mapping[str, NamedDims] = {self.inner: (f"{layer}.hidden", ...)}
        parts = {
            "attention": self.attention_dims(layer),
            "mlp": expert_dims(self.spec, layer) if self.has_experts else mlp,
        }
        return {f"{part}.{name}": dims for part, dims_by_name in parts.items() for name, dims in dims_by_name.items()}

    def template(self) -> nn.Module:
        return self.initialised(self.constructed())

    def initialised(self, network: nn.Module) -> nn.Module:
        for name, parameter in network.named_parameters():
            std = self.initial_std(name, parameter)
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif std is not None:
                nn.init.trunc_normal_(parameter, std=std)
        return network

    def initial_std(self, name: str, parameter: Tensor) -> float | None:
        """The deviation that fresh weights are drawn with; None leaves what the constructor has drawn.

        Args:
            name: Name of the parameter in the network.
            parameter: Parameter of that name, whose shape decides; its values are not read.
        """
        if name.endswith(("positions", *STACKS)) or (name.endswith("weight") and parameter.ndim == 2):
            return scaled_std(parameter)
        return None

    def layer_numbers(self, architecture: Architecture) -> tuple[int, ...]:
        """The numbers of an architecture's layers, in their order."""
        return self.layers_of_depth(self.stacks[0], cast(int, self.space.values(architecture)["depth"]))

    def layers_of_depth(self, stack: Stack, depth: int) -> tuple[int, ...]:
        return kept_layers(stack.depths[-1], depth, spread=getattr(self.spec, "kept", "first") == "spread")

    def stacked(self, layer: Callable[..., LayerT], *, epsilon: float) -> dict[str, LayerT]:
        """The layers of the largest network by their numbers, made by `layer` as `PreNormLayer` is."""
        spec = self.spec
        return {
            str(i): layer(
                spec.width[-1], heads=spec.heads[-1], head_size=spec.head_size, mlp=self.mlp(), epsilon=epsilon
            )
            for i in range(spec.depth[-1])
        }

    def width(self, architecture: Architecture) -> int:
        """The channels of a token."""
        return cast(int, self.space.values(architecture)["width"])


def kept_layers(total: int, depth: int, *, spread: bool) -> tuple[int, ...]:
    """The numbers of the layers that a depth keeps, in their order; those of a smaller depth are among them.

    Spread, layers go one by one, always the one whose neighbours are nearest to each other and, among such, the last: of six,
    layer 4, then 2, then 1. The first and the last stay.
    """
    numbers = list(range(total))
    while len(numbers) > depth:
        gaps = [after - before for before, after in zip(numbers, numbers[2:], strict=False)] if spread else []
        nearest = min(range(len(gaps)), key=lambda i: (gaps[i], -i)) + 1 if gaps else len(numbers) - 1
        del numbers[nearest]
    return tuple(numbers)


def expert_kinds(spec: ExpertsSpec) -> tuple[str, ...]:
    """The choices of each layer that are about experts; none without experts."""
    if spec.experts is None:
        return ()
    return (*KINDS, *(name for name in (RANK, NULLS, TOP_P) if getattr(spec, name) is not None))


def expert_choices(spec: ExpertsSpec, layer: str, requires: tuple[str, int] | None) -> Iterator[Choice]:
    """The choices of a layer, by the name of its choices; none without experts."""
    if spec.experts is None or spec.active_experts is None:
        return
    yield Choice(f"{layer}.experts", spec.experts, requires)
    highest_levels = tuple(sum(active <= n_experts for active in spec.active_experts) - 1 for n_experts in spec.experts)
    yield Choice(f"{layer}.active_experts", spec.active_experts, (f"{layer}.experts", 0), highest_levels)
    for name in expert_kinds(spec)[len(KINDS) :]:
        yield Choice(f"{layer}.{name}", getattr(spec, name), requires)


def expert_dims(spec: ExpertsSpec, layer: str) -> Mapping[str, NamedDims]:
    """Dimensions of an `ExpertLayer`, by the name of its layer's choices."""
    experts, rank = f"{layer}.experts", f"{layer}.{RANK}"
    routed: Dim = experts if spec.null_experts is None else Concat((experts, f"{layer}.{NULLS}"))
    dims: dict[str, NamedDims] = {"active": (f"{layer}.active_experts",), "up": (experts, f"{layer}.hidden", ...)}
    dims |= {"columns": (experts,)} if spec.routers == SHARED else {"router.weight": (routed, ...)}
    if spec.expert_rank is not None:
        dims["base.weight"] = (rank, ...)
    if spec.top_p is not None:
        dims[TOP_P] = (f"{layer}.{TOP_P}",)
    return dims
