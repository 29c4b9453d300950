"""Calibrates a profile for a job's space: measures blocks and networks into a lookup table's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hardware_profiles.base import HardwareProfile, LatencyProfiler
from hardware_profiles.errors import LookupTableError
from hardware_profiles.lookup_table import ABSENT, Entry, LookupTable, Subnet, fit_affine
from hardware_profiles.lookup_table_file import load_lookup, save_lookup
from hardware_profiles.measuring.profiler import MAX_BATCH
from hardware_profiles.measuring.protocol import PROTOCOL
from hardware_profiles.profiler_factory import open_profiler
from nas.errors import EvaluationError
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.build.compatibility_facts import space_digest
from nas.jobs.planning.block_latency import BlockLatency, in_batches
from supernets.data import BlockFormat
from supernets.errors import SpaceError
from supernets.families.captured.captured_family import CapturedFamily
from supernets.sharing.blocks import BlockKeys
from supernets.space import Architecture

SUBNETS = 30
_SAMPLES = 4000
"""Random networks whose blocks are measured. A block of one network in a thousand is missed in one of fifty calibrations,
and then estimated (`LookupTable.by_block`)."""
_PASSES = 2
"""Measurements of each block, in different sessions: a session's memory layout changes a latency by some per cent, which no
number of rounds reveals."""

Progress = Callable[[int, int], None]
_Value = TypeVar("_Value", Entry, Subnet)


def calibrate(
    built_job: BuiltJob,
    profile: HardwareProfile,
    path: Path,
    *,
    subnets: int = SUBNETS,
    on_progress: Progress = lambda done, total: None,
    on_wait: Callable[[str], None] | None = None,
) -> LookupTable:
    """The complete table of a profile and a job's space, in all of the job's precisions, written to `path`.

    The file is written after each batch. If it exists, its missing entries are measured; a finished one stays unchanged.

    Args:
        subnets: random networks to which the affine map is fitted; at least 3.
        on_progress: receives the numbers of finished and of all measurements.
        on_wait: receives a message when another measurement holds the host.

    Raises:
        LookupTableError: the file is of another profile, machine or protocol, damaged, or cannot be written.
        EvaluationError: the file is of another space, a measurement fails, or there are fewer than 3 subnets.
        ProfileError, WorkerError, PrecisionError: the profile cannot be measured, or does not run a precision.
    """
    if subnets < 3:
        message = f"a lookup table is fitted to at least 3 networks, got {subnets}"
        raise EvaluationError(message, code="lookup-table.too-few-subnets")
    plain, _ = (family := built_job.family).plain(family.space.largest)
    why = ""
    if isinstance(plain, CapturedFamily) and not plain.divided:
        why = "supernet.model: the network cannot be divided into blocks, since no value alone connects a part of it with "
        why += "the rest"
    elif isinstance(built_job.data.dataset.format, BlockFormat):
        why = "task: a language model is timed as it is served, by whole models and not by blocks"
    if why:
        text = f"{built_job.job.source}: {why}; measure latency in the search, without lookup_tables"
        raise EvaluationError(text, code="lookup-table.no-blocks")
    torch.set_num_threads(1)
    with open_profiler(profile, seed=built_job.job.config.seed, on_wait=on_wait) as profiler:
        return _Calibration(built_job, profile, path, profiler, subnets, on_progress).run()


class _Calibration:
    """The table of a calibration, and its remaining measurements."""

    def __init__(
        self,
        built_job: BuiltJob,
        profile: HardwareProfile,
        path: Path,
        profiler: LatencyProfiler,
        n_subnets: int,
        on_progress: Progress,
    ) -> None:
        self._path, self._progress, self._precisions = path, on_progress, built_job.job.variants.precisions
        # Untrained weights need as long as trained ones: no kernel depends on their values.
        self._supernet = built_job.untrained().eval()
        self._keys = BlockKeys(self._supernet)
        self._rng = np.random.default_rng(built_job.job.config.seed)
        self._macs = self._sample_blocks()
        self._networks = self._sample_networks(n_subnets)
        self._latency = BlockLatency(built_job, profile, profiler, self._supernet, self._rng)
        self._table = self._begin(profile, profiler.environment(), space_digest(built_job.family))

    def run(self) -> LookupTable:
        """Measures what the table lacks, and fits it."""
        self._report()
        for precision in self._precisions:
            for done in range(_PASSES):
                missing = [key for key in self._macs if self._n_measured(precision, key) <= done]
                self._rng.shuffle(missing)
                for batch in in_batches([(self._keys.model(key), self._macs[key]) for key in missing]):
                    entries = self._latency.blocks(batch, precision, sentinel_ms=self._table.sentinel_ms)
                    measured = self._table.entries.get(precision, {})
                    means = {key: measured[key].mean_with(e) if key in measured else e for key, e in entries.items()}
                    self._keep(replace(self._table, entries=_with_precision(self._table.entries, precision, means)))
            networks = [a for a in self._networks if a.key not in self._table.subnets.get(precision, {})]
            for i in range(0, len(networks), MAX_BATCH):
                chosen = networks[i : i + MAX_BATCH]
                subnets = self._latency.networks(chosen, precision, sentinel_ms=self._table.sentinel_ms)
                self._keep(replace(self._table, subnets=_with_precision(self._table.subnets, precision, subnets)))
        if not self._table.complete or not self._table.fits.keys() >= set(self._precisions):
            fits = {precision: fit_affine(*self._sums(precision)) for precision in self._precisions}
            self._table = replace(self._table, fits={**self._table.fits, **fits}, complete=True)
            save_lookup(self._table, self._path)
        return self._table

    def _begin(self, profile: HardwareProfile, environment: Mapping[str, object], source: str) -> LookupTable:
        """The file's table, if it is compatible, or an empty one."""
        if not self._path.exists():
            return LookupTable(profile.to_json(), PROTOCOL, environment, source, self._latency.sentinel_ms())
        table = load_lookup(self._path, profile=profile, environment=environment, unfinished=True)
        if table.source != source:
            message = f"{self._path}: the lookup table is of another space ({table.source}) than the job's ({source})"
            raise EvaluationError(f"{message}; write to another file with -o", code="lookup-table.other-space")
        for key in {key for subnets in table.subnets.values() for key in subnets}:
            try:
                self._supernet.space.check(Architecture.parse(key))
            except SpaceError as error:
                message = f"{self._path}: the lookup table is damaged: {error}; calibrate again"
                raise LookupTableError(message, code="lookup-table.damaged") from None
        return table

    def _sample_blocks(self) -> dict[str, int]:
        """MACs by key of the space's distinct blocks, as far as random networks have them, in a fixed order."""
        space = self._supernet.space
        if space.size <= _SAMPLES:
            networks = space.enumerate()
        else:
            networks = [space.smallest, space.largest, *(space.sample(self._rng) for _ in range(_SAMPLES))]
        keys, macs = self._keys.of(networks), self._supernet.costs(networks).macs
        distinct, first = np.unique(keys, return_index=True)
        return {k: int(macs.ravel()[i]) for k, i in zip(distinct.tolist(), first.tolist(), strict=True) if k != ABSENT}

    def _sample_networks(self, n: int) -> list[Architecture]:
        """`n` different random networks, or all of a smaller space."""
        space, networks = self._supernet.space, dict[Architecture, None]()
        while len(networks) < min(n, space.size):
            networks[space.sample(self._rng)] = None
        return list(networks)

    def _n_measured(self, precision: str, key: str) -> int:
        entry = self._table.entries.get(precision, {}).get(key)
        return 0 if entry is None else entry.n

    def _keep(self, table: LookupTable) -> None:
        """Replaces the table by one with more measurements, and writes its file."""
        self._table = replace(table, complete=False)
        save_lookup(self._table, self._path)
        self._report()

    def _report(self) -> None:
        total = len(self._precisions) * (_PASSES * len(self._macs) + len(self._networks))
        left = sum(
            sum(max(_PASSES - self._n_measured(precision, key), 0) for key in self._macs)
            + sum(a.key not in self._table.subnets.get(precision, {}) for a in self._networks)
            for precision in self._precisions
        )
        self._progress(total - left, total)

    def _sums(self, precision: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums over the blocks and latencies of the measured networks, (n,) each."""
        subnets = self._table.subnets[precision]
        networks = [Architecture.parse(key) for key in subnets]
        macs = self._supernet.costs(networks).macs
        sums = self._table.by_block(self._keys.of(networks), macs, precision).sum(axis=1)
        return sums, np.array([subnet.latency_ms for subnet in subnets.values()])


def _with_precision(
    values_by_precision: Mapping[str, Mapping[str, _Value]], precision: str, values: Mapping[str, _Value]
) -> dict[str, Mapping[str, _Value]]:
    return {**values_by_precision, precision: {**values_by_precision.get(precision, {}), **values}}
