"""Latency lookup tables: what each block of a space takes on one machine, and the file that keeps it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.base import HardwareProfile
from hardware_profiles.environment import differences, machine_key
from hardware_profiles.errors import ProfilingError
from hardware_profiles.measuring.protocol import PROTOCOL

FORMAT = "latency-lookup-table/v1"
ABSENT = ""
"""The key where an architecture lacks a block."""
_NOT_COMPARED = ("description", "python")
"""Facts of a profile that change no figure by themselves (the interpreter's version is in the environment)."""

_LEAST_MS = 1e-9
"""Latencies below are no latencies."""

Floats = NDArray[np.float64]


class LookupTableError(ProfilingError):
    """A lookup table's file is damaged, unfinished, or of another format, protocol, profile or machine."""


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


def save_lookup(table: LookupTable, path: Path) -> None:
    """Writes a table's file, whole or not at all.

    Raises:
        LookupTableError: the file cannot be written.
    """
    data = {"format": FORMAT, **asdict(table)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise LookupTableError(f"{path}: the lookup table cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def load_lookup(
    path: Path, *, profile: HardwareProfile, environment: Mapping[str, Any] | None, unfinished: bool = False
) -> LookupTable:
    """The table of a file, checked against what it is to be used for.

    Args:
        profile: that latencies are wanted for.
        environment: of the machine that they will be measured on; None where no machine is at hand to ask.
        unfinished: an interrupted calibration's table will do.

    Raises:
        LookupTableError: the file is missing, damaged, unfinished, or of another format, protocol, profile or machine.
    """
    table = _read(path)
    if table.protocol != PROTOCOL:
        raise LookupTableError(
            f"{path}: the lookup table was measured by the protocol {table.protocol!r}, figures are now taken by "
            f"{PROTOCOL!r}; calibrate again"
        )
    _check_profile(path, table.profile, profile)
    if environment is not None and machine_key(table.environment) != machine_key(environment):
        told = "; ".join(differences(table.environment, environment))
        raise LookupTableError(
            f"{path}: the lookup table was measured on another machine than profile {profile.name} is now measured on "
            f"({told}); calibrate there anew, into another file"
        )
    if not table.complete and not unfinished:
        raise LookupTableError(
            f"{path}: the calibration of this lookup table was interrupted; go on with: "
            f"nas calibrate {profile.name} --job JOB -o {path}"
        )
    return table


def profile_of(path: Path) -> str:
    """The name of the profile that a file's table is of.

    Raises:
        LookupTableError: the file is missing, damaged or of another format.
    """
    return str(_read(path).profile.get("name"))


def _check_profile(path: Path, was: Mapping[str, Any], profile: HardwareProfile) -> None:
    now = asdict(profile)
    if was.get("name") != profile.name:
        raise LookupTableError(
            f"{path}: the lookup table is of profile {was.get('name')!r}, expected one of {profile.name!r}; "
            f"make it with: nas calibrate {profile.name} --job JOB"
        )
    told = [
        f"{key}: was {was.get(key)!r}, is {value!r}"
        for key, value in now.items()
        if key not in _NOT_COMPARED and was.get(key) != value
    ]
    if told:
        raise LookupTableError(
            f"{path}: profile {profile.name} is not what the lookup table was measured on ({'; '.join(told)}); "
            "put it back, or calibrate again"
        )


def _read(path: Path) -> LookupTable:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LookupTableError(f"{path}: the lookup table cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON; or nested without end
        raise LookupTableError(f"{path}: the lookup table is damaged: {error}; calibrate again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        came = repr(data["format"]) if isinstance(data, dict) and "format" in data else "no format"
        raise LookupTableError(
            f"{path}: expected a lookup table of the format {FORMAT!r}, got {came}; make one with: "
            "nas calibrate PROFILE --job JOB"
        )
    try:
        return _parse(data)
    except KeyError as error:
        raise LookupTableError(f"{path}: the lookup table is damaged: it lacks {error}; calibrate again") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise LookupTableError(f"{path}: the lookup table is damaged: {error}; calibrate again") from None


def _parse(data: dict[str, Any]) -> LookupTable:
    for key, kind in (("profile", dict), ("environment", dict), ("protocol", str), ("source", str), ("complete", bool)):
        if not isinstance(data[key], kind):
            raise TypeError(f"{key} is {data[key]!r}")
    return LookupTable(
        data["profile"],
        data["protocol"],
        data["environment"],
        data["source"],
        _number(data["sentinel_ms"], "sentinel_ms", least=_LEAST_MS),
        entries={p: {key: _entry(e, key) for key, e in own.items()} for p, own in data["entries"].items()},
        subnets={p: {key: _subnet(s, key) for key, s in own.items()} for p, own in data["subnets"].items()},
        fits={precision: _fit(f, precision) for precision, f in data["fits"].items()},
        complete=data["complete"],
    )


def _entry(data: Mapping[str, Any], key: str) -> Entry:
    net_ms, error_ms = _number(data["net_ms"], key), _number(data["error_ms"], key, least=0.0)
    return Entry(net_ms, error_ms, _count(data["macs"], key), _count(data["n"], key, least=1))


def _subnet(data: Mapping[str, Any], key: str) -> Subnet:
    return Subnet(_number(data["latency_ms"], key, least=_LEAST_MS), _number(data["error_ms"], key, least=0.0))


def _fit(data: Mapping[str, Any], where: str) -> AffineFit:
    scale, offset_ms = _number(data["scale"], where), _number(data["offset_ms"], where)
    return AffineFit(scale, offset_ms, _count(data["n"], where), _number(data["mape"], where, least=0.0))


def _number(value: object, where: str, *, least: float = -math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise ValueError(f"{where!r} has the figure {value!r}")
    return float(value)


def _count(value: object, where: str, *, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{where!r} has the count {value!r}")
    return value
