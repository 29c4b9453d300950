"""Costs of a job's networks by block: exact sizes, and latencies that add up to the lookup table's prediction."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from hardware_profiles.catalog import load_profile
from hardware_profiles.lookup_table import ABSENT, AffineFit, Entry, LookupTable
from hardware_profiles.lookup_table_file import save_lookup
from hardware_profiles.measuring.protocol import PROTOCOL
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.execution import block_costs
from nas.jobs.schema import parse_job
from supernets.sharing.blocks import BlockKeys

PROFILE = load_profile("cpu-1-thread")
JOB = """
name: six
data: {name: digits, validation: 0.25, test: 0.25}
supernet:
  family: mobile-cnn
  space:
    stem: 8
    stem_stride: 1
    stages: [{stride: 2, depth: [1, 2], width: [8], kernel: [3], expand: [1, 4]}]
    head: 16
hardware: [cpu-1-thread]
precisions: [fp32, int8]
calibration_images: 64
"""


def prepare(folder: Path, more: str = "") -> BuiltJob:
    return build_job(ResolvedJob(parse_job(JOB + more, source="test"), RunsFolder(folder)))


def test_sizes_are_exact_and_without_a_table_there_are_no_latencies(tmp_path: Path) -> None:
    built_job = prepare(tmp_path)
    supernet, space = built_job.untrained(), built_job.space
    costs = block_costs(built_job.job, supernet, [space.smallest, space.largest])
    assert costs.places == ("stem", "stage0.block0", "stage0.block1", "head", "classifier")
    for candidate in (space.smallest, space.largest):
        own, exact = costs.networks[candidate.key], supernet.cost(built_job.job.variants.split(candidate)[0])
        assert (sum(own.parameters), sum(own.macs)) == (exact.parameters, exact.macs)
        assert own.latencies == {}
    assert costs.networks[space.smallest.key].macs[2] == 0  # the block that it lacks


def test_latencies_of_each_precision_add_up_to_the_prediction_of_its_fit(tmp_path: Path) -> None:
    supernet = prepare(tmp_path).untrained()
    keys = BlockKeys(supernet).of(supernet.space.enumerate())
    entries = {key: Entry(0.1 * (1 + i), 0.01, 1000) for i, key in enumerate(sorted(set(keys.ravel()) - {ABSENT}))}
    fits = {"fp32": AffineFit(1.5, 0.25, 5, 0.02), "int8": AffineFit(0.5, 0.125, 5, 0.02)}
    table = LookupTable(
        asdict(PROFILE), PROTOCOL, {}, "made up", 1.0, dict.fromkeys(fits, entries), fits=fits, complete=True
    )
    save_lookup(table, tmp_path / "t.json")

    built_job = prepare(tmp_path, f"lookup_tables: [{tmp_path / 't.json'}]\n")
    candidates = built_job.space.enumerate()
    costs = block_costs(built_job.job, supernet, candidates)
    assert len(costs.networks) == 2 * 6
    for candidate in candidates:
        network, (precision, _) = built_job.job.variants.split(candidate)
        found = costs.networks[candidate.key].latencies[PROFILE.name]
        net_ms = [0.0 if key == ABSENT else entries[key].net_ms for key in BlockKeys(supernet).of([network])[0]]
        assert found.blocks_ms == pytest.approx([fits[precision].scale * ms for ms in net_ms])
        assert found.rest_ms == pytest.approx(fits[precision].offset_ms)
