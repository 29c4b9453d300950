"""Regression and multi-label classification, from a table of images to an exported network and its script."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score, mean_absolute_error, r2_score

from tests.nas.commands import Shell, assert_error
from tests.nas.tasks.digit_tables import JOB, number_table, set_table


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


def job_of(shell: Shell, table: Path, task: str, **changes: Any) -> Path:
    job = {**JOB, "data": {"name": "image-table", "path": str(table)}, "task": task, **changes}
    return shell.job(yaml.safe_dump(job))


def answer_of(shell: Shell, *args: str | Path) -> Any:
    """The JSON that a command prints."""
    answer = shell.nas(*args, "--json")
    assert answer.code == 0, answer
    return json.loads(answer.out)


def outputs_of(model: Path, files: list[dict[str, Any]]) -> NDArray[np.float32]:
    """What an exported file answers to images, preprocessed by the description in its manifest."""
    how = json.loads(model.with_suffix(".json").read_text())["preprocessing"]
    pixels = np.stack([np.asarray(Image.open(model.parent / file["name"]), dtype=np.float64) for file in files])[
        :, None
    ]
    inputs = ((pixels / 255 - how["mean"][0]) / how["std"][0]).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(model).run(None, {"input": inputs})
    return np.asarray(found)


def printed(script: Path, *files: str) -> list[str]:
    """The lines that the script of an export prints."""
    command = [sys.executable, str(script), *files]
    made = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, check=True, timeout=300)
    return made.stdout.splitlines()


@pytest.mark.slow
def test_regression_from_a_table_to_a_script_that_prints_numbers(shell: Shell) -> None:
    job = job_of(shell, number_table(shell.folder), "regression", objectives=["mae", "r2", "macs"])
    assert shell.nas("search", job, "--inline").code == 0
    assert re.search(r"mae +r2 +macs +test mae", shell.nas("show", "small-1").out)
    report = answer_of(shell, "show", "small-1")
    assert (report["task"], report["scored"]) == ("regression", "mae")
    assert report["objectives"][0] == {"name": "mae", "unit": "", "goal": "minimize"}
    best = answer_of(shell, "show", "small-1", "--select", "macs<=1e9")
    assert best["values"]["mae"] == min(point["values"]["mae"] for point in report["front"])
    made = answer_of(shell, "export", "small-1", "-o", "net.onnx", "--select", "macs<=1e9")
    assert made["as_measured"] == 1
    assert made["parity"] < 1e-4
    # The exported file's own answers to the validation images give the values that the run measured.
    files = answer_of(shell, "show", "small-1", "--validation-files")["parts"]["validation"]
    model = shell.folder / "net.onnx"
    how = json.loads(model.with_suffix(".json").read_text())["outputs"]
    numbers = outputs_of(model, files)[:, 0] * how["std"] + how["mean"]
    truth = [file["number"] for file in files]
    assert best["values"]["mae"] == pytest.approx(mean_absolute_error(truth, numbers), rel=1e-3)
    assert best["values"]["r2"] == pytest.approx(r2_score(truth, numbers), abs=1e-3)
    (line,) = printed(model.with_suffix(".predict.py"), files[0]["name"])
    name, _, number = line.partition(": ")
    assert (name, float(number)) == (files[0]["name"], pytest.approx(numbers[0], rel=1e-3))
    (page,) = (shell.folder / "runs/small-1").rglob("*.html")
    assert "Test mean absolute error" in page.read_text()
    changed = shell.nas("finetune", "small-1", "--select", "macs<=1e9", "--epochs", "1", "--inline")
    assert changed.code == 0, changed
    assert re.search(r"validation mae +[0-9.]+ +[0-9.]+", changed.out)


@pytest.mark.slow
def test_multi_label_from_a_table_to_a_script_that_prints_labels(shell: Shell) -> None:
    changes: dict[str, Any] = {"objectives": ["average_precision", "macs"], "training": {"epochs": 8, "batch_size": 32}}
    job = job_of(shell, set_table(shell.folder), "multi-label", **changes)
    assert shell.nas("search", job, "--inline").code == 0
    report = answer_of(shell, "show", "small-1")
    best = answer_of(shell, "show", "small-1", "--select", "macs<=1e9")
    assert best["values"]["average_precision"] == max(p["values"]["average_precision"] for p in report["front"])
    assert best["values"]["average_precision"] > 0.5  # of a random ranking, the labels' share of 0.37
    made = answer_of(shell, "export", "small-1", "-o", "net.onnx", "--select", "macs<=1e9")
    assert (made["as_measured"], made["agreement"]) == (1, 1)
    files = answer_of(shell, "show", "small-1", "--validation-files")["parts"]["validation"]
    model = shell.folder / "net.onnx"
    outputs, labels = outputs_of(model, files), [f"d{i}" for i in range(5)]
    held = np.array([[label in file["labels"] for label in labels] for file in files])
    expected = average_precision_score(held, outputs, average="macro")
    assert best["values"]["average_precision"] == pytest.approx(expected, abs=1e-3)
    (line,) = printed(model.with_suffix(".predict.py"), files[0]["name"])
    shown = {text.rpartition(" ")[0] for text in line.partition(": ")[2].split(", ")} - {"no"}
    assert shown == {label for label, output in zip(labels, outputs[0], strict=True) if output > 0}


class TestBadInput:
    @pytest.mark.parametrize(
        ("label", "mentions"),
        [
            ("heavy", ("'heavy'", "expected a number", "classification")),
            ("nan", ("'nan'", "finite")),
            ("", ("''", "expected a number")),
        ],
    )
    def test_a_label_that_is_no_number_is_named_with_its_line(
        self, shell: Shell, label: str, mentions: tuple[str, ...]
    ) -> None:
        table = number_table(shell.folder, 40)
        lines = table.read_text().splitlines()
        lines[3] = f"{lines[3].partition(',')[0]},{label}"
        table.write_text("\n".join(lines))
        answer = shell.nas("search", job_of(shell, table, "regression"), "--inline")
        assert_error(answer, "ink.csv", "line 4", *mentions, code="data.malformed-table")

    def test_one_number_for_all_is_an_error(self, shell: Shell) -> None:
        table = number_table(shell.folder, 40)
        names = [line.partition(",")[0] for line in table.read_text().splitlines()[1:]]
        table.write_text("\n".join(["image,value", *(f"{name},3" for name in names)]))
        answer = shell.nas("search", job_of(shell, table, "regression"), "--inline")
        assert_error(answer, "ink.csv", "every label is 3", "different numbers", code="data.unsplittable")

    def test_data_of_classes_do_not_fit_regression(self, shell: Shell) -> None:
        job = shell.job(yaml.safe_dump({**JOB, "data": {"name": "digits"}, "task": "regression"}))
        answer = shell.nas("search", job, "--inline")
        assert_error(answer, "regression", "numbers", "digits", "classes", code="job.unfit-data")

    def test_a_metric_of_another_task_names_those_of_the_jobs(self, shell: Shell) -> None:
        job = shell.job(yaml.safe_dump({**JOB, "data": {"name": "digits"}, "objectives": ["mae", "macs"]}))
        answer = shell.nas("search", job, "--inline")
        parts = ("objectives[0]", "mae is a metric of the task regression", "classification", "accuracy")
        assert_error(answer, *parts, code="job.unknown-name")

    def test_an_image_outside_of_the_tables_folder_is_refused(self, shell: Shell) -> None:
        (shell.folder / "t.csv").write_text("image,value\n../a.png,1\nb.png,2\n")
        answer = shell.nas("search", job_of(shell, shell.folder / "t.csv", "regression"), "--inline")
        assert_error(answer, "line 2", "'../a.png'", "below the table's folder", code="data.malformed-table")

    def test_a_rare_label_is_an_error(self, shell: Shell) -> None:
        table = set_table(shell.folder, 40, columns=True)
        lines = [line.rpartition(",")[0] + ",0" for line in table.read_text().splitlines()[1:]]
        table.write_text("\n".join(["image,d0,d1,d2,d3,d4", *lines]))
        answer = shell.nas("search", job_of(shell, table, "multi-label"), "--inline")
        assert_error(answer, "0 of 40 examples have the label 'd4'", "at least 3", code="data.unsplittable")
