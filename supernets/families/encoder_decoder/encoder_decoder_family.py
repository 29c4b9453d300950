"""An elastic encoder-decoder of texts: elastic depth and width of both sides, and heads, attention to the encoder and hidden
channels layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from supernets.families.decoder.decoder_network import MLP, CausalAttention, Embedding, Head, Layer, Scope
from supernets.families.encoder_decoder.encoder_decoder_network import (
    CrossAttention,
    CrossLayer,
    Encoder,
    EncoderDecoder,
    TargetDecoder,
)
from supernets.families.encoder_decoder.encoder_decoder_serving import SOURCES, TARGETS
from supernets.families.encoder_decoder.encoder_decoder_spec import EncoderDecoderSpec
from supernets.families.shared.spec import Number
from supernets.families.shared.spec_family import Numbers, Stack, StackedFamily
from supernets.families.shared.transformer_family import INITIAL_STD, scaled_std
from supernets.networks.family_program import View
from supernets.networks.language_models import SCORED
from supernets.networks.rotary import frequencies
from supernets.space import Choice
from supernets.space.axes import NamedDims, full_sizes

WORDS = "decoder.embedding.words.weight"
_ADDED = ("attention.project.weight", "cross.project.weight", "mlp.down.weight")
_ELASTIC = {"encoder": ("heads", "hidden"), "decoder": ("heads", "cross_heads", "hidden", "attended")}
"""Dimensions that each layer of a side chooses."""
_LIMITS = {"vocabulary": 2**24, "source": 2**20, "target": 2**20}


class EncoderDecoderFamily(StackedFamily):
    """The family of all networks that an `EncoderDecoderSpec` spans: token ids (n, source + target) -> logits (n, target,
    vocabulary), see `EncoderDecoder`.

    Layers are those of the family decoder in the layout ``llama``. The embeddings of the target are also the head's weights.

    Args:
        vocabulary: number of different tokens, of sources and targets.
        separator: the token before and after each target, and after each source.
        source, target: tokens of a source and of a target, with padding; costs are counted for these.
        epsilon: term that norms add to the mean square.
        theta: the base of rotary frequencies.

    Raises:
        SpaceError: a number is out of range.
    """

    name = "encoder-decoder"
    spec_type = EncoderDecoderSpec
    numbers: ClassVar[Numbers] = {
        **dict.fromkeys((*_LIMITS, "separator"), int),
        **dict.fromkeys(("epsilon", "theta"), float),
    }
    spec: EncoderDecoderSpec

    def __init__(
        self,
        spec: EncoderDecoderSpec,
        *,
        vocabulary: int,
        separator: int,
        source: int,
        target: int,
        epsilon: float = 1e-5,
        theta: float = 10000.0,
    ) -> None:
        for name, value in {"vocabulary": vocabulary, "source": source, "target": target}.items():
            Number(_LIMITS[name]).checked(name, value)
        self.spec, self.vocabulary, self.separator, self.n_classes = spec, vocabulary, separator, vocabulary
        self.source, self.target, self.epsilon, self.theta = source, target, epsilon, theta
        before_and_after = {
            "encoder": (("encoder.embedding",), ("encoder.norm",)),
            "decoder": (("decoder.embedding",), ("decoder.head",)),
        }
        self.stacks = tuple(
            Stack(
                tuple(Choice(f"{side}.{kind}", self._options(side, kind)) for kind in ("depth", "width")),
                f"{side}.layers",
                f"{side}.layer",
                {kind: self._options(side, kind) for kind in kinds},
                *before_and_after[side],
            )
            for side, kinds in _ELASTIC.items()
        )

    def _options(self, side: str, kind: str) -> tuple[int, ...]:
        return cast("tuple[int, ...]", getattr(self.spec, f"{side}_{kind}"))

    def layer_dims(self, stack: Stack, layer: str) -> Mapping[str, NamedDims]:
        size = self.spec.head_size
        dims: dict[str, NamedDims] = {
            "attention.query.weight": ((f"{layer}.heads", size), stack.choice("width").name),
            "mlp.up.weight": (f"{layer}.hidden", ...),
        }
        if "attended" in stack.options:
            dims["cross.query.weight"] = ((f"{layer}.cross_heads", size), ...)
            dims["cross.attended"] = (f"{layer}.attended",)
        return dims

    def template(self) -> nn.Module:
        return self.initialised(self._constructed())

    def initialised(self, network: nn.Module) -> nn.Module:
        """Returns the network with fresh weights, drawn from the distributions of the family decoder."""
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                std = scaled_std(parameter)
                if name.endswith("words.weight"):
                    std = INITIAL_STD
                elif name.endswith(_ADDED):
                    std = INITIAL_STD / (3 * self._options(name.partition(".")[0], "depth")[-1]) ** 0.5
                nn.init.trunc_normal_(parameter, std=std)
        return network

    def _constructed(self) -> nn.Module:
        sizes = full_sizes(self.axes)
        widths = {side: sizes[f"{side}.width"] for side in _ELASTIC}
        turns = frequencies(self.spec.head_size, self.theta)

        def norm(side: str) -> nn.Module:
            return nn.RMSNorm(widths[side], eps=self.epsilon)

        def layers(side: str) -> dict[str, nn.Module]:
            return {
                str(i): self._layer(side, widths, {kind: sizes[f"{side}.layer{i}.{kind}"] for kind in _ELASTIC[side]})
                for i in range(self._options(side, "depth")[-1])
            }

        def embedding(side: str) -> Embedding:
            return Embedding(widths[side], vocabulary=self.vocabulary, positions=None, scale=1.0)

        scopes = {str(i): Scope(frequencies=turns) for i in range(self._options("decoder", "depth")[-1])}
        head = Head(norm("decoder"), widths["decoder"], self.vocabulary, tied=True)
        return EncoderDecoder(
            Encoder(embedding("encoder"), layers("encoder"), norm("encoder"), frequencies=turns),
            TargetDecoder(embedding("decoder"), layers("decoder"), head, scopes=scopes),
            source=self.source,
            separator=self.separator,
        )

    def _layer(self, side: str, widths: Mapping[str, int], chosen: Mapping[str, int]) -> nn.Module:
        width, size = widths[side], self.spec.head_size
        attention = CausalAttention(
            width, groups=chosen["heads"], queries=1, head_size=size, qkv_bias=False, project_bias=False
        )
        mlp = MLP(width, chosen["hidden"], gated=True, activation="silu", bias=False)
        norm1, norm2, norm3 = (nn.RMSNorm(width, eps=self.epsilon) for _ in range(3))
        if side == "encoder":
            return Layer(norm1, attention, norm2, mlp)
        heads, attended = chosen["cross_heads"], chosen["attended"]
        cross = CrossAttention(width, widths["encoder"], heads=heads, head_size=size, attended=attended)
        return CrossLayer(norm1, attention, norm2, mlp, norm3, cross)

    def views(self) -> Sequence[View]:
        return SCORED, SOURCES, TARGETS

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros((batch_size, self.source + self.target), dtype=torch.int64)
