"""Calibrates a profile for a job's space: measures its blocks and a few whole networks into a lookup table's file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyProfiler
from hardware_profiles.block_baseline import baseline_model, needs_prefix, with_prefix
from hardware_profiles.errors import LookupTableError
from hardware_profiles.lookup_table import ABSENT, Entry, LookupTable, Subnet, fit_affine
from hardware_profiles.lookup_table_file import load_lookup, save_lookup
from hardware_profiles.measuring.protocol import PROTOCOL
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.quantize import convert
from nas.build.compatibility_facts import space_digest
from nas.build.prepared_job import PreparedJob
from nas.errors import EvaluationError
from nas.evaluation.environments import Machines
from nas.evaluation.scoring import in_precision
from supernets.blocks import BlockKeys
from supernets.data import head
from supernets.errors import SpaceError
from supernets.graph import INPUT, LENGTH, LENGTH_NAME, BlockInput, BlockModel
from supernets.onnx_export import onnx_model
from supernets.space import Architecture

SUBNETS = 30
_SAMPLES = 4000
"""Random networks whose blocks are measured. A block that one network in a thousand has is missed once in fifty times,
and then estimated (`LookupTable.by_block`)."""
_TOGETHER = 20
"""Models measured in the same rounds, those to subtract included; as many as a profiler takes at once."""
_PASSES = 2
"""Times that each block is measured, in sessions apart: where a session's memory happens to lie moves a figure by some per
cent, which no number of rounds shows."""
_CALIBRATION_IMAGES = 32

Progress = Callable[[int, int], None]
_Figure = TypeVar("_Figure", Entry, Subnet)


def calibrate(
    prepared: PreparedJob,
    profile: HardwareProfile,
    path: Path,
    *,
    subnets: int = SUBNETS,
    on_progress: Progress = lambda done, total: None,
    on_wait: Callable[[str], None] | None = None,
) -> LookupTable:
    """The complete table of a profile and a job's space, in all of the job's precisions, written to `path`.

    The file is written after each batch. Where it exists, what it lacks is measured; a finished one is left as it is.

    Args:
        subnets: random networks that the affine map is fitted to; 3 at least.
        on_progress: told (measured so far, all that there is to measure).
        on_wait: told in a sentence when another measurement must be waited for.

    Raises:
        LookupTableError: the file is of another profile, machine, protocol or space, damaged, or cannot be written.
        EvaluationError: a block or a network cannot be measured, the machine that answers has become another; fewer than 3
            subnets.
        ProfileError, WorkerError, PrecisionError: nothing can be measured on the profile, or not in a precision.
    """
    if subnets < 3:
        raise EvaluationError(f"a lookup table needs 3 whole networks at least to be fitted to, got {subnets}")
    torch.set_num_threads(1)
    with open_profiler(profile, seed=prepared.config.seed, on_wait=on_wait) as profiler:
        return _Calibration(prepared, profile, path, profiler, subnets, on_progress).run()


class _Calibration:
    """One calibration: the table so far, and what is left to measure."""

    def __init__(
        self,
        prepared: PreparedJob,
        profile: HardwareProfile,
        path: Path,
        profiler: LatencyProfiler,
        n_subnets: int,
        on_progress: Progress,
    ) -> None:
        self._prepared, self._profile, self._path, self._profiler = prepared, profile, path, profiler
        self._progress = on_progress
        self._precisions = prepared.job.precisions.names
        # Untrained weights take as long as trained ones: no kernel looks at the values.
        self._supernet = prepared.supernets.untrained().eval()
        self._blocks = BlockKeys(self._supernet)
        self._rng = np.random.default_rng(prepared.config.seed)
        self._macs = self._sample_blocks()
        self._networks = self._sample_networks(n_subnets)
        self._table = self._begin()
        self._of = f"profile {profile.name}"
        self._machines = Machines({self._of: self._table.environment})

    def run(self) -> LookupTable:
        """Measures what the table lacks, and fits it."""
        self._tell()
        for precision in self._precisions:
            for done in range(_PASSES):
                lacking = [key for key in self._macs if self._n_measured(precision, key) <= done]
                self._rng.shuffle(lacking)
                for batch in _batches([self._blocks.model(key) for key in lacking]):
                    self._keep(precision, entries=self._measure_blocks(batch, precision))
            left = [a for a in self._networks if a.key not in self._table.subnets.get(precision, {})]
            for i in range(0, len(left), _TOGETHER):
                networks = left[i : i + _TOGETHER]
                self._keep(precision, subnets=self._measure_networks(networks, precision))
        if not self._table.complete or not self._table.fits.keys() >= set(self._precisions):
            fits = {precision: fit_affine(*self._sums(precision)) for precision in self._precisions}
            self._table = replace(self._table, fits={**self._table.fits, **fits}, complete=True)
            save_lookup(self._table, self._path)
        return self._table

    def _begin(self) -> LookupTable:
        """The file's table, if it can be gone on with, or an empty one."""
        environment, source = self._profiler.environment(), space_digest(self._prepared.supernets.family)
        if not self._path.exists():
            return LookupTable(asdict(self._profile), PROTOCOL, environment, source, self._sentinel_ms())
        table = load_lookup(self._path, profile=self._profile, environment=environment, unfinished=True)
        if table.source != source:
            raise EvaluationError(
                f"{self._path}: the lookup table is of another space ({table.source}) than the job's ({source}); "
                "write this job's to another file with -o"
            )
        for key in {key for known in table.subnets.values() for key in known}:
            try:
                self._supernet.space.check(Architecture.parse(key))
            except SpaceError as error:
                raise LookupTableError(f"{self._path}: the lookup table is damaged: {error}; calibrate again") from None
        return table

    def _sample_blocks(self) -> dict[str, int]:
        """MACs by key of the space's distinct blocks, as far as sampling meets them, in a fixed order."""
        space = self._supernet.space
        if space.size <= _SAMPLES:
            networks = space.enumerate()
        else:
            networks = [space.smallest, space.largest, *(space.sample(self._rng) for _ in range(_SAMPLES))]
        keys, macs = self._blocks.of(networks), self._supernet.costs(networks).macs
        distinct, first = np.unique(keys, return_index=True)
        return {k: int(macs.ravel()[i]) for k, i in zip(distinct.tolist(), first.tolist(), strict=True) if k != ABSENT}

    def _sample_networks(self, n: int) -> list[Architecture]:
        """Different random networks, fewer than n only where the space has fewer."""
        space = self._supernet.space
        found: dict[Architecture, None] = {}
        while len(found) < min(n, space.size):
            found[space.sample(self._rng)] = None
        return list(found)

    def _measure_blocks(self, blocks: Sequence[BlockModel], precision: str) -> dict[str, Entry]:
        """Entries by key, those of earlier passes included; what is subtracted is measured in the same rounds."""
        firsts = list(dict.fromkeys(block.inputs[0] for block in blocks))
        models = [with_prefix(block.model, _shape(block.inputs[0]), INPUT) for block in blocks]
        models += [baseline_model(_shape(first), INPUT, integer=first.integer) for first in firsts]
        names = [f"block {block.name}" for block in blocks] + [f"the baseline of {first.shape}" for first in firsts]
        inputs = [self._inputs(taken) for taken in [*(block.inputs for block in blocks), *((one,) for one in firsts)]]
        # What has no weights is the same in every precision, and `convert` refuses it.
        weighted = [needs_prefix(_shape(b.inputs[0])) or self._macs[b.key] > 0 for b in blocks]
        weighted += [needs_prefix(_shape(first)) for first in firsts]
        converted = [
            convert(model, precision, given) if own else model
            for model, given, own in zip(models, inputs, weighted, strict=True)
        ]
        measured = self._measure(converted, inputs, names)
        without = dict(zip(firsts, measured[len(blocks) :], strict=True))
        known = self._table.entries.get(precision, {})
        entries = {}
        for block, whole in zip(blocks, measured[: len(blocks)], strict=True):
            entry = _net(whole, without[block.inputs[0]], self._macs[block.key])
            entries[block.key] = known[block.key].mean_with(entry) if block.key in known else entry
        return entries

    def _inputs(self, taken: Sequence[BlockInput]) -> list[dict[str, NDArray[Any]]]:
        """What a block is timed with, a mapping a call: of the lengths that a search's calls have, token ids as they are there.

        All else is noise. Dense kernels take as long for that as for real activations, zeros among them or not.
        """
        return [
            {one.name: example if one.integer else self._noise(_shape(one, example)) for one in taken}
            for example in self._prepared.data.timed_batches(self._profile)
        ]

    def _noise(self, shape: Sequence[int | str]) -> NDArray[np.float32]:
        sizes = [int(size) for size in shape]
        return self._rng.standard_normal((self._profile.batch_size, *sizes)).astype(np.float32)

    def _measure_networks(self, networks: Sequence[Architecture], precision: str) -> dict[str, Subnet]:
        images = head(self._prepared.data.calibration, _CALIBRATION_IMAGES).inputs
        models = [
            in_precision(onnx_model(self._supernet.extract(a), images[:2]), precision, [images]) for a in networks
        ]
        inputs = [{INPUT: examples} for examples in self._prepared.data.timed_batches(self._profile)]
        measured = self._measure(models, [inputs] * len(models), [f"network {a.key}" for a in networks])
        return {a.key: found for a, found in zip(networks, measured, strict=True)}

    def _measure(
        self, models: Sequence[bytes], inputs: Sequence[Sequence[Mapping[str, NDArray[Any]]]], names: Sequence[str]
    ) -> list[Subnet]:
        """Latencies of models over their inputs, as they would be at the speed that the table's sentinel tells of.

        A calibration takes minutes, in which a machine's clock and its neighbours change; the sentinel, which is timed
        in the same rounds, changes with them.
        """
        deployments = [Deployment.single(model, *feeds) for model, feeds in zip(models, inputs, strict=True)]
        found = []
        for name, result in zip(names, self._profiler.measure(deployments), strict=True):
            if isinstance(result, LatencyFailure):
                raise EvaluationError(f"{self._of}: {name}: {result.message}")
            self._machines.check(self._of, result.environment)
            level = self._table.sentinel_ms / float(result.environment["sentinel_ms"])
            found.append(Subnet(result.latency_ms * level, result.latency_ms * level * result.resolution))
        return found

    def _sentinel_ms(self) -> float:
        """The sentinel's latency now, from a session with next to nothing in it."""
        shape = (1,)
        deployment = Deployment.single(baseline_model(shape, INPUT), {INPUT: self._noise(shape)})
        (result,) = self._profiler.measure([deployment])
        if isinstance(result, LatencyFailure):
            raise EvaluationError(f"profile {self._profile.name}: {result.message}")
        return float(result.environment["sentinel_ms"])

    def _n_measured(self, precision: str, key: str) -> int:
        entry = self._table.entries.get(precision, {}).get(key)
        return 0 if entry is None else entry.n

    def _keep(
        self, precision: str, entries: Mapping[str, Entry] | None = None, subnets: Mapping[str, Subnet] | None = None
    ) -> None:
        """Adds a batch's figures to the table and to its file."""
        table = self._table
        self._table = replace(
            table,
            entries=_grown(table.entries, precision, entries or {}),
            subnets=_grown(table.subnets, precision, subnets or {}),
            complete=False,
        )
        save_lookup(self._table, self._path)
        self._tell()

    def _left(self) -> int:
        """Number of measurements that are still to be made."""
        return sum(
            sum(max(_PASSES - self._n_measured(precision, key), 0) for key in self._macs)
            + sum(a.key not in self._table.subnets.get(precision, {}) for a in self._networks)
            for precision in self._precisions
        )

    def _tell(self) -> None:
        total = len(self._precisions) * (_PASSES * len(self._macs) + len(self._networks))
        self._progress(total - self._left(), total)

    def _sums(self, precision: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums over the blocks and latencies of the networks measured, (n,) each."""
        measured = {Architecture.parse(key): s.latency_ms for key, s in self._table.subnets[precision].items()}
        networks = list(measured)
        macs = self._supernet.costs(networks).macs
        sums = self._table.by_block(self._blocks.of(networks), macs, precision).sum(axis=1)
        return sums, np.array(list(measured.values()))


def _shape(taken: BlockInput, example: NDArray[Any] | None = None) -> list[int | str]:
    """The shape of what a block takes, with the length of some sentences, or a name, for the number of tokens."""
    length = LENGTH_NAME if example is None else example.shape[1]
    return [length if size == LENGTH else size for size in taken.shape]


def _batches(blocks: Sequence[BlockModel]) -> Iterator[list[BlockModel]]:
    """As many as go together with one baseline a shape: at most `_TOGETHER` models.

    The blocks come shuffled. Sorted by shape they would need fewer baselines, but then all blocks of a stage would be
    measured in the same minute, and what the machine did in it would pass for a property of the stage.
    """
    batch: list[BlockModel] = []
    shapes: set[BlockInput] = set()
    for block in blocks:
        grown = shapes | {block.inputs[0]}
        if len(batch) + 1 + len(grown) > _TOGETHER:
            yield batch
            batch, grown = [], {block.inputs[0]}
        batch, shapes = [*batch, block], grown
    if batch:
        yield batch


def _grown(
    known: Mapping[str, Mapping[str, _Figure]], precision: str, found: Mapping[str, _Figure]
) -> dict[str, Mapping[str, _Figure]]:
    return {**known, precision: {**known.get(precision, {}), **found}}


def _net(whole: Subnet, without: Subnet, macs: int) -> Entry:
    """What a block adds."""
    return Entry(whole.latency_ms - without.latency_ms, math.hypot(whole.error_ms, without.error_ms), macs)
