"""An elastic decoder of texts, laid out as Llama (arXiv 2302.13971) or GPT-2: elastic depth and width, and query groups and
hidden channels layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from supernets.errors import SpaceError
from supernets.families.decoder.decoder_network import (
    MLP,
    CausalAttention,
    Decoder,
    Embedding,
    Head,
    Layer,
    Scope,
)
from supernets.families.decoder.decoder_serving import PROMPTS, STEPS, STEPS_IN_PLACE
from supernets.families.decoder.decoder_spec import MAX_VOCABULARY, DecoderSpec
from supernets.families.shared.spec import Number
from supernets.families.shared.spec_family import Numbers, Stack
from supernets.families.shared.transformer_family import INITIAL_STD, SHARED, TransformerFamily
from supernets.networks.family_program import View
from supernets.networks.language_models import SCORED
from supernets.networks.rotary import frequencies
from supernets.space import Architecture, Choice
from supernets.space.axes import NamedDims

WORDS, POSITIONS = "embedding.words.weight", "embedding.positions"
_ROUTER = "router"
"""The block of the router that all layers have in common."""
ATTENTION_EXPERTS = "attention_experts"
"""The choice of the number of attention experts in a layer."""
PARTS: Mapping[str, tuple[str, ...]] = {
    "heads": ("norm1", "attention", "post_norm1"),
    "hidden": ("norm2", "mlp", "post_norm2"),
}
"""Choices whose option 0 skips a part of a layer, and the modules of that part."""
_ADDED = ("attention.project.weight", "mlp.down.weight", "mlp.down", "mlp.shared.down.weight")
_LIMITS = {"vocabulary": MAX_VOCABULARY, "positions": 2**20, "tokens": 2**20}
_LATER: Mapping[str, Any] = {
    "rotary_channels": 0,
    "windows": (),
    "local_theta": 0.0,
    "unturned": (),
    "attention_cap": 0.0,
    "logit_cap": 0.0,
}
"""Arguments that families of earlier versions lack, with their defaults, which descriptions leave out."""


class DecoderFamily(TransformerFamily):
    """The family of all networks that a `DecoderSpec` spans: token ids (n, tokens) -> logits (n, tokens, vocabulary).

    Args:
        vocabulary: Number of different tokens.
        positions: Maximum number of tokens of a text.
        tokens: Number of tokens of the text that costs are counted for.
        epsilon: Term that norms add to the mean square or variance.
        theta: Base of rotary frequencies.
        scaling: Scaling of rotary frequencies, see `rotary.Scaling`.
        embedding_scale: Factor of the words' embeddings, as in Gemma.
        rotary_channels: Number of a head's channels, its first ones, that rotary positions turn, as in Phi-3; 0 for all.
        windows: For each layer of the largest network, the number of tokens up to and with each one that its attention sees; 0
            for all. () for all in all layers.
        local_theta: Base of the rotary frequencies of layers with a window, which are not scaled, as in Gemma 3; 0 for those of
            other layers.
        unturned: Numbers of the layers without positions, as in SmolLM3.
        attention_cap: Bound of attention scores, see `supernets.networks.tokens.attend_grouped`; 0 for none.
        logit_cap: Bound of the logits, by the same function; 0 for none.

    Raises:
        SpaceError: a number is out of range.
    """

    name = "decoder"
    spec_type = DecoderSpec
    numbers: ClassVar[Numbers] = {
        **dict.fromkeys(_LIMITS, int),
        **dict.fromkeys(("epsilon", "theta", "embedding_scale"), float),
        "scaling": tuple,
        **{name: type(default) for name, default in _LATER.items()},
    }
    optional = frozenset({"scaling", *_LATER})
    elastic: tuple[str, ...] = ("heads", "queries", "hidden")
    inner: str = "up.weight"
    spec: DecoderSpec
    positions: int

    def __init__(
        self,
        spec: DecoderSpec,
        *,
        vocabulary: int,
        positions: int,
        tokens: int,
        epsilon: float = 1e-5,
        theta: float = 10000.0,
        scaling: Sequence[float] = (),
        embedding_scale: float = 1.0,
        rotary_channels: int = 0,
        windows: Sequence[int] = (),
        local_theta: float = 0.0,
        unturned: Sequence[int] = (),
        attention_cap: float = 0.0,
        logit_cap: float = 0.0,
    ) -> None:
        for name, value in {"vocabulary": vocabulary, "positions": positions, "tokens": tokens}.items():
            Number(_LIMITS[name]).checked(name, value)
        if tokens > positions:
            raise SpaceError(f"tokens: texts of {tokens} tokens, and the networks have {positions} positions")
        if spec.unordered:
            problem = "importance is measured in jobs of pretrained networks alone"
            raise SpaceError(f"kept: {problem}; give the layers' order, or keep the first or spread ones")
        self.vocabulary, self.positions, self.tokens, self.n_classes = vocabulary, positions, tokens, vocabulary
        self.epsilon, self.theta, self.scaling, self.embedding_scale = epsilon, theta, tuple(scaling), embedding_scale
        self.rotary_channels, self.windows, self.local_theta = rotary_channels, tuple(windows), local_theta
        self.unturned, self.attention_cap, self.logit_cap = tuple(unturned), attention_cap, logit_cap
        depth = spec.depth[-1]
        if len(self.windows) not in (0, depth) or not set(self.unturned) <= set(range(depth)):
            numbers = f"windows of {len(self.windows)} layers, and no positions in the layers {list(self.unturned)}"
            raise SpaceError(f"expected a window for each of {depth} layers, and numbers of these; got {numbers}")
        self.gated, self.biased = spec.layout == "llama", spec.layout == "gpt2"
        self.activation = spec.activated_by
        if spec.attention_experts is not None:
            self.elastic = (ATTENTION_EXPERTS, *self.elastic)
        super().__init__(spec)
        if spec.routers == SHARED:
            self.stacks = (replace(self.stacks[0], before=("embedding", _ROUTER)),)

    def to_json(self) -> dict[str, Any]:
        data = super().to_json()
        lists = {name: list(value) for name, value in data.items() if isinstance(value, tuple)}
        return {name: value for name, value in (data | lists).items() if value or name not in _LATER}

    @property
    def scopes(self) -> dict[str, Scope]:
        """How each layer of the largest network sees the tokens before, by its number."""
        channels = self.rotary_channels or self.spec.head_size
        turns = () if self.biased else frequencies(channels, self.theta, self.scaling)
        local = frequencies(channels, self.local_theta) if self.local_theta and not self.biased else turns
        windows = self.windows or (0,) * self.spec.depth[-1]
        return {
            str(i): Scope(window, () if i in self.unturned else local if window else turns)
            for i, window in enumerate(windows)
        }

    def attention_dims(self, layer: str) -> Mapping[str, NamedDims]:
        heads, size = f"{layer}.heads", self.spec.head_size
        experts = () if self.spec.attention_experts is None else (f"{layer}.{ATTENTION_EXPERTS}",)
        return {
            "key.weight": ((heads, size), "width"),
            "query.weight": ((heads, *experts, f"{layer}.queries", size), ...),
            **({"router.weight": (*experts, ...)} if experts else {}),
        }

    def dense(self, width: int, hidden: int) -> nn.Module:
        return MLP(width, hidden, gated=self.gated, activation=self.activation, bias=self.biased)

    def initial_std(self, name: str, parameter: Tensor) -> float | None:
        # A tied table is the output's weight, too, whose logits begin small; the norms after it undo its scale.
        if name in (WORDS, POSITIONS):
            return INITIAL_STD
        # What layers add must not hide the embeddings at first, or the output cannot tell words apart (as in GPT-2).
        if name.endswith(_ADDED):
            return float(INITIAL_STD / (2 * self.spec.depth[-1]) ** 0.5)
        return super().initial_std(name, parameter)

    def layers_of_depth(self, stack: Stack, depth: int) -> tuple[int, ...]:
        order = self.spec.order
        return super().layers_of_depth(stack, depth) if order is None else tuple(sorted(order[len(order) - depth :]))

    def layer_choices(self, stack: Stack, layer: str, requires: tuple[str, int] | None) -> Iterable[Choice]:
        choices, heads = list(super().layer_choices(stack, layer, requires)), self.spec.heads
        if heads[0] > 0:
            return choices
        choices.sort(key=lambda choice: choice.kind != "heads")  # which others require
        first = stack.layers[self.layers_of_depth(stack, stack.depths[0])[0]]
        if layer == first:
            return [replace(choices[0], options=heads[1:]), *choices[1:]]
        skipped = {ATTENTION_EXPERTS, "queries"}
        return [replace(c, requires=(f"{layer}.heads", 1)) if c.kind in skipped else c for c in choices]

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        """The layers that the depth drops, and those of which both parts are skipped; of others, the modules of one part."""
        dropped_by_depth = super().dropped(architecture)
        if all(getattr(self.spec, kind)[0] > 0 for kind in PARTS):  # a search asks this of thousands of networks
            return dropped_by_depth
        dropped, options = set(dropped_by_depth), self.space.values(architecture)
        (stack,) = self.stacks
        for layer, module in zip(stack.layers, stack.modules, strict=True):
            skipped = [names for kind, names in PARTS.items() if options.get(f"{layer}.{kind}") == 0]
            if module not in dropped:
                names = (f"{module}.{name}" for part in skipped for name in part)
                dropped.update([module] if len(skipped) == len(PARTS) else names)
        return frozenset(dropped)

    def layer_numbers(self, architecture: Architecture) -> tuple[int, ...]:
        dropped = self.dropped(architecture)
        return tuple(i for i, module in enumerate(self.stacks[0].modules) if module not in dropped)

    def constructed(self) -> nn.Module:
        spec, biased, width = self.spec, self.biased, self.spec.width[-1]

        def norm() -> nn.Module:
            return (nn.LayerNorm if biased else nn.RMSNorm)(width, eps=self.epsilon)

        layers = {}
        for i in range(spec.depth[-1]):
            attention = CausalAttention(
                width,
                groups=spec.heads[-1],
                queries=spec.queries[-1],
                head_size=spec.head_size,
                qkv_bias=biased or spec.qkv_bias,
                project_bias=biased,
                qk_norm=spec.qk_norm,
                epsilon=self.epsilon,
                cap=self.attention_cap,
                experts=None if spec.attention_experts is None else spec.attention_experts[-1],
            )
            norm1, norm2 = (None if spec.norms == "after" else norm() for _ in range(2))
            post_norm1, post_norm2 = (None if spec.norms == "before" else norm() for _ in range(2))
            layers[str(i)] = Layer(norm1, attention, norm2, self.mlp(), post_norm1, post_norm2)
        positions = self.positions if biased else None
        embedding = Embedding(width, vocabulary=self.vocabulary, positions=positions, scale=self.embedding_scale)
        head = Head(norm(), width, self.vocabulary, tied=spec.tied, cap=self.logit_cap)
        router = None
        if spec.routers == SHARED and spec.experts is not None:
            router = nn.Sequential(norm(), nn.Linear(width, spec.experts[-1], bias=spec.gates == "equal"))
        return Decoder(embedding, layers, head, scopes=self.scopes, router=router)

    def views(self) -> Sequence[View]:
        return SCORED, PROMPTS, STEPS, STEPS_IN_PLACE

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros((batch_size, self.tokens), dtype=torch.int64)
