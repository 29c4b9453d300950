"""The whole path for images from a pretrained ViT: search, a chosen network trained further, and exports."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hardware_profiles.runtime import run_model
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import build_job
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import load_job
from nas.results.export.formats import transformers_folder as exports
from nas.runs.driver import run as search
from nas.runs.run import Run
from supernets.families.shared.pretrained_transformer import PretrainedTransformer
from supernets.families.vision_transformer.vit_pretrained import read_vit
from tests.errors import raises
from tests.nas.commands import Shell
from tests.nas.results.export.digit_images import write_digits
from tests.nas.results.export.running_scripts import PROJECT, found_by

JOB = """
name: digits
seed: 2
data: {name: digits}
supernet:
  family: vit-encoder
  pretrained: vit
  space: {depth: [2, 3], heads: [2, 4], hidden: [64]}
training: {strategy: instatune, sort: true, epochs: 2, batch_size: 16, learning_rate: 0.01}
objectives: [accuracy, macs]
search: {algorithm: random, evaluations: 12, batch: 6}
"""
MEAN, STD = (0.4, 0.45, 0.5), (0.3, 0.35, 0.4)


def save_vit(folder: Path) -> None:
    """A ViT of random weights for colour images of 16 pixels, whose preprocessing is unlike any default."""
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    config = ViTConfig(
        image_size=16, patch_size=4, num_channels=3, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, num_labels=5, initializer_range=0.1,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    size = {"height": 16, "width": 16}
    ViTImageProcessorPil(size=size, image_mean=list(MEAN), image_std=list(STD)).save_pretrained(folder)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pretrained network and a finished run."""
    folder = tmp_path_factory.mktemp("images")
    save_vit(folder / "vit")
    (folder / "job.yaml").write_text(JOB)
    search(load_job(folder / "job.yaml"), RunOptions(RunsFolder(folder / "runs"), inline=True))
    return folder


@pytest.fixture
def shell(searched: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(searched, capsys, monkeypatch)


def test_digits_are_told_apart_by_parts_of_the_network(shell: Shell) -> None:
    front = shell.nas("show", "digits-1", "--json").data["front"]
    assert max(point["test"]["accuracy"] for point in front) > 0.2  # 0.1 is chance; the head is drawn anew


def test_images_come_as_the_network_was_trained_on_them(shell: Shell, tmp_path: Path) -> None:
    shell.nas("export", "digits-1", "-o", tmp_path / "digits.onnx")
    told = json.loads((tmp_path / "digits.json").read_text())["input"]
    assert (told["shape"], told["mean"], told["std"]) == (["batch", 3, 16, 16], list(MEAN), list(STD))


def test_a_folder_that_reads_back_as_another_network_is_refused(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(folder: Path) -> PretrainedTransformer:
        found = read_vit(folder)
        next(iter(found.tensors.values())).view(-1)[0] += 1e-6
        return found

    monkeypatch.setattr(exports, "read_vit", wrong)
    made = shell.nas("export-transformers", "digits-1", "-o", tmp_path / "vit", "--select", "key=0-0-1-0-x-x-1-0")
    assert made.code == 1
    assert "the network read back gives other outputs" in made.err
    assert list(tmp_path.glob("*vit*")) == []


def test_a_network_whose_layers_are_alike_is_one_of_the_transformers_library(shell: Shell, tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    out = tmp_path / "vit"
    chosen = ("--select", "key=0-0-1-0-x-x-1-0")  # the first layer and the last
    made = shell.nas("export-transformers", "digits-1", "-o", out, *chosen)
    assert made.code == 0, made.err
    assert "AutoModelForImageClassification.from_pretrained" in made.out
    network = AutoModelForImageClassification.from_pretrained(out).eval()
    assert network.config.id2label[3] == "3"
    processor = ViTImageProcessorPil.from_pretrained(out)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    images = processor(list(pixels), return_tensors="pt")["pixel_values"]
    shell.nas("export", "digits-1", "-o", tmp_path / "same.onnx", *chosen)
    with torch.no_grad():
        expected = network(images).logits
    (came,) = run_model((tmp_path / "same.onnx").read_bytes(), {"input": images.numpy()})
    assert np.abs(came - expected.numpy()).max() <= 1e-4 * expected.std().item()


@pytest.mark.slow
def test_the_scripts_of_both_exports_answer_images_alike(shell: Shell, tmp_path: Path) -> None:
    chosen = ("--select", "key=0-0-1-0-x-x-1-0", "--json")
    shell.nas("export-transformers", "digits-1", "-o", tmp_path / "vit", *chosen)
    made = shell.nas("export", "digits-1", "-o", tmp_path, *chosen).data
    write_digits(tmp_path / "photos", n=24)
    files = sorted((tmp_path / "photos").rglob("*.*"))
    steps = json.loads((tmp_path / "vit" / "preprocessing.json").read_text())
    assert (steps["mean"], steps["channel_order"]) == (list(MEAN), "RGB")
    found = found_by(tmp_path / "vit" / "predict.py", files, without=PROJECT)
    assert found == found_by(Path(made["script"]), files)


def test_one_that_the_library_does_not_have_is_refused_and_told(shell: Shell, tmp_path: Path) -> None:
    report = Run.open(RunsFolder(shell.folder / "runs"), "digits-1").report
    split = next(p for p in report.evaluated if int(p.described["layer0.heads"]) == 2)
    made = shell.nas("export-transformers", "digits-1", "-o", tmp_path / "vit", "--select", f"key={split.key}")
    assert made.code == 1
    assert "the transformers library" in made.err
    assert not (tmp_path / "vit").exists()


def test_what_goes_on_from_the_run_has_the_same_images(shell: Shell, tmp_path: Path) -> None:
    runs = RunsFolder(shell.folder / "runs")
    made = shell.nas("finetune", "digits-1", "--knee", "--epochs", "1", "--inline", "--json")
    assert made.code == 0, made.err
    trained = Run.open(runs, "digits-1").job
    first, path = build_job(ResolvedJob(trained, runs)).data.dataset, tmp_path / "job.yaml"
    checkpoint = shutil.copytree(runs.get("digits-1").checkpoint, tmp_path / "bare")
    named = f"{{name: digits, image_size: 16, channels: 3, mean: {list(MEAN)}, std: {list(STD)}}}"
    for source, data in (
        ("digits-1", "{name: digits}"),
        (made.data["run"], "{name: digits}"),
        (str(checkpoint), named),
    ):
        path.write_text(f"name: next\ndata: {data}\nsupernet: {{from: {source}}}\n")
        assert build_job(ResolvedJob(load_job(path), runs)).data.dataset.train.digest == first.train.digest
    path.write_text(path.read_text().replace(named, "{name: digits}"))
    with raises("checkpoint.other-data", "data.image_size", "channels", "mean", "std"):
        build_job(ResolvedJob(load_job(path), runs))
    path.write_text("name: next\ndata: {name: digits, image_size: 8}\nsupernet: {from: digits-1}\n")
    with raises("job.unfit-data", "data.image_size: 8", "supernet.from", "16"):
        build_job(ResolvedJob(load_job(path), runs))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("image_size: 8", "data.image_size: 8, and supernet.pretrained takes images of 16 pixels a side; write 16"),
        (
            "channels: 1",
            "data.channels: 1, and supernet.pretrained takes images of 3 channels; write 3, or leave it out",
        ),
        ("mean: [0.5], std: [0.5]", "mean and std: 1 numbers each; expected one for each of the images' 3 channels"),
    ],
)
def test_images_that_are_not_the_networks_are_refused(shell: Shell, data: str, message: str) -> None:
    job = JOB.replace("{name: digits}", f"{{name: digits, {data}}}")
    told = shell.nas("plan", shell.job(job, "wrong.yaml"), "--no-time", "--inline")
    assert told.code == 1
    assert message in told.err


@pytest.mark.parametrize(
    ("supernet", "message"),
    [
        (
            "{family: encoder, pretrained: vit}",
            "model_type is 'vit', and the family encoder reads 'bert'; write family: ",
        ),
        (
            "{family: vit, pretrained: vit}",
            "the families encoder, vit-encoder and decoder are made of pretrained networks, got vit",
        ),
        ("{family: vit-encoder, pretrained: vit, preset: tiny}", "the space leaves some of it out|is larger than"),
    ],
)
def test_families_and_spaces_that_are_not_the_networks_are_refused(shell: Shell, supernet: str, message: str) -> None:
    job = yaml.safe_load(JOB) | {"supernet": yaml.safe_load(supernet)}
    told = shell.nas("plan", shell.job(yaml.safe_dump(job), "wrong.yaml"), "--no-time", "--inline")
    assert told.code == 1
    assert re.search(message, told.err)
