"""Base of the transformer families: their modules, and the choice of layers by depth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

from torch import Tensor, nn

from supernets.axes import Axes, Axis, Dim
from supernets.families.shared.layers import weighted
from supernets.space import Architecture, Choice, Option, SearchSpace
from supernets.tokens import attend

INITIAL_STD, _OF_WIDTH = 0.02, 768
"""Of the weights of linear layers in BERT-base (arXiv 1810.04805) and ViT-Base (arXiv 2010.11929), and their width."""


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
    """Attention, then an MLP, each on normalised tokens and with a skip."""

    def __init__(self, width: int, *, heads: int, head_size: int, hidden: int, epsilon: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=epsilon)
        self.attention = Attention(width, heads, head_size=head_size)
        self.norm2 = nn.LayerNorm(width, eps=epsilon)
        self.mlp = mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + cast(Tensor, self.mlp(self.norm2(x)))


LayerT = TypeVar("LayerT", bound=nn.Module)


class TransformerFamily(ABC):
    """A space of transformers of elastic depth and width, whose layers have each their own heads and hidden channels.

    The depth keeps the first layers, or layers spread over all (`LayersSpec.kept`), each under its number. A layer's first
    heads are shared, and the first hidden channels of its MLP.
    """

    name: str
    spec: Any
    """Its fields are ``head_size``, ``depth``, ``width``, ``heads`` and those of `elastic`."""
    n_classes: int
    geometry: tuple[str, ...] = ()
    layer: ClassVar[str] = "layer"
    """Name of a layer in the names of choices and axes; with an s, in those of modules."""
    elastic: ClassVar[tuple[str, ...]] = ("heads", "hidden")
    """Dimensions that each layer chooses."""
    counted: ClassVar[tuple[str, ...]] = ("heads",)
    """Those that are sizes of axes as they are."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        self._layers = [f"{self.layer}s.{i}" for i in range(spec.depth[-1])]
        self.space = SearchSpace(self._choices())
        self.axes: Axes = {name: Axis(name, size) for name, size in self.sizes(self.space.largest).items()}
        layers = [self.layer_dims(name, f"{self.layer}{i}") for i, name in enumerate(self._layers)]
        self._dims = {
            **self.embedding_dims(),
            **{k: dim for own in layers for k, dim in own.items()},
            **self.head_dims(),
        }
        self.blocks: tuple[str, ...] = ("embedding", *self._layers, "head")
        self.attention: Mapping[str, Dim] = {
            f"{name}.attention": self.attention_dim(f"{self.layer}{i}") for i, name in enumerate(self._layers)
        }

    def layer_options(self) -> Mapping[str, tuple[Option, ...]]:
        """The options that each layer has, by the names of its choices."""
        return {name: getattr(self.spec, name) for name in self.elastic}

    def hidden(self, chosen: Mapping[str, Option], width: int) -> int:
        """Hidden channels of the MLP of a layer with these options."""
        return cast(int, chosen["hidden"])

    @abstractmethod
    def embedding_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of what comes before the layers."""

    @abstractmethod
    def head_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of what comes after the layers."""

    @abstractmethod
    def build(self, architecture: Architecture) -> nn.Module:
        """See `Family`."""

    def _choices(self) -> list[Choice]:
        spec = self.spec
        choices = [Choice("depth", spec.depth), Choice("width", spec.width)]
        for i in range(spec.depth[-1]):
            level = next(level for level, depth in enumerate(spec.depth) if i in self._kept(depth))
            requires = ("depth", level) if level > 0 else None
            for name, options in self.layer_options().items():
                choices.append(Choice(f"{self.layer}{i}.{name}", options, requires))
        return choices

    def attention_dim(self, layer: str) -> Dim:
        """The channels of the queries of a layer, by the name of its choices."""
        return (f"{layer}.heads", self.spec.head_size)

    def layer_dims(self, module: str, layer: str) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of a layer's tensors, by the name of its module and that of its choices."""
        head_size, heads, hidden = self.spec.head_size, f"{layer}.heads", f"{layer}.hidden"
        return {
            **weighted(f"{module}.norm1", "width"),
            **weighted(f"{module}.attention.qkv", (3, heads, head_size), "width"),
            **weighted(f"{module}.attention.project", "width", (heads, head_size)),
            **weighted(f"{module}.norm2", "width"),
            **weighted(f"{module}.mlp.0", hidden, "width"),
            **weighted(f"{module}.mlp.2", "width", hidden),
        }

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return self._dims

    def template(self, like: Architecture | None = None) -> nn.Module:
        return self.initialised(self.build(self.space.largest))

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
        if name.endswith("positions") or (name.endswith("weight") and parameter.ndim == 2):
            # Scaled to the inputs: at 0.02, networks of some tens of channels learn several times more slowly.
            return float(INITIAL_STD * (_OF_WIDTH / parameter.shape[-1]) ** 0.5)
        return None

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        values = self.space.values(architecture)
        width, options = cast(int, values["width"]), self.layer_options()
        sizes = {"width": width}
        for i in range(self.spec.depth[-1]):
            layer = f"{self.layer}{i}"
            # A layer that the depth drops gets the smallest options: its sizes are never read.
            chosen = {name: values.get(f"{layer}.{name}", own[0]) for name, own in options.items()}
            sizes |= {f"{layer}.{name}": cast(int, chosen[name]) for name in self.counted}
            sizes[f"{layer}.hidden"] = self.hidden(chosen, width)
        return sizes

    def kept(self, architecture: Architecture) -> tuple[int, ...]:
        """The numbers of an architecture's layers, in their order."""
        return self._kept(cast(int, self.space.values(architecture)["depth"]))

    def _kept(self, depth: int) -> tuple[int, ...]:
        return kept_layers(self.spec.depth[-1], depth, spread=getattr(self.spec, "kept", "first") == "spread")

    def stack(self, architecture: Architecture, layer: Callable[..., LayerT], *, epsilon: float) -> dict[str, LayerT]:
        """The layers of an architecture by their numbers, made by `layer` as `PreNormLayer` is."""
        values, width = self.space.values(architecture), self.width(architecture)
        made = {}
        for i in self.kept(architecture):
            chosen = {name: values[f"{self.layer}{i}.{name}"] for name in self.layer_options()}
            heads, hidden = cast(int, chosen["heads"]), self.hidden(chosen, width)
            made[str(i)] = layer(width, heads=heads, head_size=self.spec.head_size, hidden=hidden, epsilon=epsilon)
        return made

    def width(self, architecture: Architecture) -> int:
        """The channels of a token."""
        return cast(int, self.space.values(architecture)["width"])

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        kept = self.kept(architecture)
        return frozenset(name for i, name in enumerate(self._layers) if i not in kept)


def kept_layers(total: int, depth: int, *, spread: bool) -> tuple[int, ...]:
    """The numbers of the layers that a depth keeps, in their order; those of a smaller depth are among them.

    Spread, layers go one by one, always the one whose neighbours are nearest to each other and, among such, the last: of six,
    layer 4, then 2, then 1. The first and the last stay.
    """
    kept = list(range(total))
    while len(kept) > depth:
        gaps = [after - before for before, after in zip(kept, kept[2:], strict=False)] if spread else []
        nearest = min(range(len(gaps)), key=lambda i: (gaps[i], -i)) + 1 if gaps else len(kept) - 1
        del kept[nearest]
    return tuple(kept)
