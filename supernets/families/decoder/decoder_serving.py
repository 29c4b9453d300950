"""Decoders as they are served with a cache, and their two graphs lowered to ONNX: reading a prompt, and a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import onnx
import torch
from torch import Tensor, nn

from supernets.networks.capture.program import BATCH, TIED
from supernets.networks.family_program import TOKENS_DIM, View, ViewInput
from supernets.networks.language_models import N_EXAMPLES, token_inputs
from supernets.networks.network import view_of
from supernets.networks.onnx_graph.ir import OUTPUT
from supernets.networks.tokens import last_token

if TYPE_CHECKING:  # a decoder has its served models
    from supernets.families.decoder.decoder_network import Decoder, Layer

PREFILL, STEP, PORTABLE_STEP = "prefill", "step", "portable-step"
"""Names of the models: of prompts; of steps, with the cache in place if heads have a multiple of `_CHANNELS` channels; and of
steps in ONNX's own operations alone, which copy the cache."""
_CHANNELS = 8
"""GroupQueryAttention takes no other heads than those with a multiple of it."""
IDS, PADDING, FILLED = "ids", "padding", "filled"


class Served(nn.Module):
    """A decoder as it is served: reads new tokens, and keeps the keys and values of all tokens.

    Without a cache it reads prompts; with one it takes a step, of one token or several.
    """

    def __init__(self, network: Decoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, padding: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Logits of the token after the last one (n, vocabulary); then keys and values of each layer with attention, by turns.

        Args:
            ids: (n, tokens), int64, at least one; prompts of different lengths are padded at their beginnings with any token.
            padding: (n,), int64: the number of these tokens in each text.
            past: the keys and values that the calls before have returned, (n, groups, past, head_size) each.
        """
        return _served(self.network, ids, padding, past, None)


class ServedInPlace(nn.Module):
    """A decoder that takes steps of one token, with a cache that has room for more tokens than are in it."""

    def __init__(self, network: Decoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, padding: Tensor, filled: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Returns logits, keys and values as `Served` does.

        Args:
            ids: (n, 1), int64.
            padding: (n,), int64: the number of tokens of padding at the beginning of each text.
            filled: (1,), int64: the number of tokens in the cache, at least one.
            past: (n, groups, room, head_size) each, with room for one token more.
        """
        return _served(self.network, ids, padding, past, filled)


class ServedTokens(nn.Module):
    """A decoder that reads prompts and takes steps alike: `Served`, with logits of the token after each one that it reads."""

    def __init__(self, network: Decoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, padding: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Logits (n, tokens, vocabulary), keys and values; arguments of `Served`, with a cache, which may be empty."""
        return _served(self.network, ids, padding, past, None, all_logits=True)


def _served(
    network: Decoder,
    ids: Tensor,
    padding: Tensor,
    past: Sequence[Tensor],
    filled: Tensor | None,
    *,
    all_logits: bool = False,
) -> tuple[Tensor, ...]:
    before = past[0] if past else None
    masks = network.masks_and_turns(ids, padding, before, filled)
    x = network.embedding(ids, padding, before, filled)
    routed = None if network.router is None else network.router(x)
    cache: list[Tensor] = []
    for name, layer in network.layers.items():
        x, *layer_cache = layer(x, *masks[name], past[len(cache) : len(cache) + 2], filled, routed)
        cache += layer_cache
    return network.head(x if all_logits else last_token(x), network.table), *cache


def cache_names(n: int, prefix: str) -> list[str]:
    """The names of the keys and values of each of n layers with attention, in the order of `Served`.

    Args:
        prefix: ``past`` for inputs, ``present`` for outputs.
    """
    return [f"{prefix}.{i}.{kind}" for i in range(n) for kind in ("key", "value")]


def lower_prefill(network: Decoder) -> bytes:
    """The ONNX model that reads prompts: `IDS` (n, tokens) and `PADDING` (n,), int64, -> `OUTPUT` (n, vocabulary), and for each
    layer with attention ``present.I.key`` and ``present.I.value`` (n, groups, tokens, head_size).

    Prompts of a batch are padded at their beginnings, with any token; `PADDING` counts these.

    Args:
        network: extracted, in eval mode.

    Raises:
        LoweringError: as of `supernets.networks.module_to_onnx.lower`.
    """
    return _lowered(network, PROMPTS, [IDS, PADDING])


def lower_step(network: Decoder) -> bytes:
    """The ONNX model that reads one more token of each text: as of `lower_prefill`, with `IDS` (n, 1) and ``past.I.key`` and
    ``past.I.value``, which are what the call before returned as present."""
    return _lowered(network, STEPS, [IDS, PADDING, *cache_names(len(cache_shapes(network)), "past")])


def lower_step_in_place(network: Decoder) -> bytes:
    """The ONNX model of `lower_step` with a cache that has room for more tokens.

    `FILLED` (1,), int64, is the number of tokens in the cache; ``past.I.key`` and ``past.I.value`` are (n, groups, room,
    head_size), as are the outputs ``present.I.key`` and ``present.I.value``.

    Its attention is an operation of ONNX Runtime, GroupQueryAttention, which copies the cache unless outputs are bound to the
    memory of inputs (`hardware_profiles.runtimes.onnx_runtime`).
    """
    return _lowered(network, STEPS_IN_PLACE, [IDS, PADDING, FILLED, *cache_names(len(cache_shapes(network)), "past")])


def lower_tokens(network: Decoder) -> bytes:
    """The ONNX model that reads prompts and takes steps alike: that of `lower_step`, with `IDS` (n, tokens), `OUTPUT`
    (n, tokens, vocabulary), and a cache that may be empty."""
    n = len(cache_shapes(network))
    return _lowered(network, TOKENS_AFTER, [IDS, PADDING, *cache_names(n, "past")])


class ServedModels(Mapping[str, bytes]):
    """The models by which a network is served, by name, each lowered when it is read.

    Args:
        network: An extracted network.
        lowerings: Functions that return the ONNX model of the network, by name; None for those of a decoder.
    """

    def __init__(self, network: Any, lowerings: Mapping[str, Callable[[Any], bytes]] | None = None) -> None:
        self._network, self._lowerings = network, lowerings or _LOWERINGS

    def __getitem__(self, name: str) -> bytes:
        return self._lowerings[name](self._network)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lowerings)

    def __len__(self) -> int:
        return len(self._lowerings)


def _step(network: Decoder) -> bytes:
    heads = {size for _, size in cache_shapes(network)}
    return lower_step(network) if any(size % _CHANNELS for size in heads) else lower_step_in_place(network)


_LOWERINGS = {PREFILL: lower_prefill, STEP: _step, PORTABLE_STEP: lower_step}


def is_in_place_step(step: bytes) -> bool:
    """Returns True if an ONNX model is that of `lower_step_in_place`."""
    return any(value.name == FILLED for value in onnx.load_model_from_string(step).graph.input)


def cache_shapes(network: Decoder) -> list[tuple[int, int]]:
    """Returns, for each layer with attention, the numbers of heads and of channels of its keys, which its values have, too."""
    layers = cast("Iterable[Layer]", network.layers.values())
    attentions = [layer.attention for layer in layers if layer.has_attention]
    return [(attention.key.out_features // attention.head_size, attention.head_size) for attention in attentions]


def cache_inputs(network: Decoder, tokens: str) -> list[ViewInput]:
    """The keys and values of each layer, (n, groups, tokens, head_size), for a cache whose length has this name."""
    shapes = [
        (N_EXAMPLES, groups, _LENGTHS[tokens], size) for groups, size in cache_shapes(network) for _ in ("key", "value")
    ]
    return [ViewInput(torch.zeros(shape), (BATCH, TIED, tokens, "")) for shape in shapes]


_LENGTHS = {TOKENS_DIM: 7, "past": 11, "room": 13}
"""Lengths of captured inputs: primes, so that no size of a layer is a multiple of them by accident."""
_PADDED = ViewInput(torch.zeros(N_EXAMPLES, dtype=torch.int64), (BATCH,))
PROMPTS = View(PREFILL, Served, lambda network: [token_inputs(_LENGTHS[TOKENS_DIM], TOKENS_DIM), _PADDED])
STEPS = View(STEP, Served, lambda network: [token_inputs(1), _PADDED, *cache_inputs(network, "past")])
TOKENS_AFTER = View(
    "tokens-after",
    ServedTokens,
    lambda network: [token_inputs(_LENGTHS[TOKENS_DIM], TOKENS_DIM), _PADDED, *cache_inputs(network, "past")],
)
STEPS_IN_PLACE = View(
    "in-place-step",
    ServedInPlace,
    lambda network: [
        token_inputs(1),
        _PADDED,
        ViewInput(torch.ones(1, dtype=torch.int64), ("",)),
        *cache_inputs(network, "room"),
    ],
)


def _lowered(network: Decoder, view: View, inputs: Sequence[str]) -> bytes:
    return view_of(network, view).served_onnx(inputs, [OUTPUT, *cache_names(len(cache_shapes(network)), "present")])
