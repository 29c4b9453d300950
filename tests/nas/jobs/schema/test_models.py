"""The supernet section of a job whose supernet is made of a user's model."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.jobs.schema import load_job, parse_job
from nas.jobs.schema.search_job import SearchJob
from tests.errors import raises


def job(supernet: str, more: str = "", data: str = "{name: digits}") -> SearchJob:
    return parse_job(f"name: a\ndata: {data}\nsupernet: {supernet}\n{more}", source="job.yaml")


def test_a_job_with_a_model_is_written_with_its_defaults_and_read_back() -> None:
    made = job("{model: 'timm:resnet18', keep: [fc.*]}")
    supernet = made.supernet
    assert (supernet.granularity, supernet.widths, supernet.sort) == ("stage", (0.25, 0.5, 0.75, 1.0), "weights")
    assert "family" not in made.to_yaml()
    assert parse_job(made.to_yaml(), source="job.yaml") == made


@pytest.mark.parametrize(
    ("supernet", "code", "key"),
    [
        ("{model: 'timm:resnet18', family: resnet}", "job.conflict", "supernet.family"),
        ("{model: 'timm:resnet18', preset: tiny}", "job.conflict", "supernet.preset"),
        ("{model: 'timm:resnet18', nested: true}", "job.conflict", "supernet.nested"),
        ("{model: 'timm:resnet18', from: run-1}", "job.conflict", "supernet.from"),
        ("{model: 'timm:resnet18', sharing: {kernels: transform}}", "job.conflict", "supernet.sharing"),
        ("{model: file.capture, arguments: {a: 1}}", "job.conflict", "supernet.arguments"),
        ("{model: file.onnx, weights: hub}", "job.conflict", "supernet.weights"),
        ("{model: file.capture, weights: hub}", "job.conflict", "supernet.weights"),
        ("{model: 'timm:resnet18', widths: [1.0, 0.5]}", "job.invalid-value", "supernet.widths"),
        ("{model: 'timm:resnet18', widths: [0.5]}", "job.invalid-value", "supernet.widths"),
        ("{model: 'timm:resnet18', granularity: block}", "job.unknown-name", "supernet.granularity"),
        ("{preset: tiny, keep: [head]}", "job.conflict", "supernet.keep"),
    ],
)
def test_contradictions_are_named(supernet: str, code: str, key: str) -> None:
    with raises(code, key):
        job(supernet)


def test_sentences_are_refused() -> None:
    with raises("job.conflict", "supernet.model"):
        job("{model: 'timm:resnet18'}", data="{name: text-classification, path: a.csv}")


def test_trained_models_are_trained_gently() -> None:
    assert job("{model: 'timm:resnet18'}").training.learning_rate == 0.003
    tuned = job("{model: 'timm:resnet18', weights: hub}", data="{name: fashion-mnist}").training
    assert (tuned.learning_rate, tuned.epochs) == (0.001, 3)
    assert job("{model: file.capture}").training.epochs == 20
    assert job("{model: file.capture}", "training: {epochs: 2}").training.epochs == 2


@pytest.mark.parametrize(
    ("supernet", "training", "distill"),
    [
        ("{model: 'timm:resnet18', weights: hub}", "{}", "original"),
        ("{model: 'timm:resnet18', weights: hub}", "{learning_rate: 0.1, strategy: single-path}", "original"),
        ("{model: 'timm:resnet18', weights: hub}", "{strategy: largest}", "none"),
        ("{model: 'timm:resnet18', weights: hub}", "{teacher: a-run}", "teacher"),
        ("{model: 'timm:resnet18', weights: hub}", "{distill: largest}", "largest"),
        ("{model: file.capture}", "{}", "original"),
        ("{model: 'timm:resnet18'}", "{}", "largest"),
        ("{model: 'timm:resnet18'}", "{distill: original}", "original"),
    ],
)
def test_trained_models_teach_their_subnets(supernet: str, training: str, distill: str) -> None:
    made = job(supernet, f"training: {training}")
    assert made.training.distill == distill
    assert parse_job(made.to_yaml(), source="job.yaml") == made


def test_only_a_model_teaches_as_the_original() -> None:
    with raises("job.conflict", "training.distill", "supernet.model"):
        job("{preset: tiny}", "training: {distill: original}")


def test_paths_are_relative_to_the_job_file(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "name: a\ndata: {name: digits}\nsupernet: {model: m/own.capture, weights: w.pt}\n"
    )
    supernet = load_job(tmp_path / "job.yaml").supernet
    assert (supernet.model, supernet.weights) == (str(tmp_path / "m/own.capture"), str(tmp_path / "w.pt"))
    (tmp_path / "job.yaml").write_text("name: a\ndata: {name: digits}\nsupernet: {model: 'transformers:vit'}\n")
    assert load_job(tmp_path / "job.yaml").supernet.model == f"transformers:{tmp_path / 'vit'}"
    (tmp_path / "job.yaml").write_text("name: a\ndata: {name: digits}\nsupernet: {model: 'a.b:c', weights: hub}\n")
    supernet = load_job(tmp_path / "job.yaml").supernet
    assert (supernet.model, supernet.weights) == ("a.b:c", "hub")
