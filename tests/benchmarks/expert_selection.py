"""Which experts of a network are kept: the importance of each, and the number of each layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def expert_importance(gates: Tensor, outputs: Tensor) -> Tensor:
    """What each expert adds to the outputs: its gate times the norm of its output, the mean over all tokens, (n,).

    Router-weighted expert activation (REAP, arXiv 2510.13999); departure: the mean is over all tokens, not over those
    routed to the expert, so that an expert that is used rarely is less important than one with equal outputs.

    Args:
        gates: (tokens, n), 0 where the expert is not asked.
        outputs: (n, tokens, width).
    """
    return torch.mean(gates * torch.linalg.vector_norm(outputs, dim=-1).T, dim=0)


def kept_by_layer(importance: Sequence[NDArray[np.float64]], total: int) -> list[int]:
    """The number of experts of each layer, `total` in all: the most important ones of all layers, and one of each layer.

    Importance is compared as a share of its layer's (Li et al. 2024, MC-SMoE, arXiv 2310.01334).

    Args:
        importance: (n,) of each layer.

    Raises:
        ValueError: `total` is below the number of layers, or above the number of experts.
    """
    available = sum(map(len, importance))
    if not len(importance) <= total <= available:
        raise ValueError(f"{total} experts to keep; expected from {len(importance)}, one a layer, to {available}")
    shares = [own / max(own.sum(), np.finfo(float).tiny) for own in importance]
    # The first of each layer precedes all others.
    ranked = [np.sort(own)[::-1] + np.array([2.0] + [0.0] * (len(own) - 1)) for own in shares]
    layers = np.repeat(np.arange(len(ranked)), [len(own) for own in ranked])
    chosen = layers[np.argsort(-np.concatenate(ranked), kind="stable")[:total]]
    return [int((chosen == layer).sum()) for layer in range(len(ranked))]
