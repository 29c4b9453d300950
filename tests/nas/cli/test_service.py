"""The commands that make, list and revoke tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.service.tokens import Tokens
from tests.nas.commands import Shell


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


def test_tokens_are_made_listed_and_revoked(shell: Shell) -> None:
    tokens = Tokens(shell.folder / "runs" / ".service" / "tokens.json")
    assert "nas token make" in shell.nas("token", "list").out
    made = shell.nas("token", "make", "ada", "--days", "7")
    secret = made.out.strip()
    assert tokens.holder(secret) == "ada"
    forever = shell.nas("token", "make", "bob", "--days", "0", "--json").data
    assert tokens.holder(forever["token"]) == "bob"
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
    assert shell.nas("token", "make", "a b").code == 1


def test_a_server_told_half_of_two_things_is_refused(shell: Shell) -> None:
    for options in (["--certificate", "x.pem"], ["--address", "127.0.0.1:1"]):
        answer = shell.nas("serve", *options)
        assert answer.code == 1
        assert "needs both" in answer.err
