"""Roles and ownership: every route of the API that changes something, asked by a person of each role."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from nas.engine.store.folder import RunsFolder
from nas.service.api.schemas import JobSubmission
from nas.service.http.app import create_app
from nas.service.http.permissions import right_of
from nas.service.http.tokens import Tokens
from nas.service.ownership import Thing, ThingKind
from nas.service.people import Caller, Role, acting_as
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from tests.nas.commands import SMALL_JOB
from tests.nas.service.made_runs import searched, tree
from tests.nas.service.raw_requests import piece, send_raw
from tests.nas.service.sent_files import begun_capture
from tests.nas.service.team import BOB, ROLES, Team

ANYONE, MEMBERS, OWNER = {"rita", "mia", "bob", "ada"}, {"mia", "bob", "ada"}, {"bob", "ada"}
CHANGES = {
    ("POST", "/jobs/check"): ANYONE,
    ("POST", "/jobs/edit"): ANYONE,
    ("POST", "/jobs/plans"): MEMBERS,
    ("POST", "/runs"): MEMBERS,
    ("DELETE", "/runs/{run}"): OWNER,
    ("PUT", "/runs/{run}/labels"): OWNER,
    ("PUT", "/runs/{run}/queue"): OWNER,
    ("POST", "/runs/{run}/cancel"): OWNER,
    ("POST", "/runs/{run}/resume"): OWNER,
    ("POST", "/runs/{run}/exports"): MEMBERS,
    ("DELETE", "/runs/{run}/exports/{export}"): OWNER,
    ("POST", "/runs/{run}/artifacts"): MEMBERS,
    ("DELETE", "/runs/{run}/artifacts/{artifact}"): OWNER,
    ("POST", "/runs/{run}/finetunings"): MEMBERS,
    ("POST", "/tasks/{task}/cancel"): OWNER,
    ("POST", "/profiles"): MEMBERS,
    ("DELETE", "/profiles/{profile}"): OWNER,
    ("POST", "/profiles/{profile}/measurements"): MEMBERS,
    ("DELETE", "/profiles/{profile}/measurements/{measurement}"): OWNER,
    ("POST", "/data"): MEMBERS,
    ("DELETE", "/data/{name}"): OWNER,
    ("POST", "/models"): MEMBERS,
    ("DELETE", "/models/{name}"): OWNER,
}
"""Who may send each request about bob's things."""
NAMES = {
    "run": "small-1", "export": "export-0", "task": "export-0", "profile": "board", "measurement": "measurement-0",
    "artifact": "plots-0",
}  # fmt: skip


def stored(team: Team) -> dict[str, bytes | None]:
    """Everything in the runs folder but SQLite's shared memory, which readers change, and the audit log."""
    contents = tree(team.service.settings.runs.root)
    return {name: content for name, content in contents.items() if not name.endswith("-shm") and "audit" not in name}


def address(path: str) -> str:
    """The address of bob's thing of a route."""
    kind = "flowers" if path.startswith("/data") else "net"
    return path.format(**NAMES, name=kind, plan="plan-0")


def test_every_route_that_changes_something_is_listed_here(team: Team) -> None:
    described = team.client.get("/api/v1/openapi.json", headers=team.headers["rita"]).json()["paths"]
    changing = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, operations in described.items()
        for method in operations
        if method not in ("get", "head")
    }
    assert changing == set(CHANGES)


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_request_is_denied_to_those_without_its_right(team: Team, method: str, path: str) -> None:
    before = stored(team)
    for person in ROLES.keys() - CHANGES[method, path]:
        answer = team.client.request(method, f"/api/v1{address(path)}", headers=team.headers[person])
        assert answer.status_code == 403
        problem = answer.json()
        needed = "lacks the role member" if person == "rita" else "belongs to bob"
        assert needed in problem["detail"]
        assert person in problem["detail"]
        assert problem["type"] == f"/problems#access.{'role' if person == 'rita' else 'owner'}"
    assert stored(team) == before
    for person in CHANGES[method, path]:  # of the thing itself the first alone may have an answer of success
        assert team.send(person, method, address(path)) not in (401, 403)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/runs", "submit a run"),
        ("PUT", "/runs/small-1/labels", "label the run 'small-1'"),
        ("PUT", "/runs/small-1/queue", "prioritise the run 'small-1'"),
        ("DELETE", "/runs/small-1/exports/export-0", "delete the export 'export-0'"),
        ("POST", "/runs/small-1/exports", "add an export"),
        ("POST", "/data", "add a data set"),
        ("DELETE", "/data/flowers", "delete the data set 'flowers'"),
    ],
)
def test_a_refusal_states_what_the_role_is_needed_for(team: Team, method: str, path: str, expected: str) -> None:
    problem = team.client.request(method, f"/api/v1{path}", headers=team.headers["rita"]).json()
    assert f"lacks the role member, which is needed to {expected}; " in problem["detail"]


def test_a_reader_reads_everything(team: Team) -> None:
    paths = [
        "/runs",
        "/runs/small-1",
        "/data",
        "/models",
        "/profiles/board",
        "/tasks",
        "/jobs/plans/plan-0",
        "/metrics",
    ]
    for path in paths:
        assert team.send("rita", "GET", path) == 200


def test_a_person_changes_and_deletes_own_things(team: Team) -> None:
    assert team.send("bob", "PUT", "/runs/small-1/labels", json={"note": "mine"}) == 200
    assert team.send("bob", "POST", "/tasks/export-0/cancel") == 200
    for path in ("/data/flowers", "/models/net"):
        assert team.send("mia", "DELETE", path) == 403
        assert team.send("bob", "DELETE", path) == 204
    assert team.send("mia", "POST", "/models", data={"name": "net"}, files={"model": begun_capture()}) == 201
    assert team.send("bob", "DELETE", "/models/net") == 403  # the name is another person's now
    assert team.send("ada", "DELETE", "/models/net") == 204
    (profile,) = [p for p in team.service.hardware.list() if not p.shipped]
    assert profile.owner == "bob"


def test_the_owner_of_a_run_cancels_exports_that_others_made_of_it(team: Team, settings: ServiceSettings) -> None:
    with acting_as(Caller("mia", Role.MEMBER)):
        team.service.tasks.add("export-1", "export", "small-1", settings.folder / "export", [])  # type: ignore[arg-type]
    assert team.service.state.task("export-1").submitter == "mia"  # type: ignore[union-attr]
    assert team.send("bob", "POST", "/tasks/export-1/cancel") == 200


def test_runs_of_commands_are_the_administrators(team: Team, runs: RunsFolder) -> None:
    run = searched(runs).id
    assert team.send("bob", "DELETE", f"/runs/{run}") == 403
    assert team.send("ada", "DELETE", f"/runs/{run}") == 204
    assert team.send("bob", "DELETE", f"/runs/{run}") == 404  # nobody's


def test_the_local_user_of_a_server_without_tokens_may_do_everything(team: Team, settings: ServiceSettings) -> None:
    with TestClient(create_app(team.service, settings), base_url="http://127.0.0.1:8700") as local:
        assert local.delete("/api/v1/data/flowers").status_code == 204
        assert local.delete("/api/v1/models/net", headers=team.headers["mia"]).status_code == 403  # by its token


def test_the_body_of_a_denied_request_is_not_read(team: Team) -> None:
    def endless() -> Iterator[bytes]:
        yield b"-" * 1000
        raise AssertionError("read on")

    headers = {**team.headers["rita"], "content-type": "multipart/form-data; boundary=x", "content-length": "100000"}
    answer = team.client.post("/api/v1/data", content=json.dumps({}), headers=headers)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "thing"),
    [
        ("POST", "/api/v1/runs/exports/cancel", Thing(ThingKind.RUN, "exports")),
        ("DELETE", "/api/v1/runs/tasks/exports/e", Thing(ThingKind.TASK, "e")),
        ("PUT", "/api/v1/runs/jobs/labels", Thing(ThingKind.RUN, "jobs")),
        ("DELETE", "/api/v1/runs/r/anything/e", Thing(ThingKind.RUN, "r")),
    ],
)
def test_names_like_those_of_collections_are_names(method: str, path: str, thing: Thing) -> None:
    right = right_of(method, path)
    assert (right.role, right.thing, right.changes) == (Role.MEMBER, thing, True)


@pytest.mark.parametrize("path", ["/api/v1/settings", "/api/v1/people/ada", "/api/v1/jobs/stop", "/", "/runs.json"])
def test_changes_of_anything_else_are_for_administrators(path: str) -> None:
    assert right_of("POST", path).role is Role.ADMINISTRATOR
    assert right_of("DELETE", path).role is Role.ADMINISTRATOR


def test_tokens_of_earlier_versions_have_every_right(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    secret = tokens.make("ada", lifetime_s=None, role=Role.READER)
    stored = json.loads(tokens._path.read_bytes())
    del stored["tokens"][0]["role"]
    (tmp_path / "tokens.json").write_text(json.dumps(stored))
    assert Tokens(tmp_path / "tokens.json").holder(secret) == Caller("ada", Role.ADMINISTRATOR)


def test_a_database_of_version_1_is_upgraded(team: Team, tmp_path: Path) -> None:
    path = team.service.settings.database
    with sqlite3.connect(path) as connection:  # as version 0.1 made it
        connection.executescript(
            "DROP TABLE owners; DROP TABLE usage; DROP TABLE webhooks; DROP TABLE ends; DROP TABLE deliveries;"
            "ALTER TABLE tasks DROP COLUMN submitter; ALTER TABLE submissions DROP COLUMN priority;"
            "ALTER TABLE submissions DROP COLUMN place; ALTER TABLE submissions DROP COLUMN expected_s;"
            "UPDATE schema_version SET version = 1"
        )
    state = ServiceState.open(path)
    assert state.owners() == {}
    assert {task.submitter for task in state.tasks()} == {""}
    assert [submission.submitter for submission in state.submissions()] == ["bob"]
    state.close()
    assert team.send("bob", "DELETE", "/data/flowers") == 403  # nothing states whose it is
    assert team.send("bob", "POST", "/runs/small-1/cancel") == 200  # the submitter of a stored run is its owner
    assert team.send("ada", "DELETE", "/data/flowers") == 204


CONTROLS = {
    "/": 'data-action="cancel" data-run="small-1"',
    "/runs/small-1": 'data-action="label" data-run="small-1"',
    "/storage": 'data-path="/data/flowers"',
}
"""A control of bob's things on each page that has some."""


def test_pages_offer_what_their_reader_may_do(team: Team) -> None:
    for path, control in CONTROLS.items():
        shown = {person for person in ROLES if control in team.client.get(path, headers=team.headers[person]).text}
        assert shown == OWNER, path
    storage = {person: team.client.get("/storage", headers=team.headers[person]).text for person in ROLES}
    for path in (
        "/models/net",
        "/profiles/board",
        "/profiles/board/measurements/measurement-0",
        "/tasks/export-0/cancel",
    ):
        offered = {person for person, page in storage.items() if f'data-path="{path}"' in page}
        assert offered == (set() if "measurements" in path else OWNER), path  # it waits, and can be cancelled alone
    assert '<td role="cell" class="text" data-title="Owner">bob</td>' in storage["rita"]
    assert {person for person, page in storage.items() if "Upload one" in page} == MEMBERS


@pytest.mark.parametrize("path", ["/submit", "/hardware", "/hardware/board"])
def test_forms_are_disabled_for_readers(team: Team, path: str) -> None:
    pages = {person: team.client.get(path, headers=team.headers[person]).text for person in ROLES}
    assert {person for person, page in pages.items() if '<fieldset class="plain" disabled>' not in page} == MEMBERS


def test_pages_show_who_is_signed_in(team: Team, settings: ServiceSettings) -> None:
    for person, role in ROLES.items():
        assert f"{person} <small>{role}</small>" in team.client.get("/", headers=team.headers[person]).text
    with TestClient(create_app(team.service, settings), base_url="http://127.0.0.1:8700") as local:
        assert 'class="person"' not in local.get("/").text  # there is one user
    assert 'class="person"' not in team.client.get("/login").text


@pytest.mark.parametrize(
    ("method", "path", "change"),
    [
        ("PUT", "/runs/small-2/labels", {"tags": ["mine"]}),
        ("PUT", "/runs/small-2/queue", {"priority": "low"}),
        ("POST", "/runs/small-2/resume", {}),
    ],
)
def test_a_run_that_is_submitted_before_the_body_comes_is_not_changed(
    team: Team, method: str, path: str, change: object
) -> None:
    def body() -> Iterator[Message]:
        with acting_as(BOB):
            assert team.service.submissions.submit(JobSubmission(job=SMALL_JOB), "bob").run == "small-2"
        yield piece(json.dumps(change).encode(), more=False)

    sent = {"host": "10.0.0.5:8700", "content-type": "application/json", **team.headers["mia"]}
    headers = [(name.encode(), value.encode()) for name, value in sent.items()]
    answer = send_raw(team.client.app, method, f"/api/v1{path}", headers=headers, messages=body())
    assert (answer.status, answer.problem["type"].rpartition("#")[2]) == (403, "access.owner")
    assert team.service.runs.summary("small-2").tags == ()
    assert team.send("bob", "PUT", "/runs/small-2/labels", json={"tags": ["paper"]}) == 200
