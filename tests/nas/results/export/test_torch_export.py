"""`nas export --format torch`: a Python file that runs in a process without this project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.trained_run import load_trained_run
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH
from nas.runs.run import Run
from supernets.space import Architecture
from supernets.training.recalibration import recalibrate
from tests.nas.commands import SMALL_JOB, Shell
from tests.nas.users_networks import MODEL, forgotten, installed

OWN = f"""
name: own
seed: 3
data: {{name: digits, validation: 0.25, test: 0.25}}
supernet: {{model: "{MODEL}"}}
training: {{epochs: 1, random_subnets: 1}}
search: {{algorithm: random, evaluations: 3, batch: 3}}
calibration_images: 100
"""
SCRIPT = """
import sys
import torch
from safetensors.torch import load_file, save_file
sys.path.insert(0, sys.argv[1])
from {module} import CLASSES, load
network = load()
assert type(network).__name__ == "Network" and len(CLASSES) == 10
assert not {{"nas", "supernets"}} & set(sys.modules)
save_file({{"y": network(load_file("x.safetensors")["x"]).detach()}}, "y.safetensors")
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


def outputs_of(file: Path, x: torch.Tensor, folder: Path) -> torch.Tensor:
    """What the written network computes in a process of its own, without the project on its path."""
    save_file({"x": x.contiguous()}, folder / "x.safetensors")
    (folder / "use.py").write_text(SCRIPT.format(module=file.stem))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "use.py", str(file.parent)], cwd=folder, env=environment, check=True, capture_output=True
    )
    return load_file(folder / "y.safetensors")["y"]


def checked(shell: Shell, run: str, *arguments: str) -> dict[str, object]:
    """The answer of an export whose file computes what the run's network does."""
    made = shell.nas("export", run, "--format", "torch", *arguments, "--json")
    assert made.code == 0, made.err
    opened = Run.open(RunsFolder(shell.folder / "runs"), run)
    trained = load_trained_run(opened)
    supernet = trained.checkpoint.supernet
    network = Architecture.parse(made.data["key"])
    batches = trained.data.calibration.split(CALIBRATION_BATCH)
    module = recalibrate(supernet.extract(network), batches).eval()
    x = trained.data.dataset.test.inputs[:5]
    with torch.no_grad():
        expected = module(x)
    found = outputs_of(shell.folder / made.data["path"], x, shell.folder)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    answer: dict[str, object] = made.data
    return answer


@pytest.mark.slow
def test_a_users_model_is_written_as_torch_layers_that_run_without_the_project(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = installed(tmp_path, monkeypatch)
    assert shell.nas("search", shell.job(OWN), "--inline").code == 0
    forgotten(module, monkeypatch)
    made = checked(shell, "own-1", "-o", "written")
    path = tmp_path / str(made["path"])
    assert path.stem.isidentifier()
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert set(manifest["files"]) == {path.name, path.with_suffix(".safetensors").name}
    assert manifest["preprocessing"]["kind"] == "image"
    again = shell.nas("export", "own-1", "--format", "torch", "-o", "written")  # replaces it
    assert again.code == 0
    assert "use it: from own_1_" in again.out
    ends = {"smallest": "stem.weight is 8x1x3x3 instead of 16x1x3x3", "largest": ""}
    report = Run.open(RunsFolder(tmp_path / "runs"), "own-1").report
    keys = {name: point.key for name, point in report.anchors.items() if name in ends}
    for name, key in keys.items():
        original = str(checked(shell, "own-1", "--select", f"key={key}", "-o", f"{name}.py")["original"])
        assert original.startswith(ends[name])
        assert bool(original) is (name == "smallest")
    (tmp_path / "mine.py").write_text("")
    assert shell.nas("export", "own-1", "--format", "torch", "-o", "mine.py").error == "file.exists"
    assert shell.nas("export", "own-1", "--format", "torch", "-o", "mine.onnx").error == "export.invalid-path"
    assert shell.nas("export", "own-1", "--format", "keras").code == 2


@pytest.mark.slow
def test_a_network_of_a_shipped_family_is_written_too(shell: Shell) -> None:
    job = (
        SMALL_JOB.replace("evaluations: 30", "evaluations: 3")
        .replace("guided", "random")
        .replace("batch: 7", "batch: 3")
    )
    assert shell.nas("search", shell.job(job.replace("epochs: 4", "epochs: 1")), "--inline").code == 0
    assert "mobile-cnn" in str(checked(shell, "small-1", "-o", "written")["original"])
