"""A job of several precisions through the commands: planned, searched with exact objectives, exported as it was measured."""

from __future__ import annotations

import json

import pytest

from tests.nas.commands import SMALL_JOB, Shell

pytestmark = pytest.mark.slow

JOB = (
    SMALL_JOB.replace(
        "objectives: [accuracy, latency_ms]",
        "precisions: [fp32, int8]\nobjectives: [accuracy, latency_ms, activation_bytes, parameters]",
    )
    .replace("epochs: 4", "epochs: 2")
    .replace("{algorithm: guided, evaluations: 30, batch: 7}", "{algorithm: random, evaluations: 10, batch: 5}")
)


def test_a_plan_times_the_ends_in_each_precision(shell: Shell) -> None:
    made = shell.nas("plan", shell.job(JOB), "--inline", "--json").data
    alone = shell.nas("plan", shell.job(SMALL_JOB, "fp32.yaml"), "--no-time", "--json").data
    assert made["space"] == {"size": 2 * alone["space"]["size"], "choices": alone["space"]["choices"] + 1}
    for end in ("smallest", "largest"):
        assert {key for key in made[end] if key.startswith("latency")} == {
            "latency_ms@cpu-1-thread", "latency_ms@cpu-1-thread in int8",
        }  # fmt: skip
        assert made[end]["latency_ms@cpu-1-thread"] != made[end]["latency_ms@cpu-1-thread in int8"]


def test_a_search_over_precisions_exports_what_it_measured(shell: Shell) -> None:
    searched = shell.nas("search", shell.job(JOB), "--inline", "--json")
    assert searched.code == 0, searched.err
    front = shell.nas("show", "small-1", "--json").data["front"]
    shown = shell.nas("show", "small-1").out.splitlines()
    assert shown[1].split()[:3] == ["#", "network", "precision"]
    assert {line.split()[2] for line in shown[2 : 2 + len(front)]} == {"fp32", "int8"}
    by_precision = {point["architecture"]["precision"]: i for i, point in enumerate(front)}
    assert by_precision.keys() == {"fp32", "int8"}  # int8 has the fewer bytes, fp32 the better answers
    for precision, index in by_precision.items():
        made = shell.nas("export", "small-1", "--index", str(index), "-o", f"{precision}.onnx", "--json").data
        assert (made["precision"], made["as_measured"]) == (precision, 1)
        manifest = json.loads((shell.folder / f"{precision}.json").read_text())
        assert (manifest["precision"], manifest["as_measured"]) == (precision, 1)
