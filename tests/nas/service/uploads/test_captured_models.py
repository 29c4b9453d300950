"""Captured models on a server: uploaded, named by jobs, deleted; module paths and hostile files are refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from nas.engine.store.folder import RunsFolder
from nas.service.http.app import create_app
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from nas.service.state import ServiceState
from nas.service.uploads.deletion import stale_files
from supernets.networks.capture.captured_model import capture_model, load_capture, save_capture
from supernets.networks.capture.user_model import own_model
from tests.nas.service.conftest import HERE
from tests.nas.service.made_runs import Jobs
from tests.supernets.networks.capture.networks import example, network

API = "/api/v1"
JOB = """
name: own
data: {{name: digits}}
supernet: {{model: "{model}"}}
search: {{evaluations: 4}}
"""


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A captured model."""
    path = tmp_path_factory.mktemp("captured") / "net.capture"
    save_capture(path, capture_model(own_model(network("resnet")), example("resnet", 2)))
    return path.read_bytes()


def settings_of(folder: Path, **limits: int) -> ServiceSettings:
    runs = RunsFolder(folder / "runs")
    runs.check_writable()
    return ServiceSettings(runs, limits=Limits(**limits))


def served(settings: ServiceSettings) -> TestClient:
    state = ServiceState.open(settings.database)
    return TestClient(create_app(Service(settings, state, Jobs()), settings), base_url=HERE)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with served(settings_of(tmp_path)) as made:
        yield made


def add(client: TestClient, content: bytes, name: str = "net") -> Any:
    return client.post(f"{API}/models", data={"name": name}, files={"model": ("a.capture", content)})


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].partition("#")[2]


def submit(client: TestClient, model: str) -> Any:
    return client.post(f"{API}/runs", json={"job": JOB.format(model=model)})


def test_a_model_is_uploaded_listed_named_by_a_job_and_deleted(
    client: TestClient, content: bytes, tmp_path: Path
) -> None:
    made = add(client, content)
    assert made.status_code == 201
    assert (made.json()["path"], made.json()["bytes"]) == ("models/net", len(content))
    assert [one["name"] for one in client.get(f"{API}/models").json()] == ["net"]
    assert problem(add(client, content)) == (409, "name.taken")
    run = submit(client, "models/net").json()["run"]
    job = (tmp_path / "runs" / run / "job.yaml").read_text()
    stored = tmp_path / "runs" / ".service" / "uploads" / "captured" / "net.capture"
    assert f"model: {stored.resolve()}" in job
    assert load_capture(stored).program.calls
    answer = client.delete(f"{API}/models/net")
    assert problem(answer) == (409, "run.needed")
    assert run in answer.json()["detail"]
    client.post(f"{API}/runs/{run}/cancel")
    assert client.delete(f"{API}/models/net").status_code == 204
    assert client.get(f"{API}/models").json() == []
    assert problem(client.delete(f"{API}/models/net")) == (404, "captured-model.unknown")
    assert add(client, content).status_code == 201  # the name is free again


def test_a_models_own_code_is_refused(client: TestClient) -> None:
    for model in (
        "os:system", "my_package.models:build", "timm:resnet18", "torchvision:resnet18", "transformers:/etc", "transformers:x",
    ):  # fmt: skip
        answer = submit(client, model)
        assert problem(answer) == (422, "job.not-allowed"), model
        [error] = answer.json()["errors"]
        assert error["field"] == "supernet.model"
        assert "submitted jobs run no model's own code; capture it as data" in error["message"]
        assert "POST /api/v1/models" in error["message"]


def test_other_files_of_the_server_are_refused(client: TestClient, content: bytes) -> None:
    add(client, content)
    for model in (
        "models/none", "models/../../secret", "models/", "models/net/x", "/etc/passwd", "../x.capture", "uploads/x",
    ):  # fmt: skip
        answer = submit(client, model)
        assert problem(answer) == (422, "job.not-allowed"), model
        assert [error["field"] for error in answer.json()["errors"]] == ["supernet.model"]


def compressed(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, bytes(2**20))
    return out.getvalue()


def test_what_is_no_captured_model_is_refused(client: TestClient, tmp_path: Path) -> None:
    for sent, code in (
        (b"", "capture.malformed"),
        (b"PK", "capture.malformed"),
        (b"\x80\x04pickle", "capture.malformed"),
        (compressed("program.json"), "archive.invalid"),
    ):
        assert problem(add(client, sent)) == (422, code), sent[:10]
        assert not list((tmp_path / "runs" / ".service" / "uploads" / "captured").iterdir())


def test_names_are_those_of_files(client: TestClient, content: bytes) -> None:
    for name in ("../net", "a/b", "", ".hidden", "x" * 65):
        assert add(client, content, name).status_code == 422, name


def test_sizes_and_numbers_are_limited(tmp_path: Path, content: bytes) -> None:
    size = len(content)
    with served(settings_of(tmp_path / "a", upload_bytes=size - 1)) as client:
        assert add(client, content).status_code == 413
    with served(settings_of(tmp_path / "b", models=1)) as client:
        assert add(client, content).status_code == 201
        assert problem(add(client, content, "two")) == (409, "storage.quota")
    with served(settings_of(tmp_path / "c", model_bytes=size + 10)) as client:
        assert add(client, content).status_code == 201
        answer = add(client, content, "two")
        assert problem(answer) == (409, "storage.quota")
        assert "DELETE /api/v1/models/NAME" in answer.json()["detail"]
        assert [one["name"] for one in client.get(f"{API}/models").json()] == ["net"]


def test_a_file_that_a_killed_server_was_receiving_is_removed(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    settings.captured_models.mkdir(parents=True)
    (settings.captured_models / ".uploading-1").write_bytes(b"PK")
    (settings.captured_models / "net.capture").write_bytes(b"PK")
    state = ServiceState.open(settings.database)
    assert stale_files(settings, state) == [settings.captured_models / ".uploading-1"]
    state.close()
