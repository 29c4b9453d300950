"""The commands `nas bench predictor` and `nas bench search`, right and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import StoreError
from tests.nas.commands import Shell

TABLE = Path(__file__).parents[2] / "data" / "digits_cnn.yaml"


def bench(*extra: str, **options: str) -> list[str]:
    given = {"target": "latency_ms", "train": "20,40", "test": "50", "seeds": "1", **options}
    return ["bench", "predictor", str(TABLE), *(part for k, v in given.items() for part in (f"--{k}", v)), *extra]


def test_rows_of_every_model_come_as_json(shell: Shell) -> None:
    rows = shell.nas(*bench("--json")).data
    assert {(row["model"], row["train"], row["seed"]) for row in rows} == {
        (model, n, 0) for model in ("mean", "ridge", "lightgbm", "gp", "auto") for n in (20, 40)
    }
    for row in rows:
        assert set(row) == {"model", "train", "seed", "mape", "kendall_tau", "coverage", "fit_s"}
        assert 0 < row["mape"] < 1
        assert 0 <= row["coverage"] <= 1
    errors = {row["model"]: row["mape"] for row in rows if row["train"] == 40}
    assert errors["auto"] < errors["mean"]


def test_people_get_means_in_a_table(shell: Shell) -> None:
    found = shell.nas(*bench())
    assert found.code == 0
    lines = found.out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        [n, model] for n in ("20", "40") for model in ("mean", "ridge", "lightgbm", "gp", "auto")
    ]


@pytest.mark.parametrize(
    ("options", "error", "values"),
    [
        ({"target": "latency"}, "column.unknown", ("'latency'", "'latency_ms'")),
        ({"train": "20,many"}, "option.invalid", ("20,many",)),
        ({"train": "3"}, "benchmark.invalid", ("3", "10")),
        ({"train": "20,20"}, "benchmark.invalid", ("20,20",)),
        ({"test": "1"}, "benchmark.invalid", ("1 test rows",)),
        ({"train": "450"}, "benchmark.invalid", ("480", "50", "450")),
        ({"seeds": "0"}, "benchmark.invalid", ("--seeds: expected at least 1",)),
    ],
)
def test_invalid_predictor_benchmarks_are_rejected(
    shell: Shell, options: dict[str, str], error: str, values: tuple[str, ...]
) -> None:
    found = shell.nas(*bench(**options))
    assert (found.code, found.out, found.error) == (1, "", error)
    assert found.err.startswith("error: ")
    assert [value for value in values if value not in found.err] == []


def bench_search(*extra: str, **options: str) -> list[str]:
    given = {
        "maximize": "accuracy", "minimize": "latency_ms", "algorithms": "nsga2,random", "evaluations": "40", "seeds": "2",
        **options,
    }  # fmt: skip
    return ["bench", "search", str(TABLE), *(part for k, v in given.items() for part in (f"--{k}", v)), *extra]


def test_rows_of_searches_come_as_json_and_progress_on_stderr(shell: Shell) -> None:
    found = shell.nas(*bench_search("--json", target="0.8"))
    assert [(row["algorithm"], row["seed"]) for row in found.data] == [
        ("nsga2", 0), ("nsga2", 1), ("random", 0), ("random", 1),
    ]  # fmt: skip
    for row in found.data:
        assert set(row) == {"algorithm", "seed", "evaluations_to", "hypervolume", "own_seconds"}
        assert list(row["evaluations_to"]) == ["0.8", "0.9", "0.95", "0.99"]
        assert row["hypervolume"][-1][0] <= 40
    assert found.err.splitlines()[0].startswith("nsga2, seed 0: ")
    assert len(found.err.splitlines()) == 4


def test_people_get_medians_and_quartiles_and_a_plot(shell: Shell) -> None:
    found = shell.nas(*bench_search(plot="plots/out.svg"))
    assert found.code == 0
    assert (shell.folder / "plots" / "out.svg").read_text().startswith("<?xml")
    assert "wrote plots/out.svg" in found.err
    title, _, header, *rows = found.out.splitlines()
    assert title.startswith("digits_cnn.csv.gz: accuracy, latency_ms; ")
    assert " ".join(header.split()) == "algorithm to 90 % to 95 % to 99 % share seconds"
    assert [row.split()[0] for row in rows] == ["nsga2", "random"]
    assert "> 40" in rows[1]


def test_a_plot_that_cannot_be_written_costs_no_rows(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise StoreError(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr("nas.results.plots.picture_files.write_atomically", full)
    found = shell.nas(*bench_search("--json", plot="out.png"))
    assert found.code == 1
    assert len(found.data) == 4
    assert found.err.splitlines()[-1] == "error: out.png cannot be written: No space left on device"


@pytest.mark.parametrize(
    ("options", "error", "values"),
    [
        ({"minimize": "latency"}, "column.unknown", ("'latency'", "'latency_ms'")),
        ({"minimize": "latency_ms,,macs"}, "option.invalid", ("--minimize 'latency_ms,,macs'",)),
        ({"minimize": "accuracy"}, "benchmark.invalid", ("'accuracy' is named twice",)),
        ({"algorithms": "nsga2,radnom"}, "algorithm.unknown", ("'radnom'", "'random'")),
        ({"target": "1.5"}, "benchmark.invalid", ("1.5",)),
        ({"plot": "out.jpg"}, "plot.invalid-path", ("out.jpg", ".png or .svg")),
        ({"exact": "macs"}, "objective.unknown", ("'macs'",)),
    ],
)
def test_invalid_search_benchmarks_are_rejected_before_they_start(
    shell: Shell, options: dict[str, str], error: str, values: tuple[str, ...]
) -> None:
    found = shell.nas(*bench_search(**options))
    assert (found.code, found.out, found.error) == (1, "", error)
    assert found.err.startswith("error: ")
    assert [value for value in values if value not in found.err] == []
    assert len(found.err.splitlines()) == 1
