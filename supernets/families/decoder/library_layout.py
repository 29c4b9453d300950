"""The tensors of decoders and their layers of experts, as the `transformers` library names and stores them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.families.shared.transformer_family import STACKS
from supernets.families.shared.transformer_spec import Gates
from supernets.networks.formats.model_folder import NamedTensors, Settings, unusable

HEAD = "head.words.weight"
_OUTSIDE = {"embedding.words": "embed_tokens", "head.norm": "norm"}
"""Modules outside of the layers, but for the head, and their names in the library in the layout ``llama``."""
_LLAMA_NAMES: Mapping[str, str] = {
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.project": "self_attn.o_proj",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
}
GPT2_NAMES: Mapping[str, str] = {
    "attention.project": "attn.c_proj",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
    "norm1": "ln_1",
    "norm2": "ln_2",
    **dict.fromkeys(("attention.query", "attention.key", "attention.value"), "attn.c_attn"),
}
"""Modules of a layer, and their names in the library."""
MIXTURES = ("mixtral", "qwen2_moe")
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
        return {"num_local_experts": options["experts"], **active, "sliding_window": None}
    return {
        "num_experts": options["experts"],
        **active,
        "moe_intermediate_size": options["hidden"],
        "shared_expert_intermediate_size": spec.shared_hidden,
        "norm_topk_prob": spec.gates == "softmax",
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "use_sliding_window": False,
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
        library_module = f"layers.{number}.{({**_LLAMA_NAMES, **_MODULES.get(kind, {})})[module_in_layer]}"
    return f"{library_module}.{tensor}"


def is_shifted(kind: str, name: str) -> bool:
    """Returns True if the library has a tensor lower by one: Gemma's norms scale by one more than their weights."""
    return kind == "gemma" and "norm" in name.rpartition(".")[0]


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
