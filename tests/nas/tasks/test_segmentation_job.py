"""Segmentation of scenes by a user's own network, from folders of images and masks to an exported file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.metrics import confusion_matrix

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.job_data import load_job_data
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job
from tests.dense_scenes import MASK_CLASSES, make_scenes, write_masks
from tests.nas.commands import Shell

NETWORK = """
import torch
from torch import nn
from torch.nn import functional

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Conv2d(32, 11, 1)

    def forward(self, x):
        return functional.interpolate(self.head(self.body(self.stem(x))), size=x.shape[2:], mode="bilinear")

def network():
    torch.manual_seed(0)
    return Network()
"""
JOB = """
name: seg
seed: 1
data: {name: segmentation-folder, path: scenes, image_size: 48, channels: 3, validation: 0.25, test: 0.25}
task: segmentation
supernet: {model: "own_segmenter:network"}
training: {epochs: 2, batch_size: 16, random_subnets: 1, augment: {shift: 4, flip: true}}
precisions: [fp32, int8]
objectives: [miou, macs]
constraints: {pixel_accuracy: {min: 0.01}}
search: {algorithm: random, evaluations: 6, batch: 6}
calibration_images: 64
"""


@pytest.mark.slow
def test_class_maps_of_the_exported_file_have_the_miou_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(tmp_path, capsys, monkeypatch)
    write_masks({"": make_scenes(160)}, tmp_path / "scenes")
    (tmp_path / "own_segmenter.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    job = shell.job(JOB)
    assert shell.nas("search", job, "--inline").code == 0
    report = json.loads(shell.nas("show", "seg-1", "--json").out)
    assert (report["task"], report["scored"]) == ("segmentation", "miou")

    resolved = ResolvedJob(load_job(job), RunsFolder(tmp_path / "runs"))
    data = load_job_data(resolved, pretrained=None, trained_on=None).dataset
    for i, point in enumerate(report["front"]):
        exported = shell.nas("export", "seg-1", "-o", f"net{i}.onnx", "--index", str(i), "--json")
        assert exported.code == 0, exported.err
        assert json.loads(exported.out)["as_measured"] == 1
        session = onnxruntime.InferenceSession(tmp_path / f"net{i}.onnx")
        for part, values in ((data.validation, point["values"]), (data.test, point["test"])):
            (maps,) = session.run(None, {"input": part.inputs.numpy()})
            assert maps.dtype == np.uint8
            masks = part.labels.numpy()
            counted = masks != 255
            matrix = confusion_matrix(masks[counted], maps[counted], labels=range(len(MASK_CLASSES)))
            shared = np.diag(matrix)
            iou = (shared / (matrix.sum(0) + matrix.sum(1) - shared))[matrix.sum(1) > 0]
            assert values["miou"] == pytest.approx(iou.mean(), abs=1e-6)
