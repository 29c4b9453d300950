"""`nas serve`, its Ray and real jobs: they outlive the server, are cancelled and resumed, and lose nothing to kills."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.service.jobs.ray_head import end_head
from nas.service.jobs.ray_head_process import RayHeadProcess
from tests.nas.commands import SMALL_JOB
from tests.nas.service.served import Served

_TRAINING = SMALL_JOB.replace("epochs: 4", "epochs: 1").replace("[accuracy, latency_ms]", "[accuracy, macs]")
_SEARCH = """
name: small
seed: 3
data: {name: digits, validation: 0.25, test: 0.25}
supernet: {from: small-1}
hardware: [cpu-1-thread]
objectives: [accuracy, macs]
search: {algorithm: random, evaluations: 24, batch: 2, workers: 1}
calibration_images: 300
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("served"))
    yield made
    made.end(signal.SIGTERM)
    assert end_head(made.folder)
    assert not end_head(made.folder)


@pytest.mark.slow
def test_a_job_outlives_kills_of_its_server_and_its_driver(served: Served) -> None:
    training = served.client.submit(_TRAINING, kind="training").run
    search = served.client.submit(_SEARCH).run
    assert (training, search) == ("small-1", "small-2")
    assert served.wait(training, status="finished").epoch == 1
    counted = served.wait(search, evaluations=4).evaluations
    head = RayHeadProcess.find(served.folder)
    served.kill_driver(search)
    served.end(signal.SIGKILL)
    served.start()
    assert served.client.status(search).evaluations >= counted
    ended = served.wait(search, status="finished")
    assert (ended.evaluations, ended.evaluations_wanted) == (24, 24)
    assert RayHeadProcess.find(served.folder) == head
    assert "searching: 24 of 24" in served.client.logs(search)
    keys = [network.key for network in served.client.evaluations(search)]
    assert len(keys) == len(set(keys)) == 24


@pytest.mark.slow
def test_a_cancelled_search_is_resumed_with_more_to_spend(served: Served) -> None:
    run = served.client.submit(_SEARCH).run
    served.wait(run, evaluations=2)
    served.client.cancel(run)
    assert served.wait(run, status="cancelled").reason == "cancelled"
    assert served.client.resume(run, evaluations="+3").status == "queued"
    ended = served.wait(run, status="finished")
    assert ended.evaluations == ended.evaluations_wanted == 27


@pytest.mark.slow
def test_a_job_that_cannot_be_done_fails_with_its_reason(served: Served) -> None:
    run = served.client.submit(_SEARCH).run
    job = served.runs.get(run).job_file
    job.write_text(job.read_text().replace("small-1", "small-9"))  # as if what it needs were gone
    assert "small-9" in served.wait(run, status="failed").reason


@pytest.mark.slow
def test_an_export_is_made_beside_the_server(served: Served, tmp_path: Path) -> None:
    export = served.client.export("small-2")
    assert export.status == "finished"
    assert export.result is not None
    assert {path.suffix for path in served.client.fetch(export, tmp_path)} >= {".onnx", ".json"}
