"""The API's routes: responses, statuses and files."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import sys
import time
import zipfile
from collections import namedtuple
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from fastapi.testclient import TestClient

from hardware_profiles.catalog import load_profile
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.errors import ServiceError, UnknownNameError
from nas.jobs.schema import load_job
from nas.results.analysis.network_selection import knee, select
from nas.search.problem.objectives import Fidelity, Measurement, Objective, Status
from nas.search.problem.variants import Variants
from nas.service.api.error_codes import DESCRIPTIONS
from nas.service.api.schemas import ExportRequest, JobSubmission
from nas.service.http.app import create_app
from nas.service.jobs.dispatcher import Dispatcher
from nas.service.jobs.job_runner import JobState
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import TaskStatus
from nas.service.uploads.onnx_models import is_onnx
from nas.service.views.networks import NetworkQuery
from supernets.space import Architecture
from tests.nas.commands import SMALL_JOB
from tests.nas.results.export.runs import TWO, measure
from tests.nas.service.conftest import HERE
from tests.nas.service.made_runs import Jobs, searched, trained, tree
from tests.nas.service.sent_files import SENTINEL, flowers, packed

API = "/api/v1"
Usage = namedtuple("Usage", ("total", "used", "free"))
BOARD = "name: board\nthreads: 2\nbatch_size: 4\nplacement: {hw-board: 1}\ndescription: A small board.\n"


def test_a_plain_job_file_is_submitted(client: TestClient, runs: RunsFolder) -> None:
    answer = client.post(
        f"{API}/runs?kind=training&hardware=cpu-2-threads", content=SMALL_JOB, headers={"content-type": "text/yaml"}
    )
    assert answer.status_code == 201
    assert (answer.json()["kind"], answer.json()["run"]) == ("training", "small-1")
    assert load_job(runs.get("small-1").job_file).hardware == ("cpu-2-threads",)
    assert client.get(f"{API}/runs/small-1/status").json() == answer.json()


def test_a_run_is_cancelled_resumed_and_deleted(client: TestClient, runs: RunsFolder) -> None:
    run = searched(runs).id
    assert client.post(f"{API}/runs/{run}/cancel").status_code == 409
    assert client.post(f"{API}/runs/{run}/resume").status_code == 409
    assert client.post(f"{API}/runs/{run}/resume", json={"evaluations": "+5"}).json()["status"] == "queued"
    assert client.delete(f"{API}/runs/{run}").status_code == 409
    assert client.post(f"{API}/runs/{run}/cancel").status_code == 200
    assert client.delete(f"{API}/runs/{run}").status_code == 204
    assert client.get(f"{API}/runs/{run}").status_code == 404
    assert client.get(f"{API}/runs").json()["total"] == 0


def test_evaluations_come_in_pages_and_as_a_table(client: TestClient, service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    page = client.get(f"{API}/runs/{run}/evaluations", params={"offset": 30, "limit": 20, "sort": "latency_ms"}).json()
    assert (page["total"], page["offset"], len(page["networks"])) == (40, 30, 10)
    found = service.results.evaluations(run, NetworkQuery(sort="latency_ms"), offset=30, limit=20)
    assert page == json.loads(found.model_dump_json())
    rows = list(csv.DictReader(io.StringIO(client.get(f"{API}/runs/{run}/evaluations.csv").text)))
    networks = service.results.evaluations(run, limit=100).networks
    assert [row["key"] for row in rows] == [network.key for network in networks]
    for row, network in zip(rows, networks, strict=True):
        assert float(row[TWO[1]]) == network.figures[TWO[1]].value
        assert float(row[f"{TWO[1]} error"]) == network.figures[TWO[1]].error
        assert row["depth"] == str(network.architecture["depth"])
        assert row["number"] == ("" if network.number is None else str(network.number))
    front = client.get(f"{API}/runs/{run}/front.csv", params={"select": "latency_ms<=0.3"})
    assert front.headers["content-disposition"] == f'attachment; filename="{run}-front.csv"'
    assert len(front.text.splitlines()) - 1 == len(service.results.front(run, select="latency_ms<=0.3").members)


def test_errors_of_a_job_are_listed_by_field(client: TestClient) -> None:
    wrong = SMALL_JOB.replace("epochs: 4", "epochs: none").replace("batch: 7", "batch: 0")
    answer = client.post(f"{API}/runs", json={"job": wrong})
    assert answer.status_code == 422
    fields = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert set(fields) == {"training.epochs", "search.batch"}
    assert fields["search.batch"].startswith("expected a whole number")
    check = client.post(f"{API}/jobs/check", json={"job": wrong})
    assert (check.status_code, check.json()["ok"]) == (200, False)
    assert {error["field"] for error in check.json()["errors"]} == set(fields)


def test_recipes_are_jobs_that_can_be_submitted(client: TestClient) -> None:
    names = [recipe["name"] for recipe in client.get(f"{API}/recipes").json()]
    assert "digits-cnn" in names
    for name in names:
        job = client.get(f"{API}/recipes/{name}").json()["job"]
        fields = {error["field"] for error in client.post(f"{API}/jobs/check", json={"job": job}).json()["errors"]}
        # Data and a network that are the user's to name, below a folder of the server's.
        own = {"minilm-text": {"data.path", "supernet.pretrained"}, "efficientnet-lite": {"supernet.model"}}
        own["own-image-model"] = {"data.path", "supernet.model"}
        own |= {
            "iso-dates": {"data.path"},
            "shakespeare-decoder": {"data.path"},
            "shakespeare-experts": {"data.path"},
        }
        own["smollm2-domain"] = {"data.path", "supernet.pretrained"}
        own |= {
            key: {"data.path"}
            for key in (
                "own-detector",
                "own-segmenter",
                "own-image-labels",
                "own-images",
                "own-numbers",
                "own-sentences",
            )
        }
        assert fields == own.get(name, set())


def test_an_export_is_requested_made_by_a_task_and_downloaded(
    client: TestClient, service: Service, runs: RunsFolder
) -> None:
    run = searched(runs).id
    answer = client.post(f"{API}/runs/{run}/exports", json={"select": "latency_ms<=0.5"})
    assert answer.status_code == 202
    made = answer.json()
    path = f"{API}/runs/{run}/exports/{made['export']}"
    assert (made["status"], made["files"], made["request"]["select"]) == ("queued", [], "latency_ms<=0.5")
    assert client.get(f"{path}/archive").status_code == 409
    assert client.get(f"{path}/files/model.onnx").status_code == 404

    (task,) = service.state.tasks(run)
    argv = task.request["argv"]
    assert argv[0] == sys.executable
    assert argv[argv.index("export") :][:2] == ["export", run]
    assert f"--select=key={service.results.pick(run, 'latency_ms<=0.5').key}" in argv
    written = {"model.onnx": b"onnx", "model.safetensors": b"weights", "model.json": b"{}"}
    folder = Path(argv[argv.index("-o") + 1])
    assert folder.is_relative_to(runs.get(run).path)
    for name, content in {**written, "result.json": b"{}", "result.log": b"", ".part": b""}.items():
        (folder / name).write_bytes(content)
    result = {"path": str(folder / "model.onnx"), "weights": str(folder / "model.safetensors"), "parity": 1e-7}
    service.state.change_task(task.task, TaskStatus.FINISHED, result=result)

    done = client.get(path).json()
    assert done["status"] == "finished"
    assert done["result"] == {"path": "model.onnx", "weights": "model.safetensors", "parity": 1e-7}
    assert {info["name"]: info["bytes"] for info in done["files"]} == {n: len(c) for n, c in written.items()}
    assert client.get(f"{path}/files/model.onnx").content == b"onnx"
    assert client.get(f"{path}/files/result.json").status_code == 404
    zipped = client.get(f"{path}/archive")
    assert zipped.headers["content-disposition"] == 'attachment; filename="model.zip"'
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == written
    assert [export["export"] for export in client.get(f"{API}/runs/{run}/exports").json()] == [made["export"]]
    client.delete(f"{API}/runs/{run}")
    assert service.state.tasks(run) == []


def test_what_is_exported_is_what_was_chosen_though_the_front_changes(service: Service, runs: RunsFolder) -> None:
    folder = searched(runs, final=False)
    before = service.results.report(folder.id)
    keys = [before.front[1].key, select(before, "latency_ms<=0.5").key, knee(before).key]
    for request in (ExportRequest(index=1), ExportRequest(select="latency_ms<=0.5"), ExportRequest()):
        service.exports.request(folder.id, request)
    store = open_store(folder, driver=True)
    measure(store, before.front[0].architecture, [o for o in before.objectives if o.profile], Fidelity.FINAL)
    store.close()
    assert service.results.report(folder.id).front != before.front
    commands = [task.request["argv"] for task in service.state.tasks(folder.id)]
    asked = [part.removeprefix("--select=") for argv in commands for part in argv if part.startswith("--select=")]
    assert [select(service.results.report(folder.id), text).key for text in asked] == keys


def test_any_measured_network_is_exported_with_preprocessing_if_asked(
    client: TestClient, service: Service, runs: RunsFolder
) -> None:
    run = searched(runs).id
    report = service.results.report(run)
    other = next(key for key in report.evaluated.keys if key not in {point.key for point in report.front})
    body = {"select": f"key={other}", "with_preprocessing": True}
    answer = client.post(f"{API}/runs/{run}/exports", json=body)
    assert (answer.status_code, answer.json()["request"]["with_preprocessing"]) == (202, True)
    (task,) = service.state.tasks(run)
    assert {f"--select=key={other}", "--with-preprocessing"} <= set(task.request["argv"])


def test_formats_are_those_of_the_task_and_folders_are_below_the_task(
    client: TestClient, service: Service, runs: RunsFolder
) -> None:
    run = searched(runs).id
    address = f"{API}/runs/{run}/exports"
    for body, code in (
        ({"format": "gguf"}, "/problems#export.task-unavailable"),
        ({"format": "torch", "with_preprocessing": True}, "/problems#export.preprocessing-unavailable"),
        ({"format": "ggml"}, "about:blank"),
    ):
        answer = client.post(address, json=body)
        assert (answer.status_code, answer.json()["type"]) == (422, code)
    made = client.post(address, json={"format": "transformers"}).json()
    (task,) = service.state.tasks(run)
    output = Path(task.request["argv"][task.request["argv"].index("-o") + 1])
    assert (output.name, "--format=transformers" in task.request["argv"]) == (f"{run}-transformers", True)
    output.mkdir()
    (output / "config.json").write_text("{}")
    service.state.change_task(task.task, TaskStatus.FINISHED, result={"path": str(output)})
    finished = client.get(f"{address}/{made['export']}").json()
    assert (finished["result"], [file["name"] for file in finished["files"]]) == (
        {"path": output.name},
        ["config.json"],
    )
    assert client.get(f"{address}/{made['export']}/files/config.json").text == "{}"
    zipped = client.get(f"{address}/{made['export']}/archive")
    assert zipped.headers["content-disposition"] == f'attachment; filename="{run}-transformers.zip"'


def test_sentences_are_not_preprocessed_in_the_graph(client: TestClient, runs: RunsFolder) -> None:
    folder = searched(runs)
    job = yaml.safe_load(folder.job_file.read_text())
    job["data"] = {"name": "text-classification", "path": "x.csv"}
    job["supernet"] = {"family": "encoder", "preset": "tiny"}
    folder.job_file.write_text(yaml.safe_dump(job))
    answer = client.post(f"{API}/runs/{folder.id}/exports", json={"with_preprocessing": True})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems#export.preprocessing-unavailable")


def test_exports_without_a_matching_network_are_rejected_at_once(service: Service, runs: RunsFolder) -> None:
    run, other = searched(runs).id, searched(runs).id
    made = service.exports.request(run, ExportRequest(index=0))
    with pytest.raises(UnknownNameError):
        service.exports.get(other, made.export)
    assert not (runs.get(other).path / "exports").exists()


def test_a_nested_network_of_a_training_is_exported_by_its_limits_alone(client: TestClient, runs: RunsFolder) -> None:
    run = trained(runs).id
    assert client.post(f"{API}/runs/{run}/exports", json={}).status_code == 409
    assert client.post(f"{API}/runs/{run}/exports", json={"select": "macs<=2e6"}).status_code == 202


def test_a_profile_is_added_and_named_by_jobs(client: TestClient, runs: RunsFolder) -> None:
    answer = client.post(f"{API}/profiles", json={"profile": BOARD})
    assert answer.status_code == 201
    found = answer.json()
    assert (found["name"], found["threads"], found["placement"], found["shipped"]) == (
        "board",
        2,
        {"hw-board": 1.0},
        False,
    )
    assert client.post(f"{API}/profiles", json={"profile": BOARD}).status_code == 409
    listed = {profile["name"]: profile["shipped"] for profile in client.get(f"{API}/profiles").json()}
    assert listed["board"] is False
    assert listed["cpu-1-thread"] is True
    job = SMALL_JOB.replace("[cpu-1-thread]", "[board]").replace("latency_ms]", "latency_ms@board]")
    run = client.post(f"{API}/runs", json={"job": job}).json()["run"]
    (path,) = load_job(runs.get(run).job_file).hardware
    assert load_profile(path).name == "board"
    assert "hardware: [board]" in client.get(f"{API}/runs/{run}").json()["job"]


def test_a_profile_shows_its_noise_by_run(client: TestClient, runs: RunsFolder) -> None:
    folder = searched(runs, final=False)
    store = open_store(folder, driver=True)
    objective = Objective.parse(TWO[1], ["cpu-1-thread"])
    levels = [(1.0, 0.01), (1.0, 0.01), (3.0, 0.03)]  # two sessions
    for i, (level, noise) in enumerate(levels):
        request = Variants().request(Architecture((0, 0, 0, i, -1, -1)), objective)
        about = {"level_ms": level, "noise": noise}
        store.add(Measurement(request, Status.OK, 1.0, 0.01, environment=about, attempt=5))
    store.close()
    searched(runs)  # measured nothing that says
    (drift,) = client.get(f"{API}/profiles/cpu-1-thread").json()["drift"]
    assert (drift["run"], drift["level_ms"], drift["noise"]) == (folder.id, 2.0, pytest.approx(0.02))
    assert abs((datetime.fromisoformat(drift["time"]) - datetime.now(UTC)).total_seconds()) < 60
    assert client.get(f"{API}/profiles/cpu-2-threads").json()["drift"] == []


def test_a_model_is_kept_alone_and_measured_elsewhere(client: TestClient, service: Service) -> None:
    client.post(f"{API}/profiles", json={"profile": BOARD})
    answer = client.post(f"{API}/profiles/board/measurements", files={"model": ("any.onnx", SENTINEL)})
    assert answer.status_code == 202
    (task,) = service.state.tasks("board")
    argv = task.request["argv"]
    kept = Path(argv[argv.index("profile") + 1])
    assert task.request["uses"] == [str(kept)]
    assert kept.read_bytes() == SENTINEL
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert load_profile(argv[argv.index("--profile") + 1]).name == "board"
    path = f"{API}/profiles/board/measurements/{answer.json()['measurement']}"
    assert client.get(path).json() == answer.json()
    service.state.change_task(task.task, TaskStatus.FAILED, reason="too noisy")
    assert client.get(path).json()["reason"] == "too noisy"
    assert client.get(path.replace("board", "cpu-1-thread")).status_code == 404


def test_a_profile_that_is_being_added_is_not_listed(client: TestClient, settings: ServiceSettings) -> None:
    client.post(f"{API}/profiles", json={"profile": BOARD})
    (settings.uploads / "profiles" / ".0123456789abcdef.yaml").write_text(BOARD)  # its server was killed
    names = [profile["name"] for profile in client.get(f"{API}/profiles").json()]
    assert names.count("board") == 1


@pytest.mark.parametrize("what", ["run", "export", "model", "data"])
def test_requests_are_rejected_where_the_disk_is_nearly_full(
    client: TestClient, runs: RunsFolder, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    run = searched(runs).id
    free = [2**40]
    monkeypatch.setattr(
        "nas.service.uploads.storage_checks.shutil.disk_usage",
        lambda folder: Usage(2**41, 0, free.pop() if free[1:] else free[0]),
    )
    assert client.get(f"{API}/ready").json()["parts"]["runs"] == "ok"

    def ask() -> Any:
        match what:
            case "run":
                return client.post(f"{API}/runs", json={"job": SMALL_JOB})
            case "export":
                return client.post(f"{API}/runs/{run}/exports", json={})
            case "model":
                return client.post(f"{API}/profiles/cpu-1-thread/measurements", files={"model": ("any.onnx", SENTINEL)})
        archive = {"archive": ("flowers.zip", packed(flowers()))}
        free.append(2**40)  # there is room for the first image
        return client.post(f"{API}/data", data={"name": "flowers"}, files=archive)

    free[0] = 100 * 2**20
    before = [name for name in tree(runs.root) if "service.db" not in name]
    answer = ask()
    assert answer.status_code == 503
    assert "only 100 MiB are free" in answer.json()["detail"]
    after = [name for name in tree(runs.root) if "service.db" not in name]
    assert [name for name in after if name not in before and name.count("/") > 2] == []
    assert [run.id for run in runs.list()] == [run]
    assert client.get(f"{API}/ready").status_code == 503
    free[0] = 2**40
    assert ask().status_code in (201, 202)


def test_a_full_disk_is_reported(
    client: TestClient, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, status in ((errno.ENOSPC, 503), (errno.EDQUOT, 503), (errno.EIO, 500)):

        def full(descriptor: int, number: int = number) -> None:
            raise OSError(number, os.strerror(number), "/srv/nas/secret")

        monkeypatch.setattr("nas.service.uploads.onnx_models.os.fsync", full)
        answer = client.post(f"{API}/profiles/cpu-1-thread/measurements", files={"model": ("any.onnx", SENTINEL)})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert ("disk is full" in answer.json()["detail"]) == (status == 503)
        assert "secret" not in answer.text
        assert list(settings.uploaded_models.glob("*")) == []


@pytest.mark.parametrize("n", [0, 1, 2, 7, 40, len(SENTINEL) // 2, len(SENTINEL) - 1])
def test_a_truncated_model_is_rejected(n: int) -> None:
    assert is_onnx(io.BytesIO(SENTINEL))
    assert not is_onnx(io.BytesIO(SENTINEL[:n]))


def test_models_of_other_programs_are_accepted() -> None:
    """Checked against files that the ONNX library itself writes and reads."""
    model = onnx.load_from_string(SENTINEL)
    onnx.helper.set_model_props(model, {"author": "somebody"})
    model.producer_name = "another maker"
    assert is_onnx(io.BytesIO(model.SerializeToString()))
    assert not is_onnx(io.BytesIO(model.graph.initializer[0].SerializeToString()))
    assert not is_onnx(io.BytesIO(model.graph.SerializeToString()))


def test_a_data_set_is_uploaded_and_named_by_jobs(client: TestClient, runs: RunsFolder) -> None:
    archive = {"archive": ("flowers.zip", packed(flowers()))}
    answer = client.post(f"{API}/data", data={"name": "flowers"}, files=archive)
    assert (answer.status_code, answer.json()["path"]) == (201, "uploads/flowers")
    assert client.post(f"{API}/data", data={"name": "flowers"}, files=archive).status_code == 409
    job = SMALL_JOB.replace("name: digits,", "name: image-folder, path: uploads/flowers,")
    run = client.post(f"{API}/runs", json={"job": job}).json()["run"]
    path = load_job(runs.get(run).job_file).data.path
    assert path is not None
    assert {p.name for p in path.iterdir()} == {"rose", "tulip"}
    assert "path: uploads/flowers" in client.get(f"{API}/runs/{run}").json()["job"]


def test_metrics_count_requests_by_route_and_runs_by_status(client: TestClient, runs: RunsFolder) -> None:
    searched(runs)
    client.post(f"{API}/runs", json={"job": SMALL_JOB})
    for run in ("made-1", "made-1", "nothing-1"):
        client.get(f"{API}/runs/{run}/status")
    text = client.get(f"{API}/metrics").text
    route = f"{API}/runs/{{run}}/status"
    assert f'nas_requests_total{{method="GET",route="{route}",status="200"}} 2.0' in text
    assert f'nas_requests_total{{method="GET",route="{route}",status="404"}} 1.0' in text
    assert 'nas_runs{status="finished"} 1.0' in text
    assert 'nas_runs{status="queued"} 1.0' in text
    assert "made-1" not in text


def test_metrics_have_the_queue_tasks_drivers_disk_and_memory(
    service: Service, settings: ServiceSettings, jobs: Jobs
) -> None:
    dispatcher = Dispatcher(settings, service.state, jobs, address=lambda: None)
    service.problem, service.driver_deaths = lambda: "the disk is full", lambda: dispatcher.driver_deaths
    made = service.submissions.submit(JobSubmission(job=SMALL_JOB)).run
    service.state.change(made, submitted=time.time() - 7200)
    service.state.add_task("export-1", "export", made, {"argv": [], "result": "r"})

    def values() -> dict[str, float]:
        with TestClient(create_app(service, settings), base_url=HERE) as client:
            lines = client.get(f"{API}/metrics").text.splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    first = values()
    assert first["nas_queue_age_seconds"] == pytest.approx(7200, abs=60)
    assert (first["nas_can_start_jobs"], first["nas_driver_deaths_total"]) == (0, 0)
    assert first['nas_tasks{kind="export",status="queued"}'] == 1
    assert first['nas_task_age_seconds{kind="export"}'] < 60
    assert 0 < first["nas_disk_free_bytes"] < first["nas_disk_size_bytes"]
    assert 0 < first["nas_memory_available_bytes"] < first["nas_memory_size_bytes"]
    assert first["process_resident_memory_bytes"] > 1e7
    for _ in range(3):
        dispatcher.tick()
        jobs.known = dict.fromkeys(jobs.known, JobState.ENDED)
    service.problem = lambda: ""
    later = values()
    assert (later["nas_can_start_jobs"], later["nas_driver_deaths_total"], later["nas_queue_age_seconds"]) == (1, 2, 0)


def test_a_server_that_cannot_run_jobs_is_not_ready(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get(f"{API}/ready").json()["ready"] is True

    def fails(asked: object) -> Any:
        raise ServiceError("Ray is starting")

    monkeypatch.setattr(service.jobs, "states", fails)
    answer = client.get(f"{API}/ready")
    assert (answer.status_code, answer.json()["parts"]["jobs"]) == (503, "Ray is starting")


def test_answers_carry_what_keeps_browsers_safe(client: TestClient) -> None:
    for path in (f"{API}/health", "/login", "/nowhere"):
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"  # with none at all, forms lose their origin
        assert len(headers["x-request-id"]) == 16


def test_unknown_addresses_and_methods_refer_to_the_description(client: TestClient) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("GET", f"{API}/nothing", 404), ("PUT", f"{API}/runs", 405)):
        answer = client.request(method, path)
        assert answer.status_code == answer.json()["status"] == status
        assert "/api/v1/openapi.json" in answer.json()["detail"]
    assert client.put(f"{API}/runs").headers["allow"]


def test_the_type_of_a_problem_refers_to_its_codes_row_of_a_page(client: TestClient, runs: RunsFolder) -> None:
    page = client.get("/problems")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for code, meaning in DESCRIPTIONS.items():
        assert page.text.count(f'id="{code}"') == 1
        assert escape(meaning, quote=False) in page.text.replace("&#39;", "'").replace("&#34;", '"')
    training = trained(runs).id
    for path, problem in (
        (f"{API}/runs/none-1", "/problems#run.unknown"),
        (f"{API}/runs/{training}/front", "/problems#run.not-a-search"),
        (f"{API}/nothing", "about:blank"),
        (f"{API}/runs?limit=x", "about:blank"),
    ):
        assert client.get(path).json()["type"] == problem
    shown = client.get("/runs/none-1", headers={"accept": "text/html"})
    assert 'href="/problems#run.unknown"' in shown.text
    assert "/problems" not in client.get("/nothing", headers={"accept": "text/html"}).text


def test_head_is_answered_as_get_without_a_body(client: TestClient) -> None:
    for path in ("/", "/nothing", f"{API}/health", f"{API}/runs", f"{API}/runs/none", f"{API}/openapi.json"):
        whole, head = client.get(path), client.head(path)
        assert head.content == b"", path
        assert head.status_code == whole.status_code
        for name in ("content-type", "content-length", "content-security-policy"):
            assert head.headers.get(name) == whole.headers.get(name)


def test_the_head_of_a_stream_is_answered_at_once(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run = client.post(f"{API}/runs", json={"job": SMALL_JOB}).json()["run"]
    head = client.head(f"{API}/runs/{run}/events")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")
    last = vars(caplog.records[-1])
    assert (last["method"], last["status"], last["run"]) == ("HEAD", 200, run)
