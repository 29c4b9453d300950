"""Dimensions of the elastic decoder of texts (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from supernets.errors import DimensionError
from supernets.families.shared.spec import Options, Order, Vocabularies
from supernets.families.shared.transformer_spec import LayersSpec, sixths

Activation = Literal["silu", "gelu", "gelu-tanh"]
MAX_VOCABULARY = 2**24
Norms = Literal["before", "after", "both"]
QKNorm = Literal["head", "whole"]


@dataclass(frozen=True)
class DecoderSpec(LayersSpec):
    """A whole space of the family.

    Attributes:
        heads: numbers of heads of keys and values of a layer's attention, each with its heads of queries: a group. 0 is a layer
            without attention, and without its norm; the first layer that all networks have is never without.
        hidden: channels of a layer's MLP. 0 is a layer without an MLP, and without its norm.
        queries: heads of queries of a group; with one, every head has its own keys and values.
        layout: ``llama`` has root-mean-square norms, rotary positions, a gated MLP and no biases; ``gpt2`` has layer norms,
            learned positions, a plain MLP and biases.
        tied: whether the words' embeddings are also the weights of the output.
        activation: activation of the MLP; None for the layout's (silu and gelu-tanh).
        qkv_bias: whether queries, keys and values have biases in the layout ``llama``, as in Qwen2.
        norms: whether attention and MLP read normalised tokens (``before``), as in Llama, have normalised outputs (``after``),
            as in OLMo 2 (arXiv 2501.00656), or ``both``, as in Gemma 2 (arXiv 2408.00118).
        qk_norm: norms of queries and keys: of each ``head``, as in Qwen3 (arXiv 2505.09388), or of all heads as a ``whole``, as
            in OLMo 2; None for none.
        kept: the values of `LayersSpec`; or the layers of the greatest ``importance``, which `order` then says: that of a job
            is the layers' block influence on the job's training text.
        routers: the values of `ExpertsSpec`; or ``shared``: the network has one router, which reads the embeddings of tokens,
            so that the experts of all layers are known before the first one, as in Read-ME (Cai et al. 2024, arXiv
            2410.19123; departure: a norm and a linear layer in place of a small transformer, so that a token's experts depend
            on it and on learned positions alone).
        order: all layers, in the order in which smaller depths drop them, in place of `kept`.
        attention_experts: numbers of attention experts that a layer keeps, its first ones. Each has queries and a projection of
            its own, for all heads of queries; keys and values are those of the layer. Each token has the outputs of all, by the
            softmax of a router's outputs for it: the soft mixture of attention of BAM (Zhang et al. 2024, arXiv 2408.08274)
            with shared keys and values. None for one attention and no router.
        vocabulary: numbers of tokens, of which networks have the first ones; in a job shares, too, of the tokens of a
            pretrained network, which are chosen by the job's training text. None for all tokens.
    """

    heads: Annotated[tuple[int, ...], Options(128, minimum=0)]
    hidden: Annotated[tuple[int, ...], Options(65536, minimum=0)]
    queries: Annotated[tuple[int, ...], Options(128)] = (1,)
    layout: Literal["llama", "gpt2"] = "llama"
    tied: bool = True
    activation: Activation | None = None
    qkv_bias: bool = False
    order: Annotated[tuple[int, ...], Order()] | None = None
    attention_experts: Annotated[tuple[int, ...], Options(64)] | None = field(default=None, kw_only=True)
    vocabulary: Annotated[tuple[float, ...], Vocabularies(MAX_VOCABULARY)] | None = field(default=None, kw_only=True)
    norms: Norms = field(default="before", kw_only=True)
    qk_norm: QKNorm | None = field(default=None, kw_only=True)
    kept: Literal["first", "spread", "importance"] = field(default="first", kw_only=True)  # type: ignore[assignment]  # one more
    routers: Literal["learned", "random", "shared"] = field(default="learned", kw_only=True)  # type: ignore[assignment]  # one more

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, part in (("heads", "attention"), ("hidden", "MLP")):
            if getattr(self, name) == (0,):
                raise DimensionError(name, f"[0] is no {part} in any layer; end it in a larger number")
        if self.experts is not None and self.hidden[0] == 0:
            raise DimensionError(
                "hidden", "0 is a layer without an MLP, and these layers have experts; begin it with 1 or more"
            )
        if self.order is not None and sorted(self.order) != list(range(self.depth[-1])):
            layers = f"each of the layers 0 to {self.depth[-1] - 1} once"
            raise DimensionError("order", f"expected {layers}, got {list(self.order)}")
        if self.routers == "shared" and self.null_experts is not None:
            problem = "are chosen by the routers of layers, got routers: shared; write learned, or remove one"
            raise DimensionError("null_experts", problem)
        if self.attention_experts == (1,):
            raise DimensionError("attention_experts", "[1] is one attention; end it in a larger number, or remove it")
        if self.layout == "gpt2" and self.norms != "before":
            problem = f"{self.norms} attention and MLPs are those of the layout llama; write before, or layout: llama"
            raise DimensionError("norms", f"norms {problem}")
        if self.layout == "llama" and self.head_size % 2:
            raise DimensionError(
                "head_size", f"rotary positions turn pairs of channels; expected an even number, got {self.head_size}"
            )

    @property
    def unordered(self) -> bool:
        """True if the layers are kept by an importance that is still to be measured."""
        return self.kept == "importance" and self.order is None

    @property
    def activated_by(self) -> Activation:
        """The activation of the MLP."""
        return self.activation or ("silu" if self.layout == "llama" else "gelu-tanh")


def space_within(
    *,
    head_size: int,
    depth: int,
    width: int,
    heads: int,
    queries: int,
    hidden: int,
    features: Mapping[str, Any],
    experts: int | None = None,
    active_experts: int | None = None,
) -> DecoderSpec:
    """A space within a pretrained network of these sizes.

    It has half of the layers or more, half to all of the heads in steps of a sixth (where a group is a head; else all groups,
    with at least half of their queries), and a third, two thirds or all of the hidden channels; the width stays. Smaller
    depths keep layers spread over all. A layer keeps half of its experts, three quarters or all, and sends tokens to one or
    more, up to as many as in the network.

    Args:
        features: Other fields of the space, by name.
    """
    expert_options = (
        None
        if experts is None or active_experts is None
        else {max(active_experts, experts * n // 4) for n in (2, 3, 4)}
    )
    grouped = queries > 1
    return DecoderSpec(
        head_size,
        depth=tuple(range(max(1, depth // 2), depth + 1)),
        width=(width,),
        heads=(heads,) if grouped else sixths(heads, (3, 4, 5, 6)),
        hidden=sixths(hidden, (2, 4, 6)),
        queries=tuple(range((queries + 1) // 2, queries + 1)),
        kept="spread",
        experts=None if expert_options is None else tuple(sorted(expert_options)),
        active_experts=None if active_experts is None else tuple(range(1, active_experts + 1)),
        **features,
    )


DECODER: Mapping[str, DecoderSpec] = {
    # For megabytes of text and random weights, on a CPU.
    "tiny": DecoderSpec(
        head_size=16, depth=(1, 2, 3, 4), width=(64, 96, 128), heads=(1, 2, 4), hidden=(64, 128, 256, 384), queries=(2,)
    ),
    # The same in the layout of GPT-2.
    "tiny-gpt2": DecoderSpec(
        head_size=16,
        depth=(1, 2, 3, 4),
        width=(64, 96, 128),
        heads=(2, 4, 6, 8),
        hidden=(64, 128, 256, 512),
        layout="gpt2",
    ),
}
