"""Latency lookup tables: the latency of each block of a space on one machine, and estimates of whole networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.errors import LookupTableError

ABSENT = ""
"""The key of a block that an architecture does not have."""
Floats = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """The latency that one block adds to a network, per batch.

    Attributes:
        net_ms: latency less that of the baseline; it may be below zero for a block that costs nearly nothing.
        error_ms: noise floor of `net_ms`.
        macs: multiply-accumulates for one example.
        n: number of measurements in the mean `net_ms`; 0 of a prediction, whose standard deviation is `error_ms`.
    """

    net_ms: float
    error_ms: float
    macs: int
    n: int = 1

    def mean_with(self, entry: Entry) -> Entry:
        """The mean of the measurements of both."""
        n = self.n + entry.n
        net_ms = (self.n * self.net_ms + entry.n * entry.net_ms) / n
        return Entry(net_ms, math.hypot(self.n * self.error_ms, entry.n * entry.error_ms) / n, self.macs, n)


@dataclass(frozen=True, slots=True)
class Subnet:
    """The measured latency of a whole network, and its noise floor."""

    latency_ms: float
    error_ms: float


@dataclass(frozen=True, slots=True)
class AffineFit:
    """``latency = scale x sum of the blocks + offset_ms``.

    Attributes:
        n: number of networks in the fit.
        mape: mean absolute percentage error by leave-one-out cross-validation, as a share.
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
        profile: the fields of the `HardwareProfile`.
        environment: the worker's description of the machine; JSON-able.
        source: digest of the space that the blocks and `subnets` are of.
        sentinel_ms: the sentinel latency to which all values are scaled.
        entries: Entries by block key.
        subnets: whole networks by architecture key, to which `fits` are fitted.
        complete: the calibration has finished.
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

    @property
    def predicted(self) -> bool:
        """True if latencies of blocks are predictions from other machines, not measurements."""
        return any(not entry.n for blocks in self.entries.values() for entry in blocks.values())

    def by_block(self, keys: NDArray[np.str_], macs: NDArray[np.int64], precision: str) -> Floats:
        """Net milliseconds of each block, (n, b); zero where a network lacks it.

        A block without an entry (calibration samples the space, and may miss one) is estimated by an affine function of
        the MACs, fitted to the entries; `missing` lists these.

        Args:
            keys: (n, b) block keys, "" where absent.
            macs: (n, b) for one example.

        Raises:
            LookupTableError: the table has no blocks in this precision.
        """
        entries = self._in_precision(self.entries, precision, "blocks")
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        net_ms = {key: entries[key].net_ms for key in distinct.tolist() if key in entries} | {ABSENT: 0.0}
        block_ms = np.array([net_ms.get(key, math.nan) for key in distinct.tolist()])
        lacking = np.isnan(block_ms)
        if lacking.any():
            block_ms[lacking] = _by_macs(entries, macs.ravel()[first[lacking]])
        return block_ms[inverse.reshape(keys.shape)]

    def missing(self, keys: NDArray[np.str_], precision: str) -> frozenset[str]:
        """The keys without an entry; `LookupTableError` as in `by_block`."""
        entries = self._in_precision(self.entries, precision, "blocks")
        return frozenset(np.unique(keys).tolist()) - {ABSENT} - entries.keys()

    def estimate(self, sums: Floats, precision: str) -> Floats:
        """Latencies (n,) in milliseconds per batch, of sums of `by_block` over a network's blocks (n,).

        Raises:
            LookupTableError: the table has no fit in this precision.
        """
        return self._in_precision(self.fits, precision, "fit")(sums)

    def _in_precision(self, by_precision: Mapping[str, T], precision: str, content: str) -> T:
        value = by_precision.get(precision)
        if not value:
            has = f"the lookup table of profile {self.profile.get('name')} has no {content} for {precision}, only for "
            message = f"{has}{', '.join(by_precision) or 'no precision'}; calibrate with a job that has {precision}"
            raise LookupTableError(message, code="lookup-table.precision-missing")
        return value


def _by_macs(entries: Mapping[str, Entry], macs: NDArray[np.int64]) -> Floats:
    """Net milliseconds (m,) by an affine function of the MACs, least squares over the entries; never below zero."""
    rows = np.array([[entry.macs, 1.0, entry.net_ms] for entry in entries.values()])
    # With one entry, or equal MACs, this is the solution of least norm, which is finite.
    slope, constant = np.linalg.lstsq(rows[:, :2], rows[:, 2], rcond=None)[0]
    return np.maximum(slope * macs + constant, 0.0)  # type: ignore[no-any-return]


def fit_affine(sums: Floats, latencies_ms: Floats) -> AffineFit:
    """The affine map of least squared relative error; its `mape` is by leave-one-out, in closed form.

    Args:
        sums: (n,) sums over the blocks; latencies_ms: (n,) > 0, measured.

    Raises:
        LookupTableError: fewer than 3 networks, or all with the same sum.
    """
    if len(sums) < 3 or np.ptp(sums) == 0:
        counts = f"{len(sums)} with {len(np.unique(sums))} different sums"
        message = f"an affine fit needs at least 3 networks with different blocks, got {counts}; use more subnets"
        raise LookupTableError(message, code="lookup-table.too-few-subnets")
    design = np.stack([sums, np.ones_like(sums)], axis=1) / latencies_ms[:, None]
    q, r = np.linalg.qr(design)
    ones = np.ones(len(sums))
    scale, offset = np.linalg.solve(r, q.T @ ones)
    # Allen 1974: the residual divided by one minus the leverage is the residual of the fit to the others.
    left_out = (ones - design @ [scale, offset]) / (1 - np.einsum("ij,ij->i", q, q))
    return AffineFit(float(scale), float(offset), len(sums), float(np.mean(np.abs(left_out))))
