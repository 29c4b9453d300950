"""What clients store on a server can be listed and deleted, within quotas; tasks can be cancelled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.service.api.schemas import ExportRequest
from nas.service.http.app import create_app
from nas.service.jobs.dispatcher import Dispatcher
from nas.service.jobs.job_runner import JobState
from nas.service.jobs.task_process import TaskResult
from nas.service.jobs.task_queue import job_of
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from nas.service.state import ServiceState, Task, TaskStatus
from tests.errors import raises
from tests.nas.service.conftest import HERE
from tests.nas.service.made_runs import Jobs, searched
from tests.nas.service.sent_files import SENTINEL, flowers, packed

API = "/api/v1"
IMAGES = """
name: flowers
data: {name: image-folder, path: uploads/flowers}
supernet: {preset: digits}
hardware: [cpu-1-thread]
objectives: [accuracy, macs]
search: {evaluations: 20}
"""


def add_data(client: TestClient, name: str = "flowers", n: int = 3) -> Any:
    return client.post(f"{API}/data", data={"name": name}, files={"archive": ("a.zip", packed(flowers(n)))})


def add_profile(client: TestClient, **keys: Any) -> Any:
    return client.post(f"{API}/profiles", json={"profile": json.dumps({"name": "mine", **keys})})


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].partition("#")[2]


def served(runs: RunsFolder, limits: Limits, jobs: Jobs) -> TestClient:
    runs.check_writable()
    settings = ServiceSettings(runs, limits=limits)
    return TestClient(
        create_app(Service(settings, ServiceState.open(settings.database), jobs), settings), base_url=HERE
    )


class TestDataSets:
    def test_they_are_listed_and_deleted(self, client: TestClient, settings: ServiceSettings) -> None:
        assert client.get(f"{API}/data").json() == []
        add_data(client, "tulips", n=4)
        made = add_data(client).json()
        assert (made["kind"], made["images"], made["examples"]) == ("image-folder", 6, 6)
        assert made["checked"] == "all 6 images were decoded"
        size = sum(map(len, flowers().values()))
        shutil.rmtree(settings.data_records)  # as those of version 0.1, which recorded nothing
        for _ in range(2):
            found = {one["name"]: one for one in client.get(f"{API}/data").json()}
            assert list(found) == ["flowers", "tulips"]
            assert (found["flowers"]["images"], found["flowers"]["bytes"]) == (6, size)
            assert found["flowers"]["classes"] == ["rose", "tulip"] == made["classes"]
        assert client.delete(f"{API}/data/flowers").status_code == 204
        assert [one["name"] for one in client.get(f"{API}/data").json()] == ["tulips"]
        assert not (settings.uploaded_data / "flowers").exists()
        assert list(settings.trash.iterdir()) == []
        assert problem(client.delete(f"{API}/data/flowers")) == (404, "data-set.unknown")
        assert add_data(client).status_code == 201  # the name is free again

    def test_one_that_a_queued_run_uses_stays(self, client: TestClient) -> None:
        add_data(client)
        run = client.post(f"{API}/runs", json={"job": IMAGES}).json()["run"]
        answer = client.delete(f"{API}/data/flowers")
        assert problem(answer) == (409, "run.needed")
        assert run in answer.json()["detail"]
        client.post(f"{API}/runs/{run}/cancel")
        assert client.delete(f"{API}/data/flowers").status_code == 204

    def test_quotas_name_their_limits(self, runs: RunsFolder, jobs: Jobs) -> None:
        size = sum(map(len, flowers().values()))
        with served(runs, Limits(data_bytes=size + 10, data_sets=2), jobs) as client:
            assert add_data(client, "one").status_code == 201
            answer = add_data(client, "two")
            assert problem(answer) == (409, "storage.quota")
            assert "DELETE /api/v1/data/NAME" in answer.json()["detail"]
            assert add_data(client, "two", n=0).status_code == 422
            assert [one["name"] for one in client.get(f"{API}/data").json()] == ["one"]
        with served(runs, Limits(data_sets=1), jobs) as client:
            assert problem(add_data(client, "two")) == (409, "storage.quota")


class TestProfiles:
    def test_they_are_deleted(self, client: TestClient, service: Service) -> None:
        add_profile(client)
        assert problem(client.delete(f"{API}/profiles/cpu-1-thread")) == (409, "profile.shipped")
        job = IMAGES.replace("cpu-1-thread", "mine").replace("image-folder, path: uploads/flowers", "digits")
        run = client.post(f"{API}/runs", json={"job": job}).json()["run"]
        assert problem(client.delete(f"{API}/profiles/mine")) == (409, "run.needed")
        client.post(f"{API}/runs/{run}/cancel")
        client.post(f"{API}/profiles/mine/measurements", files={"model": ("any.onnx", SENTINEL)})
        (task,) = service.state.open_tasks()
        answer = client.delete(f"{API}/profiles/mine")
        assert (problem(answer), task.task in answer.json()["detail"]) == ((409, "run.needed"), True)
        service.state.change_task(task.task, TaskStatus.FAILED)
        assert client.delete(f"{API}/profiles/mine").status_code == 204
        assert problem(client.get(f"{API}/profiles/mine")) == (404, "hardware-profile.unknown")

    def test_their_number_is_limited(self, runs: RunsFolder, jobs: Jobs) -> None:
        with served(runs, Limits(profiles=1), jobs) as client:
            assert add_profile(client).status_code == 201
            assert problem(add_profile(client, name="other")) == (409, "storage.quota")

    @pytest.mark.parametrize(
        ("keys", "code"),
        [
            ({"threads": 1024}, "profile.too-few-cpus"),
            ({"provider": "NoSuchExecutionProvider"}, "profile.provider-unavailable"),
            ({"provider": "/tmp/evil.so"}, "profile.invalid"),
            ({"provider": "../evil", "placement": {"hw-board": 1}}, "profile.invalid"),
        ],
    )
    def test_one_that_this_machine_cannot_serve_is_refused(
        self, client: TestClient, keys: Mapping[str, Any], code: str
    ) -> None:
        answer = add_profile(client, **keys)
        assert problem(answer) == (422, code)
        assert [error["field"] for error in answer.json()["errors"]] == ["profile"]
        assert problem(client.get(f"{API}/profiles/mine"))[0] == 404

    def test_one_that_no_node_serves_is_shown_and_not_chosen(self, client: TestClient, jobs: Jobs) -> None:
        added = add_profile(client, placement={"CPU": 1_000_000})
        assert added.status_code == 201  # a board may join the cluster later
        assert "CPU: 1e+06" in added.json()["unavailable"]
        listed = {one["name"]: one["unavailable"] for one in client.get(f"{API}/profiles").json()}
        assert listed["mine"]
        assert listed["cpu-1-thread"] == ""
        job = IMAGES.replace("cpu-1-thread", "mine").replace("image-folder, path: uploads/flowers", "digits")
        check = client.post(f"{API}/jobs/check", json={"job": job}).json()
        assert [error["field"] for error in check["errors"]] == ["hardware[0]"]
        sent = client.post(f"{API}/profiles/mine/measurements", files={"model": ("any.onnx", SENTINEL)})
        assert problem(sent) == (422, "profile.unreachable")

    def test_a_shipped_one_without_its_device_is_shown(self, client: TestClient) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this runtime has the provider")
        assert "CUDAExecutionProvider" in client.get(f"{API}/profiles/cuda").json()["unavailable"]
        answer = client.post(f"{API}/runs?hardware=cuda", content=IMAGES, headers={"content-type": "text/yaml"})
        assert "hardware[0]" in [error["field"] for error in answer.json()["errors"]]


class TestTasks:
    @pytest.fixture
    def dispatcher(self, service: Service, settings: ServiceSettings, jobs: Jobs) -> Dispatcher:
        return Dispatcher(settings, service.state, jobs, address=lambda: None)

    def task(self, service: Service) -> Task:
        (found,) = service.state.tasks()
        return found

    def test_they_are_listed(self, client: TestClient, service: Service, runs: RunsFolder) -> None:
        run = searched(runs).id
        export = client.post(f"{API}/runs/{run}/exports", json={}).json()["export"]
        sent = {"model": ("any.onnx", SENTINEL)}
        measurement = client.post(f"{API}/profiles/cpu-1-thread/measurements", files=sent).json()["measurement"]
        listed = client.get(f"{API}/tasks").json()
        assert {(one["task"], one["kind"], one["of"]) for one in listed} == {
            (export, "export", run),
            (measurement, "measurement", "cpu-1-thread"),
        }
        assert {one["time_limit_s"] for one in listed} == {1800}
        assert [one["task"] for one in client.get(f"{API}/tasks?kind=export").json()] == [export]
        assert client.get(f"{API}/tasks?status=finished").json() == []

    def test_one_that_waits_is_cancelled_at_once(
        self, client: TestClient, service: Service, runs: RunsFolder, dispatcher: Dispatcher, jobs: Jobs
    ) -> None:
        run = searched(runs).id
        client.post(f"{API}/runs/{run}/exports", json={})
        task = self.task(service)
        answer = client.post(f"{API}/tasks/{task.task}/cancel").json()
        assert (answer["status"], answer["reason"]) == ("queued", "is being cancelled")
        assert dispatcher.tick() == [(task.task, "cancelled")]
        assert jobs.started == {}
        assert problem(client.post(f"{API}/tasks/{task.task}/cancel")) == (409, "task.ended")
        assert problem(client.post(f"{API}/tasks/none/cancel")) == (404, "task.unknown")

    def test_one_that_runs_is_stopped_and_deleted(
        self, client: TestClient, service: Service, runs: RunsFolder, dispatcher: Dispatcher, jobs: Jobs
    ) -> None:
        run = searched(runs).id
        client.post(f"{API}/runs/{run}/exports", json={})
        task = self.task(service)
        path = f"{API}/runs/{run}/exports/{task.task}"
        dispatcher.tick()
        assert problem(client.delete(path)) == (409, "task.open")
        client.post(f"{API}/tasks/{task.task}/cancel")
        assert dispatcher.tick() == []
        assert jobs.known[job_of(task)] is JobState.ENDED
        assert dispatcher.tick() == [(task.task, "cancelled")]
        folder = Path(task.request["result"]).parent
        (folder / "model.onnx").write_bytes(b"half of it")
        assert client.delete(path).status_code == 204
        assert not folder.exists()
        assert service.state.tasks() == []
        assert client.get(f"{API}/runs/{run}/exports").json() == []

    def test_one_that_finishes_before_it_is_stopped_is_finished(
        self, client: TestClient, service: Service, runs: RunsFolder, dispatcher: Dispatcher
    ) -> None:
        run = searched(runs).id
        service.exports.request(run, ExportRequest())
        task = self.task(service)
        dispatcher.tick()
        TaskResult(0, "{}", "").write(Path(task.request["result"]))
        client.post(f"{API}/tasks/{task.task}/cancel")
        dispatcher.tick()
        assert dispatcher.tick() == [(task.task, "finished")]

    def test_an_endless_measurement_holds_up_no_export(
        self, client: TestClient, service: Service, runs: RunsFolder, dispatcher: Dispatcher
    ) -> None:
        sent = {"model": ("any.onnx", SENTINEL)}
        measurements = [
            client.post(f"{API}/profiles/cpu-1-thread/measurements", files=sent).json()["measurement"] for _ in range(2)
        ]
        export = client.post(f"{API}/runs/{searched(runs).id}/exports", json={}).json()["export"]
        assert set(dispatcher.tick()) == {(measurements[0], "running"), (export, "running")}
        assert dispatcher.tick() == []

    def test_exports_of_a_run_are_limited(self, runs: RunsFolder, jobs: Jobs) -> None:
        run = searched(runs).id
        with served(runs, Limits(exports_of_a_run=1), jobs) as client:
            assert client.post(f"{API}/runs/{run}/exports", json={}).status_code == 202
            answer = client.post(f"{API}/runs/{run}/exports", json={})
            assert problem(answer) == (409, "storage.quota")
            assert f"DELETE /api/v1/runs/{run}/exports/EXPORT" in answer.json()["detail"]

    def test_a_measurement_is_deleted_with_its_model(self, client: TestClient, service: Service) -> None:
        client.post(f"{API}/profiles/cpu-1-thread/measurements", files={"model": ("any.onnx", SENTINEL)})
        task = self.task(service)
        service.state.change_task(task.task, TaskStatus.FAILED)
        assert client.delete(f"{API}/profiles/cpu-1-thread/measurements/{task.task}").status_code == 204
        assert not Path(task.request["result"]).parent.exists()


def test_a_full_disk_is_why_a_run_waits_and_no_death(
    service: Service, settings: ServiceSettings, runs: RunsFolder, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = searched(runs, final=False)  # it runs, and has no driver any more
    service.state.submit(folder.id, "search", "")
    service.state.change(folder.id, attempt=9, started=True, deaths=9, progress=10**6)
    dispatcher = Dispatcher(settings, service.state, jobs, address=lambda: None)
    shown = Service(settings, service.state, jobs, problem=lambda: dispatcher.problem).runs
    usage = shutil.disk_usage(runs.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 * 2**20))
    assert dispatcher.tick() == []
    assert "3 MiB" in dispatcher.problem
    assert dispatcher.problem in shown.summary(folder.id).reason
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**40))
    assert dispatcher.tick() == [(folder.id, "fail")]
    assert dispatcher.problem == ""


def test_a_run_that_is_damaged_can_be_deleted_and_not_resumed(client: TestClient, runs: RunsFolder) -> None:
    folder = searched(runs)
    folder.database.write_bytes(b"no database")
    listed = client.get(f"{API}/runs").json()["runs"][0]
    assert (listed["status"], listed["damaged"]) == ("failed", True)
    assert listed["reason"].startswith(f"cannot be read: {folder.id}/run.db: ")
    assert str(runs.root) not in listed["reason"]
    page = client.get(f"/runs/{folder.id}", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert 'data-action="delete"' in page.text
    assert 'data-action="resume"' not in page.text
    assert client.delete(f"{API}/runs/{folder.id}").status_code == 204
    assert client.get(f"/runs/{folder.id}", headers={"accept": "text/html"}).status_code == 404


def test_a_run_whose_driver_is_making_it_is_not_damaged(client: TestClient, runs: RunsFolder) -> None:
    folder = searched(runs, final=False)
    with_driver = open_store(folder, driver=True)
    assert with_driver.status() is RunStatus.RUNNING
    assert client.get(f"{API}/runs/{folder.id}/status").json()["damaged"] is False
    with_driver.close()


def test_unknown_names_are_reported_by_kind(service: Service) -> None:
    with raises("data-set.unknown", "nothing"):
        service.data_sets.delete("nothing")
    with raises("task.unknown", "nothing"):
        service.tasks.cancel("nothing")
