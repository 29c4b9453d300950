"""GGUF files of decoders, presented as a folder of the `transformers` library has them: settings, tensors and tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supernets.errors import CheckpointError
from supernets.files import check_regular
from supernets.networks.formats.model_folder import experts_unusable, unusable
from supernets.networks.rotary import frequencies, rotary_settings

KINDS: Mapping[str, str] = {
    **{name: name for name in ("llama", "qwen2", "qwen3", "smollm3", "phi3", "olmo2", "gemma", "gemma2", "gpt2")},
    "gemma3": "gemma3_text",
    "deci": "llama",
}
"""The values of ``model_type`` by the names of the architectures that are read; files of Mistral have the first, and those of
networks whose layers differ the last, which with biases is Qwen2's."""
PAIRED = ("llama", "smollm3", "deci")
"""The architectures whose rows of queries and keys have the channels that rotary positions turn beside each other; the library
and other architectures have them in two halves."""
_LLAMA: Mapping[str, str] = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_GPT2: Mapping[str, str] = {
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
    "attn_norm": "ln_1",
    "ffn_norm": "ln_2",
}
_OF_OLMO2 = {
    **_LLAMA,
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_OF_GEMMA2 = {**_OF_OLMO2, "ffn_norm": "pre_feedforward_layernorm"}
_BLOCK: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(KINDS, _LLAMA),
    **dict.fromkeys(("gemma2", "gemma3"), _OF_GEMMA2),
    "olmo2": _OF_OLMO2,
    "phi3": {**_LLAMA, "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
    "gpt2": _GPT2,
}
"""Modules of a layer by architecture, and their names in the library."""
PERIODS: Mapping[str, int] = {"gemma2": 2, "gemma3": 6}
"""Every so many layers, one is without a window, unless the file says which."""
LARGEST_GEMMAS = (("gemma2", 46), ("gemma3", 62))
"""The architectures and depths whose attention scores have the scale of the width divided by the heads; files do not say it."""
DIVISORS = "rope_freqs.weight"
"""A tensor that scales rotary frequencies."""
_LLAMA3 = (1.0, 4.0, 8192.0)
"""Numbers of the scaling in all versions of Llama 3 from 3.1 on, beside its factor: see `rotary.Scaling`."""
_LISTS = tuple(f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges", "scores"))
"""Fields that take seconds to read, and that `supernets.networks.formats.gguf_tokenizer` reads."""
_OUTSIDE_LLAMA = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_OUTSIDE_GPT2 = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}


class _Lazy(Mapping[str, Tensor]):
    """Tensors that are read when they are taken."""

    def __init__(self, reads: Mapping[str, Callable[[], Tensor]]) -> None:
        self._reads = reads

    def __getitem__(self, name: str) -> Tensor:
        return self._reads[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._reads)

    def __len__(self) -> int:
        return len(self._reads)


@dataclass(frozen=True)
class GGUFFile:
    """A file's content.

    Attributes:
        settings: Settings as its ``config.json`` would have them.
        tensors: Tensors by the names that the library has; a tensor is read when it is taken.
        fields: Fields of the file, by name; their ``contents()`` are values.
    """

    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    fields: Mapping[str, Any]


def open_gguf(path: Path) -> GGUFFile:
    """A GGUF file.

    Raises:
        CheckpointError: it is missing or damaged, of another architecture, or holds tensors of a type that cannot be read; or
            the package gguf is not installed.
    """
    if find_spec("gguf") is None:
        raise CheckpointError(
            f"{path}: reading it needs the package gguf; install it with: pip install 'subnet-nas[gguf]'",
            code="part.missing",
        )
    try:
        check_regular(path)
        file_status = path.stat()
        reader = _reader(path, file_status.st_mtime_ns, file_status.st_size)
        fields = {name: field.contents() for name, field in reader.fields.items() if name not in _LISTS}
        lengths = {name: len(field.data) for name, field in reader.fields.items()}
        kind = str(fields["general.architecture"])
    except FileNotFoundError:
        raise unusable(f"{path}: does not exist; give the path of a GGUF file") from None
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise unusable(f"{path}: is no sound GGUF file ({error}); replace it with a whole copy") from None
    if (experts := fields.get(f"{kind}.expert_count") or 0) > 1:
        raise experts_unusable(path, f"{kind} with {kind}.expert_count: {experts}")
    if kind not in KINDS:
        raise unusable(
            f"{path}: its architecture is {kind!r}; the family decoder reads {', '.join(KINDS)}; give another file"
        )
    _check_types(path, reader)
    zeros = _layers_of_zeros(reader) if kind == "deci" else {}
    settings = _settings(path, kind, fields, lengths, {tensor.name for tensor in reader.tensors}, zeros)
    reads: dict[str, Callable[[], Tensor]] = {}
    for tensor in reader.tensors:
        if tensor.name == DIVISORS and "rope_theta" in settings:
            settings["rope_scaling"] = _scaling(path, tensor, settings)
            continue
        name = _their_name(path, kind, tensor.name)
        reads[name] = partial(_tensor, tensor, name, kind, settings)
    for part, layers in zeros.items():
        prefixes = tuple(f"model.layers.{i}.{module}." for i in layers for module in _PARTS[part][2])
        reads = {name: read for name, read in reads.items() if not name.startswith(prefixes)}
    return GGUFFile(settings, _Lazy(reads), dict(reader.fields.items()))


# Reading a vocabulary takes seconds, and a job reads sizes, tokenizer and tensors one after another.
@lru_cache(maxsize=1)
def _reader(path: Path, changed: int, size: int) -> Any:
    """The package's reader of a file; raises its errors.

    Args:
        changed, size: Time of change (ns) and size (bytes) of the file, so that another one at the same path is read anew.
    """
    from gguf import GGUFReader

    return GGUFReader(path)


def _check_types(path: Path, reader: Any) -> None:
    """Raises `CheckpointError` if the package cannot read the type of a tensor; the text names the types."""
    from gguf.quants import dequantize

    unread = set()
    for kind, tensor in {tensor.tensor_type: tensor for tensor in reader.tensors}.items():
        try:
            dequantize(tensor.data[:1], kind)
        except NotImplementedError:
            unread.add(kind.name)
    if unread:
        listed = f"tensors of the quantisation types {', '.join(sorted(unread))}"
        raise unusable(
            f"{path}: has {listed}, which the package gguf cannot read; convert it to another, e.g. Q8_0 or F16"
        )


def _settings(
    path: Path,
    kind: str,
    fields: Mapping[str, Any],
    lengths: Mapping[str, int],
    tensors: set[str],
    zeros: Mapping[str, frozenset[int]],
) -> dict[str, Any]:
    def setting(key: str, default: Any = None) -> Any:
        value = fields.get(f"{kind}.{key}", default)
        if value is None:
            raise unusable(f"{path}: lacks the field {kind}.{key}; replace it with a whole copy")
        return value

    words = setting("vocab_size", lengths.get("tokenizer.ggml.tokens"))
    common = {"model_type": KINDS[kind], "vocab_size": words, "tie_word_embeddings": "output.weight" not in tensors}
    if (ends := fields.get("tokenizer.ggml.eos_token_id")) is not None:
        common["eos_token_id"] = ends
    heads, width, depth = setting("attention.head_count"), setting("embedding_length"), setting("block_count")
    if kind == "deci":
        differing = _layers_that_differ(setting, zeros)
        common["model_type"] = "qwen2" if any(name.endswith("attn_q.bias") for name in tensors) else "llama"
        heads = differing["num_attention_heads"]
    if kind == "gpt2":
        return common | {
            "n_embd": width,
            "n_head": heads,
            "n_layer": depth,
            "n_inner": setting("feed_forward_length"),
            "n_positions": setting("context_length"),
            "layer_norm_epsilon": setting("attention.layer_norm_epsilon"),
        }
    settings = common | {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": depth,
        "num_key_value_heads": setting("attention.head_count_kv", heads),
        "intermediate_size": setting("feed_forward_length"),
        "max_position_embeddings": setting("context_length"),
        "rms_norm_eps": setting("attention.layer_norm_rms_epsilon"),
        "rope_theta": setting("rope.freq_base", 10000.0),
        "hidden_act": "gelu_pytorch_tanh" if kind.startswith("gemma") else "silu",
    }
    if f"{kind}.attention.key_length" in fields:
        settings["head_dim"] = setting("attention.key_length")
    head_size = settings.get("head_dim", width // heads)
    if (channels := setting("rope.dimension_count", head_size)) != head_size:
        settings["partial_rotary_factor"] = channels / head_size
    if window := setting("attention.sliding_window", 0):
        period = setting("attention.sliding_window_pattern", PERIODS.get(kind, 0))
        windowed = period if isinstance(period, list) else [i % period < period - 1 for i in range(period and depth)]
        settings |= {"sliding_window": window, "use_sliding_window": True}
        if windowed:
            settings["layer_types"] = ["sliding_attention" if flag else "full_attention" for flag in windowed]
    if kind in PERIODS:
        scale = setting("attention.scale", 0.0)
        whole = width // heads if (kind, depth) in LARGEST_GEMMAS else head_size
        settings["query_pre_attn_scalar"] = scale**-2 if scale else whole
        settings["rope_local_base_freq"] = setting("rope.freq_base_swa", 10000.0)
        for key in ("attn_logit_softcapping", "final_logit_softcapping"):
            if f"{kind}.{key}" in fields:
                settings[key] = setting(key)
    if (scaling := fields.get(f"{kind}.rope.scaling.type", "none")) != "none":
        settings["rope_scaling"] = {"rope_type": scaling, "factor": setting("rope.scaling.factor", 0.0)}
    return settings if kind != "deci" else settings | differing


_SIZES = {
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "intermediate_size": "feed_forward_length",
}
"""Sizes of layers, and the fields that have them: numbers, or lists with one for each layer."""


_PARTS = {
    "attention": ("attn_output", ("num_attention_heads", "num_key_value_heads"), ("self_attn", "input_layernorm")),
    "mlp": ("ffn_down", ("intermediate_size",), ("mlp", "post_attention_layernorm")),
}
"""Parts that layers may skip: a file's name of their last linear layer, sizes that are then 0, and the library's modules."""


def _layers_that_differ(setting: Callable[[str], Any], missing: Mapping[str, frozenset[int]]) -> dict[str, Any]:
    """The largest sizes of layers, and in ``per_layer_config`` what others have instead, with the parts that they skip.

    Args:
        setting: Function that reads a field.
        missing: Numbers of layers whose part adds nothing, by part.
    """
    n = setting("block_count")
    sizes = {key: value if isinstance(value := setting(field), list) else [value] * n for key, field in _SIZES.items()}
    for part, (_, keys, _) in _PARTS.items():
        for key in keys:
            sizes[key] = [0 if i in missing[part] else size for i, size in enumerate(sizes[key])]
    common = {key: max(1, *values) for key, values in sizes.items()}  # 1 where all layers skip a part, as none has it
    layers: dict[str, dict[str, Any]] = {}
    for i in range(n):
        layer = {key: values[i] for key, values in sizes.items() if values[i] not in (0, common[key])}
        skipped = [part for part, (_, keys, _) in _PARTS.items() if not sizes[keys[-1]][i]]
        if layer or skipped:
            layers[str(i)] = layer | ({"skip": skipped} if skipped else {})
    return common | {"per_layer_config": layers}


def _layers_of_zeros(reader: Any) -> dict[str, frozenset[int]]:
    """The layers whose attention or MLP adds zeros, as llama.cpp needs where one lacks an MLP, or the first its attention."""
    zeros: dict[str, set[int]] = {part: set() for part in _PARTS}
    for tensor in reader.tensors:
        for part, (last, _, _) in _PARTS.items():
            if tensor.name.endswith(f".{last}.weight") and not tensor.data.any():
                zeros[part].add(int(tensor.name.split(".")[1]))
    return {part: frozenset(layers) for part, layers in zeros.items()}


def _scaling(path: Path, tensor: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of Llama 3's scaling, which files have as the divisor of each frequency."""
    divisors = torch.from_numpy(tensor.data.copy()).float()
    llama3 = (float(divisors.max()), *_LLAMA3)
    unscaled, scaled = (
        torch.tensor(frequencies(2 * len(divisors), settings["rope_theta"], numbers)) for numbers in ((), llama3)
    )
    if not torch.allclose(unscaled / scaled, divisors, rtol=1e-3):
        divisors_text = ", ".join(f"{divisor:.3g}" for divisor in divisors.tolist())
        raise unusable(
            f"{path}: its rotary frequencies are divided by {divisors_text}; Llama 3 has others; give another file"
        )
    scaling: dict[str, Any] = rotary_settings(settings["rope_theta"], llama3)["rope_scaling"]
    return scaling


def names_in_gguf(kind: str) -> Callable[[str], str]:
    """A function from the library's names of tensors to those in files of an architecture."""
    block, outside = _BLOCK[kind], _OUTSIDE_GPT2 if kind == "gpt2" else _OUTSIDE_LLAMA
    modules = {theirs: ours for ours, theirs in {**block, **outside}.items()}

    def name_in_gguf(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        if module in modules:
            return f"{modules[module]}.{leaf}"
        _, _, number, module_in_layer = module.split(".", 3)
        return f"blk.{number}.{modules[module_in_layer]}.{leaf}"

    return name_in_gguf


def _their_name(path: Path, kind: str, name: str) -> str:
    """The library's name of a tensor."""
    gpt2 = kind == "gpt2"
    module, _, leaf = name.rpartition(".")
    block, outside = _BLOCK[kind], _OUTSIDE_GPT2 if gpt2 else _OUTSIDE_LLAMA
    if module in outside:
        return f"{outside[module]}.{leaf}"
    parts = module.split(".")
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in block:
        return f"{'transformer.h' if gpt2 else 'model.layers'}.{parts[1]}.{block[parts[2]]}.{leaf}"
    raise unusable(
        f"{path}: has the tensor {name}, which networks of the architecture {kind} here do not have; give another file"
    )


def _tensor(tensor: Any, name: str, kind: str, settings: Mapping[str, Any]) -> Tensor:
    """A tensor in single precision, laid out as the library has it."""
    from gguf.quants import dequantize

    values: Tensor = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).float()
    linear = values.ndim == 2
    if kind in PAIRED and (".q_proj." in name or ".k_proj." in name):
        # GGUF has the pairs of channels that rotary positions turn beside each other, the library in two halves.
        size = settings.get("head_dim") or settings["hidden_size"] // settings["num_attention_heads"]
        return values.view(len(values) // size, -1, 2, *values.shape[1:]).transpose(1, 2).reshape(values.shape)
    if kind.startswith("gemma") and "norm" in name:
        return values - 1
    return values.T.contiguous() if kind == "gpt2" and linear and ".h." in name else values
