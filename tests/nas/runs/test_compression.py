"""`nas.compress`: modules and examples from memory."""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import nas
from nas.engine.store.folder import RunsFolder
from nas.runs.compression import run as compression_run
from supernets.networks.capture.captured_model import load_capture
from tests.errors import raises
from tests.nas.short_rounds import take_short_rounds

OPTIONS = {"mean": [0.5], "std": [0.25]}


def module() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5)).eval()


@pytest.mark.slow
def test_a_module_is_compressed_on_images_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_short_rounds(monkeypatch)
    model, images = module(), np.random.default_rng(0).integers(0, 256, (90, 1, 8, 8), dtype=np.uint8)
    options = nas.RunOptions(RunsFolder(tmp_path / "runs"), observer=nas.ProgressObserver())
    path = tmp_path / "small.onnx"
    call = {"data_options": OPTIONS, "evaluations": 2, "options": options, "output": path}
    run = nas.compress(model, images, "latency_ms<=100", **call)
    inputs = run.examples().validation.inputs
    (outputs,) = onnxruntime.InferenceSession(path).run(None, {"input": inputs.numpy()})
    with torch.no_grad():
        agreement = float((torch.from_numpy(outputs).argmax(1) == model(inputs).argmax(1)).float().mean())
    assert agreement == pytest.approx(max(point.values["agreement"] for point in run.report.candidates))
    pixels = {image.tobytes() for image in ((images / 255 - 0.5) / 0.25).astype(np.float32)}
    assert all(image.tobytes() in pixels for image in inputs.numpy())
    again = nas.compress(model, images, **call)
    assert again.id == run.id
    (folder,) = (tmp_path / "runs").glob("examples-*")
    shutil.rmtree(folder)  # an export that follows does not read the examples a second time
    assert (
        again.export(tmp_path / "again.onnx", select="latency_ms<=100")["sha256"]
        == hashlib.sha256(path.read_bytes()).hexdigest()
    )
    assert nas.compress(model, images[:60], **call).id != run.id


@pytest.mark.parametrize(
    ("examples", "changes", "code"),
    [
        (np.zeros((9, 1, 8, 8), dtype=np.float32), {}, "job.invalid-value"),
        (np.zeros((9, 8, 8), dtype=np.uint8), {}, "job.invalid-value"),
        (np.zeros((9, 1, 8, 8), dtype=np.uint8), {"data_options": None}, "job.missing-key"),
        (np.zeros((9, 1, 8, 8), dtype=np.uint8), {}, "data.unsplittable"),
        (["one", "two\nlines"], {}, "job.invalid-value"),
        ("gone", {}, "job.missing-key"),
        ("gone", {"data_options": {**OPTIONS, "image_size": 8, "channels": 1}}, "data.missing"),
        (np.zeros((9, 1, 8, 8), dtype=np.uint8), {"limits": "soon"}, "selection.malformed"),
        (np.zeros((9, 1, 8, 7), dtype=np.uint8), {}, "job.invalid-value"),
        (np.zeros((9, 1, 8, 8), dtype=np.uint8), {"solve": True}, "selection.malformed"),
        (np.zeros((9, 1, 8, 8), dtype=np.uint8), {"limits": "latency_ms<=1", "output": "x.txt"}, "export.invalid-path"),
        (["one", "two"], {}, "job.invalid-value"),
        (torch.zeros(9, 1, 8, 8), {}, "job.invalid-value"),
    ],
)
def test_examples_that_cannot_be_used(tmp_path: Path, examples: Any, changes: dict[str, Any], code: str) -> None:
    options = nas.RunOptions(RunsFolder(tmp_path / "runs"), observer=nas.ProgressObserver())
    with raises(code):
        nas.compress(module(), examples, **{"data_options": OPTIONS, "options": options, **changes})


def test_a_model_that_is_neither_a_module_nor_a_name() -> None:
    model: Any = nn.Linear
    with raises("job.invalid-value", "model", "type"):
        nas.compress(model, np.zeros((9, 1, 8, 8), dtype=np.uint8))


def test_calls_at_once_write_their_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module while another call writes one of its class, whose modes stay, and equal images from several threads."""
    models, names = [module(), module()], list[str]()
    with torch.no_grad():
        models[1].get_parameter("0.weight").zero_()
    save = compression_run.save_capture

    def interrupted(path: Path, model: Any) -> None:
        save(path, model)
        if not names:
            names.append("")
            names[0] = compression_run._written_model(models[1], (1, 8, 8), tmp_path)

    monkeypatch.setattr(compression_run, "save_capture", interrupted)
    models[0].train()
    models[0].get_submodule("1").eval()
    names.append(compression_run._written_model(models[0], (1, 8, 8), tmp_path))
    assert [part.training for part in models[0].modules()] == [True, True, False, *[True] * 6]
    for name, model in zip(names, models[::-1], strict=True):
        assert any(
            torch.equal(tensor, model.state_dict()["0.weight"]) for tensor in load_capture(Path(name)).tensors.values()
        )
    images = np.arange(300 * 64, dtype=np.uint8).reshape(300, 1, 8, 8)
    with ThreadPoolExecutor(4) as pool:
        (folder,) = set(pool.map(lambda _: compression_run._written_examples(images, tmp_path), range(4)))
    assert len(list(folder.iterdir())) == 300
    assert not list(tmp_path.glob(".*"))
