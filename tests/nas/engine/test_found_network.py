"""The network that a training finds: it is told, and a search evaluates it before those that it chooses itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import parse_job
from nas.runs.driver import run as search
from nas.runs.run import Run
from supernets.space import Architecture
from supernets.training.checkpoint import FOUND, read_progress
from tests.nas.commands import SMALL_JOB
from tests.nas.runs.test_driver import Notes

JOB = re.sub("training: .*", "training: {strategy: differentiable, target: 0.4, epochs: 1, batch_size: 512}", SMALL_JOB)
JOB = JOB.replace("latency_ms", "macs").replace("hardware: [cpu-1-thread]\n", "")
JOB = JOB.replace("evaluations: 30, batch: 7", "evaluations: 4, batch: 2")


@pytest.mark.slow
def test_searches_evaluate_it_first(tmp_path: Path) -> None:
    notes, runs = Notes(), RunsFolder(tmp_path / "runs")

    def searched(text: str) -> tuple[Run, list[Architecture]]:
        run = search(parse_job(text, source="job.yaml"), RunOptions(runs, inline=True, observer=notes))
        with run.store() as store:
            return run, [network for ask in store.asks() for network in ask]

    run, asked = searched(JOB)
    found = Architecture.parse(read_progress(run.folder.checkpoint)[FOUND])
    assert asked[2] == found  # after the smallest and the largest
    assert any(found.key in note for note in notes.notes)
    _, asked = searched(re.sub(r"supernet:\n(  .*\n)+", f"supernet: {{from: {run.id}}}\n", JOB))
    assert asked[2] == found
