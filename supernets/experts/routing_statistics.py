"""Statistics of a routing: how often experts are asked, how consistently within segments of a text, and how often from a cache
on a machine that holds only some of a layer's in fast memory (no torch).

A routing of a layer has the numbers of the experts that each token asks, (texts, tokens, k); -1 where it asks fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supernets.errors import SpaceError

Routing = NDArray[np.int64]
_MIB = 2**20


class SegmentRouting(NamedTuple):
    """The performance of one choice of experts for each segment of a text, in place of one for each token.

    Attributes:
        performance: the best F1 of such a choice (SRP), 0 to 1.
        size_ratio: experts that this choice has for each one that a token asks.
        texts: (texts,), whose mean is the performance, and whose standard error of the mean is the performance's.
    """

    performance: float
    size_ratio: float
    texts: NDArray[np.float64]


def request_mask(routing: Routing, experts: int) -> NDArray[np.bool_]:
    """A mask of the experts that each token asks, (texts, tokens, experts).

    Raises:
        SpaceError: the routing has other numbers than those of experts.
    """
    if routing.size and not (routing.min() >= -1 and routing.max() < experts):
        raise SpaceError(
            f"a routing asks the experts {routing.min()} to {routing.max()}; expected 0 to {experts - 1}, or -1 for none",
            code="experts.invalid",
        )
    mask = np.zeros((*routing.shape[:2], experts + 1), dtype=np.bool_)
    np.put_along_axis(mask, routing, True, axis=2)  # -1 is the last
    return mask[..., :experts]


def requests_before(by_token: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The number of requests of each expert by all tokens before each token, (texts, tokens + 1, experts)."""
    return np.pad(by_token.cumsum(axis=1), ((0, 0), (1, 0), (0, 0)))


def usage(routing: Routing, experts: int) -> NDArray[np.float64]:
    """The share of tokens that ask each expert, (experts,)."""
    return np.asarray(request_mask(routing, experts).mean(axis=(0, 1)))


def load_entropy(usage: NDArray[np.float64]) -> float:
    """The entropy of how requests spread over experts, as a share of the most: 1 for equal usage, 0 for one expert alone."""
    shares = usage[usage > 0] / usage.sum()
    return float(0.0 - (shares * np.log(shares)).sum() / np.log(len(usage))) if len(usage) > 1 else 0.0


def segment_routing(routing: Routing, experts: int, segment: int) -> SegmentRouting:
    """The segment routing best performance (SRP) of a layer's experts and its size ratio.

    A segment router chooses experts for all tokens of a segment; the best one has those that are asked at least a number
    of times that is the same for all experts. Over all segments of `segment` consecutive tokens, each token and expert is
    a binary decision, and the performance is the F1 of the router's against the tokens' own (Liang et al. 2025, arXiv
    2505.16056, equation 6). Both values are 0 where no expert is asked.

    Args:
        segment: tokens, from 1 to those of a text.

    Raises:
        SpaceError: a text is shorter than a segment.
    """
    if not 1 <= segment <= routing.shape[1]:
        raise SpaceError(
            f"segments of {segment} tokens, and the texts have {routing.shape[1]}; expected 1 to {routing.shape[1]}",
            code="experts.invalid",
        )
    before = requests_before(request_mask(routing, experts))
    frequencies = before[:, segment:] - before[:, :-segment]
    counts = np.bincount(frequencies.ravel(), minlength=segment + 1)
    # By the least frequency that is chosen, 0 to segment: positive decisions, and those among them that are right.
    chosen = counts[::-1].cumsum()[::-1]
    right = (counts * np.arange(segment + 1))[::-1].cumsum()[::-1]
    if right[0] == 0:
        return SegmentRouting(0.0, 0.0, np.zeros(len(routing)))
    best = int((right / (segment * chosen + right[0])).argmax())
    is_chosen = frequencies >= best
    texts = ratio_by_text(
        2 * (frequencies * is_chosen).sum(axis=(1, 2)), (segment * is_chosen + frequencies).sum(axis=(1, 2))
    )
    return SegmentRouting(float(texts.mean()), float(segment * chosen[best] / right[0]), texts)


def ratio_by_text(numerators: NDArray[Any], denominators: NDArray[Any]) -> NDArray[np.float64]:
    """The ratio of two sums over texts (n,) plus each text's influence on it, (n,): the mean is the ratio."""
    ratio = numerators.sum() / denominators.sum()
    return np.asarray(ratio + (numerators - ratio * denominators) / denominators.mean())


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
        routing: (texts, tokens, k), see above.
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
