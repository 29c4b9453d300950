"""The whole path for sentences and a model of the transformers library: search, export, script, without its folder."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nas.commands import Shell
from tests.supernets.networks.capture.encoders import SENTENCES, TOKENS, saved

JOB = """
name: animals
data: {{name: text-classification, path: animals.csv, validation: 0.25, test: 0.25, max_tokens: {tokens}}}
supernet: {{model: "transformers:bert", widths: [0.5, 1]}}
training: {{epochs: 1, batch_size: 16}}
hardware: [cpu-1-thread]
calibration_images: 20
search: {{algorithm: random, evaluations: 3, batch: 3}}
"""


@pytest.mark.slow
def test_a_folder_of_transformers_is_searched_and_exported_for_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(tmp_path, capsys, monkeypatch)
    saved(tmp_path / "bert")
    with (tmp_path / "animals.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows((f"{text} {n}", "cat" if "cat" in text else "other") for n in range(12) for text in SENTENCES)
    (tmp_path / "job.yaml").write_text(JOB.format(tokens=TOKENS))
    searched = shell.nas("search", "job.yaml", "--inline")
    assert searched.code == 0
    assert "classifier is fresh" in searched.err
    shutil.rmtree(tmp_path / "bert")
    made = shell.nas("export", "animals-1", "-o", tmp_path / "animals.onnx", "--json").data
    assert (made["as_measured"], made["parity"] < 1e-4) == (1.0, True)
    manifest = json.loads((tmp_path / "animals.json").read_text())
    assert manifest["input"]["shape"] == ["batch", "tokens"]
    answered = subprocess.run(
        [sys.executable, tmp_path / "animals.predict.py", SENTENCES[0], "rain"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.partition(":")[0] for line in answered.stdout.splitlines()] == [SENTENCES[0], "rain"]
