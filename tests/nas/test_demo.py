"""The demo keeps its word: the recipe ``digits-cnn`` as it ships, through Ray, to exported files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.nas import short_rounds

pytestmark = pytest.mark.ray

_PATIENCE_S = 600


def nas(folder: Path, *args: str) -> str:
    """What the command prints, with the measuring of the tests: they share a machine."""
    made = subprocess.run(
        short_rounds.command(*args),
        cwd=folder,
        env=short_rounds.environment(),
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
    )
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    nas(tmp_path, "init", "digits-cnn")
    made = json.loads(nas(tmp_path, "search", "digits-cnn.yaml", "--json"))
    assert made["evaluations"] == 60
    assert len(made["front"]) >= 6
    shown = json.loads(nas(tmp_path, "show", "digits-cnn-1", "--json"))
    assert shown["distinguishable"] == {"accuracy": True, "latency_ms@cpu-1-thread": True}
    for index in (0, len(made["front"]) - 1):
        path = f"member-{index}.onnx"
        exported = json.loads(nas(tmp_path, "export", "digits-cnn-1", "--index", str(index), "-o", path, "--json"))
        assert exported["parity"] <= 1e-4
        assert exported["values"] == made["front"][index]["values"]
