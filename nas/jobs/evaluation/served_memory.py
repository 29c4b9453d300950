"""Memory of served language models: of their weights, those of them in memory, and their cache of keys and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.precisions.block_weights import quantized_bytes
from supernets.experts.routing_metrics import ExpertCache
from supernets.families.decoder.decoder_family import POSITIONS, WORDS
from supernets.sharing.base import Family, Supernet, axis_sizes
from supernets.space import Architecture
from supernets.space.axes import Dim, size_of
from supernets.space.cost import lies_in

_KEYS, _ROUTER, _EXPERTS = (".attention.key.weight", ".cross.key.weight"), ".router.", ".experts"
_ENCODER, _ATTENDED = "encoder.layers.", "attended"
_SETTINGS = (".active", ".columns", ".top_p", f".{_ATTENDED}")
"""Buffers that no model has: they are its structure."""
_CACHE_BYTES, _FLOAT_BYTES, _MIB = 4, 4, 2**20
"""The cache is in float32 in every precision."""


@dataclass(frozen=True, eq=False)
class ServedMemory:
    """The computed metrics ``model_mib``, ``resident_mib`` and ``kv_cache_mib`` of a supernet's decoders or encoder-decoders.

    Attributes:
        context_tokens: Number of tokens of each text in the cache.
        batch: Number of texts at a time.
        experts: Cache of the experts that are in memory; None where all are.
        source_tokens: Number of tokens of each text that an encoder reads.
    """

    supernet: Supernet
    context_tokens: int
    batch: int
    experts: ExpertCache | None = None
    source_tokens: int = 0

    def mib(self, metric: str, networks: Sequence[Architecture], precisions: Sequence[str]) -> NDArray[np.float64]:
        """The metric of n networks, each in its precision, (n,)."""
        family = self.supernet.family
        sizes = axis_sizes(family, networks)
        dropped = [family.dropped(network) for network in networks]
        tensors, stored, cached = family.dims(), np.zeros(len(networks)), np.zeros(len(networks))
        words = next(int(size_of(dims[:1], {})) for name, dims in tensors.items() if name.endswith(WORDS))
        for name, dims in tensors.items():
            cached_keys = name.endswith(_KEYS) and not name.startswith(_ENCODER)
            if name.endswith(_SETTINGS) or (metric == "kv_cache_mib" and not cached_keys):
                continue
            if metric == "kv_cache_mib":
                layers = tensors.get(f"{name.removesuffix('key.weight')}{_ATTENDED}")
                n_bytes = self._cached(dims, layers, sizes)
            else:
                n_bytes = _stored(name, dims, sizes, precisions, words)
            n_bytes = n_bytes * np.array([not lies_in(name, names) for names in dropped])
            if metric == "resident_mib" and is_of_experts(name, dims):
                cached += n_bytes * self._cached_share(sizes[cast(str, dims[0])])
            else:
                stored += n_bytes
        max_cached = np.inf if self.experts is None or self.experts.mib is None else self.experts.mib * _MIB
        return (stored + np.minimum(cached, max_cached)) / _MIB

    def _cached_share(self, experts: NDArray[np.int64]) -> NDArray[np.float64]:
        """The share of a layer's experts, of which there are (n,), that a cache of a number of them holds."""
        max_experts = None if self.experts is None else self.experts.experts
        return np.ones(len(experts)) if max_experts is None else np.minimum(max_experts, experts) / experts

    def _cached(
        self, dims: tuple[Dim, ...], layers: tuple[Dim, ...] | None, sizes: Mapping[str, NDArray[np.int64]]
    ) -> NDArray[np.float64]:
        """Bytes of the keys and the values of a layer, (n,).

        Args:
            layers: Layers of the encoder whose keys and values they are; None for those of the text itself.
        """
        tokens = self.context_tokens if layers is None else self.source_tokens * size_of(layers, sizes)
        return np.asarray(2.0 * size_of(dims[:1], sizes) * self.batch * tokens * _CACHE_BYTES)


def expert_bytes(family: Family, network: Architecture) -> list[int]:
    """Bytes of one expert in single precision, of each layer of a network that has experts."""
    sizes, dropped = family.sizes(network), family.dropped(network)
    bytes_by_layer: dict[Dim, int] = {}
    for name, dims in family.dims().items():
        if is_of_experts(name, dims) and not lies_in(name, dropped):
            size_of_expert = size_of(dims[1:], {axis: np.array(size) for axis, size in sizes.items()})
            bytes_by_layer[dims[0]] = bytes_by_layer.get(dims[0], 0) + int(size_of_expert) * _FLOAT_BYTES
    return list(bytes_by_layer.values())


def is_of_experts(name: str, dims: tuple[Dim, ...]) -> bool:
    """True if a tensor has the weights of a layer's experts, one after another."""
    stored = _ROUTER not in name and not name.endswith(_SETTINGS)
    return stored and bool(dims) and isinstance(dims[0], str) and dims[0].endswith(_EXPERTS)


def _stored(
    name: str, dims: tuple[Dim, ...], sizes: Mapping[str, NDArray[np.int64]], precisions: Sequence[str], words: int
) -> NDArray[np.float64]:
    """Bytes of a tensor in a model, (n,): vectors, and the table of positions, are in fp32 in every precision.

    Args:
        words: Number of tokens of the vocabulary.
    """
    if is_of_experts(name, dims):  # a matrix or a bias of each
        each = dims[1:] if len(dims) > 2 else (1, *dims[1:], 1)
        return np.asarray(size_of(dims[:1], sizes) * _stored("", each, sizes, precisions, words))
    if len(dims) != 2 or name == POSITIONS:
        return np.asarray(size_of(dims, sizes) * float(_FLOAT_BYTES))
    n = len(precisions)
    rows, columns = (np.broadcast_to(size_of((dim,), sizes), n) for dim in dims)
    of = {precision: quantized_bytes(rows, columns, precision, words=words) for precision in set(precisions)}
    return np.array([of[precision][i] for i, precision in enumerate(precisions)], dtype=np.float64)
