"""`nas compress`: a trained model made smaller without labels, as an ordinary run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import nas
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import build_job
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job
from nas.runs.compression.job import compression_job
from supernets.networks.capture.opening import open_model
from tests.full_disk import files_of_at_most
from tests.nas.commands import Answer, Shell, assert_error
from tests.nas.short_rounds import take_short_rounds

MODEL = """
import os

import torch
from torch import nn


def build(classes=10, channels=1):
    torch.manual_seed(14)  # answers more than one class, so that smaller networks differ
    layers = [nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, classes)).eval()
    model[1].running_mean.normal_(), model[1].running_var.uniform_(0.5, 2)
    return model


def stored():
    model = build()
    with torch.no_grad():
        model[-1].bias.copy_(torch.load(os.environ["STORED"], weights_only=True))
    return model


def double():
    class Double(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = build()

        def forward(self, x):
            return self.model(x), x

    return Double()


def untraceable():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    return Branching()
"""
RUN = "compress-compressed-model-build-1"
NORMAL = "{mean: [0.3], std: [0.4]}"


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    take_short_rounds(monkeypatch)
    (tmp_path / "compressed_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    images, labels = load_digits(return_X_y=True)
    for i in range(180):
        folder = tmp_path / "pictures" / str(labels[i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((images[i].reshape(8, 8) * 255 / 16).astype(np.uint8)).save(folder / f"{i:03}.png")
    return Shell(tmp_path, capsys, monkeypatch)


def compress(shell: Shell, *options: str, model: str = "compressed_model:build", data: str = "pictures") -> Answer:
    return shell.nas("compress", model, "--data", data, "--data-options", NORMAL, "--evaluations", "2", *options)


@pytest.mark.slow
def test_a_model_is_compressed_and_a_new_limit_reuses_the_run(shell: Shell) -> None:
    """The exported networks agree with the model, called by torch, as often as is reported."""
    answer = compress(shell, "--limit", "latency_ms<=100", "-o", "first.onnx", "--json")
    assert answer.code == 0, answer.err
    assert answer.data["reused"] is False
    assert json.loads((shell.folder / "first.json").read_text())["task"] == "imitation"
    run = nas.open_run(RUN, shell.folder / "runs")
    again = compress(shell, "--limit", "agreement>=1", "-o", "second.onnx")
    assert again.code == 0, again.err
    assert "an earlier run" in again.out
    assert "100%" in next(line for line in again.out.splitlines() if line.startswith("original"))
    assert "it is the original, which is within the limit" in again.out
    assert shell.runs() == {RUN}
    validation, anchors = run.examples().validation.inputs, run.report.anchors
    assert anchors["smallest"].values["agreement"] < 1  # it is not within the limit, as fast as it may be
    with torch.no_grad():
        expected = open_model("compressed_model:build").module.eval()(validation).numpy()
    for name in ("largest", "smallest"):
        exported = shell.nas("export", RUN, "--select", f"key={anchors[name].key}", "-o", f"{name}.onnx")
        assert exported.code == 0, exported.err
        session = onnxruntime.InferenceSession(str(shell.folder / f"{name}.onnx"))
        (outputs,) = session.run(None, {"input": validation.numpy()})
        agreement = float((outputs.argmax(1) == expected.argmax(1)).mean())
        assert agreement == pytest.approx(anchors[name].values["agreement"])
        if name == "largest":  # with the statistics of the model
            assert np.abs(outputs - expected).max() < 1e-4 * expected.std()
    assert shell.nas("show", RUN).code == 0


@pytest.mark.slow
def test_the_network_for_a_limit_is_distilled_from_the_model(shell: Shell) -> None:
    options = ("--limit", "latency_ms<=100", "--finetune", "0.02", "-o", "small.onnx", "--json")
    answer = compress(shell, *options)
    assert answer.code == 0, answer.err
    exported, run = (
        answer.data["exported"],
        nas.open_run("compress-compressed-model-build-finetuned-1", shell.folder / "runs"),
    )
    assert exported["finetuned"] == run.id
    assert run.job.training.epochs >= 1
    assert "validation" in exported["gain"]
    assert (shell.folder / "small.onnx").is_file()


@pytest.mark.slow
def test_accuracy_is_reported_beside_the_agreement(shell: Shell) -> None:
    answer = compress(shell, "--labels", "--json")
    assert answer.code == 0, answer.err
    run = nas.open_run(RUN, shell.folder / "runs")
    largest = run.report.anchors["largest"]
    assert largest.values["agreement"] == 1
    data = run.examples()
    with torch.no_grad():
        outputs = open_model("compressed_model:build").module.eval()(data.validation.inputs)
    expected = float((outputs.argmax(1) == data.validation.labels).float().mean())
    assert largest.values["accuracy"] == pytest.approx(expected)


@pytest.mark.slow
def test_changed_examples_and_weights_make_a_new_run(shell: Shell) -> None:
    """Also of a model that reads its weights itself, and of an image that is written again in its place."""
    shell.monkeypatch.setenv("STORED", str(shell.folder / "stored.pt"))
    torch.save(torch.zeros(10), shell.folder / "stored.pt")
    runs = [f"compress-compressed-model-stored-{i}" for i in (1, 2, 3, 4)]

    def compressed() -> set[str]:
        assert compress(shell, model="compressed_model:stored").code == 0
        return shell.runs()

    assert compressed() == compressed() == {*runs[:1]}
    torch.save(torch.arange(10.0), shell.folder / "stored.pt")
    assert compressed() == {*runs[:2]}
    Image.new("L", (8, 8), 77).save(next((shell.folder / "pictures" / "3").iterdir()))
    assert compressed() == {*runs[:3]}
    Image.new("L", (8, 8), 78).save(shell.folder / "pictures" / "3" / "new.png")
    assert compressed() == {*runs}


def test_texts_beside_images_are_no_sentences(tmp_path: Path) -> None:
    for name in ("1.txt", "2.txt", "3.txt", "README.txt", "labels.csv"):
        (tmp_path / name).write_text("a cat\n")
    (tmp_path / ".hidden").mkdir()
    for i in range(3):
        Image.new("L", (8, 8), i).save(tmp_path / ".hidden" / f"{i}.png")
    options = {"mean": [0.3], "std": [0.4]}
    assert compression_job("compressed_model:build", tmp_path, data_options={}).data.name == "text-classification"
    for i in range(3):
        Image.new("L", (8, 8), i).save(tmp_path / f"{i}.png")
    assert compression_job("compressed_model:build", tmp_path, data_options=options).data.name == "image-folder"


def test_the_job_is_an_ordinary_one(shell: Shell) -> None:
    """Agreement is with the model as it was, whose batch norms keep their statistics; units are sorted without labels."""
    job = compression_job(
        "compressed_model:build", shell.folder / "pictures", data_options={"mean": [0.3], "std": [0.4]}
    )
    (shell.folder / "job.yaml").write_text(job.to_yaml())
    assert load_job(shell.folder / "job.yaml").to_yaml() == job.to_yaml()
    built = build_job(ResolvedJob(job, RunsFolder(shell.folder / "runs"), "job.yaml"))
    supernet, validation = built.untrained().eval(), built.data.dataset.validation
    model = open_model("compressed_model:build").module.eval()
    with torch.no_grad():
        expected = model(validation.inputs)
        largest = supernet.extract(supernet.space.largest)(validation.inputs)
    labelled = built.data.task.examples("agreement", validation)
    assert torch.allclose(labelled.labels, expected, atol=1e-5)
    assert torch.allclose(largest, expected, atol=1e-5)
    assert built.sharing.statistics == "kept"


BAD: list[tuple[str, tuple[str, ...], str]] = [
    ("the data are missing", ("--data", "gone"), "does not exist"),
    ("the data are an image", ("--data", "pictures/0/000.png"), "is a file"),
    ("the folder is empty", ("--data", "empty"), "holds none of what can be read"),
    ("the folder has other files", ("--data", "others"), "holds none of what can be read"),
    ("an image is cut", ("--data", "cut"), "cannot be read"),
    ("one image", ("--data", "one"), "expected at least 3"),
    ("copies of one image", ("--data", "copies"), "expected at least 3"),
    ("a text without sentences", ("--data", "empty.txt", "--data-options", "{}"), "holds no sentences"),
    ("a table without texts", ("--data", "stars.csv", "--data-options", "{}"), "no text column"),
    ("a damaged archive", ("--data", "bad.zip", "--data-options", "{}"), "zip"),
    ("images of other channels", ("--data-options", "{channels: 3, mean: [0, 0, 0], std: [1, 1, 1]}"), "channels"),
    ("images without a size", ("--data", "sizes"), "image_size"),
    ("the normalisation is unknown", ("--data-options", "{image_size: 8}"), "has no record of how its images are normalised"),
    ("options of no mapping", ("--data-options", "[8]"), "expected a mapping"),
    ("unknown options", ("--data-options", "{mean: [0], std: [1], size: 8}"), "data.size"),
    ("options of a wrong kind", ("--data-options", "{mean: [0], std: [1], image_size: big}"), "image_size"),
    ("parts that take everything", ("--data-options", "{mean: [0], std: [1], validation: 0.6, test: 0.6}"), "together take"),
    ("arguments of no mapping", ("--arguments", "{classes"), "--arguments"),
    ("unknown arguments", ("--arguments", "{layers: 3}"), "layers"),
    ("a limit without a bound", ("--limit", "fast"), "fast"),
    ("a limit on an unknown metric", ("--limit", "lattency_ms<=5"), "latency_ms"),
    ("a limit on what is not measured", ("--limit", "macs<=1e6"), "macs"),
    ("a limit of no number", ("--limit", "latency_ms<=soon"), "soon"),
    ("a quality to solve for", ("--solve", "--limit", "agreement>=0.9"), "agreement is no cost"),
    ("a network to solve for", ("--solve", "--limit", "key=0-0"), "names a measured network"),
    ("an unknown cost to solve for", ("--solve", "--limit", "weight<=1"), "macs"),
    ("an unknown metric", ("--metric", "beauty"), "beauty"),
    ("a metric of labels", ("--metric", "accuracy"), "accuracy"),
    ("an unknown profile", ("--profile", "gpu-99"), "gpu-99"),
    ("missing weights", ("--weights", "gone.safetensors"), "gone.safetensors"),
    ("weights of another kind", ("--weights", "empty.txt"), "empty.txt"),
    ("an output of another kind", ("--limit", "latency_ms<=5", "-o", "small.txt"), ".onnx"),
    ("an output that exists", ("--limit", "latency_ms<=5", "-o", "there.onnx"), "exists"),
    ("runs that are a file", ("--runs", "empty.txt"), "empty.txt"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_line(shell: Shell, options: tuple[str, ...], words: str) -> None:
    _write_bad_data(shell.folder)
    assert_error(compress(shell, *options), words)
    assert shell.runs() == set()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("compressed_model:untraceable", "depends on the values of its input"),
        ("compressed_model:gone", "gone"),
        ("no_such_module:build", "no_such_module"),
        ("gone.capture", "gone.capture"),
        ("empty.txt", "empty.txt"),
        ("transformers:pictures", "pictures"),
        ("torchvision:resnet1", "resnet1"),
    ],
)
def test_bad_models_are_one_line(shell: Shell, model: str, words: str) -> None:
    _write_bad_data(shell.folder)
    assert_error(compress(shell, model=model), words)
    assert shell.runs() == set()


def test_a_model_of_one_output_has_no_classes_to_agree_on(shell: Shell) -> None:
    assert_error(compress(shell, "--arguments", "{classes: 1}"), "one output", "r2")


def test_a_model_of_two_outputs_is_rejected_by_name(shell: Shell) -> None:
    assert_error(compress(shell, model="compressed_model:double"), "compressed_model:double has 2 outputs")


def test_labels_of_other_classes_are_rejected(shell: Shell) -> None:
    assert_error(compress(shell, "--labels", "--arguments", "{classes: 7}"), "10 classes")


@pytest.mark.slow
def test_a_limit_that_no_network_keeps_is_reported_below_the_front(shell: Shell) -> None:
    answer = compress(shell, "--limit", "latency_ms<=0.0000001")
    assert answer.code == 1
    assert "original" in answer.out
    assert "latency_ms" in answer.err.splitlines()[-1] + answer.err.splitlines()[-2]
    few = compress(shell, "--limit", "latency_ms<=100", "--solve")
    assert few.code == 1
    assert "has 2 measurements of latency_ms@cpu-1-thread; expected at least 6" in few.err
    assert "--evaluations +4" in few.err


@pytest.mark.slow
def test_a_full_disk_is_reported_in_one_line(shell: Shell) -> None:
    with files_of_at_most(2000):
        answer = compress(shell)
    assert answer.code == 1
    assert "Traceback" not in answer.err


def _write_bad_data(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "others").mkdir()
    (folder / "others" / "song.mp3").write_bytes(b"la")
    (folder / "empty.txt").write_text("\n")
    (folder / "there.onnx").write_bytes(b"mine")
    (folder / "stars.csv").write_text("stars\n5\n")
    (folder / "bad.zip").write_bytes(b"PK no archive")
    for name, values, sizes in (
        ("one", [1], [8]),
        ("copies", [1, 1, 1], [8] * 3),
        ("sizes", [1, 2, 3, 4], [8, 9, 8, 9]),
    ):
        (folder / name).mkdir()
        for i, (value, size) in enumerate(zip(values, sizes, strict=True)):
            Image.new("L", (size, size), value).save(folder / name / f"{i}.png")
    (folder / "cut").mkdir()
    content = (folder / "pictures" / "0" / "000.png").read_bytes()
    for i in range(4):
        (folder / "cut" / f"{i}.png").write_bytes(content[: len(content) // 2 if i == 2 else None])
