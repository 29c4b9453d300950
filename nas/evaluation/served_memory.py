"""Memory of served language models: of their weights, and of their cache of keys and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.precisions.block_weights import quantized_bytes
from supernets.axes import Dim, size_of
from supernets.base import Supernet
from supernets.cost import lies_in
from supernets.families.decoder.family import POSITIONS, WORDS
from supernets.space import Architecture

_KEYS = ".attention.key.weight"
_CACHE_BYTES, _FLOAT_BYTES, _MIB = 4, 4, 2**20
"""The cache is in float32 in every precision."""


@dataclass(frozen=True, eq=False)
class ServedMemory:
    """The computed metrics ``model_mib`` and ``kv_cache_mib`` of a supernet's decoders.

    Attributes:
        context_tokens: of each text in the cache.
        batch: texts at a time.
    """

    supernet: Supernet
    context_tokens: int
    batch: int

    def mib(self, metric: str, networks: Sequence[Architecture], precisions: Sequence[str]) -> NDArray[np.float64]:
        """The metric of n networks, each in its precision, (n,)."""
        family = self.supernet.family
        sizes = self.supernet.axis_sizes(networks)
        dropped = [family.dropped(network) for network in networks]
        tensors, found = family.dims(), np.zeros(len(networks))
        words = int(size_of(tensors[WORDS][:1], {}))
        for name, dims in tensors.items():
            if metric == "kv_cache_mib" and not name.endswith(_KEYS):
                continue
            own = (
                self._cached(dims, sizes) if metric == "kv_cache_mib" else _stored(name, dims, sizes, precisions, words)
            )
            found += own * np.array([not lies_in(name, names) for names in dropped])
        return found / _MIB

    def _cached(self, dims: tuple[Dim, ...], sizes: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float64]:
        """Bytes of the keys and the values of a layer, (n,)."""
        channels = size_of(dims[:1], sizes)
        return np.asarray(2.0 * channels * self.batch * self.context_tokens * _CACHE_BYTES)


def _stored(
    name: str, dims: tuple[Dim, ...], sizes: Mapping[str, NDArray[np.int64]], precisions: Sequence[str], words: int
) -> NDArray[np.float64]:
    """Bytes of a tensor in a model, (n,): vectors, and the table of positions, are in fp32 in every precision.

    Args:
        words: of the vocabulary.
    """
    if len(dims) != 2 or name == POSITIONS:
        return np.asarray(size_of(dims, sizes) * float(_FLOAT_BYTES))
    n = len(precisions)
    rows, columns = (np.broadcast_to(size_of((dim,), sizes), n) for dim in dims)
    of = {precision: quantized_bytes(rows, columns, precision, words=words) for precision in set(precisions)}
    return np.array([of[precision][i] for i, precision in enumerate(precisions)], dtype=np.float64)
