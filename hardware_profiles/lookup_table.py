"""Latency lookup tables: what each block of a space takes on one machine, and what that says of whole networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.errors import LookupTableError

ABSENT = ""
"""The key where an architecture lacks a block."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Entry:
    """What one block adds to a network, per batch.

    Attributes:
        net_ms: its latency without what any network pays once; of a block of next to nothing it may be below zero.
        error_ms: noise floor of `net_ms`.
        macs: multiply-accumulates for one example.
        n: number of measurements that `net_ms` is the mean of.
    """

    net_ms: float
    error_ms: float
    macs: int
    n: int = 1

    def mean_with(self, other: Entry) -> Entry:
        """The mean of the measurements of both."""
        n = self.n + other.n
        net_ms = (self.n * self.net_ms + other.n * other.net_ms) / n
        return Entry(net_ms, math.hypot(self.n * self.error_ms, other.n * other.error_ms) / n, self.macs, n)


@dataclass(frozen=True, slots=True)
class Subnet:
    """The measured latency of a whole network, and its noise floor."""

    latency_ms: float
    error_ms: float


@dataclass(frozen=True, slots=True)
class AffineFit:
    """``latency = scale x sum of the blocks + offset_ms``.

    Attributes:
        n: number of networks that it was fitted to.
        mape: mean absolute error of each of them, as a share of its latency, by the fit to the others.
    """

    scale: float
    offset_ms: float
    n: int
    mape: float

    def __call__(self, sums: Floats) -> Floats:
        """Latencies (n,) in milliseconds, of sums over the blocks (n,)."""
        return self.scale * sums + self.offset_ms


@dataclass(frozen=True, slots=True)
class LookupTable:
    """The blocks of a space on one machine. `entries`, `subnets` and `fits` are by precision first.

    Attributes:
        profile: the facts of the `HardwareProfile`.
        protocol: how latency was measured.
        environment: of the machine, as the worker told it; JSON-able.
        source: tells apart what the blocks were taken from (a space), whose networks are in `subnets`.
        sentinel_ms: latency of the sentinel that all figures are scaled to: the machine was as fast as that.
        entries: by block key.
        subnets: whole networks by architecture key, which `fits` were fitted to.
        complete: nothing is left to be measured.
    """

    profile: Mapping[str, Any]
    protocol: str
    environment: Mapping[str, Any]
    source: str
    sentinel_ms: float
    entries: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict, repr=False)
    subnets: Mapping[str, Mapping[str, Subnet]] = field(default_factory=dict, repr=False)
    fits: Mapping[str, AffineFit] = field(default_factory=dict)
    complete: bool = False

    def by_block(self, keys: NDArray[np.str_], macs: NDArray[np.int64], precision: str) -> Floats:
        """Net milliseconds of each block, (n, b); zero where a network lacks it.

        A block that the table lacks (calibration samples a space, and may not have met it) is put at what an affine
        function of the MACs, fitted to the table's own entries, gives; `missing` tells which these are.

        Args:
            keys: (n, b) block keys, "" where absent.
            macs: (n, b) for one example.

        Raises:
            LookupTableError: the table has no blocks in this precision.
        """
        entries = self._of(precision)
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        found = np.empty(len(distinct))
        for i, key in enumerate(distinct.tolist()):
            entry = entries.get(key)
            found[i] = 0.0 if key == ABSENT else math.nan if entry is None else entry.net_ms
        lacking = np.isnan(found)
        if lacking.any():
            found[lacking] = _by_macs(entries, macs.ravel()[first[lacking]])
        return found[inverse.reshape(keys.shape)]

    def missing(self, keys: NDArray[np.str_], precision: str) -> frozenset[str]:
        """The keys that the table has no entry for."""
        return frozenset(np.unique(keys).tolist()) - {ABSENT} - self._of(precision).keys()

    def estimate(self, sums: Floats, precision: str) -> Floats:
        """Latencies (n,) in milliseconds per batch, of sums of `by_block` over a network's blocks (n,).

        Raises:
            LookupTableError: the table has no fit in this precision.
        """
        if precision not in self.fits:
            raise LookupTableError(
                f"the lookup table of profile {self.profile.get('name')} has no fit for {precision}; "
                f"it has {', '.join(self.fits) or 'none'}: calibrate with a job that has that precision"
            )
        return self.fits[precision](sums)

    def _of(self, precision: str) -> Mapping[str, Entry]:
        if not self.entries.get(precision):
            raise LookupTableError(
                f"the lookup table of profile {self.profile.get('name')} has no blocks in {precision}; "
                f"it has {', '.join(self.entries) or 'none'}: calibrate with a job that has that precision"
            )
        return self.entries[precision]


def _by_macs(entries: Mapping[str, Entry], macs: NDArray[np.int64]) -> Floats:
    """Net milliseconds (m,) by an affine function of the MACs, least squares over the entries; never below zero."""
    known = np.array([[entry.macs, 1.0] for entry in entries.values()])
    net = np.array([entry.net_ms for entry in entries.values()])
    # Of one entry, or of equal MACs, this is the solution of least norm, and still finite.
    slope, constant = np.linalg.lstsq(known, net, rcond=None)[0]
    return np.maximum(slope * macs + constant, 0.0)  # type: ignore[no-any-return]


def fit_affine(sums: Floats, latencies_ms: Floats) -> AffineFit:
    """The affine map of least squared relative error; its `mape` is by leaving each network out, in closed form.

    Args:
        sums: (n,) sums over the blocks; latencies_ms: (n,) > 0, measured.

    Raises:
        LookupTableError: fewer than 3 networks, or all of one sum.
    """
    if len(sums) < 3 or np.ptp(sums) == 0:
        raise LookupTableError(
            f"an affine fit needs 3 networks of different blocks at least, got {len(sums)} with "
            f"{len(np.unique(sums))} different sums; calibrate with more subnets"
        )
    rows = np.stack([sums, np.ones_like(sums)], axis=1) / latencies_ms[:, None]
    q, r = np.linalg.qr(rows)
    ones = np.ones(len(sums))
    scale, offset = np.linalg.solve(r, q.T @ ones)
    # Allen 1974: what is left over, divided by one minus the leverage, is the error of the fit to the others.
    left_out = (ones - rows @ [scale, offset]) / (1 - np.einsum("ij,ij->i", q, q))
    return AffineFit(float(scale), float(offset), len(sums), float(np.mean(np.abs(left_out))))
