"""A job of several runtimes through the commands: planned, searched, shown, exported in each; and jobs that cannot be done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from hardware_profiles.runtimes.openvino_runtime import OpenVino
from nas.plugins import Kind
from tests.nas.commands import SMALL_JOB, Shell, assert_error

pytest.importorskip("openvino")
RUNTIMES = ("onnxruntime", "openvino")
JOB = SMALL_JOB.replace("epochs: 4", "epochs: 1").replace(
    "{algorithm: guided, evaluations: 30, batch: 7}", "{algorithm: random, evaluations: 8, batch: 8}"
) + "runtimes: [onnxruntime, openvino]\n"  # fmt: skip


@pytest.mark.slow
def test_a_plan_times_the_ends_in_each_runtime(shell: Shell) -> None:
    made = shell.nas("plan", shell.job(JOB), "--inline", "--json").data
    alone = shell.nas("plan", shell.job(SMALL_JOB, "one.yaml"), "--no-time", "--json").data
    assert made["space"] == {"size": 2 * alone["space"]["size"], "choices": alone["space"]["choices"] + 1}
    for end in ("smallest", "largest"):
        found = {made[end][f"latency_ms@cpu-1-thread in {runtime}"] for runtime in RUNTIMES}
        assert len(found) == 2


@pytest.mark.slow
def test_a_search_over_runtimes_measures_scores_and_exports_in_each(shell: Shell) -> None:
    searched = shell.nas("search", shell.job(JOB), "--inline", "--json")
    assert searched.code == 0, searched.err
    shown = shell.nas("show", "small-1").out.splitlines()
    assert shown[1].split()[:3] == ["#", "network", "runtime"]
    report = shell.nas("show", "small-1", "--json").data
    ends = {name: point["architecture"]["runtime"] for name, point in report["anchors"].items()}
    assert ends == {"smallest": "onnxruntime", "largest": "openvino"}
    for name, point in report["anchors"].items():
        file = f"{name}.onnx"
        made = shell.nas("export", "small-1", "--select", f"key={point['key']}", "-o", file, "--json").data
        runtime = ends[name]
        assert (made["runtime"], made["as_measured"], made["agreement"]) == (runtime, 1, 1)
        manifest = json.loads((shell.folder / f"{name}.json").read_text())
        assert manifest["runtime"] == runtime
        assert manifest["measured_with"]["accuracy"]["protocol"] == f"recalibrated-top1-{runtime}/v1"
        for metric in ("accuracy", "latency_ms@cpu-1-thread"):
            environment = manifest["measured_with"][metric]["environment"]
            assert ("openvino" in environment, "onnxruntime" in environment) == (name == "largest", name == "smallest")
        parities = made.get("parity_in_runtimes", {})
        assert parities.keys() == ({"openvino"} if name == "largest" else set())
        assert all(0 <= parity < 1e-4 for parity in parities.values())
    job = yaml.safe_load(JOB) | {"supernet": {"from": "small-1"}, "warm_start": ["small-1"], "name": "again"}
    job["search"] = {"algorithm": "random", "evaluations": 2}
    again = shell.nas("search", shell.job(yaml.safe_dump(job), "again.yaml"), "--inline", "--json")
    assert again.code == 0, again.err
    assert "warm start from small-1: 8 networks are known" in again.err


def test_jobs_that_cannot_be_done(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*parts: str, code: str, **changes: object) -> None:
        job = yaml.safe_load(JOB) | changes
        assert_error(shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline"), *parts, code=code)

    refused(
        "runtimes[1]",
        "openvin",
        "did you mean 'openvino'",
        code="job.unknown-name",
        runtimes=["onnxruntime", "openvin"],
    )
    refused("runtimes[1]", "occurs twice", code="job.duplicate", runtimes=["openvino", "openvino"])
    refused("lookup_tables", "one runtime", code="job.conflict", lookup_tables=["table.json"])
    refused("runtimes", "cuda", "on a CPU only", code="profile.unknown-runtime", hardware=["cuda"])
    refused("nowhere", code="profile.unknown-runtime", runtimes=["onnxruntime", "nowhere:Mine"])
    refused(
        "precisions",
        "bf16",
        "in fp32 arithmetic",
        code="job.precision-unavailable",
        precisions=["bf16"],
        runtimes=["openvino"],
    )

    def missing(self: OpenVino) -> str:
        raise ImportError("No module named 'openvino'")

    monkeypatch.setattr(OpenVino, "version", missing)
    refused("runtimes", "pip install openvino", code="model.runtime-missing")


def test_a_package_registers_a_runtime() -> None:
    assert Kind.RUNTIMES.group == "subnet_nas.runtimes"
