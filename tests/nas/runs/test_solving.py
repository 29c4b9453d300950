"""Networks that nobody has measured: solved for limits, measured, exported, and kept by their run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import nas
from nas.runs import solving
from tests.nas.commands import Shell, assert_error

MODEL = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(32, 32, 3, padding=1, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(128, 10)).eval()
"""
JOB: dict[str, Any] = {
    "name": "solved", "seed": 1, "data": {"name": "digits", "validation": 0.25, "test": 0.25},
    "supernet": {"model": "solved_model:build", "granularity": "layer", "sharing": {"correction": "least-squares"}},
    "training": {"epochs": 0}, "objectives": ["accuracy", "latency_ms"], "calibration_images": 100,
    "search": {"algorithm": "random", "evaluations": 10},
}  # fmt: skip


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    (tmp_path / "solved_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    shell = Shell(tmp_path, capsys, monkeypatch)
    assert shell.nas("search", shell.job(yaml.safe_dump(JOB)), "--inline").code == 0
    return shell


@pytest.mark.slow
def test_a_network_is_solved_measured_exported_and_kept(shell: Shell) -> None:
    before = shell.nas("show", "solved-1", "--json").data
    smallest, largest = (
        before["anchors"][name]["values"]["latency_ms@cpu-1-thread"] for name in ("smallest", "largest")
    )
    # On some processors a call takes longer than these networks do, so that they hardly differ.
    select = f"latency_ms<={max(0.8 * largest, 1.1 * smallest)}, macs<=300000"
    answer = shell.nas("export", "solved-1", "--select", select, "--solve", "-o", "net.onnx", "--json").data
    solved = answer["solved"]
    assert solved["select"] == select
    assert solved["measured"]["macs"] == solved["predicted"]["macs"] <= 300000
    assert solved["gap"] == pytest.approx(0, abs=1e-3)
    if solved["key"] == solved["solved"]:
        assert answer["values"]["latency_ms@cpu-1-thread"] == solved["measured"]["latency_ms@cpu-1-thread"]
        assert json.loads((shell.folder / "net.json").read_text())["solved"] == solved
    after = shell.nas("show", "solved-1", "--json").data
    assert after["evaluations"] == before["evaluations"] + solved["n_measured"]
    again = shell.nas("export", "solved-1", "--select", "macs<=300000", "--solve", "-o", "again.onnx")
    assert again.code == 0
    assert "  macs: " in again.out
    run = nas.open_run("solved-1", shell.folder / "runs")
    exported = run.export(shell.folder / "third.onnx", select="macs<=300000", solve=True)
    assert exported["solved"]["measured"]["macs"] <= 300000
    assert exported["values"]["accuracy"] >= exported["solved"]["measured"]["accuracy"]
    after = shell.nas("show", "solved-1", "--json").data
    assert shell.nas("resume", "solved-1", "--inline", "--evaluations", "+2").code == 0
    assert shell.nas("show", "solved-1", "--json").data["evaluations"] >= after["evaluations"] + 2


@pytest.mark.slow
def test_the_next_network_is_tried_where_a_measurement_breaks_the_limit(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of costs that promises half of every latency."""
    fitted = solving.SolverFitting.solver

    def promising(*args: Any) -> Any:
        solver = fitted(*args)
        cost = solver.costs["latency_ms@cpu-1-thread"]
        object.__setattr__(cost, "weights", cost.weights / 2)
        object.__setattr__(cost, "offset", cost.offset / 2)
        object.__setattr__(cost, "by_level", ())
        return solver

    monkeypatch.setattr(solving.SolverFitting, "solver", promising)
    run = nas.open_run("solved-1", shell.folder / "runs")
    smallest, largest = (point.values["latency_ms@cpu-1-thread"] for point in run.report.anchors.values())
    solved = run.solve(f"latency_ms<={(smallest + largest) / 2}")
    point = next(p for p in run.report.candidates if p.key == solved["key"])
    assert point.values["latency_ms@cpu-1-thread"] <= (smallest + largest) / 2 + 0.01
    assert solved["n_measured"] >= 1


@pytest.mark.slow
def test_limits_that_cannot_be_solved_for_are_refused(shell: Shell) -> None:
    def refused(*options: str, code: str, mention: str) -> None:
        assert_error(shell.nas("export", "solved-1", "-o", "net.onnx", *options), mention, code=code)

    few = "--select", "macs<=10", "--solve"
    refused(*few, code="selection.nothing-satisfies", mention="the smallest has macs")
    refused("--select", "accuracy>=0.5", "--solve", code="selection.unknown-metric", mention="accuracy is no cost")
    refused("--select", "network=1", "--solve", code="selection.malformed", mention="names a measured network")
    assert "--solve takes limits" in shell.nas("export", "solved-1", "--solve").err
    assert shell.nas("train", shell.job(yaml.safe_dump({**JOB, "name": "trained"}))).code == 0
    trained = shell.nas("export", "trained-1", "--select", "macs<=300000", "--solve", "-o", "net.onnx")
    assert_error(trained, "first search it", code="run.not-a-search")
