"""Runs that earlier versions made are listed, shown, exported and resumed.

``tests/data/version-0.1`` holds a finished search with its checkpoint (three objectives, a constraint, two precisions; no
raw latency samples), a search of that supernet that was killed after 20 of 40 evaluations, and the outputs of version 0.1.

``tests/data/version-ae5ae97b`` was made before the networks of families became captured programs. It holds a finished search of
a convolutional family with a lookup table, a finished search of a language model with experts, and a search of a user's module
that was killed with a quarter of its evaluations done, with what that version made of them (`tests.data.earlier_runs`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.jobs.evaluation.scoring import scoring_environment
from tests.data.earlier_runs import ANY_LATENCY, outputs_for_fixed_inputs, read_record, read_rows, unpack_runs
from tests.nas.commands import Shell

OUTPUT_TOLERANCE = 1e-6
"""Relative to the largest output: some units in the last place of single precision."""
ASKS = "SELECT step, architectures FROM asks ORDER BY step"
MEASUREMENTS = "SELECT * FROM measurements ORDER BY rowid"


@dataclass(frozen=True)
class EarlierRuns:
    """The runs of an earlier version.

    Attributes:
        folder: beside `tests.data.earlier_runs`.
        finished: with their numbers of evaluations.
        killed: the run whose search was killed.
        n_done: its evaluations then.
        n_wanted: its evaluations at its end.
    """

    folder: str
    finished: Mapping[str, int]
    killed: str
    n_done: int
    n_wanted: int

    def unpack(self, target: Path) -> None:
        """Puts the runs into a folder.

        Accuracies scored by two versions of torch are never compared, so the killed run gets the environment of this process.
        """
        unpack_runs(self.folder, target)
        here = {"accuracy": scoring_environment() | {"threads": 1}}
        with closing(sqlite3.connect(target / "runs" / self.killed / "run.db")) as database, database:
            database.execute("UPDATE info SET value = ? WHERE name = 'machines'", [json.dumps(here)])


FIRST = EarlierRuns("version-0.1", {"digits-small-1": 18}, "digits-exact-1", 20, 40)
TRACED = EarlierRuns("version-ae5ae97b", {"cnn-1": 12, "texts-1": 6}, "users-1", 4, 16)
VERSIONS = {runs.folder: runs for runs in (FIRST, TRACED)}
FINISHED = [(version, run) for version, runs in VERSIONS.items() for run in runs.finished]


@pytest.fixture
def shell(version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A folder with the runs of an earlier version."""
    VERSIONS[version].unpack(tmp_path)
    # Its measurements and lookup tables are of the machine of that time.
    for module in ("hardware_profiles.lookup_table_file", "nas.jobs.evaluation.environments"):
        monkeypatch.setattr(f"{module}.differences", lambda was, now: [])
    return Shell(tmp_path, capsys, monkeypatch)


def without_sentences(value: Any) -> Any:
    """Printed data in which sentences, which later versions may reword, only count as present or not."""
    if isinstance(value, dict):
        return {k: v is None if k in ("refused", "reason") else without_sentences(v) for k, v in value.items()}
    return [without_sentences(item) for item in value] if isinstance(value, list) else value


def assert_outputs_equal(folder: Path, name: str, before: Mapping[str, list[float]]) -> None:
    """Asserts that the ONNX files of an export return what they returned before, by the ends of their names."""
    for end, outputs in before.items():
        outputs_now = np.array(outputs_for_fixed_inputs((folder / f"{name}{end}").read_bytes()))
        assert len(outputs_now) == len(outputs)
        difference = np.abs(outputs_now - outputs).max() / np.abs(outputs).max()
        assert difference <= OUTPUT_TOLERANCE, f"{name}{end}"


def assert_exported_as_before(shell: Shell, run: str, before: Mapping[str, Any]) -> None:
    """Asserts that an export has the facts and the outputs that an earlier version recorded."""
    answer = shell.nas("export", run, *before["arguments"], "-o", "m.onnx", "--json")
    assert answer.code == 0, answer.err
    now, printed = answer.data, before["printed"]
    assert set(now) >= set(printed)
    for key in ("key", "architecture", "precision", "values", "fidelity", "as_measured"):
        assert now[key] == printed[key], key
    assert now["parity"] <= 1e-4
    assert_outputs_equal(shell.folder, "m", before["outputs"])


@pytest.mark.parametrize("version", VERSIONS)
def test_runs_are_listed_with_their_states(shell: Shell, version: str) -> None:
    runs = VERSIONS[version]
    listed = {
        row["run"]: (row["status"], row["live"], row["done"], row["total"]) for row in shell.nas("runs", "--json").data
    }
    finished = {run: ("finished", False, n, n) for run, n in runs.finished.items()}
    assert listed == {**finished, runs.killed: ("running", False, runs.n_done, runs.n_wanted)}


@pytest.mark.parametrize(("version", "run"), FINISHED)
def test_a_finished_run_is_shown_as_before(shell: Shell, version: str, run: str) -> None:
    shown, before = shell.nas("show", run, "--json").data, read_record(version, run, "show")
    assert set(before) <= set(shown)
    for key in before.keys() - {"hypervolume"}:
        assert without_sentences(shown[key]) == without_sentences(before[key]), key
    # Another library computes the volume: equal up to the order of additions.
    assert np.array(shown["hypervolume"]["history"]) == pytest.approx(
        np.array(before["hypervolume"]["history"]), rel=1e-12
    )


@pytest.mark.parametrize(("version", "run"), FINISHED)
def test_networks_of_it_are_exported_as_before(shell: Shell, version: str, run: str) -> None:
    for before in read_record(version, run, "exports"):
        assert_exported_as_before(shell, run, before)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_killed_search_of_it_is_resumed(shell: Shell, version: str) -> None:
    runs = VERSIONS[version]
    database = shell.folder / "runs" / runs.killed / "run.db"
    asks, measurements = (read_rows(database, query) for query in (ASKS, MEASUREMENTS))
    assert len(asks) > 1
    resumed = shell.nas("resume", runs.killed, "--inline", "--json").data
    assert (resumed["status"], resumed["evaluations"]) == ("finished", runs.n_wanted)
    assert read_rows(database, "SELECT * FROM events WHERE kind = 'replay-differs'") == []
    assert read_rows(database, ASKS)[: len(asks)] == asks
    assert read_rows(database, MEASUREMENTS)[: len(measurements)] == measurements  # no network is measured twice


@pytest.mark.parametrize("version", [TRACED.folder])
class TestAUsersModel:
    """The killed search of a captured model, whose module is gone, beside its end in the version that made it."""

    def test_is_searched_to_the_same_end_and_exported_as_before(self, shell: Shell, version: str) -> None:
        before = read_record(version, TRACED.killed, "continued")
        assert shell.nas("resume", TRACED.killed, "--inline").code == 0
        database = shell.folder / "runs" / TRACED.killed / "run.db"
        assert [json.loads(architectures) for _, architectures in read_rows(database, ASKS)] == before["asks"]
        query = "SELECT architecture, metric, value FROM measurements WHERE fidelity = 'search'"
        values = {(architecture, metric): value for architecture, metric, value in read_rows(database, query)}
        assert values == {(architecture, metric): value for architecture, metric, value in before["values"]}
        for exported in read_record(version, TRACED.killed, "exports"):
            assert_exported_as_before(shell, TRACED.killed, exported)

    def test_has_the_blocks_of_an_earlier_lookup_table(self, shell: Shell, version: str) -> None:
        assert shell.nas("resume", TRACED.killed, "--inline").code == 0
        searched = shell.nas("search", "users-blocks.yaml", "--inline", "--json")
        assert searched.code == 0, searched.err
        # The last block ends with a global mean, which runtimes now compute as a pooling: the table estimates it by its costs.
        assert_blocks_as_before(shell, version, "users-blocks-1", estimated=["last"])


@pytest.mark.parametrize("version", [TRACED.folder])
class TestAFamily:
    """The finished search of a family with a lookup table."""

    def test_has_the_blocks_of_an_earlier_lookup_table(self, shell: Shell, version: str) -> None:
        assert_blocks_as_before(shell, version, "cnn-1")

    def test_is_extended(self, shell: Shell, version: str) -> None:
        database = shell.folder / "runs" / "cnn-1" / "run.db"
        measurements = read_rows(database, MEASUREMENTS)
        extended = shell.nas("resume", "cnn-1", "--evaluations", "+2", "--inline", "--json")
        assert extended.code == 0, extended.err
        assert extended.data["evaluations"] == TRACED.finished["cnn-1"] + 2
        assert read_rows(database, MEASUREMENTS)[: len(measurements)] == measurements


def assert_blocks_as_before(shell: Shell, version: str, run: str, estimated: Sequence[str] = ()) -> None:
    """Asserts that the most accurate network of a run has the costs and predicted latencies of blocks that were recorded.

    Args:
        estimated: blocks that the table lacks, whose latencies are near those that were recorded.
    """
    before = read_record(version, run, "blocks")
    selected = shell.nas("show", run, "--select", ANY_LATENCY, "--json").data
    assert selected["key"] == before["key"]
    assert any(block["predicted_latency_ms"] for block in before["blocks"])
    for block, recorded in zip(without_shares(selected["blocks"]), without_shares(before["blocks"]), strict=True):
        if block["block"] in estimated:
            (latency,), (old,) = (own.pop("predicted_latency_ms").values() for own in (block, recorded))
            assert latency == pytest.approx(old, rel=0.1)
        assert block == recorded


def without_shares(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blocks without their shares, which depend on the fit of a run's own measurements."""
    return [{key: value for key, value in block.items() if key != "share"} for block in blocks]
