"""The tensors of decoders and their layers of experts, as the `transformers` library names and stores them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from supernets.families.decoder.decoder_spec import DecoderSpec, Norms, QKNorm
from supernets.families.shared.transformer_family import STACKS
from supernets.families.shared.transformer_spec import Gates
from supernets.networks.formats.model_folder import NamedTensors, Settings, unusable

HEAD = "head.words.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The features of networks of one ``model_type``; by default those of Llama.

    Attributes:
        library_class: Class of the library.
        layout, norms, qk_norm: Fields of `DecoderSpec`.
        qkv_bias: Whether queries, keys and values have biases.
        shifted: Whether norms scale by one more than their weights.
        scaled: Whether embeddings are scaled by the root of the width.
        fused: Whether queries, keys and values are one tensor, and gate and up of an MLP.
        windows: Layers whose attention has a window if there is one: ``all``, or ``some``, which the settings name.
        flagged: Whether there is a window only if the setting ``use_sliding_window`` is true.
        unturned: Whether there are layers without positions.
        partial: Whether positions may turn a part of a head's channels.
        divided: Whether the heads must divide the width.
        experts: Whether layers have experts in place of MLPs.
        activation, tied, theta, window: Where settings lack the key, the activation; whether the head's weights are the
            embeddings'; the base of rotary frequencies; and the length of windows.
        local_theta: The same of the base of rotary frequencies of layers with a window; None where it is that of the others.
        attention_cap, logit_cap: The same of the bounds of attention scores and logits, 0 for none; None where there are none.
        query_scalar: The same of the number whose inverse root scales attention scores; None where it is a head's channels.
    """

    library_class: str
    layout: Literal["llama", "gpt2"] = "llama"
    norms: Norms = "before"
    qk_norm: QKNorm | None = None
    qkv_bias: bool = False
    shifted: bool = False
    scaled: bool = False
    fused: bool = False
    windows: Literal["all", "some"] | None = None
    flagged: bool = False
    unturned: bool = False
    partial: bool = False
    divided: bool = False
    experts: bool = False
    activation: str = "silu"
    tied: bool = False
    theta: float = 1e4
    window: int | None = None
    local_theta: float | None = None
    attention_cap: float | None = None
    logit_cap: float | None = None
    query_scalar: int | None = None


_GEMMA: dict[str, Any] = {
    "shifted": True,
    "scaled": True,
    "tied": True,
    "divided": True,
    "activation": "gelu_pytorch_tanh",
}
_GEMMA2: dict[str, Any] = {**_GEMMA, "norms": "both", "windows": "some", "window": 4096, "query_scalar": 256}
_QWEN: dict[str, Any] = {"windows": "some", "flagged": True, "window": 4096}
KINDS: Mapping[str, Kind] = {
    "llama": Kind(library_class="LlamaForCausalLM", divided=True),
    "mistral": Kind(library_class="MistralForCausalLM", windows="all", window=4096),
    "qwen2": Kind(library_class="Qwen2ForCausalLM", qkv_bias=True, **_QWEN),
    "qwen3": Kind(library_class="Qwen3ForCausalLM", qk_norm="head", **_QWEN),
    "smollm3": Kind(
        library_class="SmolLM3ForCausalLM", windows="some", flagged=True, unturned=True, tied=True, theta=2e6
    ),
    "phi3": Kind(library_class="Phi3ForCausalLM", fused=True, windows="all", partial=True),
    "olmo2": Kind(library_class="Olmo2ForCausalLM", norms="after", qk_norm="whole"),
    "gemma": Kind(library_class="GemmaForCausalLM", **{**_GEMMA, "divided": False}),
    "gemma2": Kind(library_class="Gemma2ForCausalLM", **_GEMMA2, attention_cap=50.0, logit_cap=30.0),
    "gemma3_text": Kind(
        library_class="Gemma3ForCausalLM", **_GEMMA2, qk_norm="head", theta=1e6, local_theta=1e4, logit_cap=0.0
    ),
    "gpt2": Kind(library_class="GPT2LMHeadModel", layout="gpt2", tied=True),
    "mixtral": Kind(library_class="MixtralForCausalLM", windows="all", theta=1e6, experts=True),
    "qwen2_moe": Kind(library_class="Qwen2MoeForCausalLM", **_QWEN, experts=True),
}
"""What the kinds of networks differ in, by ``model_type``. Of several that a network could be written as, it is the first."""
_OUTSIDE = {"embedding.words": "embed_tokens", "head.norm": "norm"}
"""Modules outside of the layers, but for the head, and their names in the library in the layout ``llama``."""
_LLAMA_NAMES: Mapping[str, str] = {
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.project": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
    "post_norm1": "post_attention_layernorm",
    "post_norm2": "post_feedforward_layernorm",
}
_NORM_OF_BOTH = {"norm2": "pre_feedforward_layernorm"}
"""The norm before MLPs where there are norms before and after."""
_FUSED: Mapping[str, tuple[str, ...]] = {
    "self_attn.qkv_proj": ("attention.query", "attention.key", "attention.value"),
    "mlp.gate_up_proj": ("mlp.gate", "mlp.up"),
}
"""Modules of the library whose weights are those of several modules of a layer, one below the other."""
GPT2_NAMES: Mapping[str, str] = {
    "attention.project": "attn.c_proj",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
    "norm1": "ln_1",
    "norm2": "ln_2",
    **dict.fromkeys(("attention.query", "attention.key", "attention.value"), "attn.c_attn"),
}
"""Modules of a layer, and their names in the library."""
MIXTURES = tuple(name for name, kind in KINDS.items() if kind.experts)
"""Kinds of networks with experts."""
_MODULES: Mapping[str, Mapping[str, str]] = {
    "mixtral": {"mlp.router": "block_sparse_moe.gate"},
    "qwen2_moe": {
        "mlp.router": "mlp.gate",
        "mlp.shared_gate": "mlp.shared_expert_gate",
        **{f"mlp.shared.{part}": f"mlp.shared_expert.{part}_proj" for part in ("gate", "up", "down")},
    },
}
"""Linear modules of a layer, and their names in the library."""
_EXPERT: Mapping[str, Mapping[str, str]] = {
    "mixtral": {
        "gate": "block_sparse_moe.experts.{}.w1",
        "up": "block_sparse_moe.experts.{}.w3",
        "down": "block_sparse_moe.experts.{}.w2",
    },
    "qwen2_moe": {part: f"mlp.experts.{{}}.{part}_proj" for part in ("gate", "up", "down")},
}
"""The weights of all experts of a layer, and the names of each expert's modules."""

FAMILY_ONLY_SUFFIXES = (".mlp.active", ".mlp.top_p")
"""Suffixes of the names of tensors that files do not have."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """The experts of a pretrained decoder.

    Attributes:
        experts: Number of experts of a layer.
        active: Number of experts that each token is sent to.
        gates: Factors of the experts' outputs, see `ExpertsSpec`.
        shared_hidden: Channels of a shared expert, which has a gate; None without one.
    """

    experts: int
    active: int
    gates: Gates
    shared_hidden: int | None

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of experts by the names of dimensions."""
        return {"experts": self.experts, "active_experts": self.active}

    @property
    def features(self) -> dict[str, Any]:
        """Fields of a spec that a space of this network cannot change, by name."""
        return {"gates": self.gates, "shared_hidden": self.shared_hidden, "shared_gate": self.shared_hidden is not None}


def read_mixture(settings: Settings, kind: str) -> Mixture:
    """The experts of a network.

    Raises:
        CheckpointError: a number is missing or out of range, or some of its layers have no experts.
    """
    experts = settings.whole(
        "num_local_experts" if kind == "mixtral" else "num_experts", default=8 if kind == "mixtral" else 60
    )
    active = settings.whole("num_experts_per_tok", default=2 if kind == "mixtral" else 4)
    if active > experts:
        raise unusable(f"{settings.path}: num_experts_per_tok is {active}, of {experts} experts; correct the file")
    if kind == "mixtral":
        return Mixture(experts, active, "softmax", None)
    if settings.data.get("mlp_only_layers") or settings.whole("decoder_sparse_step", default=1) != 1:
        remedy = "the family decoder reads networks whose layers all have experts; give another network"
        raise unusable(f"{settings.path}: some of its layers have no experts; {remedy}")
    gates: Gates = "softmax" if settings.flag("norm_topk_prob", default=False) else "softmax-all"
    return Mixture(experts, active, gates, settings.whole("shared_expert_intermediate_size", default=5632))


def mixture_settings(spec: DecoderSpec, kind: str, options: Mapping[str, int]) -> dict[str, Any]:
    """The library's settings of a network's experts: what `read_mixture` reads.

    Args:
        spec: Spec of the network's family.
        kind: The ``model_type`` of the network.
        options: Options that all layers have, by the names of dimensions.
    """
    active = {"num_experts_per_tok": options["active_experts"]}
    if kind == "mixtral":
        return {"num_local_experts": options["experts"], **active}
    return {
        "num_experts": options["experts"],
        **active,
        "moe_intermediate_size": options["hidden"],
        "shared_expert_intermediate_size": spec.shared_hidden,
        "norm_topk_prob": spec.gates == "softmax",
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "qkv_bias": spec.qkv_bias,
    }


def llama_name(kind: str, name: str) -> str:
    """The library's name of a tensor in the layout ``llama``, below ``model``; not of the head, and of no stack of experts.

    Args:
        kind: The ``model_type`` of the network.
        name: The family's name.
    """
    module, _, tensor = name.rpartition(".")
    library_module = _OUTSIDE.get(module)
    if library_module is None:
        _, number, module_in_layer = module.split(".", 2)
        names = {**_LLAMA_NAMES, **_MODULES.get(kind, {}), **(_NORM_OF_BOTH if KINDS[kind].norms == "both" else {})}
        if KINDS[kind].fused:
            names |= {part: fused for fused, parts in _FUSED.items() for part in parts}
        library_module = f"layers.{number}.{names[module_in_layer]}"
    return f"{library_module}.{tensor}"


def joined_names(kind: str, name: str) -> list[str]:
    """The family's names of the tensors that are one in the library with a tensor, in their order, with its own."""
    if KINDS[kind].fused and name.startswith("layers."):
        layers, number, path = name.split(".", 2)
        module, _, tensor = path.rpartition(".")
        for parts in _FUSED.values():
            if module in parts:
                return [f"{layers}.{number}.{part}.{tensor}" for part in parts]
    return [name]


def is_shifted(kind: str, name: str) -> bool:
    """Returns True if the library has a tensor lower by one: Gemma's norms scale by one more than their weights."""
    return KINDS[kind].shifted and "norm" in name.rpartition(".")[0]


def is_stacked(name: str) -> bool:
    """Returns True if a tensor of the family has the weights of all experts of a layer."""
    return name.endswith(STACKS)


def stacked(file: NamedTensors, kind: str, name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight of all experts of a layer, by the family's name, from one tensor for each expert; raises `CheckpointError`."""
    _, number, _, part = name.split(".")
    names = _EXPERT[kind][part]
    return torch.stack([file.take(f"layers.{number}.{names.format(i)}.weight", *shape[1:]) for i in range(shape[0])])


def unstacked(kind: str, name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensors of each expert by the library's names: the inverse of `stacked`."""
    _, number, _, part = name.split(".")
    for i, expert_tensor in enumerate(tensor):
        yield f"model.layers.{number}.{_EXPERT[kind][part].format(i)}.weight", expert_tensor
