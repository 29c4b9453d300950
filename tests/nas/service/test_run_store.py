"""Submitted runs whose rows are in PostgreSQL: submitted, driven with a password, listed, shown, resumed and deleted."""

from __future__ import annotations

import signal
import socket
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import database_of, open_store
from nas.errors import NasError
from nas.service.client import NasClient
from nas.service.file_permissions import open_files
from nas.service.http.app import create_app
from nas.service.jobs.ray_head import end_head
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.service.conftest import HERE
from tests.nas.service.made_runs import Jobs
from tests.nas.service.served import Served, command_of
from tests.postgres_server import PASSWORD, Server

_SEARCH = (
    SMALL_JOB.replace("evaluations: 30, batch: 7", "evaluations: 4, batch: 2")
    .replace("epochs: 4", "epochs: 1")
    .replace("[accuracy, latency_ms]", "[accuracy, macs]")
)


def service_on(url: str, runs: RunsFolder, jobs: Jobs) -> tuple[Service, ServiceState]:
    runs.check_writable()
    settings = ServiceSettings(runs, store=url)
    state = ServiceState.open(settings.database)
    return Service(settings, state, jobs), state


@pytest.mark.slow
def test_runs_of_a_servers_store_are_submitted_shown_and_deleted(
    postgres: Server, runs: RunsFolder, jobs: Jobs
) -> None:
    service, state = service_on(postgres.url, runs, jobs)
    with TestClient(create_app(service, service.settings), base_url=HERE) as client:
        made = client.post("/api/v1/runs", json={"job": SMALL_JOB}).json()["run"]
        folder = runs.get(made)
        assert not folder.database.exists()
        parts = dict.fromkeys(("runs", "store", "state", "jobs"), "ok")
        assert client.get("/api/v1/ready").json() == {"ready": True, "parts": parts}
        assert [run["run"] for run in client.get("/api/v1/runs").json()["runs"]] == [made]
        for address in (f"/api/v1/runs/{made}", f"/runs/{made}", "/"):
            body = client.get(address).text
            assert made in body
            assert "postgres" not in body
        client.post(f"/api/v1/runs/{made}/cancel").raise_for_status()
        with closing(open_store(folder, driver=True)):
            held = client.delete(f"/api/v1/runs/{made}")
            assert (held.status_code, held.json()["type"]) == (409, "/problems#run.held")
        assert schemas_of(postgres, made)
        client.delete(f"/api/v1/runs/{made}").raise_for_status()
        assert not folder.path.exists()
        assert not schemas_of(postgres, made)
    state.close()


def schemas_of(postgres: Server, run: str) -> list[str]:
    query = "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s"
    with postgres.connect() as connection:
        return [name for (name,) in connection.execute(query, (f"nas_{run.partition('-')[0]}_%",))]


def test_a_store_that_is_away_is_not_ready_and_its_url_is_not_shown(runs: RunsFolder, jobs: Jobs) -> None:
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    url = f"postgresql+psycopg://ada@127.0.0.1:{port}/secret"
    service, state = service_on(url, runs, jobs)
    with TestClient(create_app(service, service.settings), base_url=HERE) as client:
        answer = client.get("/api/v1/ready")
        refused = client.post("/api/v1/runs", json={"job": SMALL_JOB})
    state.close()
    assert answer.status_code == refused.status_code == 503
    reason = answer.json()["parts"]["store"]
    assert reason.startswith("the run store: does not answer")
    assert refused.json()["type"] == "/problems#store.unusable"
    for text in (answer.text, refused.text):
        assert not [secret for secret in ("postgres", "ada", "127.0.0.1", "secret", str(port)) if secret in text]
    assert runs.list() == []
    assert [path.name for path in runs.root.iterdir() if path.is_dir()] == [".service"]  # with the audit log


def test_other_schemas_than_those_of_runs_are_never_removed(runs: RunsFolder) -> None:
    pytest.importorskip("psycopg")
    folder = runs.create("small", "job", store={"url": "postgresql+psycopg://ada@127.0.0.1/nas", "schema": "public"})
    with raises("store.unusable", "public"):
        database_of(folder).remove()


@pytest.mark.slow
@pytest.mark.ray
def test_drivers_get_the_password_and_nobody_sees_it(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_STORE", postgres.url_with_password)
    served = Served(tmp_path)  # without the password: its Ray outlives it
    try:
        assert "asks for a password" in str(raised(served.client))
        served.end(signal.SIGTERM)
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        served.start()
        monkeypatch.delenv("PGPASSWORD")
        run = served.client.submit(_SEARCH).run
        served.wait(run, evaluations=1)
        commands = [command_of(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert any(b"drive" in command for command in commands)
        assert not [command for command in commands if PASSWORD.encode() in command]
        assert served.wait(run, status="finished").evaluations == 4
        served.client.resume(run, evaluations="+2")
        assert served.wait(run, status="finished").evaluations == 6
        assert len(served.client.front(run).members) > 0
        assert PASSWORD not in served.client.logs(run) + (tmp_path / "server.log").read_text()
        assert (served.folder / "pgpass").stat().st_mode & 0o777 == 0o600
        assert list(open_files(ServiceSettings(served.runs))) == []
        served.client.delete(run)
        assert served.client.runs().total == 0
    finally:
        served.end(signal.SIGTERM)
        end_head(served.folder)


def raised(client: NasClient) -> NasError:
    with pytest.raises(NasError) as caught:
        client.submit(_SEARCH)
    return caught.value
