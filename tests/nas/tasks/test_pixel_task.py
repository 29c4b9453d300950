"""A plug-in task with many outputs: encoders with a decoder that mark the pixels of Fashion-MNIST's garments."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml

from supernets.data.fashion_mnist import find
from tests.nas.commands import Shell, assert_error
from tests.plugin_packages import PluginPackages

TASK = '''
import numpy as np
import torch
from torch.nn import functional

from supernets.data import Part, head
from supernets.tasks import Metric, Score, Task


class Garments(Task):
    """Marks the pixels of garments before backgrounds of noise; scored by the overlap, the mean intersection over union."""

    name = "garments"
    metrics = (Metric("overlap", "share"),)
    targets = "masks"
    spatial = True
    verbs = ("marks", "marked")

    def prepared(self, data):
        parts = [self._masked(head(part, n), data.images, seed) for seed, (part, n) in
                 enumerate([(data.train, 1500), (data.validation, 300), (data.test, 300)])]
        return type(data)(data.name, *parts, ("garment",), data.format, targets="masks")

    def _masked(self, part, how, seed):
        pixels = part.inputs * how.std[0] + how.mean[0]
        mask = pixels > 0.05  # the images' own backgrounds are black
        noise = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(seed))
        inputs = torch.where(mask, pixels, noise)
        return Part.of((inputs - how.mean[0]) / how.std[0], mask.float(), names=part.names)

    def n_outputs(self, data):
        return 1

    def losses(self, outputs, targets):
        return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").flatten(1).mean(1)

    def score(self, metric, outputs, targets):
        marked, true = outputs > 0, targets > 0.5
        both, either = (x.reshape(len(x), -1).sum(1) for x in (marked & true, marked | true))
        overlaps = both / np.maximum(either, 1)
        return Score.of(float(overlaps.mean()), overlaps)
'''
FAMILY = '''
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from torch import nn

from supernets.families.registry import FamilyDescription
from supernets.families.convolutional.convolutional_family import ConvNormAct
from supernets.families.shared.spec import Options, Spec
from supernets.families.shared.spec_family import ImageFamily
from supernets.networks.resizing import resize


@dataclass(frozen=True)
class MarkerSpec(Spec):
    width: Annotated[tuple[int, ...], Options(256)]
    depth: Annotated[tuple[int, ...], Options(8)]


class Marker(nn.Module):
    """Halves the image, filters it, and doubles it again: (n, c, h, w) -> (n, outputs, h, w)."""

    def __init__(self, channels, width, depth, outputs, image_size):
        super().__init__()
        self.image_size = image_size
        self.encoder = nn.Sequential(ConvNormAct(channels, width, 3), ConvNormAct(width, width, 3, stride=2))
        self.middle = nn.Sequential(*(ConvNormAct(width, width, 3) for _ in range(depth)))
        self.decoder = ConvNormAct(width, width, 3)
        self.marks = nn.Conv2d(width, outputs, 1)

    def forward(self, x):
        return self.marks(self.decoder(resize(self.middle(self.encoder(x)), self.image_size)))


class MarkerFamily(ImageFamily):
    name = "marks:MarkerFamily"
    description = FamilyDescription(MarkerSpec, {"tiny": MarkerSpec(width=(4, 8, 16), depth=(1, 2))}, network=name)
    spec_type = MarkerSpec

    @cached_property
    def blocks(self):
        return ("encoder", *(f"middle.{i}" for i in range(self.spec.depth[-1])), "decoder", "marks")

    def template(self):
        return Marker(self.channels, self.spec.width[-1], self.spec.depth[-1], self.n_classes, self.image_size)

    def named_dims(self):
        layers = ("encoder.0", "encoder.1", *(f"middle.{i}" for i in range(self.spec.depth[-1])), "decoder")
        return {f"{layer}.conv.weight": ("width", ...) for layer in layers}

    def dropped(self, architecture):
        depth = self.space.values(architecture)["depth"]
        return frozenset(f"middle.{i}" for i in range(depth, self.spec.depth[-1]))
'''
JOB: dict[str, Any] = {
    "name": "marks",
    "data": {"name": "fashion-mnist"},
    "task": "marks:Garments",
    "supernet": {"family": "marks:MarkerFamily", "preset": "tiny"},
    "training": {"epochs": 2, "batch_size": 64, "random_subnets": 1},
    "objectives": ["overlap", "macs"],
    "constraints": {"overlap": {"min": 0.2}},
    "search": {"algorithm": "random", "evaluations": 4, "batch": 4},
    "calibration_images": 200,
}


@pytest.fixture
def shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, plugin_packages: PluginPackages
) -> Shell:
    plugin_packages.install("marks-kit", {"marks": TASK + FAMILY})
    return Shell(tmp_path, capsys, monkeypatch)


def answer_of(shell: Shell, *args: str) -> Any:
    """The JSON that a command prints."""
    answer = shell.nas(*args, "--json")
    assert answer.code == 0, answer
    return json.loads(answer.out)


def write_some(folder: Path) -> Path:
    """Some of Fashion-MNIST's images in files like its own: 1,800 to train and validate on, and 300 to test on."""
    source = find()
    assert source is not None
    folder.mkdir()
    for part, n in (("train", 1800), ("t10k", 300)):
        for kind, header, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
            name = f"{part}-{kind}-ubyte.gz"
            raw = gzip.decompress((source / name).read_bytes())
            some = raw[:4] + n.to_bytes(4, "big") + raw[8 : header + n * size]
            (folder / name).write_bytes(gzip.compress(some, 1))
    return folder


@pytest.mark.slow
@pytest.mark.skipif(find() is None, reason="needs Fashion-MNIST")
def test_pixels_are_marked_by_networks_that_are_trained_searched_and_exported(shell: Shell) -> None:
    data = {**JOB["data"], "path": str(write_some(shell.folder / "some")), "validation": 300}
    searched = shell.nas("search", shell.job(yaml.safe_dump({**JOB, "data": data})), "--inline")
    assert searched.code == 0, searched
    report = answer_of(shell, "show", "marks-1")
    assert (report["task"], report["scored"]) == ("marks:Garments", "overlap")
    assert report["objectives"][0] == {"name": "overlap", "unit": "share", "goal": "maximize"}
    best = answer_of(shell, "show", "marks-1", "--select", "overlap>=0.2")
    assert best["values"]["overlap"] > 0.6  # to mark every pixel overlaps by the garments' share of about 0.5
    assert 0 < best["errors"]["overlap"] < 0.05
    assert set(best["test"]) == {"overlap", "error"}
    text = shell.nas("show", "marks-1").out
    assert f"{100 * best['values']['overlap']:.1f} ±" in text
    assert "test overlap" in text
    made = shell.nas("export", "marks-1", "-o", "net.onnx", "--select", "overlap>=0.2")
    assert made.code == 0, made
    assert "100.00% of validation images marked as when it was measured" in made.out
    manifest = json.loads((shell.folder / "net.json").read_text())
    assert manifest["parity"] < 1e-4
    assert manifest["task"] == "marks:Garments"
    session = onnxruntime.InferenceSession(shell.folder / "net.onnx")
    (outputs,) = session.run(None, {"input": np.zeros((3, 1, 28, 28), dtype=np.float32)})
    assert outputs.shape == (3, 1, 28, 28)


def test_images_are_not_shifted_under_their_masks(shell: Shell) -> None:
    job = {**JOB, "data": {"name": "digits"}, "training": {"augment": {"shift": 1}}}
    answer = shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline")
    assert_error(answer, "training.augment", "marks:Garments", "pixels", code="job.conflict")


def test_a_job_of_a_plug_in_task_names_its_metric(shell: Shell) -> None:
    job = {key: value for key, value in JOB.items() if key not in ("objectives", "constraints")}
    answer = shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline")
    assert_error(answer, "objectives", "is missing", "marks:Garments", code="job.missing-key")


def test_a_metric_that_the_task_lacks_is_an_error(shell: Shell) -> None:
    job = {**JOB, "data": {"name": "digits"}, "objectives": ["overlp", "macs"]}
    answer = shell.nas("search", shell.job(yaml.safe_dump(job)), "--inline")
    assert_error(answer, "objectives[0]", "'overlp'", "overlap", code="job.unknown-name")
