"""Hostile requests: each is rejected with the right status and as a problem, and nothing is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from nas.engine.store.folder import RunsFolder
from nas.service.api.error_codes import DESCRIPTIONS
from nas.service.http.app import create_app
from nas.service.http.body_limits import limited_body
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from nas.service.state import ServiceState
from nas.service.views.run_summaries import RunSummaries
from tests.nas.commands import SMALL_JOB
from tests.nas.service import sent_files
from tests.nas.service.made_runs import Jobs, searched, tree
from tests.nas.service.raw_requests import GONE, piece, send_raw
from tests.nas.service.sent_files import flowers, image, packed

API = "/api/v1"
LIMITS = Limits(
    body_bytes=64 * 1024, upload_bytes=2 * 2**20, archive_bytes=2 * 2**20, archive_members=50, archive_ratio=50
)
YAML = {"content-type": "application/yaml"}
JSON = {"content-type": "application/json"}
HOST = (b"host", b"127.0.0.1")
FORM = (b"content-type", b"application/json")

ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(10)
)
LOOP = "name: &a [*a]\n"
DEEP = "name: " + "[" * 5000 + "]" * 5000
PYTHON_TAG = "name: !!python/object/apply:os.mkdir [mark]\n"


@dataclass(frozen=True)
class Hostile:
    """A request that is refused."""

    status: int
    method: str
    path: str
    about: dict[str, Any] = field(default_factory=dict)


def job(text: str, **more: Any) -> dict[str, Any]:
    return {"json": {"job": text, **more}}


def model(content: bytes) -> dict[str, Any]:
    return {"files": {"model": ("model.onnx", content)}}


def data(content: bytes, name: str = "flowers") -> dict[str, Any]:
    return {"data": {"name": name}, "files": {"archive": ("flowers.zip", content)}}


MARK = Path("mark-of-a-pickle")
MEASURE = f"{API}/profiles/cpu-1-thread/measurements"
RUN = f"{API}/runs/made-1"
HOSTILE = {
    # Names that lead out of the runs folder
    "run: up": Hostile(404, "GET", f"{API}/runs/..%2f..%2fetc/status"),
    "run: dots": Hostile(404, "GET", f"{API}/runs/%2e%2e/status"),
    "run: absolute": Hostile(404, "DELETE", f"{API}/runs/%2fetc"),
    "run: own folder": Hostile(404, "DELETE", f"{API}/runs/.service"),
    "run: NUL": Hostile(404, "GET", f"{API}/runs/a%00b/status"),
    "run: no text": Hostile(404, "GET", f"{API}/runs/%ff%fe/status"),
    "run: surrogate": Hostile(404, "GET", f"{API}/runs/%ed%a0%80/status"),
    "run: endless": Hostile(422, "GET", f"{API}/runs/{'a' * 5000}/status"),
    "run: backslash": Hostile(404, "POST", f"{API}/runs/..%5c..%5cetc/cancel"),
    "export: up": Hostile(404, "GET", f"{RUN}/exports/..%2f..%2f/archive"),
    "file: up": Hostile(404, "GET", f"{RUN}/exports/x/files/..%2f..%2fjob.yaml"),
    "recipe: up": Hostile(404, "GET", f"{API}/recipes/..%2f..%2fconfig"),
    "profile: up": Hostile(404, "GET", f"{API}/profiles/..%2f..%2ftokens"),
    "job: name": Hostile(422, "POST", f"{API}/runs", job(SMALL_JOB.replace("name: small", "name: ../small"))),
    "job: script": Hostile(422, "POST", f"{API}/runs", job(SMALL_JOB.replace("name: small", "name: <script>"))),
    "job: data": Hostile(422, "POST", f"{API}/runs", job(SMALL_JOB.replace("digits,", "image-folder, path: /etc,"))),
    "job: data, up": Hostile(
        422, "POST", f"{API}/runs", job(SMALL_JOB.replace("digits,", "image-folder, path: uploads/../../made-1,"))
    ),
    "job: all uploads": Hostile(
        422, "POST", f"{API}/runs", job(SMALL_JOB.replace("digits,", "image-folder, path: uploads/.,"))
    ),
    "job: supernet": Hostile(422, "POST", f"{API}/runs", job(SMALL_JOB.replace("  family:", "  from: /tmp\n  family:"))),
    "job: supernet, up": Hostile(
        422, "POST", f"{API}/runs", job(SMALL_JOB.replace("  family:", "  from: '..'\n  family:"))
    ),
    "job: hardware file": Hostile(
        422, "POST", f"{API}/runs", job(SMALL_JOB.replace("[cpu-1-thread]", "[/etc/x.yaml]"))
    ),
    "job: hardware beside": Hostile(422, "POST", f"{API}/runs", job(SMALL_JOB, hardware=["../../x.yaml"])),
    "job: tables": Hostile(422, "POST", f"{API}/runs", job(SMALL_JOB + "lookup_tables: [/etc/passwd]\n")),
    "data: name up": Hostile(422, "POST", f"{API}/data", data(packed(flowers()), "../flowers")),
    "data: name script": Hostile(422, "POST", f"{API}/data", data(packed(flowers()), "<script>")),
    # Texts that grow
    "job: aliases": Hostile(422, "POST", f"{API}/runs", job(ALIAS_BOMB)),
    "job: loop": Hostile(422, "POST", f"{API}/runs", job(LOOP)),
    "job: deep": Hostile(422, "POST", f"{API}/runs", job(DEEP)),
    "job: tag": Hostile(422, "POST", f"{API}/runs", job(PYTHON_TAG)),
    "job: aliases as YAML": Hostile(422, "POST", f"{API}/runs", {"content": ALIAS_BOMB, "headers": YAML}),
    "check: aliases": Hostile(413, "POST", f"{API}/jobs/check", job("x" * 70_000)),
    "profile: aliases": Hostile(422, "POST", f"{API}/profiles", {"json": {"profile": ALIAS_BOMB}}),
    "profile: loop": Hostile(422, "POST", f"{API}/profiles", {"json": {"profile": LOOP}}),
    "profile: tag": Hostile(422, "POST", f"{API}/profiles", {"json": {"profile": PYTHON_TAG}}),
    "JSON: deep": Hostile(422, "POST", f"{API}/runs", {"content": "[" * 30_000, "headers": JSON}),
    "JSON: deep, resume": Hostile(400, "POST", f"{RUN}/resume", {"content": "[" * 30_000, "headers": JSON}),
    # Wrong types
    "JSON: no object": Hostile(422, "POST", f"{API}/jobs/edit", {"content": "[" * 30_000, "headers": JSON}),
    "edit: no JSON": Hostile(415, "POST", f"{API}/jobs/edit", {"content": "job: a", "headers": YAML}),
    "job: many runs": Hostile(
        422, "POST", f"{API}/runs", job(f"{SMALL_JOB}warm_start: [{', '.join(f'x{i}' for i in range(9000))}]\n")
    ),
    "job: many keys": Hostile(422, "POST", f"{API}/runs", job("".join(f"k{i}: 1\n" for i in range(6000)))),
    "no JSON": Hostile(422, "POST", f"{API}/runs", {"content": b"{", "headers": JSON}),
    "no text": Hostile(422, "POST", f"{API}/runs", {"content": b"\xff\xfe\x00", "headers": YAML}),
    "a pickle": Hostile(
        415, "POST", f"{API}/runs",
        {"content": sent_files.pickled(MARK), "headers": {"content-type": "application/octet-stream"}},
    ),
    "no media type": Hostile(415, "POST", f"{API}/runs", {"content": SMALL_JOB}),
    "job: a list": Hostile(422, "POST", f"{API}/runs", {"json": {"job": [1, 2]}}),
    "job: a number": Hostile(422, "POST", f"{API}/runs", {"json": {"job": 5}}),
    "job: more keys": Hostile(422, "POST", f"{API}/runs", job(SMALL_JOB, run="made-1")),
    "job: wrong kind": Hostile(422, "POST", f"{API}/runs", job(SMALL_JOB, kind="shell")),
    "job: infinity": Hostile(422, "POST", f"{API}/runs", job(SMALL_JOB.replace("evaluations: 30", "evaluations: .inf"))),
    "job: surrogates": Hostile(
        422, "POST", f"{API}/runs",
        {"content": b'{"job": {"name": "\\ud800"}}', "headers": JSON},
    ),
    "resume: injection": Hostile(422, "POST", f"{RUN}/resume", {"json": {"evaluations": "+50 --store x"}}),
    "resume: option": Hostile(422, "POST", f"{RUN}/resume", {"json": {"minutes": "--inline"}}),
    "export: both": Hostile(422, "POST", f"{RUN}/exports", {"json": {"select": "macs<=1", "index": 0}}),
    "export: option": Hostile(422, "POST", f"{RUN}/exports", {"json": {"select": "--output=/etc/x"}}),
    "export: beyond": Hostile(422, "POST", f"{RUN}/exports", {"json": {"index": 1000}}),
    "page: negative": Hostile(422, "GET", f"{RUN}/evaluations?offset=-1"),
    "page: huge": Hostile(422, "GET", f"{RUN}/evaluations?limit=100000000"),
    "select: code": Hostile(422, "GET", f"{RUN}/front?select=__import__('os')"),
    "profile: ssh": Hostile(
        422, "POST", f"{API}/profiles", {"json": {"profile": "name: evil\nssh: -oProxyCommand=touch\n"}}
    ),
    "profile: a class as its runtime": Hostile(
        422, "POST", f"{API}/profiles", {"json": {"profile": "name: evil\nruntime: antigravity:fly\n"}}
    ),
    "profile: ssh host": Hostile(422, "POST", f"{API}/profiles", {"json": {"profile": "name: evil\nssh: me@elsewhere\n"}}),
    "profile: script": Hostile(422, "POST", f"{API}/profiles", {"json": {"profile": "name: <script>\n"}}),
    "measurement: up": Hostile(404, "POST", f"{API}/profiles/..%2fx/measurements", model(b"x")),
    "profile: a list": Hostile(422, "POST", f"{API}/profiles", {"json": {"profile": "name: [a]\n"}}),
    "profile: a mapping": Hostile(422, "POST", f"{API}/profiles", {"json": {"profile": "name: {a: b}\n"}}),
    "profile: taken": Hostile(409, "POST", f"{API}/profiles", {"json": {"profile": "name: cpu-1-thread\nthreads: 64\n"}}),
    # Files that are something else
    "model: pickle": Hostile(422, "POST", MEASURE, model(sent_files.pickled(MARK))),
    "model: torch": Hostile(422, "POST", MEASURE, model(sent_files.torch_file(MARK))),
    "model: empty": Hostile(422, "POST", MEASURE, model(b"")),
    "model: half": Hostile(422, "POST", MEASURE, model(sent_files.SENTINEL[: len(sent_files.SENTINEL) // 2])),
    "model: zeros": Hostile(422, "POST", MEASURE, model(bytes(1000))),
    "model: large": Hostile(413, "POST", MEASURE, model(bytes(3 * 2**20))),
    "model: missing": Hostile(422, "POST", MEASURE, {"files": {"other": ("x", b"x")}}),
    "model: a field": Hostile(422, "POST", MEASURE, {"data": {"model": "text"}}),
    "data: pickle": Hostile(422, "POST", f"{API}/data", data(sent_files.pickled(MARK))),
    "data: torch": Hostile(422, "POST", f"{API}/data", data(sent_files.torch_file(MARK))),
    "data: up": Hostile(422, "POST", f"{API}/data", data(packed({**flowers(), "../../evil.png": image()}))),
    "data: absolute": Hostile(422, "POST", f"{API}/data", data(packed({**flowers(), "/tmp/x/evil.png": image()}))),
    "data: link": Hostile(422, "POST", f"{API}/data", data(sent_files.with_link())),
    "data: bomb": Hostile(413, "POST", f"{API}/data", data(sent_files.bomb(1))),
    "data: large": Hostile(413, "POST", f"{API}/data", data(bytes(3 * 2**20))),
    "data: many": Hostile(413, "POST", f"{API}/data", data(packed({f"a/{i}.png": image() for i in range(60)}))),
    "data: pixels": Hostile(413, "POST", f"{API}/data", data(packed({"a/1.png": sent_files.claiming(9000, 9000)}))),
    "data: script": Hostile(422, "POST", f"{API}/data", data(packed({**flowers(), "a/x.html": b"<script>"}))),
    "data: half": Hostile(422, "POST", f"{API}/data", data(packed(flowers())[:-40])),
    "form: cut": Hostile(
        422, "POST", f"{API}/data",
        {"content": b"--x\r\nContent-Disp", "headers": {"content-type": "multipart/form-data; boundary=x"}},
    ),
    "form: no boundary": Hostile(
        400, "POST", f"{API}/data", {"content": b"--x", "headers": {"content-type": "multipart/form-data"}}
    ),
    # Bodies, hosts and origins
    "body: large": Hostile(413, "POST", f"{API}/runs", {"content": b"x" * 70_000, "headers": YAML}),
    "body: large for a profile": Hostile(413, "POST", f"{API}/profiles", {"content": b"x" * 70_000, "headers": JSON}),
    "body: large, no route": Hostile(413, "POST", "/nowhere", {"content": b"x" * 70_000}),
    "host: other": Hostile(400, "GET", f"{API}/runs", {"headers": {"host": "evil.example"}}),
    "host: other, health": Hostile(400, "GET", f"{API}/health", {"headers": {"host": "evil.example:8700"}}),
    "host: ours in front": Hostile(400, "GET", f"{API}/runs", {"headers": {"host": "127.0.0.1.evil.example"}}),
    "host: user": Hostile(400, "GET", f"{API}/runs", {"headers": {"host": "127.0.0.1@evil.example"}}),
    "host: outside": Hostile(400, "GET", f"{API}/runs", {"headers": {"host": "93.184.216.34"}}),
    "host: empty": Hostile(400, "GET", f"{API}/runs", {"headers": {"host": ""}}),
    "origin: other": Hostile(403, "POST", f"{API}/runs", {"headers": {"origin": "http://evil.example"}}),
    "origin: null": Hostile(403, "DELETE", RUN, {"headers": {"origin": "null"}}),
    "origin: other port": Hostile(403, "POST", f"{RUN}/cancel", {"headers": {"origin": "http://127.0.0.1:9000"}}),
    "site: cross": Hostile(403, "POST", f"{API}/runs", {"headers": {"sec-fetch-site": "cross-site"}}),
    "site: same": Hostile(403, "DELETE", RUN, {"headers": {"sec-fetch-site": "same-site"}}),
    "login: cross": Hostile(403, "POST", "/login", {"headers": {"sec-fetch-site": "cross-site"}, "data": {"token": "x"}}),
    "token: wrong": Hostile(401, "GET", f"{API}/runs", {"headers": {"authorization": "Bearer nas_x"}}),
    "token: basic": Hostile(401, "GET", f"{API}/runs", {"headers": {"authorization": "Basic YTpi"}}),
    "token: empty": Hostile(401, "GET", f"{API}/runs", {"headers": {"authorization": "Bearer "}}),
    "method: other": Hostile(405, "PUT", f"{API}/runs"),
    "method: trace": Hostile(405, "TRACE", f"{API}/runs"),
    "path: elsewhere": Hostile(404, "GET", "/../../etc/passwd"),
    "path: redoc": Hostile(404, "GET", "/redoc"),
}  # fmt: skip


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with a search, and what it may not touch beside it."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "secret.txt").write_text("secret")
    runs = RunsFolder(root / "runs")
    runs.check_writable()
    searched(runs, n=20)
    settings = ServiceSettings(runs, limits=LIMITS)
    for folder in (settings.folder, settings.uploads, *(settings.uploads / n for n in ("data", "models", "profiles"))):
        folder.mkdir(exist_ok=True)
    state = ServiceState.open(settings.database)
    jobs = Jobs()
    app = create_app(Service(settings, state, jobs), settings)
    yield app, root, jobs
    state.close()


@pytest.fixture
def app(guarded: Any) -> FastAPI:
    return guarded[0]  # type: ignore[no-any-return]


def kept(root: Path) -> dict[str, bytes | None]:
    """Everything that a server keeps, but for what SQLite makes beside a database to read it."""
    return {
        name: content
        for name, content in tree(root).items()
        if not name.endswith(("-shm", "-wal")) and "audit" not in name
    }


@pytest.mark.parametrize("request_", HOSTILE.values(), ids=HOSTILE)
def test_hostile_requests_are_rejected_and_nothing_is_written(guarded: Any, request_: Hostile) -> None:
    app, root, jobs = guarded
    before = kept(root)
    client = TestClient(app, base_url="http://127.0.0.1:8700", raise_server_exceptions=False, follow_redirects=False)
    answer = client.request(request_.method, request_.path, **request_.about)
    assert answer.status_code == request_.status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == request_.status
    path, _, code = found["type"].partition("#")
    assert (path, code in DESCRIPTIONS) in (("/problems", True), ("about:blank", False))
    assert "Traceback" not in answer.text
    assert str(root) not in answer.text
    text = found["detail"] + " ".join(error["message"] for error in found["errors"])
    own_words = re.sub(r"(?<!\w)'[^']*'", "", text)  # without what the client has sent
    assert re.search(r"(?<!\w)--[a-z]|\bnas [a-z]", own_words) is None
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert kept(root) == before
    assert not MARK.exists()
    assert jobs.started == {}


def test_the_table_refuses_what_it_should_and_not_everything(guarded: Any) -> None:
    app, _, _ = guarded
    client = TestClient(app, base_url="http://127.0.0.1:8700")
    for headers in (
        {"origin": "http://127.0.0.1:8700"},
        {"sec-fetch-site": "same-origin"},
        {"host": "localhost:1"},
        {},
    ):
        assert client.post(f"{API}/jobs/check", json={"job": SMALL_JOB}, headers=headers).json()["ok"] is True
    assert client.get(f"{API}/runs", headers={"sec-fetch-site": "cross-site"}).status_code == 200


Sent = Callable[[FastAPI], Any]
RAW: dict[str, tuple[int, list[tuple[bytes, bytes]], list[dict[str, Any]]]] = {
    "two hosts": (400, [HOST, (b"host", b"evil.example")], [piece(b"", more=False)]),
    "no host": (400, [], [piece(b"", more=False)]),
    "length and chunks": (
        400, [HOST, (b"content-length", b"5"), (b"transfer-encoding", b"chunked")], [piece(b"{}", more=False)],
    ),
    "two lengths": (400, [HOST, (b"content-length", b"2"), (b"content-length", b"9")], [piece(b"{}", more=False)]),
    "negative length": (400, [HOST, (b"content-length", b"-1")], [piece(b"{}", more=False)]),
    "length in words": (400, [HOST, (b"content-length", b"many")], [piece(b"{}", more=False)]),
    "length with a sign": (400, [HOST, (b"content-length", b"+5")], [piece(b"{}", more=False)]),
    "two tokens": (
        400, [HOST, (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], [piece(b"{}", more=False)],
    ),
    "endless chunks": (413, [HOST, FORM], [piece(b"x" * 10_000)] * 100),
    "more than promised": (413, [HOST, FORM, (b"content-length", b"10")], [piece(b"x" * 10_000)] * 100),
    "host of two lines": (400, [(b"host", b"127.0.0.1\r\nx: y")], [piece(b"{}", more=False)]),
    "host of no text": (400, [(b"host", b"\xff\xfe")], [piece(b"{}", more=False)]),
}  # fmt: skip


@pytest.mark.parametrize(("status", "headers", "messages"), RAW.values(), ids=RAW)
def test_requests_that_are_none_are_rejected(
    guarded: Any, status: int, headers: list[tuple[bytes, bytes]], messages: list[dict[str, Any]]
) -> None:
    app, root, _ = guarded
    before = kept(root)
    answer = send_raw(app, "POST", f"{API}/runs", headers=headers, messages=messages)
    assert (answer.status, answer.problem["status"]) == (status, status)
    assert kept(root) == before


@pytest.mark.parametrize("path", [f"{API}/runs", f"{API}/data", f"{RUN}/resume"])
def test_a_body_that_breaks_off_is_no_failure_and_leaves_nothing(
    guarded: Any, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, root, _ = guarded
    before = kept(root)
    headers = [HOST, FORM, (b"content-length", b"1000")]
    if path.endswith("data"):
        headers[1] = (b"content-type", b"multipart/form-data; boundary=x")
    start = b'--x\r\ncontent-disposition: form-data; name="archive"; filename="a.zip"\r\n\r\nPK'
    answer = send_raw(app, "POST", path, headers=headers, messages=[piece(start), dict(GONE)])
    assert answer.status in (0, 400)
    assert kept(root) == before
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_body_that_does_not_come_is_given_up(app: FastAPI) -> None:
    async def impatient(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, limited_body(scope, receive, replace(LIMITS, body_s=0.05)), send)

    answer = send_raw(impatient, "POST", f"{API}/runs", headers=[HOST, FORM], messages=[piece(b"{")], stall=True)
    assert answer.status == 408


def test_an_internal_error_discloses_nothing(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret is swordfish")

    monkeypatch.setattr(RunSummaries, "page", fails)
    client = TestClient(app, base_url="http://127.0.0.1:8700", raise_server_exceptions=False)
    answer = client.get(f"{API}/runs")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "swordfish" not in answer.text
    name = answer.headers["x-request-id"]
    assert name in answer.json()["detail"]
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert vars(record)["request"] == name
    assert record.exc_info is not None


def test_many_unknown_names_are_looked_up_a_few_times(guarded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app, _, _ = guarded
    listed, listing = [], RunsFolder.list

    def counted(folder: RunsFolder) -> Any:
        listed.append(folder)
        return listing(folder)

    monkeypatch.setattr(RunsFolder, "list", counted)
    client = TestClient(app, base_url="http://127.0.0.1:8700")
    names = ", ".join(f"x{i}" for i in range(3000))
    found = client.post(f"{API}/jobs/check", json={"job": f"{SMALL_JOB}warm_start: [{names}]\n"}).json()
    assert len(found["errors"]) == 50
    assert len(listed) == 1
