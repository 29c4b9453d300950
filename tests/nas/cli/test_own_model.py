"""A user's model from its module to an exported network, and a run that continues without the module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nas.commands import Shell
from tests.nas.users_networks import MODEL, forgotten, installed

JOB = f"""
name: own
seed: 3
data: {{name: digits, validation: 0.25, test: 0.25}}
supernet: {{model: "{MODEL}", arguments: {{classes: 7}}}}
training: {{epochs: 1, random_subnets: 1}}
precisions: [fp32, int8]
search: {{algorithm: random, evaluations: 6, batch: 3}}
calibration_images: 300
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


@pytest.mark.slow
def test_a_users_model_is_searched_resumed_without_its_module_finetuned_and_exported(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, job = installed(tmp_path, monkeypatch), shell.job(JOB)
    planned = shell.nas("plan", job, "--inline", "--no-time", "--json").data
    assert planned["model"]["elastic_share_of_macs"] == 1
    assert "fixed, and why" in shell.nas("plan", job, "--inline", "--no-time").out
    made = shell.nas("search", job, "--inline", "--json")
    assert made.code == 0, made.err
    assert "head has 7 outputs" in made.err
    forgotten(module, monkeypatch)
    more = shell.nas("resume", "own-1", "--evaluations", "+4", "--inline", "--json")
    assert more.code == 0, more.err
    assert more.data["evaluations"] == 10
    exported = shell.nas("export", "own-1", "-o", "own.onnx", "--json")
    assert exported.code == 0, exported.err
    assert exported.data["parity"] < 1e-4
    tuned = shell.nas("finetune", "own-1", "--index", "0", "--epochs", "1", "--inline", "--json")
    assert tuned.code == 0, tuned.err
    fresh = shell.nas("plan", job, "--inline")
    assert fresh.error == "capture.unknown-model"


@pytest.mark.slow
def test_blocks_of_a_users_model_are_calibrated_and_predict_its_subnets(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch)
    job = JOB.replace("[fp32, int8]", "[fp32]")
    made = shell.nas("calibrate", "cpu-1-thread", "--job", shell.job(job), "--subnets", "6", "-o", "own.json", "--json")
    assert made.code == 0, made.err
    assert made.data["fits"]["fp32"]["n"] == 6
    searched = shell.nas("search", shell.job(f"{job}lookup_tables: [own.json]\n"), "--inline", "--json")
    assert searched.code == 0, searched.err
    blocks = shell.nas("show", "own-1", "--select", "latency_ms<=1000", "--json").data["blocks"]
    assert [block["block"] for block in blocks][-2:] == ["head", "in no block"]
    predicted = [block["predicted_latency_ms"]["cpu-1-thread"] for block in blocks if block["macs"]]
    assert sum(predicted) > 0  # the smallest may have been measured below 0 beside other processes
    assert sum(block["share"] for block in blocks) == pytest.approx(1)


def test_a_users_model_that_cannot_be_divided_is_not_calibrated(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch)
    job = JOB.replace(MODEL, "users_networks:Entangled").replace(", arguments: {classes: 7}", "")
    refused = shell.nas("calibrate", "cpu-1-thread", "--job", shell.job(job))
    assert refused.error == "lookup-table.no-blocks"
