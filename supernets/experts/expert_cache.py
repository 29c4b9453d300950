"""A simulated cache of experts, on a machine that holds only some of a layer's in fast memory (no torch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernets.errors import SpaceError
from supernets.experts.routing_statistics import Routing, request_mask, requests_before

_MIB = 2**20


@dataclass(frozen=True, eq=False)
class CacheUse:
    """Requests and hits of a cache, by text.

    Attributes:
        requests: Number of requests of experts, (texts,).
        hits: Number of requests of experts that were in the cache, (texts,).
        tokens: Number of tokens, (texts,).
    """

    requests: NDArray[np.int64]
    hits: NDArray[np.int64]
    tokens: NDArray[np.int64]

    @property
    def hit_rate(self) -> float:
        """Hits as a share of requests; 1 without requests."""
        return float(self.hits.sum() / self.requests.sum()) if self.requests.any() else 1.0

    @property
    def loads_per_token(self) -> float:
        """Experts loaded for each token."""
        return float((self.requests - self.hits).sum() / self.tokens.sum())

    def __add__(self, use: CacheUse) -> CacheUse:
        """The use of two layers on the same texts; each token counts once."""
        return CacheUse(self.requests + use.requests, self.hits + use.hits, self.tokens)


def simulate_cache(routing: Routing, experts: int, size: int, *, look_ahead: int = 0) -> CacheUse:
    """Simulates a layer's cache while texts are read token by token; it is empty at the start of each text.

    A token's experts are loaded where they are not held, and those held are evicted that were asked least recently. With
    `look_ahead` it is the oracle of the segment cache best hit rate (SCH; Liang et al. 2025, arXiv 2505.16056, section 2.3):
    evicted are those that the next `look_ahead` tokens ask least, and among these the least recently asked. Of a token that
    asks more experts than the cache holds, those of the lowest numbers stay, or those that are asked next.

    Args:
        routing: (texts, tokens, k), see `routing_statistics`.
        experts: Number of experts of the layer.
        size: Number of experts that the cache holds.
        look_ahead: Number of tokens that the oracle knows ahead; 0 for a cache of the least recently used.

    Raises:
        SpaceError: the cache holds no expert.
    """
    if size < 1:
        raise _too_small(f"a cache of {size} experts; expected at least 1")
    by_token = request_mask(routing, experts)
    texts, tokens, _ = by_token.shape
    before, after = requests_before(by_token), np.arange(1, tokens + 1)
    ahead = before[:, np.minimum(after + look_ahead, tokens)] - before[:, after]  # by the tokens after each
    is_held, hits = np.zeros((texts, experts), dtype=np.bool_), np.zeros(texts, dtype=np.int64)
    last = np.full((texts, experts), -1)
    for i in range(tokens):
        now = by_token[:, i]
        hits += (now & is_held).sum(axis=1)
        last[now] = i
        # In turn: asked now; asked by the next tokens; asked before.
        value = np.where(now, (look_ahead + 1) * (tokens + 1), 0) + ahead[:, i] * (tokens + 1) + last
        value[~(now | is_held)] = -1
        retained = np.argsort(-value, axis=1, kind="stable")[:, :size]
        is_held = np.zeros_like(is_held)
        np.put_along_axis(is_held, retained, True, axis=1)
        is_held &= value >= 0
    return CacheUse(by_token.sum(axis=(1, 2)), hits, np.full(texts, tokens))


def cache_sizes(mib: float, expert_bytes: Sequence[int]) -> list[int]:
    """Experts that the cache of each layer holds, with equal parts of a memory.

    Args:
        mib: Memory of all layers, in MiB.
        expert_bytes: Bytes of an expert of each layer.

    Raises:
        SpaceError: a layer's part is smaller than one expert.
    """
    part = mib * _MIB / len(expert_bytes)
    sizes = [int(part // n_bytes) for n_bytes in expert_bytes]
    if min(sizes) < 1:
        largest, n = max(expert_bytes) / _MIB, len(expert_bytes)
        raise _too_small(
            f"a cache of {mib:g} MiB for {n} layers has no room for an expert of {largest:.3g} MiB in each; expected at "
            f"least {largest * n:.3g} MiB"
        )
    return sizes


def _too_small(message: str) -> SpaceError:
    return SpaceError(message, code="experts.cache-too-small")
