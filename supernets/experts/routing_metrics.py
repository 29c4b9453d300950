"""Metrics of how consistently tokens ask for the experts of a network, for machines that hold only part of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from supernets.experts.expert_weights import invalid_experts
from supernets.experts.mixing import Gates, mixed_experts, routed
from supernets.experts.routing_statistics import Routing, cache_sizes, ratio_by_text, segment_routing, simulate_cache
from supernets.networks.own_operations import observing

SEGMENT = 16
"""Tokens of a segment, and tokens that the oracle of a cache knows ahead; the paper compares models at it."""
ROUTING_METRICS = (
    "cache_hit_rate",
    "expert_loads_per_token",
    "segment_cache_hit_rate",
    "segment_routing_f1",
    "active_experts_mean",
)
"""Metrics of routings alone."""
_TOGETHER = 16
"""Texts that are read at once."""
_Requests = tuple[Tensor, int, int, int]
"""Numbers of the experts of each token; and of experts, of one's bytes and of its multiply-accumulates for a token."""


@dataclass(frozen=True, eq=False)
class LayerRouting:
    """The experts that the tokens of texts asked of one layer.

    Attributes:
        routing: (texts, tokens, k); -1 for null experts and those that are `past_top_p`.
        experts: Number of experts of the layer, without null ones.
        expert_bytes: Bytes of one of them, in single precision.
        expert_macs: multiply-accumulates of one of them for a token.
    """

    routing: Routing
    experts: int
    expert_bytes: int
    expert_macs: int

    @property
    def n_requests(self) -> NDArray[np.int64]:
        """The number of experts that the tokens of each text ask, (texts,)."""
        return np.asarray((self.routing >= 0).sum(axis=(1, 2)))


@dataclass(frozen=True, slots=True)
class ExpertCache:
    """The size of a simulated cache: experts of each layer, or MiB of all layers.

    Raises:
        SpaceError: both are given, or neither.
    """

    experts: int | None = None
    mib: float | None = None

    def __post_init__(self) -> None:
        if (self.experts is None) == (self.mib is None):
            raise invalid_experts(f"a cache of {self.experts} experts and {self.mib} MiB; expected one of the two")

    def sizes(self, expert_bytes: Sequence[int]) -> list[int]:
        """Experts of each layer that it holds, given the bytes of one of each; raises as `cache_sizes`."""
        if self.experts is not None:
            return [self.experts] * len(expert_bytes)
        return cache_sizes(cast(float, self.mib), expert_bytes)


def _requests(
    x: Tensor, logits: Tensor, active: Tensor, *weights: Tensor | None, gates: Gates = "softmax", **_: object
) -> _Requests:
    """The requests of tokens to the experts of a layer, from the arguments of `mixed_experts`."""
    *tensors, top_p = weights
    n = len(cast(Tensor, tensors[0]))
    chosen = routed(logits.flatten(0, -2), len(active), gates, n, top_p)[0]
    stored = sum(weight.numel() * weight.element_size() for weight in tensors if weight is not None)
    macs = sum(weight[0].numel() for weight in tensors if weight is not None and weight.ndim > 2)  # biases have none
    return chosen.masked_fill(chosen == n, -1).view(*x.shape[:-1], -1), n, stored // n, macs


@torch.no_grad()
def observed_routings(network: nn.Module, texts: Tensor) -> list[LayerRouting]:
    """The routing of each layer with experts, in the order of the layers; [] for a network without.

    Args:
        network: A network in evaluation mode.
        texts: token ids, (texts, tokens).
    """
    parts: list[list[_Requests]] = []

    def observe(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name == mixed_experts.__name__:
            parts[-1].append(_requests(*args, **kwargs))

    for part in texts.split(_TOGETHER):
        parts.append([])
        with observing(observe):
            network(part)
    return [
        LayerRouting(torch.cat([numbers for numbers, *_ in layer]).numpy(), *layer[0][1:])
        for layer in zip(*parts, strict=True)
    ]


def routing_metric(name: str, layers: Sequence[LayerRouting], cache: ExpertCache, *, texts: int) -> NDArray[np.float64]:
    """One of `ROUTING_METRICS`, by text, (texts,): the mean is the value, and its standard error that of the mean.

    - ``cache_hit_rate``: the share of requests that a cache of the least recently used experts of each layer answers;
    - ``expert_loads_per_token``: experts of all layers that are loaded into that cache for a token;
    - ``segment_cache_hit_rate``: the hit rate of the oracle (SCH);
    - ``segment_routing_f1``: the segment routing best performance (SRP), the mean over layers;
    - ``active_experts_mean``: experts of a layer that a token asks, the mean over layers.

    A network without experts asks and loads none, and its rates are 1.

    Raises:
        SpaceError: the cache is smaller than an expert of each layer.
    """
    if not layers:
        return np.full(texts, 0.0 if name in ("expert_loads_per_token", "active_experts_mean") else 1.0)
    if name == "active_experts_mean":
        return np.asarray(np.mean([layer.n_requests / layer.routing.shape[1] for layer in layers], axis=0))
    if name == "segment_routing_f1":
        by_layer = [
            segment_routing(layer.routing, layer.experts, min(SEGMENT, layer.routing.shape[1])).texts
            for layer in layers
        ]
        return np.asarray(np.mean(by_layer, axis=0))
    ahead = SEGMENT if name == "segment_cache_hit_rate" else 0
    sizes = cache.sizes([layer.expert_bytes for layer in layers])
    used = reduce(
        add,
        (
            simulate_cache(layer.routing, layer.experts, size, look_ahead=ahead)
            for layer, size in zip(layers, sizes, strict=True)
        ),
    )
    if name == "expert_loads_per_token":
        return ratio_by_text(used.requests - used.hits, used.tokens)
    return ratio_by_text(used.hits, used.requests) if used.requests.any() else np.ones(texts)


@torch.no_grad()
def mean_macs(network: nn.Module, texts: Tensor, layers: Sequence[LayerRouting]) -> NDArray[np.float64]:
    """Multiply-accumulates of each text, (texts,), with those of the experts that its tokens ask, as of `observed_routings`."""
    # Fused attention hides its products from the counter.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(texts[:1])
    expert_macs = np.zeros(len(texts))
    for layer in layers:
        expert_macs += layer.n_requests * layer.expert_macs
    return np.asarray(counter.get_total_flops() / 2 - expert_macs[0] + expert_macs)
