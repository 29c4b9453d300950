"""The commands that make, list and revoke tokens."""

from __future__ import annotations

import getpass
import json

import pytest

from nas.engine.store.folder import RunsFolder
from nas.service.http.tokens import Tokens
from nas.service.people import Caller, Role
from nas.service.server_lock import exclusive
from nas.service.settings import ServiceSettings
from tests.nas.commands import Shell


def test_tokens_are_made_listed_and_revoked(shell: Shell) -> None:
    tokens = Tokens(shell.folder / "runs" / ".service" / "tokens.json")
    assert "nas token make" in shell.nas("token", "list").out
    made = shell.nas("token", "make", "ada", "--days", "7")
    secret = made.out.strip()
    assert tokens.holder(secret) == Caller("ada", Role.MEMBER)
    forever = shell.nas("token", "make", "bob", "--days", "0", "--json").data
    assert tokens.holder(forever["token"]) == Caller("bob", Role.MEMBER)
    listed = shell.nas("token", "list")
    assert secret not in listed.out
    rows = {row["name"]: row for row in shell.nas("token", "list", "--json").data}
    assert rows["bob"]["expires"] is None
    assert rows["ada"]["valid"] is True
    assert shell.nas("token", "revoke", "ada").code == 0
    assert tokens.holder(secret) is None
    again = shell.nas("token", "revoke", "ada")
    assert (again.code, again.out) == (1, "")
    assert "unknown token 'ada'" in again.err
    assert shell.nas("token", "revoke", "bob", "--json").data == {"revoked": "bob"}
    assert shell.nas("token", "make", "a b").code == 1


def test_a_server_told_half_of_two_things_is_refused(shell: Shell) -> None:
    for options in (["--certificate", "x.pem"], ["--address", "127.0.0.1:1"]):
        answer = shell.nas("serve", *options)
        assert answer.code == 1
        assert "needs both" in answer.err


@pytest.mark.parametrize("days", ["nan", "inf", "1e7", "-1"])
def test_tokens_last_for_a_time_that_can_be_told(shell: Shell, days: str) -> None:
    assert shell.nas("token", "make", "ada", "--days", days).code == 2
    assert shell.nas("token", "list", "--json").data == []


@pytest.mark.parametrize("name", ["https://nas.team.example", "nas.team.example:8700", "a b", "", "nas/x"])
def test_a_name_that_no_request_can_have_is_refused(shell: Shell, name: str) -> None:
    answer = shell.nas("serve", "--name", name)
    assert (answer.code, answer.error) == (1, "server.settings-invalid")
    assert f"--name {name!r}: " in answer.err


def test_a_folder_of_data_sets_that_is_none_is_refused(shell: Shell) -> None:
    shell.job(name="file")
    for root in ("missing", "file"):
        answer = shell.nas("serve", "--data-root", root)
        assert answer.code == 2
        assert root in answer.err


def test_ray_is_not_stopped_below_a_server_that_would_start_it_again(shell: Shell) -> None:
    assert shell.nas("serve", "--stop-ray").out == "Ray was not running\n"
    settings = ServiceSettings(RunsFolder(shell.folder / "runs"))
    settings.folder.mkdir(parents=True)
    with exclusive(settings):
        assert shell.nas("serve", "--stop-ray").error == "server.already-running"
    assert shell.nas("serve", "--stop-ray").out == "Ray was not running\n"


def test_commands_that_make_and_revoke_tokens_are_recorded(shell: Shell) -> None:
    shell.nas("token", "make", "ada", "--role", "administrator")
    shell.nas("token", "revoke", "ada")
    path = shell.folder / "runs" / ".service" / "audit.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(e["action"], e["thing"], e["address"]) for e in entries] == [
        ("make administrator token", "ada", ""),
        ("revoke token", "ada", ""),
    ]
    assert {e["who"] for e in entries} == {getpass.getuser()}
