"""Writes decoders in the layouts of the `transformers` library."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supernets.families.decoder.decoder_family import ATTENTION_EXPERTS, POSITIONS, WORDS, DecoderFamily
from supernets.families.decoder.library_layout import (
    FAMILY_ONLY_SUFFIXES,
    GPT2_NAMES,
    HEAD,
    MIXTURES,
    is_shifted,
    is_stacked,
    llama_name,
    mixture_settings,
    unstacked,
)
from supernets.families.shared.pretrained_transformer import not_writable, renumbered, uniform_options
from supernets.families.shared.transformer_family import NULLS, SHARED, TOP_P
from supernets.networks.formats.model_folder import write_folder
from supernets.networks.formats.pretrained import TOKENIZER
from supernets.networks.rotary import rotary_settings
from supernets.space import Architecture

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "mixtral": "MixtralForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
}
_ACTIVATIONS = {"silu": "silu", "gelu": "gelu", "gelu-tanh": "gelu_pytorch_tanh"}
_ATTENTION_ROUTER = ".attention.router."
"""Part of the names of tensors that change nothing where a layer has one attention expert."""


def write_decoder(
    folder: Path,
    family: DecoderFamily,
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    *,
    tokenizer: str,
    separator: int,
    separator_token: str,
) -> None:
    """Writes a network as a folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load.

    Its ``model_type`` is that of the library's class that has these features. Where embeddings are scaled by other numbers than
    in Gemma, the written ones are scaled, and the head's are apart.

    Args:
        folder: Folder to write, which is made if it does not exist.
        family: Family of the network.
        architecture: Architecture of the network.
        tensors: Tensors of the extracted network by the family's names.
        tokenizer: The text of its ``tokenizer.json``.
        separator, separator_token: The token that begins and ends texts.

    Raises:
        ExportError: the library has no such network, or a file cannot be written.
    """
    options = uniform_options(family, architecture, noun="decoder")
    width, layer_numbers = family.width(architecture), family.layer_numbers(architecture)
    kind = _kind(family, width, options)
    tensors = renumbered(tensors, {number: i for i, number in enumerate(layer_numbers)})
    tensors = {name: tensor for name, tensor in tensors.items() if _ATTENTION_ROUTER not in name}
    tied = family.spec.tied
    if kind != "gemma" and family.embedding_scale != 1:
        tensors = {HEAD: tensors[WORDS], **tensors, WORDS: tensors[WORDS] * family.embedding_scale}
        tied = False
    sizes = _gpt2_sizes if kind == "gpt2" else _llama_sizes
    settings = {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        **sizes(family, kind, width, len(layer_numbers), options),
        "vocab_size": family.vocabulary,
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
        "use_cache": True,
        "bos_token_id": separator,
        "eos_token_id": separator,
    }
    library_tensors = _gpt2_tensors(tensors, len(layer_numbers)) if kind == "gpt2" else _llama_tensors(tensors, kind)
    of_tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": separator_token,
        "eos_token": separator_token,
        "model_max_length": family.positions,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
    }
    files = {TOKENIZER: tokenizer, "tokenizer_config.json": json.dumps(of_tokenizer, indent=2)}
    write_folder(folder, settings, dict(library_tensors), files)


def _kind(family: DecoderFamily, width: int, options: Mapping[str, int]) -> str:
    """The ``model_type`` of the class of the library that has a network's features."""
    spec, heads = family.spec, options["heads"] * options["queries"]
    if (n := options.get(ATTENTION_EXPERTS, 1)) > 1:
        raise not_writable(
            f"the transformers library has no decoder with attention experts of this kind, and this network has {n} in each "
            "layer; choose one with 1, or export ONNX"
        )
    if spec.experts is not None:
        return _kind_of_mixture(family, options)
    if spec.layout == "gpt2":
        if heads * spec.head_size != width or options["queries"] > 1:
            heads_text = f"{options['heads']} heads of {options['queries']} x {spec.head_size} channels"
            raise not_writable(
                f"the transformers library divides the width of a GPT-2 among its heads, and this network has {heads_text} "
                f"in a width of {width}; choose one with all of its heads, or export ONNX"
            )
        return "gpt2"
    if spec.qkv_bias:
        return "qwen2"
    if math.isclose(family.embedding_scale, width**0.5, rel_tol=1e-6) and spec.activated_by == "gelu-tanh":
        return "gemma"
    return "mistral" if width % heads else "llama"  # which may have heads that do not divide the width


def _kind_of_mixture(family: DecoderFamily, options: Mapping[str, int]) -> str:
    spec = family.spec
    more = (
        spec.expert_rank is not None or spec.routers == SHARED or options.get(NULLS, 0) > 0 or options.get(TOP_P, 1) < 1
    )
    if spec.layout == "llama" and spec.gates.startswith("softmax") and not more:
        if spec.shared_hidden is None and not spec.qkv_bias and spec.gates == "softmax":
            return "mixtral"
        if spec.shared_hidden is not None and spec.shared_gate:
            return "qwen2_moe"
    raise not_writable(
        "networks with experts are written as Mixtral (layout llama, gates softmax, no qkv_bias and no shared_hidden) or "
        "Qwen2-MoE (layout llama, gates softmax or softmax-all, with shared_hidden and shared_gate), both without "
        "expert_rank, shared routers, null experts and a top_p below 1, and this one is neither; export ONNX"
    )


def _llama_sizes(
    family: DecoderFamily, kind: str, width: int, depth: int, options: Mapping[str, int]
) -> dict[str, Any]:
    of_kind: dict[str, dict[str, Any]] = {"mistral": {"sliding_window": None}, "qwen2": {"use_sliding_window": False}}
    if kind in MIXTURES:
        of_kind[kind] = mixture_settings(family.spec, kind, options)
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "intermediate_size": options["hidden"],
        "num_attention_heads": options["heads"] * options["queries"],
        "num_key_value_heads": options["heads"],
        "head_dim": family.spec.head_size,
        "hidden_act": _ACTIVATIONS[family.spec.activated_by],
        "max_position_embeddings": family.positions,
        "rms_norm_eps": family.epsilon,
        "attention_dropout": 0.0,
        **rotary_settings(family.theta, family.scaling),
        **of_kind.get(kind, {}),
    }


def _gpt2_sizes(family: DecoderFamily, kind: str, width: int, depth: int, options: Mapping[str, int]) -> dict[str, Any]:
    return {
        "n_embd": width,
        "n_layer": depth,
        "n_head": options["heads"],
        "n_inner": options["hidden"],
        "n_positions": family.positions,
        "layer_norm_epsilon": family.epsilon,
        "activation_function": _ACTIVATIONS[family.spec.activated_by],
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0),
    }


def _llama_tensors(tensors: Mapping[str, Tensor], network: str) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a network with the layout ``llama`` by the library's names.

    Args:
        tensors: Tensors by the family's names.
        network: Its ``model_type``.
    """
    for name, tensor in tensors.items():
        if is_stacked(name):
            yield from unstacked(network, name, tensor)
        elif name == HEAD:
            yield "lm_head.weight", tensor
        elif not name.endswith(FAMILY_ONLY_SUFFIXES):
            yield f"model.{llama_name(network, name)}", tensor - 1 if is_shifted(network, name) else tensor


def _gpt2_tensors(tensors: Mapping[str, Tensor], depth: int) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a GPT-2 by the library's names.

    The library keeps linear layers transposed, and queries, keys and values in one.
    """
    yield "transformer.wte.weight", tensors[WORDS]
    yield "transformer.wpe.weight", tensors[POSITIONS]
    if HEAD in tensors:
        yield "lm_head.weight", tensors[HEAD]
    joined = [f"attention.{part}" for part in ("query", "key", "value")]
    for kind in ("weight", "bias"):
        yield f"transformer.ln_f.{kind}", tensors[f"head.norm.{kind}"]
        for i in range(depth):
            layer_tensors = {module: tensors[f"layers.{i}.{module}.{kind}"] for module in GPT2_NAMES}
            parts = {GPT2_NAMES[module]: tensor for module, tensor in layer_tensors.items() if module not in joined}
            parts[GPT2_NAMES[joined[0]]] = torch.cat([layer_tensors[module] for module in joined])
            for library_module, part in parts.items():
                yield f"transformer.h.{i}.{library_module}.{kind}", part.T if part.ndim > 1 else part
