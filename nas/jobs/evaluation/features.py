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
from supernets.space import Architecture

_N_TOTALS = 3
_FP32 = Variants()


class ArchitectureFeatures:
    """Features of candidates: total MACs, parameters and activation bytes; the same by block; then `SearchSpace.encode`.

    Features of a subclass have an estimate, and the parts that it is the sum of, between the costs and the genes.

    Args:
        variants: Variants of the candidates, whose genes are the last choices that are encoded.
    """

    n_parts: int | None = None
    """Number of the parts of the estimate; None without one."""

    def __init__(self, supernet: Supernet, variants: Variants = _FP32) -> None:
        self._supernet, self._variants = supernet, variants

    @property
    def layout(self) -> FeatureLayout:
        """The layout of the columns: total MACs in column 0, aggregates before the genes."""
        space = self._variants.space(self._supernet.space)
        n_costs = _N_TOTALS + 3 * len(self._supernet.family.blocks)
        estimate = None if self.n_parts is None else n_costs
        n_aggregates = n_costs if self.n_parts is None else n_costs + 1 + self.n_parts
        n, absent = len(space), (-1,) * n_aggregates
        # A gene's one-hot columns share a weight; its ordinal column has one of its own.
        groups = (*absent, *np.repeat(np.arange(n), space.levels).tolist(), *range(n, 2 * n))
        options = (*absent, *space.option_numbers(), *(-1,) * n)
        aggregates = tuple(range(n_aggregates))
        return FeatureLayout(macs=0, aggregates=aggregates, estimate=estimate, groups=groups, options=options)

    def __call__(self, candidates: Sequence[Architecture]) -> NDArray[np.float64]:
        """Features, (n, d)."""
        table = self._supernet.costs([self._variants.split(candidate)[0] for candidate in candidates])
        by_block = [table.macs, table.parameters, table.activation_bytes]
        totals = np.stack([block.sum(axis=1) for block in by_block], axis=1)
        genes = self._variants.space(self._supernet.space).encode(candidates)
        return np.hstack([totals, *by_block, self.estimates(candidates), genes]).astype(np.float64)

    def estimates(self, candidates: Sequence[Architecture]) -> NDArray[np.float64]:
        """The estimate of each candidate and its parts, (n, 1 + n_parts); (n, 0) without one."""
        return np.empty((len(candidates), 0))


class LatencyFeatures(ArchitectureFeatures):
    """Features of candidates for predicting latency on one profile, with the latency that a lookup table estimates.

    Args:
        table: Complete lookup table of the profile.
        variants: Variants of the candidates; the table needs a fit in each.

    Raises:
        EvaluationError: the table holds no block of the supernet's smallest and largest network: it is of another space.
        LookupTableError: it lacks a precision.
    """

    def __init__(self, supernet: Supernet, table: LookupTable, variants: Variants = _FP32) -> None:
        super().__init__(supernet, variants)
        self._table, self._blocks, self.n_parts = table, BlockKeys(supernet), len(supernet.family.blocks)
        self._check(table)

    def estimates(self, candidates: Sequence[Architecture]) -> NDArray[np.float64]:
        """The table's latency of each candidate and the net milliseconds of its blocks, (n, 1 + n_blocks)."""
        split = [self._variants.split(candidate) for candidate in candidates]
        networks, precisions = [network for network, _ in split], np.array([variant.precision for _, variant in split])
        estimates = np.zeros((len(candidates), 1 + len(self._supernet.family.blocks)))
        if not candidates:
            return estimates
        keys, macs = self._blocks.of(networks), self._supernet.costs(networks).macs
        for precision in self._variants.precisions:
            rows = precisions == precision
            if rows.any():
                blocks = self._table.by_block(keys[rows], macs[rows], precision)
                estimates[rows, 0] = self._table.estimate(blocks.sum(axis=1), precision)
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


class OneShotFeatures(ArchitectureFeatures):
    """Features of candidates for predicting scores of subnets of a decoder that are corrected (`SharingSpec.correction`).

    The estimate is the energy that the network lacks (see `RemovedEnergy`), and its parts are those of the layers.

    Args:
        supernet: a decoder without experts.
        texts: token ids, (n, tokens) each, that energies are measured on.
        variants: Variants of the candidates.
    """

    def __init__(self, supernet: Supernet, texts: Sequence[Tensor], variants: Variants = _FP32) -> None:
        super().__init__(supernet, variants)
        self._texts, self._family = texts, cast(DecoderFamily, supernet.family)
        self.n_parts = self._family.spec.depth[-1]

    def estimates(self, candidates: Sequence[Architecture]) -> NDArray[np.float64]:
        """The energy that each candidate lacks and that of its layers, (n, 1 + n_layers)."""
        energy = self._energy([self._variants.split(candidate)[0] for candidate in candidates])
        return np.hstack([energy.sum(axis=1, keepdims=True), energy])

    @cached_property
    def _energy(self) -> RemovedEnergy:
        """Measured when the first models are fitted: it takes as long as a network's evaluation."""
        largest = cast(Decoder, self._supernet.extract(self._supernet.space.largest))
        return RemovedEnergy(self._family, largest, self._texts)
