"""Predicts a profile's lookup table from those of other profiles and a few networks measured on the new one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from hardware_profiles.base import HardwareProfile
from hardware_profiles.lookup_table import ABSENT, AffineFit, Entry, LookupTable
from hardware_profiles.lookup_table_file import load_lookup, load_of_other_machine, save_lookup
from hardware_profiles.measuring.protocol import PROTOCOL
from hardware_profiles.profiler_factory import open_profiler
from nas.errors import EvaluationError
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.build.compatibility_facts import space_digest
from nas.jobs.planning.block_latency import BlockLatency
from predictors.transfer import KnownDevices, TransferPredictor
from supernets.networks.network import BlockModel
from supernets.sharing.blocks import BlockKeys
from supernets.space import Architecture

SAMPLES = 10
MINIMUM_SAMPLES = 4
"""One more than the predictor needs, so that one can be left out."""
WIDE_ERROR = 0.1
"""Median error of predictions above which more measurements are advised."""
_NETWORKS = 900
"""Random networks of which the measured ones are chosen, and on which the known devices are compared."""

Floats = NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Transfer:
    """A predicted table.

    Attributes:
        errors: Median deviation of the predicted latencies of random networks, as a share, by precision.
    """

    table: LookupTable
    errors: dict[str, float]


def transfer(
    built_job: BuiltJob,
    profile: HardwareProfile,
    path: Path,
    table_files: Sequence[Path],
    *,
    samples: int = SAMPLES,
    on_progress: Progress = lambda done, total: None,
    on_wait: Callable[[str], None] | None = None,
) -> Transfer:
    """The table of a profile, whose blocks are predicted, in all of the job's precisions, written to `path`.

    The file is written after each batch of measurements; those of an interrupted call are used by the next one.

    Args:
        table_files: Files of lookup tables of the same space on other machines or profiles.
        samples: networks to measure on the profile.

    Raises:
        LookupTableError: a file is unusable: of another space or protocol, unfinished, damaged.
        EvaluationError: there are too few samples, or a measurement fails.
        ProfileError, WorkerError, PrecisionError: the profile cannot be measured, or does not run a precision.
    """
    if samples < MINIMUM_SAMPLES:
        message = f"a transfer needs at least {MINIMUM_SAMPLES} measured networks, got {samples}"
        raise EvaluationError(message, code="lookup-table.too-few-subnets")
    digest = space_digest(built_job.family)
    tables = [load_of_other_machine(file, source=digest) for file in table_files]
    torch.set_num_threads(1)
    space, precisions = _Space(built_job), built_job.job.variants.precisions
    known_devices = {precision: space.known_devices(tables, precision) for precision in precisions}
    with open_profiler(profile, seed=built_job.job.config.seed, on_wait=on_wait) as profiler:
        rng = np.random.default_rng(built_job.job.config.seed)
        latency = BlockLatency(built_job, profile, profiler, space.supernet, rng)
        environment = profiler.environment()
        table = _unfinished(path, profile, environment)
        if table is None:
            table = LookupTable(profile.to_json(), PROTOCOL, environment, digest, latency.sentinel_ms())
        errors = {}
        for i, precision in enumerate(precisions):
            on_progress(i * samples, len(precisions) * samples)
            model = TransferPredictor(known_devices[precision], seed=built_job.job.config.seed)
            had = table.subnets.get(precision, {})
            chosen = space.choose(model, samples - len(had), [Architecture.parse(key) for key in had])
            measured = latency.networks(chosen, precision, sentinel_ms=table.sentinel_ms)
            table = replace(table, subnets={**table.subnets, precision: {**had, **measured}}, complete=False)
            save_lookup(table, path)
            table, errors[precision] = _predict_blocks(table, model, space, precision)
        on_progress(len(precisions) * samples, len(precisions) * samples)
        table = replace(table, complete=True)
        save_lookup(table, path)
    return Transfer(table, errors)


def _unfinished(path: Path, profile: HardwareProfile, environment: Mapping[str, Any]) -> LookupTable | None:
    """The table of a file to which measurements are added; None where there is no file."""
    if not path.exists():
        return None
    table = load_lookup(path, profile=profile, environment=environment, unfinished=True)
    if table.entries and not table.predicted:
        message = (
            f"{path}: the blocks of this lookup table were measured; write the predicted one to another file with -o"
        )
        raise EvaluationError(message, code="lookup-table.measured")
    return table


def _predict_blocks(
    table: LookupTable, model: TransferPredictor, space: _Space, precision: str
) -> tuple[LookupTable, float]:
    """The table with predicted blocks in one precision, and the median error of predicted latencies, as a share."""
    subnets = table.subnets[precision]
    rows = space.counts([Architecture.parse(key) for key in subnets])
    labels = np.array([subnet.latency_ms for subnet in subnets.values()])
    error = _left_out_error(model, rows, labels)
    model.fit(rows, labels)
    offset, costs, deviations = model.part_costs()
    entries = {
        key: Entry(float(cost), float(deviation), space.macs[key], 0)
        for key, cost, deviation in zip(space.macs, costs, deviations, strict=True)
    }
    fit = AffineFit(1.0, offset, len(labels), error)
    predictions = model.predict(space.networks)
    table = replace(table, entries={**table.entries, precision: entries}, fits={**table.fits, precision: fit})
    return table, float(np.median(predictions.std / predictions.mean))


class _Space:
    """Random networks of a job's space, and the blocks that they have."""

    def __init__(self, built_job: BuiltJob) -> None:
        self.supernet = built_job.untrained().eval()
        self._keys = BlockKeys(self.supernet)
        space, rng = self.supernet.space, np.random.default_rng(built_job.job.config.seed)
        drawn = [space.smallest, space.largest, *(space.sample(rng) for _ in range(_NETWORKS))]
        self._sampled = list(dict.fromkeys(drawn))
        computed = self.supernet.costs(self._sampled)
        self._by_block, self._macs, self._parameters = self._keys.of(self._sampled), computed.macs, computed.parameters
        distinct, first = np.unique(self._by_block, return_index=True)
        index_by_key = {key: i for key, i in zip(distinct.tolist(), first.tolist(), strict=True) if key != ABSENT}
        self.macs = {key: int(self._macs.ravel()[i]) for key, i in index_by_key.items()}
        """Multiply-accumulates of each block, by its key."""
        self._block_parameters = [int(self._parameters.ravel()[i]) for i in index_by_key.values()]
        kinds = [_kind(self._keys.model(key)) for key in index_by_key]
        positions = [i % self._by_block.shape[1] for i in index_by_key.values()]
        self._groups = (np.unique(kinds, return_inverse=True)[1].astype(np.int64), np.array(positions, dtype=np.int64))
        self.networks = self._counted(self._by_block)
        """How many times each random network has each block, (n, blocks)."""

    def choose(self, model: TransferPredictor, n: int, measured: Sequence[Architecture]) -> list[Architecture]:
        """The n networks to measure beside those that were; none if n is below 1."""
        measured_networks = set(measured)
        offered = [i for i, network in enumerate(self._sampled) if network not in measured_networks]
        n = min(max(n, 0), len(offered))
        rows = model.choose(self.networks[offered], n, measured=self.counts(measured) if measured else None)
        return [self._sampled[offered[row]] for row in rows]

    def counts(self, networks: Sequence[Architecture]) -> Floats:
        """How many times each network has each block, (n, parts); a block that no random network has is not counted."""
        return self._counted(self._keys.of(networks))

    def known_devices(self, tables: Sequence[LookupTable], precision: str) -> KnownDevices:
        """The random networks on the machines of the tables, and on two that take as long as the computed costs."""
        costs = [np.array(list(self.macs.values()), np.float64), np.array(self._block_parameters, np.float64)]
        latencies = [self._macs.sum(axis=1).astype(np.float64), self._parameters.sum(axis=1).astype(np.float64)]
        for table in tables:
            by_block = table.by_block(self._by_block, self._macs, precision)
            latencies.append(table.estimate(by_block.sum(axis=1), precision))
            parts = np.array([list(self.macs)], dtype=np.str_)
            macs = np.array([list(self.macs.values())], dtype=np.int64)
            costs.append(table.fits[precision].scale * table.by_block(parts, macs, precision)[0])
        return KnownDevices(self.networks, np.stack(latencies, axis=1), self._groups, np.stack(costs, axis=1))

    def _counted(self, keys: NDArray[np.str_]) -> Floats:
        columns = {key: column for column, key in enumerate(self.macs)}
        counts = np.zeros((len(keys), len(self.macs)))
        for row, block_keys in enumerate(keys.tolist()):
            for key in block_keys:
                if key in columns:
                    counts[row, columns[key]] += 1
        return counts


def _kind(block: BlockModel) -> str:
    """The operations of a block with their kernels, without their sizes: blocks of one kind cost alike on a device."""
    operations = []
    for node in onnx.load_from_string(block.model).graph.node:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        grouped = " grouped" if attributes.get("group", 1) != 1 else ""
        operations.append(f"{node.op_type}{attributes.get('kernel_shape', '')}{grouped}")
    return " ".join(sorted(set(operations)))


def _left_out_error(model: TransferPredictor, rows: Floats, labels: Floats) -> float:
    """The mean relative error of the measured networks, each predicted from the others."""
    errors = []
    for i in range(len(labels)):
        training_rows = np.arange(len(labels)) != i
        model.fit(rows[training_rows], labels[training_rows])
        errors.append(abs(float(model.predict(rows[[i]]).mean[0]) / labels[i] - 1))
    return float(np.mean(errors))
