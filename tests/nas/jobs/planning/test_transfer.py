"""Real transfers of a lookup table to another profile: measured, stored, continued and rejected."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from hardware_profiles.catalog import load_profile
from hardware_profiles.lookup_table_file import load_lookup
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.evaluation.features import LatencyFeatures
from nas.jobs.planning.calibrate import calibrate
from nas.jobs.planning.transfer import transfer
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from tests.errors import raises

KNOWN, NEW = load_profile("cpu-1-thread"), load_profile("cpu-1-thread-batch-16")
JOB = """
name: sixteen
data: {name: digits, validation: 0.25, test: 0.25}
supernet:
  family: mobile-cnn
  space:
    stem: 8
    stem_stride: 1
    stages: [{stride: 2, depth: [1, 2], width: WIDTH, kernel: [3], expand: [1, 4]}]
    head: 16
calibration_images: 64
"""


def prepare(folder: Path, *, width: str = "[8, 16]") -> BuiltJob:
    return build_job(ResolvedJob(parse_job(JOB.replace("WIDTH", width), source="test"), RunsFolder(folder)))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The measured table of a profile."""
    folder = tmp_path_factory.mktemp("known")
    calibrate(prepare(folder), KNOWN, folder / "known.json", subnets=5)
    return folder / "known.json"


@pytest.mark.slow
def test_blocks_are_predicted_from_another_profile_and_few_networks(tmp_path: Path, known: Path) -> None:
    path, built_job = tmp_path / "new.json", prepare(tmp_path)
    found = transfer(built_job, NEW, path, [known], samples=4)
    table = load_lookup(path, profile=NEW, environment=None)
    assert table == found.table
    assert table.predicted
    assert len(table.subnets["fp32"]) == table.fits["fp32"].n == 4
    assert {entry.n for entry in table.entries["fp32"].values()} == {0}
    assert table.entries["fp32"].keys() == load_lookup(known, profile=KNOWN, environment=None).entries["fp32"].keys()
    assert 0 < found.errors["fp32"] < 1

    # A job reads it like a measured one; the networks that were measured are close to their latencies.
    features = LatencyFeatures(built_job.untrained(), table)
    networks = built_job.space.enumerate()
    estimated = dict(zip([a.key for a in networks], features(networks)[:, features.layout.estimate], strict=True))
    ratios = [estimated[key] / subnet.latency_ms for key, subnet in table.subnets["fp32"].items()]
    np.testing.assert_allclose(ratios, 1, atol=0.3)

    # More samples keep the first ones, and a calibration measures the blocks.
    more = transfer(built_job, NEW, path, [known], samples=6).table
    assert table.subnets["fp32"].items() <= more.subnets["fp32"].items()
    assert len(more.subnets["fp32"]) == 6
    with raises("lookup-table.predicted"):
        transfer(built_job, KNOWN, tmp_path / "again.json", [path])
    measured = calibrate(built_job, NEW, path, subnets=5)
    assert not measured.predicted
    assert {entry.n for entry in measured.entries["fp32"].values()} == {2}
    assert measured.fits["fp32"] != more.fits["fp32"]


def test_a_finished_measurement_of_an_interrupted_transfer_is_kept(tmp_path: Path, known: Path) -> None:
    path, built_job = tmp_path / "new.json", prepare(tmp_path)

    class Interrupt(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise Interrupt

    with pytest.raises(Interrupt):
        transfer(built_job, NEW, path, [known], samples=4, on_progress=interrupt)
    first = load_lookup(path, profile=NEW, environment=None, unfinished=True)
    with raises("lookup-table.unfinished"):
        load_lookup(path, profile=NEW, environment=None)
    assert transfer(built_job, NEW, path, [known], samples=4).table.subnets == first.subnets


def test_unusable_tables_are_rejected(tmp_path: Path, known: Path) -> None:
    built_job = prepare(tmp_path)
    with raises("lookup-table.too-few-subnets", "4"):
        transfer(built_job, NEW, tmp_path / "t.json", [known], samples=3)
    with raises("lookup-table.other-space", "another space"):
        transfer(prepare(tmp_path, width="[8, 24]"), NEW, tmp_path / "t.json", [known])
    with raises("lookup-table.unreadable"):
        transfer(built_job, NEW, tmp_path / "t.json", [tmp_path / "none.json"])
    own = Path(shutil.copy(known, tmp_path))
    with raises("lookup-table.measured", "-o"):
        transfer(built_job, KNOWN, own, [known])
    assert not (tmp_path / "t.json").exists()
