"""A decoder of the transformers library whose layers differ: each has the sizes that `per_layer_config` in config.json states.

Layers are the library's own. A layer that skips its attention or its MLP adds nothing to the tokens there.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM


class NoAttention(nn.Module):
    """In place of an attention: adds nothing, and lets the layer's part of the cache count the tokens, as positions need."""

    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, hidden_states: Tensor, **arguments: Any) -> tuple[Tensor, None]:
        cache = arguments.get("cache", arguments.get("past_key_values"))  # the name in versions before 5.20
        if cache is not None:
            counted = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
            cache.update(counted, counted, self.layer_idx)
        return torch.zeros_like(hidden_states), None


class NoMLP(nn.Module):
    """In place of an MLP: adds nothing."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return torch.zeros_like(hidden_states)


class HeterogeneousForCausalLM(LlamaForCausalLM):  # type: ignore[no-untyped-call]
    """The language model, with its layers in place of uniform ones."""

    def __init__(self, config: Any) -> None:
        n_layers, config.num_hidden_layers = config.num_hidden_layers, 0
        config.allow_global_per_layer_attribute_access = (
            True  # for numbers of experts, which the losses of training read
        )
        super().__init__(config)
        config.allow_global_per_layer_attribute_access, config.num_hidden_layers = False, n_layers
        self.model.layers = nn.ModuleList(make_layer(config, i) for i in range(n_layers))
        self.post_init()  # type: ignore[no-untyped-call]


def make_layer(config: Any, number: int) -> Any:
    """A layer of the network, of its own sizes."""
    layer_config = config_of_layer(config, number)
    layer: Any = LlamaDecoderLayer(layer_config, number)
    norms = [name for name, _ in layer.named_children() if name.endswith("layernorm")]
    norms_of_mlp = [name for name in norms if "feedforward" in name] or ["post_attention_layernorm"]
    layer.self_attn.config = config  # of which it reads its implementation, that may be changed later
    if "attention" in layer_config.skip:
        layer.self_attn = NoAttention(number)
    if "mlp" in layer_config.skip:
        layer.mlp = NoMLP()
    for name in norms:
        if ("mlp" if name in norms_of_mlp else "attention") in layer_config.skip:
            setattr(layer, name, nn.Identity())
    return layer


def config_of_layer(config: Any, number: int) -> Any:
    """The configuration of a layer, with the parts that it skips as `skip`."""
    layers = config.per_layer_config
    if not isinstance(layers, dict):  # in versions of the library that read it
        return layers[number]
    layer_config = copy.copy(config)
    sizes = {int(i): sizes for i, sizes in layers.items()}.get(number, {})
    for name, value in {"skip": [], **sizes}.items():
        setattr(layer_config, name, value)
    return layer_config
