"""Costs of candidates as sums of parts by block: exactly for computed metrics, to fit to measurements for timed ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hardware_profiles.lookup_table import LookupTable
from nas.jobs.evaluation.features import LatencyFeatures
from nas.jobs.evaluation.served_memory import ServedMemory
from nas.search.problem.pareto import Array
from nas.search.problem.tasks import SERVED_MEMORY
from nas.search.problem.variants import Variants, exact_value
from supernets.sharing.base import Supernet
from supernets.space import Architecture


class ComputedParts:
    """The values of a computed metric by block, (n, n_blocks); of the memory of language models, the value itself, (n, 1).

    Args:
        metric: Name of a computed metric.
        memory: Memory of language models; None for other networks.
    """

    def __init__(self, supernet: Supernet, variants: Variants, metric: str, memory: ServedMemory | None) -> None:
        self._supernet, self._variants, self._metric, self._memory = supernet, variants, metric, memory

    def __call__(self, candidates: Sequence[Architecture]) -> Array:
        split = [self._variants.split(candidate) for candidate in candidates]
        networks, precisions = [network for network, _ in split], [variant.precision for _, variant in split]
        if self._memory is not None and self._metric in SERVED_MEMORY:
            return self._memory.mib(self._metric, networks, precisions)[:, None]
        alone = self._memory is not None
        scales = [exact_value(self._metric, 1.0, precision, weights_alone=alone) for precision in precisions]
        return np.asarray(getattr(self._supernet.costs(networks), self._metric) * np.array(scales)[:, None])


class TimedParts:
    """What a timed metric may be proportional to, by block: MACs, bytes of activations, parameters, and the latencies of a
    lookup table where there is one; each in every variant, whose weights differ.

    Args:
        table: Lookup table of the metric's profile; None without one.

    Attributes:
        kinds: The kind of each part, (n_parts,): parts of a kind differ in the block alone.
    """

    def __init__(self, supernet: Supernet, variants: Variants, table: LookupTable | None = None) -> None:
        self._supernet, self._variants = supernet, variants
        self._latencies = None if table is None else LatencyFeatures(supernet, table, variants)
        n_blocks, n_kinds = len(supernet.family.blocks), (3 + (table is not None)) * len(variants.all)
        self.kinds = np.repeat(np.arange(n_kinds), n_blocks)

    def __call__(self, candidates: Sequence[Architecture]) -> Array:
        split = [self._variants.split(candidate) for candidate in candidates]
        table = self._supernet.costs([network for network, _ in split])
        parts = np.hstack([table.macs, table.activation_bytes, table.parameters]).astype(np.float64)
        if self._latencies is not None:
            parts = np.hstack([parts, np.maximum(self._latencies.estimates(candidates)[:, 1:], 0.0)])
        in_variant = np.array([[variant == v for v in self._variants.all] for _, variant in split], dtype=np.float64)
        return np.asarray((in_variant[:, :, None] * parts[:, None]).reshape(len(candidates), -1))
