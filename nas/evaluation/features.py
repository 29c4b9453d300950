"""Analytic features of architectures for the predictors: exact costs, total and by block, beside the one-hot genes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from predictors.selection import FeatureLayout
from supernets.base import Supernet
from supernets.space import Architecture

_N_TOTALS = 3


def feature_layout(n_blocks: int) -> FeatureLayout:
    """Where `architecture_features` puts what: total MACs in column 0, aggregates before the genes."""
    return FeatureLayout(macs=0, aggregates=tuple(range(_N_TOTALS + 3 * n_blocks)))


def architecture_features(supernet: Supernet, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
    """Features, (n, d): total MACs, parameters and activation bytes; the same by block; then `SearchSpace.encode`."""
    table = supernet.costs(architectures)
    by_block = [table.macs, table.parameters, table.activation_bytes]
    totals = np.stack([block.sum(axis=1) for block in by_block], axis=1)
    return np.hstack([totals, *by_block, supernet.space.encode(architectures)]).astype(np.float64)
