"""A search whose latencies are measured on a Ray node that offers a board's resource, and which loses that node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from nas.engine.run import Run
from nas.store.folder import RunsFolder
from tests.nas.commands import SMALL_JOB
from tests.nas.test_interrupted_runs import nas, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.ray]

_JOB = (
    SMALL_JOB.replace("[cpu-1-thread]", "[./board.yaml]")
    .replace("evaluations: 30", "evaluations: 16")
    .replace("epochs: 4", "epochs: 1")
)
_BOARD = "name: board\nplacement: {hw-board: 1}\n"
_RESOURCES = {"hw-board": 1}
_PATIENCE_S = 300


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield made
    finally:
        made.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.yaml").write_text(_JOB)
    (tmp_path / "board.yaml").write_text(_BOARD)
    return tmp_path


def latencies(folder: Path) -> list[Any]:
    with Run.open(RunsFolder(folder / "runs"), "small-1").store() as store:
        return [m for m in store.measurements() if m.request.metric == "latency_ms"]


def test_an_absent_board_is_reported_and_losing_it_ends_the_search_and_resuming_loses_nothing(
    cluster: Cluster, folder: Path
) -> None:
    out, err = nas(folder, "search", "job.yaml", "--address", cluster.address).communicate(timeout=_PATIENCE_S)
    assert out == ""
    assert "hw-board: 1" in err
    assert "none of the 1 live nodes" in err
    assert not (folder / "runs" / "small-1").exists()  # before the training

    board = cluster.add_node(num_cpus=0, resources=_RESOURCES)
    search = nas(folder, "search", "job.yaml", "--address", cluster.address)
    wait_for(folder, "small-1", 2)
    cluster.remove_node(board, allow_graceful=False)
    out, err = search.communicate(timeout=_PATIENCE_S)
    assert (search.returncode, out) == (1, "")
    assert "nas resume" in err
    assert "hw-board" in err
    before = {m.request: m.value for m in latencies(folder)}
    assert len(before) >= 2
    assert {m.environment["ray_node"] for m in latencies(folder)} == {board.node_id}

    again = cluster.add_node(num_cpus=0, resources=_RESOURCES)
    resumed = nas(folder, "resume", "small-1", "--address", cluster.address, "--json")
    out, err = resumed.communicate(timeout=_PATIENCE_S)
    assert resumed.returncode == 0, err
    assert json.loads(out)["status"] == "finished"
    after = {m.request: m.value for m in latencies(folder)}
    assert before.items() <= after.items()
    assert {m.environment["ray_node"] for m in latencies(folder)} == {board.node_id, again.node_id}
