"""Base of the transformer families: their modules, and the choice of layers by depth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

from torch import Tensor, nn

from supernets.experts.layer import ExpertLayer
from supernets.families.shared.expert_layers import (
    KINDS,
    NULLS,
    RANK,
    SHARED,
    TOP_P,
    expert_choices,
    expert_dims,
    expert_kinds,
    top_p_options,
)
from supernets.networks.tokens import attend
from supernets.sharing.base import Family
from supernets.space import Architecture, Choice, Option, SearchSpace
from supernets.space.axes import Axes, Axis, NamedDims

INITIAL_STD, _INITIAL_WIDTH = 0.02, 768
"""Deviation of fresh weights of linear layers in BERT-base (arXiv 1810.04805) and ViT-Base (arXiv 2010.11929), and their
width."""
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


def mlp(width: int, hidden: int) -> nn.Sequential:
    """The layers between two attentions."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


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


class TransformerFamily(Family):
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
    counted: tuple[str, ...] = ("heads",)
    """Dimensions whose options are sizes of axes as they are."""
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
        self._layers = [f"{self.layer}s.{i}" for i in range(spec.depth[-1])]
        self.space = SearchSpace(self._choices())
        self.axes: Axes = {name: Axis(name, size) for name, size in self.sizes(self.space.largest).items()}
        self.blocks: tuple[str, ...] = ("embedding", *self._layers, "head")

    def modules_of_layers(self, name: str) -> tuple[str, ...]:
        """The paths of a module of each layer, as ``attention`` or ``mlp``."""
        return tuple(f"{layer}.{name}" for layer in self._layers)

    def layer_options(self) -> Mapping[str, tuple[Option, ...]]:
        """The options that each layer has, by the names of its choices."""
        return {name: getattr(self.spec, name) for name in (*self.elastic, *expert_kinds(self.spec))}

    def hidden(self, chosen: Mapping[str, Option], width: int) -> int:
        """Hidden channels of the MLP, or of each expert, of a layer with these options."""
        return cast(int, chosen["hidden"])

    def mlp(self, chosen: Mapping[str, Option], width: int) -> nn.Module:
        """The MLP, or the experts, of a layer with these options."""
        hidden, spec = self.hidden(chosen, width), self.spec
        if not self.has_experts:
            return self.dense(width, hidden)
        experts, active = (cast(int, chosen[name]) for name in KINDS)
        layer = ExpertLayer(
            width,
            hidden,
            experts=experts,
            active=active,
            gates=spec.gates,
            gated=self.gated,
            activation=self.activation,
            bias=self.biased,
            rank=cast("int | None", chosen.get(RANK)),
            nulls=cast(int, chosen.get(NULLS, 0)),
            top_p=top_p_options(spec, chosen),
            shared=None if spec.shared_hidden is None else self.dense(width, spec.shared_hidden),
            shared_gate=spec.shared_gate,
            own_router=spec.routers != SHARED,
        )
        if layer.router is not None:
            layer.router.requires_grad_(spec.routers == "learned")
        return layer

    def dense(self, width: int, hidden: int) -> nn.Module:
        """An MLP of these sizes."""
        return mlp(width, hidden)

    def mlp_dims(self, layer: str) -> Mapping[str, NamedDims]:
        """Dimensions of a layer's MLP or experts, by the name of the layer's choices."""
        return expert_dims(self.spec, layer) if self.has_experts else {self.inner: (f"{layer}.hidden", ...)}

    @abstractmethod
    def constructed(self) -> nn.Module:
        """The largest network from its constructors."""

    def _choices(self) -> list[Choice]:
        spec = self.spec
        choices = [Choice("depth", spec.depth), Choice("width", spec.width)]
        for i in range(spec.depth[-1]):
            level = next(level for level, depth in enumerate(spec.depth) if i in self._layer_numbers(depth))
            requires, layer = ("depth", level) if level > 0 else None, f"{self.layer}{i}"
            choices += [Choice(f"{layer}.{name}", getattr(spec, name), requires) for name in self.elastic]
            choices += expert_choices(spec, layer, requires)
        return choices

    def attention_dims(self, layer: str) -> Mapping[str, NamedDims]:
        """Dimensions of a layer's attention, by the name of the layer's choices."""
        return {"qkv.weight": ((3, f"{layer}.heads", self.spec.head_size), "width")}

    def named_dims(self) -> Mapping[str, NamedDims]:
        dims: dict[str, NamedDims] = {}
        for i, module in enumerate(self._layers):
            for part, dims_of_layer in (("attention", self.attention_dims), ("mlp", self.mlp_dims)):
                dims |= {
                    f"{module}.{part}.{name}": weight_dims
                    for name, weight_dims in dims_of_layer(f"{self.layer}{i}").items()
                }
        return dims

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
        """The deviation that fresh weights are drawn with; None leaves what the constructor has drawn."""
        if name.endswith(("positions", *STACKS)) or (name.endswith("weight") and parameter.ndim == 2):
            return scaled_std(parameter)
        return None

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        values = self.space.values(architecture)
        width, options = cast(int, values["width"]), self.layer_options()
        sizes = {"width": width}
        for i in range(self.spec.depth[-1]):
            layer = f"{self.layer}{i}"
            # A layer that the depth drops gets the smallest options: its sizes are never read.
            chosen = {name: values.get(f"{layer}.{name}", layer_options[0]) for name, layer_options in options.items()}
            counted = (*self.counted, *expert_kinds(self.spec))
            sizes |= {f"{layer}.{name}": cast(int, chosen[name]) for name in counted}
            sizes[f"{layer}.hidden"] = self.hidden(chosen, width)
            if TOP_P in chosen:
                sizes[f"{layer}.{TOP_P}"] = len(top_p_options(self.spec, chosen))
        return sizes

    def layer_numbers(self, architecture: Architecture) -> tuple[int, ...]:
        """The numbers of an architecture's layers, in their order."""
        return self._layer_numbers(cast(int, self.space.values(architecture)["depth"]))

    def _layer_numbers(self, depth: int) -> tuple[int, ...]:
        return kept_layers(self.spec.depth[-1], depth, spread=getattr(self.spec, "kept", "first") == "spread")

    def stack(self, layer: Callable[..., LayerT], *, epsilon: float) -> dict[str, LayerT]:
        """The layers of the largest network by their numbers, made by `layer` as `PreNormLayer` is."""
        width, chosen, layers = self.spec.width[-1], self.largest_options(), dict[str, LayerT]()
        for i in range(self.spec.depth[-1]):
            mlp, heads = self.mlp(chosen, width), cast(int, chosen["heads"])
            layers[str(i)] = layer(width, heads=heads, head_size=self.spec.head_size, mlp=mlp, epsilon=epsilon)
        return layers

    def largest_options(self) -> Mapping[str, Option]:
        """The largest options of a layer, by the names of its choices."""
        return {name: options[-1] for name, options in self.layer_options().items()}

    def width(self, architecture: Architecture) -> int:
        """The channels of a token."""
        return cast(int, self.space.values(architecture)["width"])

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        layer_numbers = self.layer_numbers(architecture)
        return frozenset(name for i, name in enumerate(self._layers) if i not in layer_numbers)


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
