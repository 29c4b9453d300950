"""The audit log: its files, and what requests and commands write into it."""

from __future__ import annotations

import json
import multiprocessing
import stat
from pathlib import Path
from typing import Any

from nas.service.api import schemas
from nas.service.audit import AuditLog
from tests.nas.commands import SMALL_JOB
from tests.nas.service.sent_files import begun_capture
from tests.nas.service.team import Team


def test_entries_are_lines_of_json_that_only_the_servers_user_reads(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "new" / "audit.jsonl", clock=lambda: 12.5)
    log.record("ada", "member", "cancel run", "digits-1", status=200, address="10.0.0.7", request="0a")
    log.record("bob", "reader", "delete run", "é\n", "denied", status=403)
    assert stat.S_IMODE((tmp_path / "new" / "audit.jsonl").stat().st_mode) == 0o600
    first, second = (json.loads(line) for line in log.lines())
    assert first == {
        "time": 12.5,
        "who": "ada",
        "role": "member",
        "action": "cancel run",
        "thing": "digits-1",
        "outcome": "done",
        "status": 200,
        "address": "10.0.0.7",
        "request": "0a",
    }
    assert (second["thing"], second["outcome"]) == ("é\n", "denied")
    assert [entry.who for entry in log.entries()] == ["bob", "ada"]


def test_entries_are_found_by_person_action_thing_and_outcome(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.record("ada", "member", "cancel run", "digits-1")
    log.record("bob", "member", "delete run", "digits-12", "denied")
    for wanted, people in (
        ({"who": "bob", "action": "Delete", "thing": "12", "outcome": "denied"}, ["bob"]),
        ({"thing": "digits-1"}, ["bob", "ada"]),
        ({"thing": "DIGITS-12"}, ["bob"]),
        ({"who": "bo"}, []),  # a name is whole
        ({"outcome": "done"}, ["ada"]),
    ):
        assert [entry.who for entry in log.page(schemas.AuditQuery.model_validate(wanted)).entries] == people, wanted
    page = log.page(schemas.AuditQuery(offset=1, limit=1))
    assert (page.total, page.offset, [entry.who for entry in page.entries]) == (2, 1, ["ada"])


def test_full_files_are_rotated_and_the_oldest_removed(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=1000, max_files=3)
    for number in range(40):
        log.record("ada", "member", "submit run", f"digits-{number}")
    files = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    assert files == ["audit.1.jsonl", "audit.2.jsonl", "audit.jsonl"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.glob("*.jsonl"))
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())
    numbers = [int(entry.thing.removeprefix("digits-")) for entry in log.entries()]
    assert numbers == list(range(39, 39 - len(numbers), -1))
    assert 10 < len(numbers) < 40


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.record("ada", "member", "submit run", "digits-1")
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"time": 1, "wh\n[]\n{"other": 1}\n')
    log.record("bob", "member", "submit run", "digits-2")
    assert [entry.who for entry in log.entries()] == ["bob", "ada"]


def _write(path: Path, who: str) -> None:
    for number in range(50):
        AuditLog(path, max_bytes=3000, max_files=20).record(who, "member", "submit run", str(number))


def test_processes_lose_no_entry_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    processes = [multiprocessing.get_context("fork").Process(target=_write, args=(path, who)) for who in ("ada", "bob")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    entries = AuditLog(path, max_files=20).entries()
    for who in ("ada", "bob"):
        assert [int(entry.thing) for entry in entries if entry.who == who] == list(range(49, -1, -1))


def test_requests_are_recorded_with_their_sender(team: Team) -> None:
    client, headers = team.client, team.headers
    assert client.post("/api/v1/runs", json={"job": SMALL_JOB}, headers=headers["mia"]).status_code == 201
    assert team.send("mia", "POST", "/runs/small-2/cancel") == 200
    assert team.send("mia", "DELETE", "/runs/small-1") == 403
    assert team.send("bob", "POST", "/models", data={"name": "other"}, files={"model": begun_capture()}) == 201
    assert team.send("bob", "POST", "/runs", json={"job": "name: ["}) == 422
    assert team.send("ada", "DELETE", "/data/flowers") == 204
    assert team.send("bob", "PUT", "/runs/small-1/labels", json={}) == 200
    for path in ("/jobs/check", "/jobs/edit"):
        team.send("bob", "POST", path, json={"job": SMALL_JOB, "changes": {}})  # they store nothing
    team.send("bob", "GET", "/runs")
    client.post("/login", data={"token": headers["ada"]["authorization"].removeprefix("Bearer ")})
    entries = [(e["who"], e["role"], e["action"], e["thing"], e["outcome"]) for e in audited(team)]
    assert entries == [
        ("mia", "member", "submit run", "small-2", "done"),
        ("mia", "member", "cancel run", "small-2", "done"),
        ("mia", "member", "delete run", "small-1", "denied"),
        ("bob", "member", "add model", "other", "done"),
        ("bob", "member", "submit run", "", "failed"),
        ("ada", "administrator", "delete data set", "flowers", "done"),
        ("bob", "member", "label run", "small-1", "done"),
        ("ada", "administrator", "sign in", "", "done"),
    ]
    assert {e["address"] for e in audited(team)} == {"testclient"}


def test_refused_tokens_are_recorded_and_cannot_flood_the_log(team: Team) -> None:
    for _ in range(30):
        assert team.client.post("/login", data={"token": "nas_wrong"}).status_code == 303
        assert team.client.get("/api/v1/runs", headers={"authorization": "Bearer nas_wrong"}).status_code == 401
    entries = audited(team)
    assert 1 <= len(entries) <= 3
    assert {(e["who"], e["role"], e["action"], e["outcome"]) for e in entries} == {("", "", "sign in", "denied")}


def audited(team: Team) -> list[dict[str, Any]]:
    answer = team.client.get("/api/v1/audit.jsonl", headers=team.headers["ada"])
    return [json.loads(line) for line in answer.text.splitlines()]


def test_administrators_read_the_log(team: Team) -> None:
    for person in ("rita", "bob"):
        for path in ("/api/v1/audit", "/api/v1/audit.jsonl", "/audit"):
            assert team.client.get(path, headers=team.headers[person]).status_code == 403
        assert '<a href="/audit"' not in team.client.get("/", headers=team.headers[person]).text
    for number in range(3):
        team.send("bob", "PUT", "/runs/small-1/labels", json={"note": str(number)})
    team.send("bob", "DELETE", "/data/<b>")
    ada = team.nas_client("ada")
    assert ada.me() == schemas.Person(name="ada", role="administrator")
    page = ada.audit(action="label", limit=2)
    assert (page.total, len(page.entries)) == (3, 2)
    assert ada.audit(who="bob", outcome="failed").entries[0].thing == "<b>"
    assert ada.audit_lines().count("\n") == 4
    shown = team.client.get("/audit", headers=team.headers["ada"]).text
    assert shown.count("label run") == 3
    assert "&lt;b&gt;" in shown
    found = team.client.get("/audit?who=ada", headers=team.headers["ada"]).text
    assert "No entry matches the filter." in found
    assert "The log has 4 entries." in team.client.get("/audit?offset=9", headers=team.headers["ada"]).text


def test_failures_of_a_person_cannot_flood_the_log(team: Team) -> None:
    for _ in range(40):
        team.send("mia", "DELETE", f"/runs/{'x' * 5000}")
    assert team.send("mia", "DELETE", "/models/net") == 403
    assert team.send("bob", "DELETE", "/models/net") == 204
    assert team.client.post("/api/v1/runs", json={"job": SMALL_JOB}, headers=team.headers["mia"]).status_code == 201
    entries = audited(team)
    assert 10 <= len(entries) <= 25
    assert all(len(entry["thing"]) <= 200 for entry in entries)
    assert [(entry["who"], entry["outcome"]) for entry in entries[-2:]] == [("bob", "done"), ("mia", "done")]
