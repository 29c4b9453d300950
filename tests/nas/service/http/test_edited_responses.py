"""No route shows a path of the server or the URL of a database, whatever a driver or a damaged file says."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.search.problem.objectives import Measurement, Status
from nas.service.audit import AuditLog
from nas.service.http.edited_responses import Edit, EditedResponse
from nas.service.pages import page_routes
from nas.service.path_privacy import PathPrivacy
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import TaskStatus
from tests.nas.service.made_runs import searched

URL = "postgresql+psycopg://ada@db.internal:5432/nas?host=/run/pg (schema nas_a_1)"
SAMPLES = {"profile": "cpu-1-thread", "recipe": "digits-cnn", "export": "1", "key": "0"}


@pytest.fixture
def planted(service: Service, runs: RunsFolder) -> str:
    """A text with all that is not for clients, which is wherever drivers, tasks and users write."""
    root = runs.root.resolve()
    text = f"{root}/made-1/x.onnx is gone; see {root}, {URL}: `nas show made-1 --runs {root}` {sys.prefix}/lib/x.py"
    folders = [searched(runs), searched(runs, name="made"), searched(runs, name="bad", n=5)]
    for folder in folders[:2]:
        store = open_store(folder, driver=True)
        request = store.measurements()[0].request
        store.add(Measurement(request, Status.FAILED, None, None, attempt=1, detail={"reason": text}))
        store.record_event("note", {"text": text})
        store.set_status(RunStatus.FAILED, reason=text)
        store.close()
        folder.logs.mkdir()
        (folder.logs / "1.log").write_text(text)
    folders[2].database.write_bytes(b"no database")
    folders[2].labels_file.write_bytes(b"no labels")
    for kind, of in (("export", "made-1"), ("measurement", "cpu-1-thread")):
        service.state.add_task(f"{kind}-1", kind, of, {"argv": [], "result": str(root / "x.json"), "asked": {}})
        service.state.change_task(f"{kind}-1", TaskStatus.FAILED, reason=text)
    return text


def addresses(client: TestClient, service: Service) -> Iterator[str]:
    """The address of each GET route, with values for its parameters, right and wrong."""
    described = client.get("/api/v1/openapi.json").json()["paths"]
    paths = [path for path, methods in described.items() if "get" in methods]
    pages = page_routes.router(service, service.settings, AuditLog(service.settings.audit_file)).routes
    paths += [page.path for page in pages if isinstance(page, APIRoute) and "/static/" not in page.path]
    for path in paths:
        names = re.findall(r"{(\w+)", path)
        for run in ("made-1", "bad-1", "missing-1") if "run" in names else ("made-1",):
            yield path.format(**{name: {**SAMPLES, "run": run}.get(name, "x") for name in names})
    yield "/compare?runs=made-1&runs=made-2"
    yield "/compare?runs=made-1&runs=bad-1"
    yield "/api/v1/compare?runs=made-1&runs=bad-1"


def test_no_route_shows_paths_or_urls(client: TestClient, service: Service, planted: str, runs: RunsFolder) -> None:
    secrets = (str(runs.root), str(runs.root.resolve()), sys.prefix, "db.internal", "postgres", "nas_a_1")
    shown = {}
    for address in addresses(client, service):
        body = client.get(address, headers={"Accept": "text/html, */*"}).text
        shown[address] = [secret for secret in secrets if secret in body.replace("postgresql-", "")]
    assert len(shown) > 40
    assert not {address: secrets for address, secrets in shown.items() if secrets}
    log = client.get("/api/v1/runs/made-1/logs").text
    assert log.startswith("made-1/x.onnx is gone; see the runs folder, the run store: `nas show made-1` ")


def test_a_response_has_the_length_of_its_text(client: TestClient, planted: str) -> None:
    answer = client.get("/api/v1/runs/made-1/status")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.json()["reason"].startswith("made-1/x.onnx is gone")
    head = client.head("/api/v1/runs/made-1/status")
    assert (head.content, head.headers["content-length"]) == (b"", answer.headers["content-length"])


def test_files_and_data_folders_stay_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "nas"
    settings = ServiceSettings(RunsFolder(root), data_roots=(root / "data", tmp_path / "data"))
    hide = PathPrivacy(settings, data=False)
    job = json.dumps(
        {"path": f"{root}/data/flowers", "other": f"{tmp_path}/data", "run": f"{root}/a-1", "x": f"{root}/data2"}
    )
    assert json.loads(hide(job)) == {
        "path": f"{root}/data/flowers",
        "other": f"{tmp_path}/data",
        "run": "a-1",
        "x": "data2",
    }
    sent: list[Any] = []

    class Private(Edit):
        def text(self, text: str, media_type: str) -> str:
            return hide(text)

    async def send(message: Any) -> None:
        sent.append(message)

    async def respond() -> None:
        response = EditedResponse(send, (Private(),))
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"99")]
        await response({"type": "http.response.start", "status": 200, "headers": headers})
        await response({"type": "http.response.body", "body": f"{root}/a-1".encode()})

    asyncio.run(respond())
    assert sent[1]["body"] == f"{root}/a-1".encode()
