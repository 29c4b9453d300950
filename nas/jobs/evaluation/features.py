"""Analytic features of candidates for the predictors: exact costs and measured blocks, beside the one-hot genes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hardware_profiles.lookup_table import LookupTable
from nas.errors import EvaluationError
from nas.search.problem.variants import Variants
from predictors.feature_columns import FeatureLayout
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.removed_energy import RemovedEnergy
from supernets.sharing.base import Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.space import Architecture, SearchSpace

_N_TOTALS = 3
_FP32 = Variants()


def feature_layout(n_blocks: int, space: SearchSpace | None = None) -> FeatureLayout:
    """The layout of the columns of `architecture_features`: total MACs in column 0, aggregates before the genes.

    Args:
        n_blocks: Number of blocks of the supernet.
        space: Space of the candidates; with it the layout has the gene of each column.
    """
    return _layout(_N_TOTALS + 3 * n_blocks, space)


def architecture_features(
    supernet: Supernet, candidates: Sequence[Architecture], variants: Variants = _FP32
) -> NDArray[np.float64]:
    """Features, (n, d): total MACs, parameters and activation bytes; the same by block; then `SearchSpace.encode`.

    Args:
        candidates: Candidates of `variants.space`; the genes of the variant are the last choices that are encoded.
    """
    costs, genes = _costs(supernet, candidates, variants)
    return np.hstack([costs, genes])


class LatencyFeatures:
    """Features of candidates for predicting latency on one profile.

    They are those of `architecture_features`; with a lookup table, the latency that it estimates and the net
    milliseconds of each block come between the costs and the genes.

    Args:
        table: Complete lookup table of the profile; None where there is none.
        variants: Variants of the candidates; the table needs a fit in each.

    Raises:
        EvaluationError: the table holds no block of the supernet's smallest and largest network: it is of another space.
        LookupTableError: it lacks a precision.
    """

    def __init__(self, supernet: Supernet, table: LookupTable | None, variants: Variants = _FP32) -> None:
        self._supernet, self._table, self._variants = supernet, table, variants
        self._n_blocks = len(supernet.family.blocks)
        if table is not None:
            self._blocks = BlockKeys(supernet)
            self._check(table)

    @property
    def layout(self) -> FeatureLayout:
        """The layout of the columns."""
        space = self._variants.space(self._supernet.space)
        if self._table is None:
            return feature_layout(self._n_blocks, space)
        return _layout_with_estimate(self._n_blocks, self._n_blocks, space)

    def __call__(self, candidates: Sequence[Architecture]) -> NDArray[np.float64]:
        """Features, (n, d)."""
        costs, genes = _costs(self._supernet, candidates, self._variants)
        if self._table is None:
            return np.hstack([costs, genes])
        return np.hstack([costs, self.estimates(candidates), genes])

    def estimates(self, candidates: Sequence[Architecture]) -> NDArray[np.float64]:
        """The table's latency of each candidate and the net milliseconds of its blocks, (n, 1 + n_blocks).

        Raises:
            ValueError: there is no table.
        """
        table = self._table
        if table is None:
            raise ValueError("estimates need a lookup table")
        split = [self._variants.split(candidate) for candidate in candidates]
        networks, precisions = [network for network, _ in split], np.array([variant.precision for _, variant in split])
        estimates = np.zeros((len(candidates), 1 + self._n_blocks))
        if not candidates:
            return estimates
        keys, macs = self._blocks.of(networks), self._supernet.costs(networks).macs
        for precision in self._variants.precisions:
            rows = precisions == precision
            if rows.any():
                blocks = table.by_block(keys[rows], macs[rows], precision)
                estimates[rows, 0] = table.estimate(blocks.sum(axis=1), precision)
                estimates[rows, 1:] = blocks
        return estimates

    def _check(self, table: LookupTable) -> None:
        space = self._supernet.space
        keys = self._blocks.of([space.smallest, space.largest])
        for precision in self._variants.precisions:
            table.estimate(np.zeros(1), precision)  # has a fit
            lacking = table.missing(keys, precision)
            if lacking.issuperset(set(keys.ravel().tolist()) - {""}):
                raise EvaluationError(
                    f"the lookup table of profile {table.profile.get('name')} holds none of the {len(lacking)} blocks of "
                    "the space's smallest and largest network, so it is of another space; calibrate with this job"
                )


class OneShotFeatures:
    """Features of candidates for predicting scores of subnets of a decoder that are corrected (`SharingSpec.correction`).

    They are those of `architecture_features`; between the costs and the genes come the energy that the network lacks (see
    `RemovedEnergy`) and that of each layer.

    Args:
        supernet: a decoder without experts.
        texts: token ids, (n, tokens) each, that energies are measured on.
        variants: Variants of the candidates.
    """

    def __init__(self, supernet: Supernet, texts: Sequence[Tensor], variants: Variants = _FP32) -> None:
        self._supernet, self._texts, self._variants = supernet, texts, variants
        self._family = cast(DecoderFamily, supernet.family)

    @property
    def layout(self) -> FeatureLayout:
        """The layout of the columns."""
        n_layers, space = self._family.spec.depth[-1], self._variants.space(self._supernet.space)
        return _layout_with_estimate(len(self._family.blocks), n_layers, space)

    def __call__(self, candidates: Sequence[Architecture]) -> NDArray[np.float64]:
        """Features, (n, d)."""
        costs, genes = _costs(self._supernet, candidates, self._variants)
        energy = self._energy([self._variants.split(candidate)[0] for candidate in candidates])
        return np.hstack([costs, energy.sum(axis=1, keepdims=True), energy, genes])

    @cached_property
    def _energy(self) -> RemovedEnergy:
        """Measured when the first models are fitted: it takes as long as a network's evaluation."""
        largest = cast(Decoder, self._supernet.extract(self._supernet.space.largest))
        return RemovedEnergy(self._family, largest, self._texts)


def _layout_with_estimate(n_blocks: int, n_parts: int, space: SearchSpace) -> FeatureLayout:
    """The layout of costs, an estimate, the parts that it is the sum of, and genes, in this order."""
    n_costs = _N_TOTALS + 3 * n_blocks
    return _layout(n_costs + 1 + n_parts, space, estimate=n_costs)


def _layout(n_aggregates: int, space: SearchSpace | None, *, estimate: int | None = None) -> FeatureLayout:
    """The layout of aggregates, MACs first, and then, with a space, of `SearchSpace.encode`."""
    aggregates = tuple(range(n_aggregates))
    if space is None:
        return FeatureLayout(macs=0, aggregates=aggregates, estimate=estimate)
    n, absent = len(space), (-1,) * n_aggregates
    # A gene's one-hot columns share a weight; its ordinal column has one of its own.
    groups = (*absent, *np.repeat(np.arange(n), space.levels).tolist(), *range(n, 2 * n))
    options = (*absent, *space.option_numbers(), *(-1,) * n)
    return FeatureLayout(macs=0, aggregates=aggregates, estimate=estimate, groups=groups, options=options)


def _costs(
    supernet: Supernet, candidates: Sequence[Architecture], variants: Variants
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Costs, total and by block, (n, 3 + 3 n_blocks), and the genes encoded, (n, d)."""
    table = supernet.costs([variants.split(candidate)[0] for candidate in candidates])
    by_block = [table.macs, table.parameters, table.activation_bytes]
    totals = np.stack([block.sum(axis=1) for block in by_block], axis=1)
    costs = np.hstack([totals, *by_block]).astype(np.float64)
    return costs, variants.space(supernet.space).encode(candidates)
