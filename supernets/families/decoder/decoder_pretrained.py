"""Pretrained decoders, in a folder of the `transformers` library or a GGUF file, read into the family `decoder`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from supernets.errors import CheckpointError
from supernets.families.decoder.decoder_family import POSITIONS, WORDS, DecoderFamily
from supernets.families.decoder.decoder_spec import Activation, DecoderSpec, space_within
from supernets.families.decoder.library_layout import (
    FAMILY_ONLY_SUFFIXES,
    GPT2_NAMES,
    HEAD,
    KINDS,
    MIXTURES,
    Kind,
    Mixture,
    is_shifted,
    is_stacked,
    joined_names,
    llama_name,
    read_mixture,
    stacked,
)
from supernets.families.shared.pretrained_transformer import PretrainedConfig, PretrainedTransformer, mismatch
from supernets.families.shared.transformer_family import TransformerFamily
from supernets.networks.formats.gguf_file import open_gguf
from supernets.networks.formats.gguf_tokenizer import gguf_tokenizer
from supernets.networks.formats.model_folder import (
    DECODERS,
    NamedTensors,
    Settings,
    TensorFile,
    experts_unusable,
    read_config,
    unusable,
)
from supernets.networks.formats.pretrained import CONFIG, GGUF, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS
from supernets.networks.rotary import Scaling, read_rotary, rotary_share
from supernets.space.axes import full_sizes, size_of

_ACTIVATIONS: Mapping[object, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
}
_WINDOWED = {"full_attention": False, "sliding_attention": True}
_MAX_CAP = 1e6
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_UNREAD = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
"""Buffers in files of earlier versions of the library."""


@dataclass(frozen=True, slots=True)
class DecoderConfig(PretrainedConfig):
    """The sizes of a decoder; its `heads` are those of keys and values.

    Attributes:
        folder: Folder of the network, or a GGUF file.
        kind: Its ``model_type``.
        channels: Number of channels of a head.
        queries: Number of heads of queries for each head of keys and values.
        vocabulary: Number of different tokens.
        positions: Maximum number of tokens of a text.
        theta: Base of rotary frequencies.
        scaling: Scaling of rotary frequencies, see `rotary.Scaling`.
        tied: Whether the words' embeddings are also the weights of the output.
        activation: Activation of the MLP.
        qkv_bias: Whether queries, keys and values have biases.
        mixture: Its experts; None for a network without.
        tokens: Ids of the tokens whose rows are read, in the order of their new ids; None for all.
        rotary_channels, windows, local_theta, unturned, attention_cap, logit_cap: Arguments of `DecoderFamily`.
        query_scale: Factor of attention scores beside one over the root of a head's channels, which queries get when they are
            read.
    """

    other_files: ClassVar[tuple[str, ...]] = (TOKENIZER, TOKENIZER_CONFIG)

    kind: str
    channels: int
    queries: int
    vocabulary: int
    positions: int
    theta: float
    scaling: Scaling
    tied: bool
    activation: Activation
    qkv_bias: bool
    mixture: Mixture | None = None
    tokens: tuple[int, ...] | None = None
    rotary_channels: int = 0
    windows: tuple[int, ...] = ()
    local_theta: float = 0.0
    unturned: tuple[int, ...] = ()
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    query_scale: float = 1.0

    @property
    def head_size(self) -> int:
        return self.channels

    @property
    def layout(self) -> Literal["llama", "gpt2"]:
        """See `DecoderSpec`."""
        return KINDS[self.kind].layout

    def as_space(self) -> dict[str, int]:
        sizes = PretrainedConfig.as_space(self) | {"queries": self.queries}
        return sizes if self.mixture is None else sizes | self.mixture.sizes

    @property
    def _features(self) -> dict[str, Any]:
        facts, names = KINDS[self.kind], ("layout", "tied", "activation", "qkv_bias")
        features = {**{name: getattr(self, name) for name in names}, "norms": facts.norms, "qk_norm": facts.qk_norm}
        return features if self.mixture is None else features | self.mixture.features

    @property
    def fixed(self) -> dict[str, Any]:
        scale = self.width**0.5 if KINDS[self.kind].scaled else 1.0
        names = [name for name in DecoderFamily.numbers if name not in ("tokens", "embedding_scale")]
        rows = {} if self.tokens is None else {"vocabulary": len(self.tokens)}
        return {**{name: getattr(self, name) for name in names}, **rows, "embedding_scale": scale}

    def keeping(self, tokens: tuple[int, ...]) -> DecoderConfig:
        """The network with the rows of these tokens, which have the numbers from 0 then."""
        return replace(self, tokens=tokens)

    def own_tokenizer(self) -> str | None:
        """The text of its ``tokenizer.json``; None if there is none, or none that is read here.

        Raises:
            OSError: the file cannot be read.
        """
        if self.folder.suffix != GGUF:
            path = self.folder / TOKENIZER
            return path.read_text(encoding="utf-8") if path.is_file() else None
        try:
            return gguf_tokenizer(self.folder)
        except CheckpointError:  # data of a tokenizer of another kind name one
            return None

    def files(self) -> dict[str, bytes]:
        if self.folder.suffix != GGUF:
            return PretrainedConfig.files(self)
        tokenizer = self.own_tokenizer()
        settings = {CONFIG: json.dumps(dict(open_gguf(self.folder).settings)).encode()}
        return settings | ({} if tokenizer is None else {TOKENIZER: tokenizer.encode()})

    def read(self, folder: Path) -> PretrainedTransformer:
        tensors = _read(replace(self, tokens=None), folder)
        if self.tokens is not None:
            rows = torch.tensor(self.tokens)
            tensors |= {name: tensors[name][rows] for name in (WORDS, HEAD) if name in tensors}
        return PretrainedTransformer(self, tensors)

    def space(self) -> DecoderSpec:
        return space_within(**self.as_space(), features=self._features)

    def check_family(self, family: TransformerFamily) -> None:
        if not isinstance(family, DecoderFamily):
            raise mismatch(f"{self.folder}: a decoder is read into the family decoder, not {family.name}")
        self.check_space(family.spec)
        family_values = {name: getattr(family, name) for name in self.fixed}
        family_values |= {name: getattr(family.spec, name) for name in self._features} | {
            "activation": family.spec.activated_by
        }
        for name, value in (self.fixed | self._features).items():
            if family_values[name] != value:
                raise mismatch(f"{self.folder}: has {name} {value!r}, and the family {family_values[name]!r}")


def read_decoder_config(path: Path) -> DecoderConfig:
    """The sizes of a pretrained decoder in a folder or a GGUF file.

    Raises:
        CheckpointError: it is missing, cannot be read, or is of another kind.
    """
    if path.suffix == GGUF:
        settings = Settings(path, open_gguf(path).settings)
    else:
        settings = read_config(path, f"{CONFIG}, {WEIGHTS} (or several, with their index) and {TOKENIZER}")
    kind = settings.data.get("model_type")
    experts = next((key for key in _EXPERTS if settings.data.get(key) not in (None, 0, 1)), None)
    if experts is not None and kind not in MIXTURES:
        raise experts_unusable(settings.path, f"{kind} with {experts}: {settings.data[experts]}")
    settings.check("decoder", {"model_type": DECODERS})
    if settings.data.get("per_layer_config"):
        remedy = "the family decoder reads networks whose layers are alike; give another one, or its original"
        raise unusable(f"{settings.path}: its layers differ in their sizes; {remedy}")
    return described_decoder(path, settings)


def described_decoder(path: Path, settings: Settings) -> DecoderConfig:
    """The sizes of a decoder that these settings describe, without those of layers that differ.

    Raises:
        CheckpointError: a setting is missing or out of range.
    """
    kind = settings.data.get("model_type")
    return _gpt2(path, settings) if kind == "gpt2" else _llama(path, settings, str(kind))


def _llama(path: Path, settings: Settings, kind: str) -> DecoderConfig:
    settings.check("decoder", {"attention_bias": (False, None), "mlp_bias": (False, None)})
    width, heads = settings.whole("hidden_size"), settings.whole("num_attention_heads")
    groups = settings.whole("num_key_value_heads", default=heads)
    _check_divides(settings, groups, heads, "num_key_value_heads", "num_attention_heads")
    size = settings.data.get("head_dim")
    if size is None:
        _check_divides(settings, heads, width, "num_attention_heads", "hidden_size")
    facts, depth = KINDS[kind], settings.whole("num_hidden_layers")
    # The library reads one key of Gemma 2 and 3 alone.
    act = facts.activation if facts.query_scalar else settings.data.get("hidden_act", facts.activation)
    act = settings.data.get("hidden_activation") or act
    if kind == "gemma" and act == "gelu":
        act = "gelu_pytorch_tanh"  # what early files mean
    head_size = width // heads if size is None else settings.whole("head_dim")
    unturned = _unturned(settings, depth) if facts.unturned else ()
    return DecoderConfig(
        path,
        depth,
        width,
        groups,
        settings.whole("moe_intermediate_size" if kind == "qwen2_moe" else "intermediate_size"),
        settings.number("rms_norm_eps", default=1e-6, limit=1),
        kind=kind,
        channels=head_size,
        queries=heads // groups,
        vocabulary=settings.whole("vocab_size"),
        positions=settings.whole("max_position_embeddings"),
        tied=settings.flag("tie_word_embeddings", default=facts.tied),
        activation=_activation(settings, act),
        qkv_bias=kind == "qwen2" or (kind == "qwen2_moe" and settings.flag("qkv_bias", default=True)),
        mixture=read_mixture(settings, kind) if kind in MIXTURES else None,
        **_rotary(settings, facts, head_size),
        unturned=unturned,
        windows=_windows(settings, kind, depth, unturned),
        **_scores(settings, facts, head_size),
    )


def _rotary(settings: Settings, facts: Kind, head_size: int) -> dict[str, Any]:
    """The rotary positions of a network, by the names of fields of `DecoderConfig`."""
    parameters, local_theta = settings.data.get("rope_parameters") or {}, 0.0
    if facts.local_theta is not None:
        local = parameters.get("sliding_attention") or {"rope_theta": settings.data.get("rope_local_base_freq")}
        local = {key: value for key, value in local.items() if value is not None}
        local_theta, scaling = read_rotary(
            Settings(settings.path, {"rope_parameters": {"rope_theta": facts.local_theta, **local}})
        )
        if scaling:
            problem = (
                "of layers with a window are scaled, which networks of this kind do not have; give another network"
            )
            raise unusable(f"{settings.path}: its rotary positions {problem}")
        settings = Settings(settings.path, {**settings.data, "rope_parameters": parameters.get("full_attention")})
    theta, scaling = read_rotary(settings, theta=facts.theta, partial=facts.partial)
    channels = int(head_size * rotary_share(settings))
    if channels % 2 or not channels:
        problem = f"turn {channels} of a head's {head_size} channels; expected an even number; give another network"
        raise unusable(f"{settings.path}: its rotary positions {problem}")
    partial = 0 if channels == head_size else channels
    return {"theta": theta, "scaling": scaling, "local_theta": local_theta, "rotary_channels": partial}


def _unturned(settings: Settings, depth: int) -> tuple[int, ...]:
    """The numbers of the layers without positions."""
    if (turned := settings.data.get("no_rope_layers")) is None:
        interval = settings.whole("no_rope_layer_interval", default=4)
        return tuple(range(interval - 1, depth, interval))
    if not isinstance(turned, list) or len(turned) < depth:
        raise unusable(f"{settings.path}: no_rope_layers is {turned!r}; expected a 0 or 1 for each of {depth} layers")
    return tuple(i for i in range(depth) if not turned[i])


def _windows(settings: Settings, kind: str, depth: int, unturned: tuple[int, ...]) -> tuple[int, ...]:
    """The number of tokens that the attention of each layer sees, 0 for all; () where all see all."""
    facts = KINDS[kind]
    if facts.windows is None or (facts.flagged and not settings.flag("use_sliding_window", default=False)):
        return ()
    if settings.data.get("sliding_window", facts.window) is None:
        return ()
    window, types = settings.whole("sliding_window", default=facts.window), settings.data.get("layer_types")
    if window >= settings.whole("max_position_embeddings") and facts.local_theta is None:  # else positions differ, too
        return ()
    if facts.windows == "all" or types is None:
        windowed = [facts.windows == "all" or _has_window(settings, kind, i, unturned) for i in range(depth)]
    else:
        if not isinstance(types, list) or len(types) != depth or not _WINDOWED.keys() >= set(map(str, types)):
            expected = f"for each of {depth} layers one of {', '.join(_WINDOWED)}"
            raise unusable(f"{settings.path}: layer_types is {types!r}; expected {expected}; give another network")
        windowed = [_WINDOWED[layer_type] for layer_type in types]
    return tuple(window if has_window else 0 for has_window in windowed) if any(windowed) else ()


def _has_window(settings: Settings, kind: str, i: int, unturned: tuple[int, ...]) -> bool:
    """Returns whether the attention of a layer has a window where the settings do not name the layers."""
    match kind:
        case "gemma2":
            return i % 2 == 0
        case "gemma3_text":
            return (i + 1) % settings.whole("sliding_window_pattern", default=6) > 0
        case "smollm3":
            return i in unturned
        case "qwen2_moe":
            return i % 2 == 0 and i < settings.whole("max_window_layers", default=28, minimum=0)
        case _:
            return i >= settings.whole("max_window_layers", default=28, minimum=0)


def _scores(settings: Settings, facts: Kind, head_size: int) -> dict[str, Any]:
    """The bounds and the scale of scores and logits, by the names of fields of `DecoderConfig`."""
    numbers: dict[str, float] = {}
    for name, key in (("attention_cap", "attn_logit_softcapping"), ("logit_cap", "final_logit_softcapping")):
        default = getattr(facts, name)
        if default is not None and settings.data.get(key, default) is not None:
            numbers[name] = settings.number(key, default=default, limit=_MAX_CAP)
    if facts.query_scalar is not None:
        settings.check("decoder", {"use_bidirectional_attention": (False, None)})
        if facts.attention_cap is None:
            settings.check("decoder", {"attn_logit_softcapping": (None,)})
        scalar = settings.number("query_pre_attn_scalar", default=facts.query_scalar, limit=_MAX_CAP)
        if scalar == 0:
            raise unusable(f"{settings.path}: query_pre_attn_scalar is 0; expected a number above 0")
        numbers["query_scale"] = (head_size / scalar) ** 0.5
    return numbers


def _gpt2(path: Path, settings: Settings) -> DecoderConfig:
    off = dict.fromkeys(("scale_attn_by_inverse_layer_idx", "add_cross_attention"), (False, None))
    settings.check("decoder", {"scale_attn_weights": (True, None), **off})
    width, heads = settings.whole("n_embd"), settings.whole("n_head")
    _check_divides(settings, heads, width, "n_head", "n_embd")
    hidden = 4 * width if settings.data.get("n_inner") is None else settings.whole("n_inner")
    return DecoderConfig(
        path,
        settings.whole("n_layer"),
        width,
        heads,
        hidden,
        settings.number("layer_norm_epsilon", default=1e-5, limit=1),
        kind="gpt2",
        channels=width // heads,
        queries=1,
        vocabulary=settings.whole("vocab_size"),
        positions=settings.whole("n_positions"),
        theta=1e4,
        scaling=(),
        tied=settings.flag("tie_word_embeddings", default=True),
        activation=_activation(settings, settings.data.get("activation_function", "gelu_new")),
        qkv_bias=False,
    )


def _check_divides(settings: Settings, divisor: int, dividend: int, key: str, dividend_key: str) -> None:
    if dividend % divisor:
        raise unusable(f"{settings.path}: {key} {divisor} does not divide {dividend_key} {dividend}; correct the file")


def _activation(settings: Settings, name: object) -> Activation:
    if name not in _ACTIVATIONS:
        expected = ", ".join(map(str, _ACTIVATIONS))
        raise unusable(
            f"{settings.path}: its activation is {name!r}; the family decoder reads {expected}; give another network"
        )
    return _ACTIVATIONS[name]


def _read(config: DecoderConfig, path: Path) -> dict[str, Tensor]:
    """The tensors of a network by the family's names."""
    family = DecoderFamily(config.space(), tokens=1, **config.fixed)
    full = full_sizes(family.axes)
    shapes = {name: tuple(size_of(dim, full) for dim in dims) for name, dims in family.dims().items()}
    return read_tensors(path, config.kind, shapes, query_scale=config.query_scale)


def read_tensors(
    path: Path, kind: str, shapes: Mapping[str, tuple[int, ...]], *, query_scale: float
) -> dict[str, Tensor]:
    """The tensors of a decoder in a folder or a GGUF file, by the family's names.

    Args:
        path: The folder, or the file.
        kind: The ``model_type`` of the network.
        shapes: Shapes of the network's tensors by the family's names.
        query_scale: See `DecoderConfig`.

    Raises:
        CheckpointError: a tensor is missing or of another shape, or the file has others.
    """
    llama = kind != "gpt2"
    base, layer = ("model.", "layers.") if llama else ("transformer.", "h.")
    if path.suffix == GGUF:
        file = NamedTensors(path, open_gguf(path).tensors, base=base, described_by="description")
    else:
        file = TensorFile(path, base=base)
    tensors = {
        name: _llama_tensor(file, name, shapes, kind, query_scale) if llama else _gpt2_tensor(file, name, shape)
        for name, shape in shapes.items()
        if not name.endswith(FAMILY_ONLY_SUFFIXES)
    }
    outside = ("embed_tokens.", "norm.") if llama else ("wte.", "wpe.", "ln_f.")
    file.check_all_taken(unread=_UNREAD, parts=(layer, *outside))
    return tensors


def _llama_tensor(
    file: NamedTensors, name: str, shapes: Mapping[str, tuple[int, ...]], kind: str, query_scale: float
) -> Tensor:
    shape = shapes[name]
    if name == HEAD:
        return file.take_head("lm_head.weight", *shape)
    if is_stacked(name):
        return stacked(file, kind, name, shape)
    names = joined_names(kind, name)
    rows = [shapes[part][0] for part in names]
    tensor = file.take(llama_name(kind, name), sum(rows), *shape[1:])
    if len(names) > 1:
        tensor = tensor.split(rows)[names.index(name)].clone()
    if is_shifted(kind, name):
        tensor = 1 + tensor
    scaled = "query_norm" if KINDS[kind].qk_norm else "query"
    return query_scale * tensor if name.endswith(f"attention.{scaled}.weight") and query_scale != 1 else tensor


def _gpt2_tensor(file: NamedTensors, name: str, shape: tuple[int, ...]) -> Tensor:
    """The library keeps the weights of linear layers transposed, and those of queries, keys and values in one tensor."""
    if name in (WORDS, POSITIONS):
        return file.take("wte.weight" if name == WORDS else "wpe.weight", *shape)
    module, _, kind = name.rpartition(".")
    if module.startswith("head."):
        return file.take_head("lm_head.weight", *shape) if module == "head.words" else file.take(f"ln_f.{kind}", *shape)
    _, number, module_in_layer = module.split(".", 2)
    library_name, projections = f"h.{number}.{GPT2_NAMES[module_in_layer]}.{kind}", ("query", "key", "value")
    shape = shape[::-1]
    projection = module_in_layer.partition(".")[2]
    if projection not in projections:
        return file.take(library_name, *shape).T.contiguous() if len(shape) > 1 else file.take(library_name, *shape)
    joined = file.take(library_name, *shape[:-1], 3 * shape[-1])
    tensor = joined.chunk(3, dim=-1)[projections.index(projection)]
    return tensor.T.contiguous() if tensor.ndim > 1 else tensor.clone()
