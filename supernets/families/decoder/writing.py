"""Writes decoders in the layouts of the `transformers` library."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supernets.families.decoder.decoder_family import ATTENTION_EXPERTS, POSITIONS, WORDS, DecoderFamily
from supernets.families.decoder.library_layout import (
    FAMILY_ONLY_SUFFIXES,
    GPT2_NAMES,
    HEAD,
    KINDS,
    MIXTURES,
    Kind,
    is_shifted,
    is_stacked,
    joined_names,
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

_SAME_SCALE = 1e-6
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
    kind = _kind(family, width, layer_numbers, options)
    tensors = renumbered(tensors, {number: i for i, number in enumerate(layer_numbers)})
    tensors = {name: tensor for name, tensor in tensors.items() if _ATTENTION_ROUTER not in name}
    tied = family.spec.tied
    scale = family.embedding_scale / (width**0.5 if KINDS[kind].scaled else 1)
    if not math.isclose(scale, 1, rel_tol=_SAME_SCALE):
        tensors = {HEAD: tensors[WORDS], **tensors, WORDS: tensors[WORDS] * scale}
        tied = False
    sizes = _gpt2_sizes if kind == "gpt2" else _llama_sizes
    settings = {
        "architectures": [KINDS[kind].library_class],
        "model_type": kind,
        **sizes(family, kind, width, layer_numbers, options),
        "vocab_size": family.vocabulary,
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
        "use_cache": True,
        "bos_token_id": separator,
        "eos_token_id": separator,
        "pad_token_id": None,  # not the default, which the vocabulary may not have
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


def _kind(family: DecoderFamily, width: int, layer_numbers: Sequence[int], options: Mapping[str, int]) -> str:
    """The ``model_type`` of the class of the library that has a network's features."""
    spec, heads = family.spec, options["heads"] * options["queries"]
    is_scaled = (
        math.isclose(family.embedding_scale, width**0.5, rel_tol=_SAME_SCALE) and spec.activated_by == "gelu-tanh"
    )
    if (n := options.get(ATTENTION_EXPERTS, 1)) > 1:
        raise not_writable(
            f"the transformers library has no decoder with attention experts of this kind, and this network has {n} in each "
            "layer; choose one with 1, or export ONNX"
        )
    if spec.layout == "gpt2" and (heads * spec.head_size != width or options["queries"] > 1):
        heads_text = f"{options['heads']} heads of {options['queries']} x {spec.head_size} channels"
        raise not_writable(
            f"the transformers library divides the width of a GPT-2 among its heads, and this network has {heads_text} "
            f"in a width of {width}; choose one with all of its heads, or export ONNX"
        )
    names = [name for name, kind in KINDS.items() if kind.layout == spec.layout and not kind.experts]
    if spec.experts is not None:
        names = [_kind_of_mixture(family, options)]
    lacks = {name: _lacks(KINDS[name], family, layer_numbers, heads, width) for name in names}
    # The first one that lacks nothing, with scaled embeddings if those of the network are.
    nearest = min(names, key=lambda name: (len(lacks[name]), KINDS[name].scaled != is_scaled))
    if lacks[nearest]:
        library_class, features = KINDS[nearest].library_class, " and ".join(lacks[nearest])
        raise not_writable(
            f"the transformers library has no decoder like this network: its {library_class} has no {features}; export ONNX"
        )
    return nearest


def _lacks(kind: Kind, family: DecoderFamily, layer_numbers: Sequence[int], heads: int, width: int) -> list[str]:
    """The features of a network that those of a kind lack, as error messages name them."""
    spec, scopes = family.spec, [family.scopes[str(i)] for i in layer_numbers]
    windows, rotary = {scope.window for scope in scopes}, spec.layout == "llama"
    local = windows != {0} and family.local_theta not in (0, family.theta)
    features = {
        f"norms {spec.norms} attention and MLPs": kind.norms == spec.norms,
        "norms of queries and keys like its": kind.qk_norm == spec.qk_norm,
        "biases like its": kind.qkv_bias == spec.qkv_bias or kind.experts or not rotary,
        f"windows of {' and '.join(map(str, sorted(windows)))} tokens": (
            windows == {0}
            or (len(windows) == 1 and kind.windows == "all")
            or (len(windows - {0}) == 1 and kind.windows == "some")
        ),
        "frequencies of its own in layers with a window": not local or kind.local_theta is not None,
        "layers without positions": not rotary or kind.unturned or all(scope.frequencies for scope in scopes),
        "positions that turn a part of a head": not family.rotary_channels or kind.partial,
        "bound of attention scores": not family.attention_cap or kind.attention_cap is not None,
        "bound of logits": not family.logit_cap or kind.logit_cap is not None,
        f"{heads} heads in a width of {width}": not kind.divided or width % heads == 0,
    }
    return [feature for feature, is_there in features.items() if not is_there]


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
    family: DecoderFamily, kind: str, width: int, layer_numbers: Sequence[int], options: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": len(layer_numbers),
        "intermediate_size": options["hidden"],
        "num_attention_heads": options["heads"] * options["queries"],
        "num_key_value_heads": options["heads"],
        "head_dim": family.spec.head_size,
        "hidden_act": _ACTIVATIONS[family.spec.activated_by],
        "max_position_embeddings": family.positions,
        "rms_norm_eps": family.epsilon,
        "attention_dropout": 0.0,
        **rotary_settings(family.theta, family.scaling),
        **(mixture_settings(family.spec, kind, options) if kind in MIXTURES else {}),
        **_attention_settings(family, KINDS[kind], layer_numbers),
    }


def _attention_settings(family: DecoderFamily, kind: Kind, layer_numbers: Sequence[int]) -> dict[str, Any]:
    """The library's settings of windows, positions and bounds, those that a kind has."""
    size, scopes = family.spec.head_size, [family.scopes[str(i)] for i in layer_numbers]
    window, settings = max(scope.window for scope in scopes), dict[str, Any]()
    if kind.windows is not None:
        settings["sliding_window"] = window or None
    if kind.flagged:
        settings["use_sliding_window"] = window > 0
    if kind.windows == "some":
        settings["layer_types"] = ["sliding_attention" if scope.window else "full_attention" for scope in scopes]
    if kind.local_theta is not None:
        settings["rope_local_base_freq"] = family.local_theta or family.theta
    if kind.unturned:
        settings["no_rope_layers"] = [int(bool(scope.frequencies)) for scope in scopes]
    if kind.partial:
        settings["partial_rotary_factor"] = (family.rotary_channels or size) / size
    if kind.query_scalar is not None:  # read here, queries have the scale
        settings |= {"query_pre_attn_scalar": size, "hidden_activation": _ACTIVATIONS[family.spec.activated_by]}
        settings["sliding_window"] = window or family.positions  # the library makes the mask of windows in any case
    for key, default, cap in (
        ("attn_logit_softcapping", kind.attention_cap, family.attention_cap),
        ("final_logit_softcapping", kind.logit_cap, family.logit_cap),
    ):
        if default is not None:
            settings[key] = cap or None
    return settings


def _gpt2_sizes(
    family: DecoderFamily, kind: str, width: int, layer_numbers: Sequence[int], options: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "n_embd": width,
        "n_layer": len(layer_numbers),
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
        elif not name.endswith(FAMILY_ONLY_SUFFIXES) and name == (names := joined_names(network, name))[0]:
            joined = torch.cat([tensors[part] for part in names]) if len(names) > 1 else tensor
            yield f"model.{llama_name(network, name)}", joined - 1 if is_shifted(network, name) else joined


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
