"""Metrics and weights of classes in jobs on scikit-learn's scanned digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score, top_k_accuracy_score

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.job_data import JobData, load_job_data
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from supernets.data import load_data
from tests.errors import raises
from tests.nas.commands import SMALL_JOB, Shell

OBJECTIVES = (
    "objectives: [macro_f1, auroc, macs]\nconstraints: {balanced_accuracy: {min: 0.1}, top5_accuracy: {min: 0.2}}"
)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


def job_text(**training: object) -> str:
    text = SMALL_JOB.replace("objectives: [accuracy, latency_ms]", OBJECTIVES)
    text = text.replace(
        "{algorithm: guided, evaluations: 30, batch: 7}", "{algorithm: random, evaluations: 4, batch: 2}"
    )
    job = yaml.safe_load(text)
    job["training"] |= training
    return yaml.safe_dump(job)


def data_of(text: str, folder: Path) -> JobData:
    job = ResolvedJob(parse_job(text, source="job.yaml"), RunsFolder(folder / "runs"), source="job.yaml")
    return load_job_data(job, pretrained=None, trained_on=None)


@pytest.mark.slow
def test_the_exported_file_has_the_metrics_that_the_run_measured(shell: Shell) -> None:
    assert shell.nas("search", shell.job(job_text(class_weights="balanced")), "--inline").code == 0
    assert "test macro_f1" in shell.nas("show", "small-1").out
    assert shell.nas("export", "small-1", "-o", "net.onnx", "--index", "0", "--json").code == 0
    figures = json.loads((shell.folder / "net.json").read_text())["figures"]

    data = load_data("digits", validation=0.25, test=0.25, seed=0)
    session = onnxruntime.InferenceSession(shell.folder / "net.onnx")
    for part, values in ((data.validation, figures["values"]), (data.test, figures["test"])):
        (logits,) = session.run(None, {"input": part.inputs.numpy()})
        labels, exponentials = part.labels.numpy(), np.exp(logits.astype(np.float64))
        expected = {
            "macro_f1": f1_score(labels, logits.argmax(1), average="macro"),
            "auroc": roc_auc_score(labels, exponentials / exponentials.sum(1, keepdims=True), multi_class="ovr"),
            "balanced_accuracy": balanced_accuracy_score(labels, logits.argmax(1)),
            "top5_accuracy": top_k_accuracy_score(labels, logits, k=5),
        }
        measured = {name: value for name, value in values.items() if name in expected}
        assert measured == pytest.approx({name: expected[name] for name in measured}, abs=1e-6)
        assert "macro_f1" in measured

    finetuned = shell.nas("finetune", "small-1", "--index", "0", "--epochs", "1", "--inline", "--json")
    assert finetuned.code == 0, finetuned.err
    assert finetuned.data["gain"]["validation"]["before"] == figures["values"]["macro_f1"]
    job = yaml.safe_load((shell.folder / "runs" / finetuned.data["run"] / "job.yaml").read_text())
    assert job["training"]["class_weights"] == "balanced"


def test_metrics_that_a_job_does_not_name_are_not_scored(tmp_path: Path) -> None:
    job = ResolvedJob(parse_job(SMALL_JOB, source="job.yaml"), RunsFolder(tmp_path / "runs"))
    assert job.task.names == ("accuracy",)
    job = ResolvedJob(parse_job(job_text(), source="job.yaml"), RunsFolder(tmp_path / "runs"))
    assert job.task.names == ("accuracy", "top5_accuracy", "macro_f1", "auroc", "balanced_accuracy")
    assert job.scored.name == "macro_f1"


def test_weights_of_the_job_are_those_of_its_task(tmp_path: Path) -> None:
    balanced = data_of(job_text(class_weights="balanced"), tmp_path)
    labels = balanced.dataset.train.labels
    outputs = torch.zeros(len(labels), 10)
    losses = balanced.task.losses(outputs, labels)
    by_class = torch.stack([losses[labels == label].sum() for label in range(10)])
    torch.testing.assert_close(by_class, by_class.mean().expand(10))
    assert losses.mean().item() == pytest.approx(np.log(10), rel=1e-5)
    weighted = data_of(job_text(class_weights=[2.0] + [1.0] * 9), tmp_path).task.losses(outputs, labels)
    assert (weighted[labels == 0].mean() / weighted[labels == 1].mean()).item() == pytest.approx(2, rel=1e-5)


def test_weights_of_other_numbers_of_classes_are_rejected(tmp_path: Path) -> None:
    with raises("job.unfit-data", "training.class_weights", "3 numbers", "10 classes (0, 1, ", "balanced"):
        data_of(job_text(class_weights=[1, 2, 3]), tmp_path)


def test_the_top_5_of_few_classes_are_rejected_before_training(tmp_path: Path) -> None:
    digits = load_digits(n_class=4)
    for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = tmp_path / "images" / f"digit {label}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(path)
    job = yaml.safe_load(job_text())
    job["data"] = {"name": "image-folder", "path": str(tmp_path / "images"), "image_size": 8}
    with raises("job.unfit-data", "top5_accuracy", "4 classes", "balanced_accuracy"):
        data_of(yaml.safe_dump(job), tmp_path)
