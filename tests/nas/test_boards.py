"""A search whose latencies are measured on a Ray node that offers a board's resource, and which loses that node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from nas.engine.progress import ProgressObserver
from nas.engine.search_progress import SearchProgress
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import load_job
from nas.runs.driver import USER_ERRORS, resume
from nas.runs.driver import run as search
from nas.runs.run import Run
from tests.hardware_profiles.transports.test_ray_node import kill
from tests.nas.commands import SMALL_JOB

pytestmark = [pytest.mark.slow, pytest.mark.ray]

_JOB = (
    SMALL_JOB.replace("[cpu-1-thread]", "[./board.yaml]")
    .replace("guided, evaluations: 30, batch: 7", "random, evaluations: 8, batch: 2")
    .replace("epochs: 4", "epochs: 1")
)
_BOARD = "name: board\nplacement: {hw-board: 1}\nwait_minutes: 0.05\n"
_RESOURCES = {"hw-board": 1}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield made
    finally:
        made.shutdown()


class Unplugging(ProgressObserver):
    """Ends a node once there are two evaluations."""

    def __init__(self, cluster: Cluster, node: Any) -> None:
        self._cluster, self._nodes = cluster, [node]

    def progress(self, progress: SearchProgress) -> None:
        if progress.done >= 2 and self._nodes:
            kill(self._cluster, self._nodes.pop())


def latencies(runs: RunsFolder) -> list[Any]:
    with Run.open(runs, "small-1").store() as store:
        return [m for m in store.measurements() if m.request.metric == "latency_ms"]


def test_an_absent_board_is_reported_and_losing_it_ends_the_search_and_resuming_loses_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(_JOB)
    Path("board.yaml").write_text(_BOARD)
    job, runs = load_job("job.yaml"), RunsFolder(tmp_path / "runs")
    options = RunOptions(runs, address=cluster.address)
    with pytest.raises(USER_ERRORS, match=r"hw-board: 1.* none of the 1 live nodes"):
        search(job, options)
    assert not (tmp_path / "runs" / "small-1").exists()  # before the training

    board = cluster.add_node(num_cpus=0, resources=_RESOURCES)
    with pytest.raises(USER_ERRORS, match="hw-board"):
        search(job, replace(options, observer=Unplugging(cluster, board)))
    before = {m.request: m.value for m in latencies(runs)}
    assert len(before) >= 2
    assert {m.environment["ray_node"] for m in latencies(runs)} == {board.node_id}

    again = cluster.add_node(num_cpus=0, resources=_RESOURCES)
    with resume("small-1", options).store() as store:
        assert store.status() is RunStatus.FINISHED
        attempts = store.attempts([m.request for m in latencies(runs)])
    # Where the machine was noisy, the last attempt at each of the first requests can be the second board's.
    assert all(value in [m.value for m in attempts[request]] for request, value in before.items())
    nodes = {m.environment["ray_node"] for of_request in attempts.values() for m in of_request}
    assert nodes == {board.node_id, again.node_id}
