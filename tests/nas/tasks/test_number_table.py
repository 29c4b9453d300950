"""Networks for the rows of a table of numbers: scikit-learn's diabetes, from a CSV file to the script of an export."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_diabetes

from tests.nas.commands import Shell, assert_error

JOB: dict[str, Any] = {
    "name": "small",
    "task": "regression",
    "supernet": {"family": "mlp", "space": {"width": [8, 16], "depth": [1, 2], "hidden": [8, 16]}},
    "training": {"epochs": 30, "batch_size": 32},
    "objectives": ["mae", "r2", "macs"],
    "search": {"algorithm": "random", "evaluations": 4, "batch": 4},
}


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


def diabetes(folder: Path) -> Path:
    """The table of 442 patients: ten numbers each, and how far their illness went in a year."""
    data = load_diabetes(scaled=False)
    path = folder / "diabetes.csv"
    with path.open("w", newline="") as file:
        rows = ((*map(float, row), float(target)) for row, target in zip(data.data, data.target, strict=True))
        csv.writer(file).writerows([(*data.feature_names, "target"), *rows])
    return path


def job_of(shell: Shell, table: Path, **changes: Any) -> Path:
    return shell.job(yaml.safe_dump({**JOB, "data": {"name": "number-table", "path": str(table)}, **changes}))


@pytest.mark.slow
def test_diabetes_from_a_table_to_a_script_that_prints_numbers(shell: Shell) -> None:
    table = diabetes(shell.folder)
    answer = shell.nas("search", job_of(shell, table), "--inline")
    assert answer.code == 0, answer
    chosen = ("--select", "macs<=1e9", "--json")
    best = json.loads(shell.nas("show", "small-1", *chosen).out)
    assert best["values"]["r2"] > 0.2  # a linear model has about 0.5; one answer for all has 0
    made = json.loads(shell.nas("export", "small-1", "-o", "net.onnx", *chosen).out)
    assert made["as_measured"] == 1
    assert made["parity"] < 1e-4
    how = json.loads((shell.folder / "net.json").read_text())
    assert how["input"] == {"name": "input", "shape": ["batch", 10], "dtype": "float32"}
    names = table.read_text().splitlines()[0].split(",")[:-1]
    assert how["preprocessing"]["columns"] == names
    files = json.loads(shell.nas("show", "small-1", "--training-files", "--json").out)["parts"]["train"]
    lines = table.read_text().splitlines()
    rows = np.array([list(map(float, lines[int(f["name"].split()[1]) - 1].split(","))) for f in files])[:, :-1]
    np.testing.assert_allclose(how["preprocessing"]["mean"], rows.mean(axis=0))
    np.testing.assert_allclose(how["preprocessing"]["std"], rows.std(axis=0))
    # The rows of the file, and one of them on the command line, give the same numbers.
    script = [sys.executable, "net.predict.py"]
    run = {"cwd": shell.folder, "capture_output": True, "text": True, "timeout": 300}
    printed = subprocess.run([*script, table.name], check=True, **run).stdout.splitlines()  # type: ignore[call-overload]
    assert len(printed) == 442
    row = lines[1].rpartition(",")[0]
    assert subprocess.run([*script, row], check=True, **run).stdout.splitlines() == printed[:1]  # type: ignore[call-overload]
    numbers = np.array([float(line.rpartition(": ")[2]) for line in printed])
    truth = load_diabetes().target
    assert np.corrcoef(numbers, truth)[0, 1] > 0.5
    short = subprocess.run([*script, "1,2"], **run)  # type: ignore[call-overload]
    assert short.returncode == 1
    assert "is 2 numbers; expected 10: age, sex" in short.stderr


class TestBadInput:
    @pytest.mark.parametrize("cell", ["male", "", "nan", "1e200"])
    def test_a_cell_that_is_no_number_is_named_with_its_line_and_column(self, shell: Shell, cell: str) -> None:
        table = diabetes(shell.folder)
        lines = table.read_text().splitlines()
        age, _, rest = lines[3].split(",", 2)
        lines[3] = f"{age},{cell},{rest}"
        table.write_text("\n".join(lines))
        answer = shell.nas("search", job_of(shell, table), "--inline")
        assert_error(answer, "diabetes.csv:4", "'sex'", repr(cell), "finite number", code="data.malformed-table")

    def test_a_label_beyond_single_precision_is_named_with_its_line(self, shell: Shell) -> None:
        table = diabetes(shell.folder)
        table.write_text(table.read_text() + "59,2,32,101,157,93,38,4,5,87,1e39\n")
        answer = shell.nas("search", job_of(shell, table), "--inline")
        assert_error(answer, "line 444", "'1e39'", "1.0e+18", code="data.malformed-table")

    def test_another_encoding_is_to_be_converted_since_tables_of_numbers_have_no_such_key(self, shell: Shell) -> None:
        table = diabetes(shell.folder)
        table.write_bytes(table.read_text().replace("age", "größe").encode("latin-1"))
        answer = shell.nas("search", job_of(shell, table), "--inline")
        assert_error(answer, "byte 0xf6", "save it as utf-8", code="data.unreadable")
        assert "give its encoding" not in answer.err

    def test_an_unknown_label_column_lists_those_of_the_table(self, shell: Shell) -> None:
        data = {"name": "number-table", "path": str(diabetes(shell.folder)), "label_column": "y"}
        answer = shell.nas("search", shell.job(yaml.safe_dump({**JOB, "data": data})), "--inline")
        assert_error(answer, "no column 'y'", "'bmi'", code="data.malformed-table")

    def test_a_family_for_images_is_refused(self, shell: Shell) -> None:
        supernet = {"family": "mobile-cnn", "preset": "digits"}
        answer = shell.nas("search", job_of(shell, diabetes(shell.folder), supernet=supernet), "--inline")
        assert_error(answer, "mobile-cnn takes images", "number-table", "rows", code="job.unfit-data")

    def test_rows_for_images_only_are_refused(self, shell: Shell) -> None:
        data = {"name": "number-table", "path": "t.csv", "image_size": 8}
        answer = shell.nas("search", shell.job(yaml.safe_dump({**JOB, "data": data})), "--inline")
        assert_error(answer, "data.image_size", "rows of numbers", code="job.conflict")

    def test_images_cannot_be_shifted_where_there_are_none(self, shell: Shell) -> None:
        training = {"epochs": 1, "augment": {"shift": 1}}
        answer = shell.nas("search", job_of(shell, diabetes(shell.folder), training=training), "--inline")
        assert_error(answer, "training.augment", "rows", code="job.conflict")
