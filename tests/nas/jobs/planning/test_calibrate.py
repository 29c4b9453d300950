"""Real calibrations of a space with six networks: measured, stored, continued and rejected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
import yaml

from hardware_profiles.base import Deployment, LatencyFailure, LatencyMeasurement, LatencyProfiler
from hardware_profiles.catalog import load_profile
from hardware_profiles.lookup_table import LookupTable
from hardware_profiles.lookup_table_file import load_lookup
from hardware_profiles.profiler_factory import open_profiler
from nas.engine.store.folder import RunsFolder
from nas.errors import EvaluationError
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.evaluation.features import LatencyFeatures
from nas.jobs.planning.calibrate import calibrate
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job, parse_job
from supernets.networks.module_to_onnx import INPUT
from supernets.sharing.blocks import BlockKeys
from tests.errors import raises
from tests.nas.moods import JOB as MOODS_JOB
from tests.nas.moods import write_moods

PROFILE = load_profile("cpu-1-thread")
JOB = """
name: six
data: {name: digits, validation: 0.25, test: 0.25}
supernet:
  family: mobile-cnn
  space:
    stem: 8
    stem_stride: 1
    stages: [{stride: 2, depth: [1, 2], width: [8], kernel: [3], expand: [1, EXPAND]}]
    head: 16
precisions: [PRECISIONS]
calibration_images: 64
"""


def prepare(folder: Path, *, expand: int = 4, precisions: str = "fp32") -> BuiltJob:
    text = JOB.replace("EXPAND", str(expand)).replace("PRECISIONS", precisions)
    return build_job(ResolvedJob(parse_job(text, source="test"), RunsFolder(folder)))


class Interrupt(Exception):
    pass


def test_calibration_measures_every_block_and_continues_after_an_interruption(tmp_path: Path) -> None:
    path, built_job = tmp_path / "table.json", prepare(tmp_path)

    def interrupt(done: int, total: int) -> None:
        if done > 0:
            raise Interrupt

    with pytest.raises(Interrupt):
        calibrate(built_job, PROFILE, path, subnets=5, on_progress=interrupt)
    first = load_lookup(path, profile=PROFILE, environment=None, unfinished=True)
    with raises("lookup-table.unfinished", "cpu-1-thread"):
        load_lookup(path, profile=PROFILE, environment=None)

    reported: list[tuple[int, int]] = []
    table = calibrate(built_job, PROFILE, path, subnets=5, on_progress=lambda *counts: reported.append(counts))
    _check_measured(built_job, table)
    n_blocks, total = len(table.entries["fp32"]), 2 * len(table.entries["fp32"]) + 5
    assert reported[0] == (n_blocks, total)  # the first pass over the blocks was kept
    assert reported == sorted(reported)
    assert reported[-1] == (total, total)
    assert {e.n for e in first.entries["fp32"].values()} == {1}
    assert first.sentinel_ms == table.sentinel_ms

    written, reported = path.read_bytes(), []
    assert calibrate(built_job, PROFILE, path, subnets=5, on_progress=lambda *counts: reported.append(counts)) == table
    assert reported == [(total, total)]
    assert path.read_bytes() == written


@pytest.mark.slow
def test_blocks_of_sentences_are_measured_at_the_lengths_of_a_search(tmp_path: Path) -> None:
    write_moods(tmp_path)
    space = {"depth": [1, 2], "heads": [2, 4], "hidden": [16]}  # six networks, as above
    supernet = {**MOODS_JOB["supernet"], "space": space}
    text = yaml.safe_dump({**MOODS_JOB, "supernet": supernet, "precisions": ["fp32", "int8"]})
    (tmp_path / "job.yaml").write_text(text)
    built_job = build_job(ResolvedJob(load_job(tmp_path / "job.yaml"), RunsFolder(tmp_path / "runs")))
    timed: list[Deployment] = []

    class Recorded(Replaced):
        def measure(
            self, deployments: Iterable[Deployment], *, longer: bool = False
        ) -> Iterator[LatencyMeasurement | LatencyFailure]:
            timed.extend(deployments)
            yield from self._profiler.measure(deployments, longer=longer)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("nas.jobs.planning.calibrate.open_profiler", lambda *a, **k: Recorded(open_profiler(*a, **k)))
        table = calibrate(built_job, PROFILE, tmp_path / "table.json", subnets=5)
    _check_measured(built_job, table)
    assert table.entries["int8"].keys() == table.entries["fp32"].keys()
    wanted = [example.shape[1] for example in built_job.data.timed_batches(PROFILE)]
    assert len(wanted) == 5
    for deployment in timed[1:]:  # the first is the sentinel's
        (graph,) = deployment.graphs
        assert [feed[INPUT].shape[1] for feed in graph.inputs] == wanted
        assert all(
            given.shape[-1] == n
            for feed, n in zip(graph.inputs, wanted, strict=True)
            for given in list(feed.values())[1:]
        )
    features = LatencyFeatures(built_job.untrained(), table, built_job.job.variants)
    estimated = features(built_job.space.enumerate())[:, features.layout.estimate]
    assert (estimated > 0).all()


def _check_measured(built_job: BuiltJob, table: LookupTable) -> None:
    """Every block of the six networks is measured twice, and the fit is that of the values in the table."""
    supernet = built_job.untrained()
    networks, keys = supernet.space.enumerate(), BlockKeys(supernet)
    assert table.complete
    assert table.entries["fp32"].keys() == {*keys.of(networks).ravel().tolist()} - {""}
    assert {e.n for e in table.entries["fp32"].values()} == {2}
    measured = {a: table.subnets["fp32"][a.key].latency_ms for a in networks if a.key in table.subnets["fp32"]}
    sums = [sum(table.entries["fp32"][k].net_ms for k in keys.of([a])[0].tolist() if k) for a in measured]
    latencies = np.array(list(measured.values()))
    # numpy's weighted line, whose weights multiply the residuals.
    line = np.polyfit(sums, latencies, 1, w=1 / latencies)
    fit = table.fits["fp32"]
    assert fit.n == len(measured) == 5
    np.testing.assert_allclose([fit.scale, fit.offset_ms], line, rtol=1e-6)


class Replaced:
    """A profiler of this machine that reports another CPU after the second session."""

    def __init__(self, profiler: LatencyProfiler) -> None:
        self._profiler, self._sessions = profiler, 0

    def environment(self) -> Mapping[str, Any]:
        return self._profiler.environment()

    def measure(
        self, deployments: Iterable[Deployment], *, longer: bool = False
    ) -> Iterator[LatencyMeasurement | LatencyFailure]:
        self._sessions += 1
        for result in self._profiler.measure(deployments, longer=longer):
            assert isinstance(result, LatencyMeasurement)
            cpu = {"cpu": "Another 9000"} if self._sessions > 2 else {}
            yield replace(result, environment={**result.environment, **cpu})

    def close(self) -> None:
        self._profiler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def test_a_replaced_machine_is_rejected_and_finished_measurements_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, built_job = tmp_path / "table.json", prepare(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("nas.jobs.planning.calibrate.open_profiler", lambda *a, **k: Replaced(open_profiler(*a, **k)))
        with pytest.raises(EvaluationError, match=r"profile cpu-1-thread.*is Another 9000"):
            calibrate(built_job, PROFILE, path, subnets=3)
    kept = load_lookup(path, profile=PROFILE, environment=None, unfinished=True)
    assert {e.n for e in kept.entries["fp32"].values()} == {1}
    assert calibrate(built_job, PROFILE, path, subnets=3).complete


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a finished calibration."""
    folder = tmp_path_factory.mktemp("finished")
    calibrate(prepare(folder), PROFILE, folder / "table.json", subnets=3)
    return folder / "table.json"


@pytest.mark.slow
def test_a_second_precision_joins_the_table(tmp_path: Path, finished: Path) -> None:
    path = Path(shutil.copy(finished, tmp_path))
    table = load_lookup(path, profile=PROFILE, environment=None)
    both = calibrate(prepare(tmp_path, precisions="fp32, int8"), PROFILE, path, subnets=3)
    assert both.entries["fp32"] == table.entries["fp32"]
    assert both.entries["int8"].keys() == table.entries["fp32"].keys()
    assert both.subnets["int8"].keys() == table.subnets["fp32"].keys()
    assert both.fits.keys() == {"fp32", "int8"}
    assert both.complete


def test_incompatible_tables_and_too_few_subnets_are_rejected(tmp_path: Path, finished: Path) -> None:
    path, built_job = Path(shutil.copy(finished, tmp_path)), prepare(tmp_path)
    with raises("lookup-table.too-few-subnets", "at least 3", "got 2"):
        calibrate(built_job, PROFILE, path, subnets=2)
    with raises("lookup-table.other-space", str(path), "-o"):
        calibrate(prepare(tmp_path, expand=5), PROFILE, path)
    with raises("lookup-table.other-profile", "'cpu-1-thread'", "'cpu-1-thread-batch-16'"):
        calibrate(built_job, load_profile("cpu-1-thread-batch-16"), path)
    data = json.loads(path.read_text())
    foreign = {"fp32": {**data["subnets"]["fp32"], "9-9-9": {"latency_ms": 1.0, "error_ms": 0.1}}}
    path.write_text(json.dumps(data | {"subnets": foreign}))
    with raises("lookup-table.damaged", str(path)):
        calibrate(built_job, PROFILE, path)
    path.write_text("[" * 200_000)
    with raises("lookup-table.damaged", str(path)):
        calibrate(built_job, PROFILE, path)
    path.write_text(json.dumps(data | {"environment": {**data["environment"], "cpu": "Another 9000"}}))
    with raises("lookup-table.other-machine", "cpu: was Another 9000, is"):
        calibrate(built_job, PROFILE, path)
