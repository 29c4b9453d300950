"""Runs that version 0.1 made are listed, shown, exported and resumed.

``tests/data/version-0.1`` holds a finished search with its checkpoint (three objectives, a constraint, two precisions; no
raw latency samples), a search of that supernet that was killed after 20 of 40 evaluations, and the outputs of version 0.1.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.evaluation.scoring import scoring_environment
from tests.nas.commands import Shell

DATA = Path(__file__).parents[1] / "data" / "version-0.1"
FINISHED, KILLED = "digits-small-1", "digits-exact-1"


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A folder with the runs of version 0.1."""
    with tarfile.open(DATA / "runs.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    # Accuracies scored by two versions of torch are never compared, so the killed run must look as if this one had scored it.
    here = {"accuracy": scoring_environment() | {"threads": 1}}
    with closing(sqlite3.connect(tmp_path / "runs" / KILLED / "run.db")) as database, database:
        database.execute("UPDATE info SET value = ? WHERE name = 'machines'", [json.dumps(here)])
    return Shell(tmp_path, capsys, monkeypatch)


def printed(name: str) -> Any:
    """What version 0.1 printed by ``--json``."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def without_sentences(value: Any) -> Any:
    """Printed data in which sentences, which later versions may reword, only count as present or not."""
    if isinstance(value, dict):
        return {k: v is None if k in ("refused", "reason") else without_sentences(v) for k, v in value.items()}
    return [without_sentences(item) for item in value] if isinstance(value, list) else value


def rows(folder: Path, run: str, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "runs" / run / "run.db")) as database:
        return database.execute(query).fetchall()


def test_runs_are_listed_with_their_states(shell: Shell) -> None:
    listed = {
        row["run"]: (row["status"], row["live"], row["done"], row["total"]) for row in shell.nas("runs", "--json").data
    }
    assert listed == {FINISHED: ("finished", False, 18, 18), KILLED: ("running", False, 20, 40)}


def test_a_finished_run_is_shown_as_before(shell: Shell) -> None:
    shown, before = shell.nas("show", FINISHED, "--json").data, printed("show")
    assert set(before) <= set(shown)
    for key in before.keys() - {"hypervolume"}:
        assert without_sentences(shown[key]) == without_sentences(before[key]), key
    # Another library computes the volume: equal up to the order of additions.
    assert np.array(shown["hypervolume"]["history"]) == pytest.approx(
        np.array(before["hypervolume"]["history"]), rel=1e-12
    )


def test_a_network_of_it_is_exported_as_before(shell: Shell) -> None:
    made, before = shell.nas("export", FINISHED, "--index", "0", "-o", "m.onnx", "--json").data, printed("export")
    assert set(made) >= set(before)
    for key in ("key", "architecture", "precision", "values", "fidelity", "as_measured"):
        assert made[key] == before[key], key
    assert made["parity"] <= 1e-4


def test_a_killed_search_of_it_is_resumed(shell: Shell) -> None:
    asked = "SELECT step, architectures FROM asks ORDER BY step"
    scored = "SELECT * FROM measurements ORDER BY rowid"
    asks, measured = (rows(shell.folder, KILLED, query) for query in (asked, scored))
    assert len(asks) > 3
    made = shell.nas("resume", KILLED, "--inline", "--json").data
    assert (made["status"], made["evaluations"]) == ("finished", 40)
    assert rows(shell.folder, KILLED, "SELECT * FROM events WHERE kind = 'replay-differs'") == []
    assert rows(shell.folder, KILLED, asked)[: len(asks)] == asks
    assert rows(shell.folder, KILLED, scored)[: len(measured)] == measured  # nothing measured is measured again
