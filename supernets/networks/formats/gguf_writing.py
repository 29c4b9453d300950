"""Writes GGUF files of decoders: the inverse of `supernets.networks.formats.gguf_file` and `gguf_tokenizer`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.errors import ExportError
from supernets.networks.formats.gguf_file import DIVISORS, KINDS, LARGEST_GEMMAS, PAIRED, PERIODS, names_in_gguf
from supernets.networks.formats.gguf_tokenizer import byte_pairs_of
from supernets.networks.formats.model_folder import Settings
from supernets.networks.rotary import Scaling, frequencies, read_rotary

Quantisation = Literal["F16", "Q8_0"]
PLACEHOLDER = 32
"""Channels of the MLP, all zeros, of a layer with attention alone: llama.cpp skips such a layer's attention, too. A block of
Q8_0."""
_ACTIVATIONS = {"gpt2": "gelu_pytorch_tanh", **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), "gelu_pytorch_tanh")}
"""The activations that architectures have, where it is not silu."""
_HETEROGENEOUS = "deci"
"""The architecture of networks whose layers differ: a Llama, perhaps with biases."""


def check_writable(settings: Mapping[str, Any]) -> str:
    """The architecture of a network in a GGUF file.

    Args:
        settings: The network's ``config.json``.

    Raises:
        ExportError: no architecture that is written here has its features.
    """
    kind = str(settings["model_type"])
    kind = "llama" if kind == "mistral" else kind  # as llama.cpp names it
    architectures = {model_type: name for name, model_type in KINDS.items() if name != _HETEROGENEOUS}
    activation = settings.get("hidden_act", settings.get("activation_function"))
    if kind not in architectures or activation != _ACTIVATIONS.get(kind, "silu"):
        raise _not_writable(f"GGUF files of networks of the kind {kind} with {activation} are not written")
    if kind != "gpt2" and (problem := _unwritable_feature(architectures[kind], settings)) is not None:
        raise _not_writable(f"llama.cpp's architecture {architectures[kind]} {problem}; choose another network")
    if "per_layer_config" not in settings:
        return architectures[kind]
    if kind not in ("llama", "qwen2"):
        raise _not_writable(
            f"llama.cpp has no architecture for networks of the kind {kind} whose layers differ; choose a network whose "
            "layers are alike"
        )
    return _HETEROGENEOUS


def _unwritable_feature(architecture: str, settings: Mapping[str, Any]) -> str | None:
    """What an architecture of llama.cpp does otherwise than a network, as an error message says it; None for nothing."""
    depth, window, periods = settings["num_hidden_layers"], settings.get("sliding_window"), PERIODS.get(architecture)
    # A window that is no shorter than texts changes nothing but the positions of Gemma 3.
    windowed = window is not None and (
        window < settings["max_position_embeddings"] or "rope_local_base_freq" in settings
    )
    if windowed and periods is None and architecture != "phi3":
        return f"has no windows, and this network has one of {window} tokens"
    pattern = [
        "full_attention" if periods and i % periods == periods - 1 else "sliding_attention" for i in range(depth)
    ]
    if windowed and periods is not None and settings["layer_types"] != pattern:
        return f"has windows in all but the last of every {periods} layers, and this network in others"
    if architecture == "smollm3" and settings["no_rope_layers"] != [int((i + 1) % 4 > 0) for i in range(depth)]:
        return "has positions in all but the last of every 4 layers, and this network in others"
    if architecture == "olmo2" and settings["num_attention_heads"] * settings["head_dim"] != settings["hidden_size"]:
        return "divides the width among the heads, and this network has other heads"
    if architecture == "gemma2" and None in (
        settings["attn_logit_softcapping"],
        settings["final_logit_softcapping"],
    ):
        return "bounds scores and logits, and this network lacks a bound"
    if (architecture, depth) in LARGEST_GEMMAS:
        return f"scales the scores of {depth} layers in another way"
    return None


def _not_writable(problem: str) -> ExportError:
    return ExportError(f"{problem}, or export the format transformers", code="export.no-such-architecture")


def write_gguf(
    path: Path,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    tokenizer: str,
    *,
    quantisation: Quantisation,
    facts: Mapping[str, str],
) -> None:
    """Writes a network as a GGUF file; norms and biases are in single precision.

    Args:
        path: The file.
        settings: The network's ``config.json``, with ``per_layer_config`` where its layers differ.
        tensors: Its tensors by the names of the `transformers` library.
        tokenizer: The text of its ``tokenizer.json``.
        quantisation: Type of the matrices; those whose rows are no whole blocks of it are ``F16``.
        facts: Values of the fields ``general.*`` by name.

    Raises:
        ExportError: no architecture or tokenizer of such files fits the network; see `check_writable`.
        OSError: the file cannot be written.
    """
    import gguf

    architecture = check_writable(settings)
    writer = gguf.GGUFWriter(path, architecture)
    try:
        for name, value in facts.items():
            writer.add_string(f"general.{name}", value)
        writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{quantisation}"])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_settings(writer, architecture, settings)
        _add_tokenizer(writer, tokenizer, settings)
        named = dict(_tensors(architecture, settings, tensors))
        types = {name: _type_of(tensor, quantisation) for name, tensor in named.items()}
        for name, tensor in named.items():
            shape = gguf.quants.quant_shape_to_byte_shape(tensor.shape, types[name])
            writer.add_tensor_info(name, shape, np.dtype(np.uint8), int(np.prod(shape)), types[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in named.items():
            writer.write_tensor_data(_quantised(tensor, types[name]))
    finally:
        writer.close()


def _type_of(tensor: Tensor, quantisation: Quantisation) -> Any:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if tensor.ndim < 2:
        return GGMLQuantizationType.F32
    kind = GGMLQuantizationType[quantisation]
    return GGMLQuantizationType.F16 if tensor.shape[-1] % GGML_QUANT_SIZES[kind][0] else kind


def _quantised(tensor: Tensor, kind: Any) -> NDArray[np.uint8]:
    """A tensor's bytes in a type."""
    from gguf.quants import quantize

    array = np.ascontiguousarray(quantize(tensor.detach().float().contiguous().numpy(), kind))
    return array.view(np.uint8)


def _add_settings(writer: Any, architecture: str, settings: Mapping[str, Any]) -> None:
    if architecture == "gpt2":
        writer.add_embedding_length(settings["n_embd"])
        writer.add_head_count(settings["n_head"])
        writer.add_block_count(settings["n_layer"])
        writer.add_feed_forward_length(settings["n_inner"])
        writer.add_context_length(settings["n_positions"])
        writer.add_layer_norm_eps(settings["layer_norm_epsilon"])
        return
    writer.add_vocab_size(settings["vocab_size"])
    writer.add_embedding_length(settings["hidden_size"])
    writer.add_block_count(settings["num_hidden_layers"])
    writer.add_context_length(settings["max_position_embeddings"])
    writer.add_layer_norm_rms_eps(settings["rms_norm_eps"])
    writer.add_key_length(settings["head_dim"])
    writer.add_value_length(settings["head_dim"])
    writer.add_rope_dimension_count(_turned_channels(settings))
    theta, scaling = _rotary(settings)
    writer.add_rope_freq_base(theta)
    if len(scaling) == 1:
        writer.add_rope_scaling_type(_linear())
        writer.add_rope_scaling_factor(scaling[0])
    if settings.get("sliding_window") is not None:
        writer.add_sliding_window(settings["sliding_window"])
    if "rope_local_base_freq" in settings:
        writer.add_rope_freq_base_swa(settings["rope_local_base_freq"])
    if settings.get("attn_logit_softcapping") is not None:
        writer.add_attn_logit_softcapping(settings["attn_logit_softcapping"])
    if settings.get("final_logit_softcapping") is not None:
        writer.add_final_logit_softcapping(settings["final_logit_softcapping"])
    layers = layers_of(settings)
    sizes = [layer["num_attention_heads"] for layer in layers], [layer["num_key_value_heads"] for layer in layers]
    heads, groups, hidden = (*sizes, [layer["intermediate_size"] for layer in layers])
    uniform = architecture != _HETEROGENEOUS
    writer.add_head_count(heads[0] if uniform else heads)
    writer.add_head_count_kv(groups[0] if uniform else groups)
    writer.add_feed_forward_length(hidden[0] if uniform else hidden)


def _turned_channels(settings: Mapping[str, Any]) -> int:
    """The number of a head's channels that rotary positions turn."""
    channels: float = settings["head_dim"] * settings.get("partial_rotary_factor", 1)
    return round(channels)


def _rotary(settings: Mapping[str, Any]) -> tuple[float, Scaling]:
    """The base and the scaling of rotary frequencies."""
    return read_rotary(Settings(Path("config.json"), settings), partial=True)


def _linear() -> Any:
    from gguf import RopeScalingType

    return RopeScalingType.LINEAR


def layers_of(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sizes of each layer in a file: those of its ``per_layer_config``, or the common ones.

    llama.cpp reads the head size of the first layer, which therefore has at least one head, and no layer with attention alone;
    in place of a missing part they have one of zeros, which adds nothing.
    """
    keys = ("num_attention_heads", "num_key_value_heads", "intermediate_size")
    layers = []
    for i in range(settings["num_hidden_layers"]):
        own = settings.get("per_layer_config", {}).get(str(i), {})
        layer = {key: own.get(key, settings[key]) for key in keys}
        skipped = own.get("skip", ())
        if "attention" in skipped:
            layer |= dict.fromkeys(keys[:2], 0 if i else 1)
        if "mlp" in skipped:
            layer["intermediate_size"] = PLACEHOLDER
        layers.append(layer)
    return layers


def _tensors(
    architecture: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a file by its names."""
    names = names_in_gguf(architecture)
    for name, tensor in tensors.items():
        yield names(name), _laid_out(architecture, settings, name, tensor)
    if architecture == "gpt2":
        return
    if architecture == "olmo2" and settings["tie_word_embeddings"]:
        yield "output.weight", tensors["model.embed_tokens.weight"]  # which llama.cpp requires
    theta, scaling = _rotary(settings)
    if len(scaling) > 1:
        unscaled, scaled = (
            torch.tensor(frequencies(_turned_channels(settings), theta, numbers)) for numbers in ((), scaling)
        )
        yield DIVISORS, unscaled / scaled
    width, size = settings["hidden_size"], settings["head_dim"]
    for i, layer in enumerate(layers_of(settings)):
        skipped = settings.get("per_layer_config", {}).get(str(i), {}).get("skip", ())
        parts: dict[str, tuple[int, ...]] = {}
        if "attention" in skipped and layer["num_attention_heads"]:
            parts |= dict.fromkeys(("attn_q", "attn_k", "attn_v"), (size, width))
            parts |= {"attn_output": (width, size), "attn_norm": (width,)}
        if "mlp" in skipped:
            parts |= dict.fromkeys(("ffn_gate", "ffn_up"), (PLACEHOLDER, width))
            parts |= {"ffn_down": (width, PLACEHOLDER), "ffn_norm": (width,)}
        for part, shape in parts.items():
            yield f"blk.{i}.{part}.weight", torch.zeros(shape)


def _laid_out(architecture: str, settings: Mapping[str, Any], name: str, tensor: Tensor) -> Tensor:
    """A tensor of the library as files have it."""
    if architecture in PAIRED and (".q_proj." in name or ".k_proj." in name):
        size = settings["head_dim"]
        halves = tensor.reshape(len(tensor) // size, 2, size // 2, *tensor.shape[1:])
        return halves.transpose(1, 2).reshape(tensor.shape)
    if architecture.startswith("gemma") and "norm" in name:
        return tensor + 1
    return tensor.T if architecture == "gpt2" and tensor.ndim == 2 and ".h." in name else tensor


def _add_tokenizer(writer: Any, tokenizer: str, settings: Mapping[str, Any]) -> None:
    pairs = byte_pairs_of(json.loads(tokenizer), settings["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pairs.division)
    writer.add_token_list(pairs.words)
    writer.add_token_types(pairs.types)
    writer.add_token_merges(pairs.merges)
    # A text begins with the separator, as in the training.
    writer.add_bos_token_id(settings["bos_token_id"])
    writer.add_eos_token_id(settings["eos_token_id"])
    writer.add_add_bos_token(True)
