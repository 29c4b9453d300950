"""What a search takes, beside what the plan of its job stated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nas.commands import SMALL_JOB, Shell

TEXT = SMALL_JOB.replace("guided, evaluations: 30", "random, evaluations: 4").replace("epochs: 4", "epochs: 1")
PARTS = {"start", "training", "search", "final", "report"}


@pytest.mark.slow
def test_a_search_ends_with_what_it_took_beside_its_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(tmp_path, capsys, monkeypatch)
    job = shell.job(TEXT)
    plan = shell.nas("plan", job, "--inline", "--json").data
    printed = shell.nas("search", job, "--inline").out
    for text in ("taken", "planned", "report", "total", "peak memory"):
        assert text in printed
    [run] = shell.runs()
    usage = shell.nas("show", run, "--json").data["usage"]
    assert usage["planned"] == {key: plan[key] for key in ("time", "memory")}
    assert usage["time"].keys() == PARTS - {"report"}
    assert plan["time"].keys() == PARTS | {"total"}
    assert min(usage["time"].values()) > 0
    assert usage["peak_mib"] > 100
    # Another job has no plan.
    other_job = shell.job(TEXT.replace("seed: 3", "seed: 4"))
    usage = shell.nas("search", other_job, "--inline", "--json").data["usage"]
    assert usage["planned"] is None
    assert usage["time"].keys() == PARTS
