"""Writes decoders in the layouts of the `transformers` library."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

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
from supernets.families.shared.pretrained_transformer import not_writable, renumbered
from supernets.families.shared.transformer_family import NULLS, SHARED, TOP_P
from supernets.networks.formats.model_folder import write_folder
from supernets.networks.formats.pretrained import TOKENIZER
from supernets.networks.rotary import rotary_settings
from supernets.space import Architecture

SAME_SCALE = 1e-6
"""The largest relative difference of factors of embeddings that is rounding."""
_ACTIVATIONS = {"silu": "silu", "gelu": "gelu", "gelu-tanh": "gelu_pytorch_tanh"}
_PARTS = {"attention": "heads", "mlp": "hidden"}
"""The parts of layers as the library names them where layers skip them, and the options that are then 0."""
HETEROGENEOUS, MODELLING = "HeterogeneousForCausalLM", "modeling_heterogeneous.py"
"""The class of networks whose layers differ, and its file, a module of this package for the kind ``llama``."""
ATTENTION_ROUTER = ".attention.router."
"""Part of the names of tensors that change nothing where a layer has one attention expert."""


@dataclass(frozen=True, slots=True)
class LibraryNetwork:
    """A network as the library's folders have it.

    Attributes:
        settings: Content of its ``config.json``. What layers have in other sizes than the whole is in ``per_layer_config``, by
            their numbers, with the attention or MLP that they ``skip``.
        tensors: Tensors by the library's names.
        texts: Texts of further files, by name.
    """

    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    texts: Mapping[str, str]


def write_decoder(
    folder: Path,
    family: DecoderFamily,
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    *,
    tokenizer: str,
    separator: int,
    separator_token: str,
) -> LibraryNetwork:
    """Writes a network as a folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load, and returns what it wrote.

    Args:
        folder: Folder to write, which is made if it does not exist.
        family, architecture, tensors, tokenizer, separator, separator_token: Arguments of `library_network`.

    Raises:
        ExportError: the library has no such network, or a file cannot be written.
    """
    network = library_network(
        family, architecture, tensors, tokenizer=tokenizer, separator=separator, separator_token=separator_token
    )
    write_folder(folder, network.settings, network.tensors, network.texts)
    return network


def library_network(
    family: DecoderFamily,
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    *,
    tokenizer: str,
    separator: int,
    separator_token: str,
) -> LibraryNetwork:
    """A network in the layout of the library.

    Its ``model_type`` is that of the library's class that has these features. Where embeddings are scaled by other numbers than
    in Gemma, the written ones are scaled, and the head's are apart. A network whose layers differ comes with the file that
    makes its layers of the library's.

    Args:
        family: Family of the network.
        architecture: Architecture of the network.
        tensors: Tensors of the extracted network by the family's names.
        tokenizer: The text of its ``tokenizer.json``.
        separator, separator_token: The token that begins and ends texts.

    Raises:
        ExportError: the library has no such network.
    """
    options, width = options_by_layer(family, architecture), family.width(architecture)
    kind = _kind(family, width, options)
    tensors = renumbered(tensors, {number: i for i, number in enumerate(options)})
    tensors = {name: tensor for name, tensor in tensors.items() if ATTENTION_ROUTER not in name}
    tied = family.spec.tied
    scale = family.embedding_scale / (width**0.5 if KINDS[kind].scaled else 1)
    if not math.isclose(scale, 1, rel_tol=SAME_SCALE):
        tensors = {HEAD: tensors[WORDS], **tensors, WORDS: tensors[WORDS] * scale}
        tied = False
    gpt2 = kind == "gpt2"
    numbers = tuple(options)
    sizes = [(_gpt2_sizes if gpt2 else _llama_sizes)(family, kind, width, numbers, o) for o in options.values()]
    common, differing = _common_sizes(sizes)
    for i, layer in enumerate(options.values()):
        if skipped := [part for part, name in _PARTS.items() if not layer[name]]:
            differing[i] = {key: size for key, size in differing.get(i, {}).items() if size} | {"skip": skipped}
    if common.get("intermediate_size") == 0:
        common["intermediate_size"] = 1  # no layer has an MLP, and the library reads a size nevertheless
    if gpt2 and differing:
        raise not_writable(
            "the transformers library has no GPT-2 whose layers differ; choose one whose layers are alike, or export ONNX"
        )
    settings = {
        "architectures": [HETEROGENEOUS if differing else KINDS[kind].library_class],
        "model_type": kind,
        **common,
        "vocab_size": family.vocabulary,
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
        "use_cache": True,
        "bos_token_id": separator,
        "eos_token_id": separator,
        "pad_token_id": None,  # not the default, which the vocabulary may not have
    }
    of_tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": separator_token,
        "eos_token": separator_token,
        "model_max_length": family.positions,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
    }
    texts = {TOKENIZER: tokenizer, "tokenizer_config.json": json.dumps(of_tokenizer, indent=2)}
    if differing:
        settings["auto_map"] = {"AutoModelForCausalLM": f"{MODELLING.removesuffix('.py')}.{HETEROGENEOUS}"}
        settings["per_layer_config"] = {str(i): differing[i] for i in sorted(differing)}
        texts[MODELLING] = _modelling(kind)
    library_tensors = _gpt2_tensors(tensors, len(options)) if gpt2 else _llama_tensors(tensors, kind)
    return LibraryNetwork(settings, dict(library_tensors), texts)


def options_by_layer(family: DecoderFamily, architecture: Architecture) -> dict[int, dict[str, int]]:
    """The options of each layer by its number, without those of layers that do nothing.

    The option ``heads`` of a layer without attention is 0, and ``hidden`` of one without an MLP.
    """
    values, names = family.space.values(architecture), family.layer_options()
    layers = {
        number: {name: cast(int, values.get(f"{family.layer}{number}.{name}", 0)) for name in names}
        for number in family.layer_numbers(architecture)
    }
    return {number: layer for number, layer in layers.items() if layer["heads"] or layer["hidden"]}


def _common_sizes(sizes: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """The settings of a whole network of which these are the layers' (the largest where they differ); and what others have
    instead, by their numbers."""
    common = {key: max(layer[key] for layer in sizes) if _differs(key, sizes) else sizes[0][key] for key in sizes[0]}
    changes = [{key: value for key, value in layer.items() if value != common[key]} for layer in sizes]
    return common, {i: change for i, change in enumerate(changes) if change}


def _differs(key: str, sizes: Sequence[Mapping[str, Any]]) -> bool:
    return any(layer[key] != sizes[0][key] for layer in sizes)


def _modelling(kind: str) -> str:
    """The text of the file that makes layers that differ, for networks of a kind."""
    text = files(__package__).joinpath(MODELLING).read_text(encoding="utf-8")
    library_class = KINDS[kind].library_class
    prefix, module = library_class.removesuffix("ForCausalLM"), kind.removesuffix("_text")
    replacements = {
        "  # type: ignore[no-untyped-call]": "",
        "models.llama.modeling_llama": f"models.{module}.modeling_{module}",
        "LlamaDecoderLayer": f"{prefix}DecoderLayer",
        "LlamaForCausalLM": library_class,
    }
    for part, replacement in replacements.items():
        text = text.replace(part, replacement)
    return text


def _kind(family: DecoderFamily, width: int, options: Mapping[int, Mapping[str, int]]) -> str:
    """The ``model_type`` of the class of the library that has a network's features, those of all of its layers."""
    spec = family.spec
    is_scaled = (
        math.isclose(family.embedding_scale, width**0.5, rel_tol=SAME_SCALE) and spec.activated_by == "gelu-tanh"
    )
    if (n := max(layer.get(ATTENTION_EXPERTS, 1) for layer in options.values())) > 1:
        raise not_writable(
            f"the transformers library has no decoder with attention experts of this kind, and this network has {n} in a "
            "layer; choose one with 1 in each, or export ONNX"
        )
    for layer in options.values() if spec.layout == "gpt2" else ():
        if layer["heads"] and (layer["heads"] * spec.head_size != width or layer["queries"] > 1):
            heads_text = f"{layer['heads']} heads of {layer['queries']} x {spec.head_size} channels"
            raise not_writable(
                f"the transformers library divides the width of a GPT-2 among its heads, and this network has {heads_text} "
                f"in a width of {width}; choose one with all of its heads, or export ONNX"
            )
    names = [name for name, kind in KINDS.items() if kind.layout == spec.layout and not kind.experts]
    if spec.experts is not None:
        names = sorted({_kind_of_mixture(family, layer) for layer in options.values()})
    lacks = {name: _lacks(KINDS[name], family, options, width) for name in names}
    # The first one that lacks nothing, with scaled embeddings if those of the network are.
    nearest = min(names, key=lambda name: (len(lacks[name]), KINDS[name].scaled != is_scaled))
    if lacks[nearest]:
        library_class, features = KINDS[nearest].library_class, " and ".join(lacks[nearest])
        raise not_writable(
            f"the transformers library has no decoder like this network: its {library_class} has no {features}; export ONNX"
        )
    return nearest


def _lacks(kind: Kind, family: DecoderFamily, options: Mapping[int, Mapping[str, int]], width: int) -> list[str]:
    """The features of a network that those of a kind lack, as error messages name them."""
    spec, scopes = family.spec, [family.scopes[str(i)] for i in options]
    windows, rotary = {scope.window for scope in scopes}, spec.layout == "llama"
    heads = sorted({layer["heads"] * layer["queries"] for layer in options.values() if layer["heads"]})
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
        # The library compares the heads with the width, and raises where layers have different numbers of them.
        f"{' and '.join(map(str, heads))} heads in a width of {width}": (
            not kind.divided or (len(heads) == 1 and width % heads[0] == 0)
        ),
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
