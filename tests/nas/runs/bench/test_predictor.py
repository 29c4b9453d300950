"""Tests of the benchmark of predictors."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from nas.runs.bench.predictor import PredictorRow, bench_predictor
from nas.runs.bench.results_file import ResultsFile
from nas.runs.bench.table import Table
from tests.errors import raises

MODELS = ["mean", "ridge", "lightgbm", "gp", "auto"]


def latency(genes: tuple[int, ...]) -> float:
    """Layers that add up."""
    return 5.0 + sum((i + 1) * gene for i, gene in enumerate(genes))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Every network of five layers with three options each; an empty latency in the first row."""
    folder = tmp_path_factory.mktemp("table")
    lines = [",".join([*(f"layer_{i}" for i in range(1, 6)), "latency_ms", "loss", "half"])]
    for row, genes in enumerate(product(range(3), repeat=5)):
        cells = [str(g) for g in genes]
        signed = latency(genes) - 20
        lines.append(
            ",".join([*cells, "" if row == 0 else str(latency(genes)), str(signed), str(signed) if row < 40 else ""])
        )
    (folder / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "t.yaml").write_text(
        "table: t.csv\ngenes: [layer_1, layer_2, layer_3, layer_4, layer_5]\n", encoding="utf-8"
    )
    return Table.load(folder / "t.yaml")


@pytest.fixture(scope="module")
def found(table: Table) -> list[PredictorRow]:
    return list(bench_predictor(table, "latency_ms", train=[30, 20], test=60, seeds=2))


def test_there_is_a_row_for_each_model_size_and_seed(found: list[PredictorRow]) -> None:
    assert [(r.model, r.train, r.seed) for r in found] == [(m, n, s) for s in (0, 1) for n in (20, 30) for m in MODELS]
    for row in found:
        data = json.loads(json.dumps(asdict(row), allow_nan=False))
        assert list(data) == ["model", "train", "seed", "mape", "kendall_tau", "coverage", "fit_s"]
        assert 0 <= data["coverage"] <= 1
        assert data["fit_s"] > 0


def test_rows_are_kept_when_they_come_and_an_interrupted_benchmark_goes_on(
    table: Table, found: list[PredictorRow], tmp_path: Path
) -> None:
    results = ResultsFile(tmp_path / "results.jsonl", PredictorRow)
    begun = bench_predictor(table, "latency_ms", train=[20], test=60, seeds=1, results=results)
    first = [next(begun), next(begun)]
    assert len(results.path.read_text().splitlines()) == 2
    again = list(bench_predictor(table, "latency_ms", train=[20, 30], test=60, seeds=1, results=results))
    assert again[:2] == first  # with the seconds of the first time
    assert [(row.key, row.mape) for row in again] == [(row.key, row.mape) for row in found if row.seed == 0]
    assert len(list(bench_predictor(table, "loss", train=[20], test=60, seeds=1, results=results))) == len(MODELS)


def test_scores_are_those_of_the_split(table: Table, found: list[PredictorRow]) -> None:
    """The mean's error by hand, on the rows that the seed's permutation holds out."""
    labels = np.array(table.values["latency_ms"])
    for row in found:
        if row.model == "mean":
            order = np.random.default_rng(row.seed).permutation(np.flatnonzero(~np.isnan(labels)))
            held, training = labels[order[:60]], labels[order[60 : 60 + row.train]]
            assert row.mape == pytest.approx(np.abs(training.mean() / held - 1).mean())
            assert row.kendall_tau is None


def test_a_sum_over_layers_is_found(table: Table, found: list[PredictorRow]) -> None:
    by_model = {m: np.mean([r.mape for r in found if r.model == m and r.train == 30]) for m in MODELS}
    assert by_model["auto"] < 0.02
    assert by_model["auto"] <= 1.1 * min(by_model.values())
    # Five numbers explain all rows: no model is asked for the impossible.
    genes = np.array([a.genes for a in table.architectures])[1:]
    assert LinearRegression().fit(genes, np.array(table.values["latency_ms"])[1:]).score(
        genes, np.array(table.values["latency_ms"])[1:]
    ) == pytest.approx(1.0)


def test_equal_seeds_give_equal_rows(table: Table, found: list[PredictorRow]) -> None:
    again = list(bench_predictor(table, "latency_ms", train=[20], test=60, seeds=1))
    for one, two in zip(found[:5], again, strict=True):
        assert (one.mape, one.kendall_tau, one.coverage) == (two.mape, two.kendall_tau, two.coverage)


def test_the_errors_of_labels_below_zero_are_differences(table: Table) -> None:
    rows = {r.model: r for r in bench_predictor(table, "loss", train=[40], test=80, seeds=1)}
    assert rows["auto"].kendall_tau is not None
    assert rows["auto"].kendall_tau > 0.95
    assert rows["auto"].mape is None  # a label is 0


def test_progress_is_reported(table: Table) -> None:
    seen: list[tuple[int, int]] = []
    for _ in bench_predictor(table, "latency_ms", train=[12], test=5, seeds=1, on_progress=lambda *n: seen.append(n)):
        pass
    assert seen == [(i, 5) for i in range(1, 6)]


@pytest.mark.parametrize(
    ("kwargs", "values"),
    [
        ({"train": [9]}, ("rows are 9", "10")),
        ({"train": []}, ("rows are nothing",)),
        ({"train": [20, 20]}, ("20,20",)),
        ({"test": 1}, ("1 test rows", "2")),
        ({"seeds": 0}, ("seeds",)),
        ({"train": [200]}, ("242", "'latency_ms'", "60", "200")),
    ],
)
def test_invalid_numbers_are_rejected_at_once(table: Table, kwargs: dict[str, object], values: tuple[str, ...]) -> None:
    with raises("benchmark.invalid", *values):
        bench_predictor(table, "latency_ms", **{"train": [20], "test": 60, "seeds": 1, **kwargs})  # type: ignore[arg-type]


def test_an_unknown_column_is_named(table: Table) -> None:
    with raises("column.unknown", "'latency'", "'latency_ms'"):
        bench_predictor(table, "latency", train=[20], test=60, seeds=1)


def test_repeated_architectures_with_other_labels_are_learnt(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["dim,depth,latency_ms"]
    for _ in range(80):
        dim, depth = rng.integers(1, 4), rng.integers(1, 4)
        lines.append(f"{dim},{depth},{dim * depth + 1 + 0.05 * rng.standard_normal()}")
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "t.yaml").write_text("table: t.csv\ngenes: [dim, depth]\nnumeric: true\n", encoding="utf-8")
    table = Table.load(tmp_path / "t.yaml")
    assert len(table.rows) < len(table.architectures)
    rows = {r.model: r.mape for r in bench_predictor(table, "latency_ms", train=[30], test=50, seeds=1)}
    assert rows["auto"] is not None
    assert rows["ridge"] is not None
    assert rows["auto"] < 0.5 * rows["ridge"]  # a product, not a sum
