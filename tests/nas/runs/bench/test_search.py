"""The benchmark of search algorithms: rows against a search written by hand, references, and invalid input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from nas.runs.bench.results_file import ResultsFile, Row
from nas.runs.bench.search import Replay, bench_search, quartiles
from nas.runs.bench.table import Table, TableEvaluator
from nas.search.problem.objectives import Evaluation
from nas.search.problem.variants import Variants
from nas.search.registry import make_algorithm
from supernets.space import Architecture
from tests.errors import raises
from tests.nas.table_search import TABLE

Cells = Callable[[tuple[int, ...]], Mapping[str, float]]


def gain_and_cost(genes: tuple[int, ...]) -> dict[str, float]:
    return {"gain": math.sqrt(sum(genes)) + 0.1 * genes[0], "cost": 1.0 + sum((i + 1) * g for i, g in enumerate(genes))}


def write_table(folder: Path, cells: Cells = gain_and_cost, *, n_genes: int = 4, rows: slice = slice(None)) -> Path:
    """A table of all networks of some layers with three options each; NaN is an empty cell."""
    lines = []
    for genes in list(product(range(3), repeat=n_genes))[rows]:
        row = cells(genes)
        lines.append(",".join([*map(str, genes), *("" if math.isnan(c) else repr(c) for c in row.values())]))
    layers = [f"layer_{i}" for i in range(n_genes)]
    (folder / "t.csv").write_text("\n".join([",".join([*layers, *row]), *lines]) + "\n", encoding="utf-8")
    (folder / "t.yaml").write_text(f"table: t.csv\ngenes: [{', '.join(layers)}]\n", encoding="utf-8")
    return folder / "t.yaml"


@pytest.fixture(scope="module")
def digits() -> Replay:
    return Replay.from_table(Table.load(TABLE), ["accuracy"], ["latency_ms"])


def area(values: np.ndarray, reference: np.ndarray) -> float:
    """Hypervolume of two minimised objectives by the cells of the grid that the values span."""
    xs, ys = (np.unique([*values[:, j][values[:, j] < reference[j]], reference[j]]) for j in (0, 1))
    return sum(
        (x2 - x1) * (y2 - y1)
        for x1, x2 in pairwise(xs)
        for y1, y2 in pairwise(ys)
        if ((values[:, 0] <= x1) & (values[:, 1] <= y1)).any()
    )


def evaluations_of(replay: Replay, architectures: Sequence[Architecture]) -> list[Evaluation]:
    evaluator = TableEvaluator(replay.table, {o.name: o.name for o in replay.objectives})
    found = []
    for architecture in architectures:
        requests = [Variants().request(architecture, objective) for objective in replay.objectives]
        found.append(Evaluation(architecture, {m.request.metric: m for m in evaluator.evaluate(requests)}))
    return found


@pytest.mark.parametrize("algorithm", ["random", "nsga2"])
def test_a_row_is_that_of_a_search_by_hand(digits: Replay, algorithm: str) -> None:
    table = digits.table
    values = np.column_stack([-np.array(table.values["accuracy"]), table.values["latency_ms"]])
    beaten = [((values <= v).all(axis=1) & (values < v).any(axis=1)).any() for v in values]
    front = values[~np.array(beaten)]
    reference = front.max(axis=0) + 0.1 * (front.max(axis=0) - front.min(axis=0))
    whole = area(front, reference)
    row = digits.run(algorithm, 3, evaluations=60, batch=7)

    searcher = make_algorithm(algorithm, digits.problem(3))
    values_of = dict(zip(table.rows, values, strict=True))
    asked, known = [table.space.smallest, table.space.largest], []
    while True:
        searcher.tell(evaluations_of(digits, asked))
        known += asked
        if len(known) == 60:
            break
        asked = searcher.ask(min(7, 60 - len(known)))
    shares = [area(np.array([values_of[a] for a in known[:n]]), reference) / whole for n in range(1, 61)]
    assert dict(row.hypervolume) == pytest.approx({n: shares[n - 1] for n, _ in row.hypervolume}, abs=1e-9)
    assert {*range(2, 60, 7), 60} <= {n for n, _ in row.hypervolume}
    grew = {n for n in range(2, 61) if shares[n - 1] > shares[n - 2] + 1e-12}
    assert grew <= {n for n, _ in row.hypervolume}
    for share, n in row.evaluations_to.items():
        assert n == next((i for i, s in enumerate(shares, start=1) if s >= float(share)), None)


def test_a_row_has_the_keys_that_scripts_read(digits: Replay) -> None:
    data = json.loads(json.dumps(asdict(digits.run("random", 0, evaluations=20)), allow_nan=False))
    assert list(data) == ["algorithm", "seed", "evaluations_to", "hypervolume", "own_seconds"]
    assert list(data["evaluations_to"]) == ["0.9", "0.95", "0.99"]
    assert data["evaluations_to"]["0.99"] is None
    assert data["own_seconds"] > 0
    assert all(isinstance(n, int) and 0 <= share <= 1 for n, share in data["hypervolume"])


def test_a_target_ends_a_run_in_the_batch_that_reaches_it(digits: Replay) -> None:
    whole = digits.run("nsga2", 1, evaluations=300)
    row = digits.run("nsga2", 1, evaluations=300, target=0.93)
    assert list(row.evaluations_to) == ["0.9", "0.93", "0.95", "0.99"]
    reached = row.evaluations_to["0.93"]
    assert reached is not None
    assert reached <= row.evaluations < reached + 10
    assert row.share >= 0.93
    shared = [pair for pair in whole.hypervolume if pair[0] <= row.evaluations]
    assert list(row.hypervolume) == shared  # the same search, only shorter


def test_a_search_of_everything_reaches_the_whole_front(digits: Replay) -> None:
    row = digits.run("random", 0, evaluations=10_000, target=1.0)
    assert row.share == pytest.approx(1.0, abs=1e-9)
    assert row.evaluations_to["1"] is not None
    assert row.evaluations <= digits.table.space.size


def test_three_objectives_and_exact_columns(digits: Replay) -> None:
    table = digits.table
    replay = Replay.from_table(table, ["accuracy"], ["latency_ms", "parameters"], ["parameters"])
    assert 0 < replay.run("guided", 0, evaluations=30).share < 1
    values = replay.problem(0).exact["parameters"](table.architectures[:9])
    assert values.tolist() == list(table.values["parameters"][:9])


def test_a_front_of_one_network_is_bounded_by_the_tables_range(tmp_path: Path) -> None:
    table = Table.load(write_table(tmp_path, lambda g: {"one": float(sum(g)), "two": 3.0 * sum(g) + g[0]}))
    replay = Replay.from_table(table, [], ["one", "two"])
    assert replay.n_front == 1
    assert replay.reference.tolist() == pytest.approx([0.8, 2.6])
    assert replay.run("random", 0, evaluations=2).share == pytest.approx(1.0)  # the smallest is all


def test_networks_without_values_are_failed_evaluations(tmp_path: Path) -> None:
    def cells(genes: tuple[int, ...]) -> dict[str, float]:
        return gain_and_cost(genes) | ({"cost": math.nan} if genes[1:3] == (1, 2) else {})

    replay = Replay.from_table(Table.load(write_table(tmp_path, cells)), ["gain"], ["cost"])
    for algorithm in ("random", "nsga2", "guided"):
        row = replay.run(algorithm, 0, evaluations=81)
        assert row.evaluations == 81
        assert row.share == pytest.approx(1.0)


def test_networks_without_rows_are_failed_evaluations(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    lines = (tmp_path / "t.csv").read_text().splitlines()
    (tmp_path / "t.csv").write_text("\n".join([*lines[:40], *lines[50:]]) + "\n")
    row = Replay.from_table(Table.load(path), ["gain"], ["cost"]).run("random", 0, evaluations=81)
    assert (row.evaluations, row.share) == (81, pytest.approx(1.0))


@pytest.mark.parametrize(
    ("cells", "rows", "kind", "values"),
    [
        (lambda g: gain_and_cost(g) | {"cost": -2.0}, slice(None), "invalid", ("cost is -2",)),
        (lambda g: gain_and_cost(g) | {"cost": math.nan}, slice(None), "unknown-front", ("0 of the 81",)),
        (gain_and_cost, slice(0, 81, 4), "unknown-front", ("21 of the 81",)),
        (
            lambda g: gain_and_cost(g) | ({"cost": math.nan} if sum(g) == 8 else {}),
            slice(None),
            "unknown-front",
            ("cost", "largest", "2-2-2-2"),
        ),
        (gain_and_cost, slice(1, None), "unknown-front", ("gain", "smallest")),
    ],
)
def test_tables_without_a_known_front_are_rejected(
    tmp_path: Path, cells: Cells, rows: slice, kind: str, values: tuple[str, ...]
) -> None:
    table = Table.load(write_table(tmp_path, cells, rows=rows))
    with raises(f"benchmark.{kind}", *values):
        Replay.from_table(table, ["gain"], ["cost"])


@pytest.mark.parametrize(
    ("columns", "code", "values"),
    [
        ((["accuracy"], ["latency"]), "column.unknown", ("'latency'", "'latency_ms'")),
        ((["accuracy"], ["stage0.depth"]), "column.unknown", ("'stage0.depth'",)),
        ((["accuracy"], ["latency_ms", "accuracy"]), "benchmark.invalid", ("'accuracy' is named twice",)),
        ((["accuracy"], []), "benchmark.invalid", ("got 'accuracy'", "digits_cnn.csv.gz", "latency_ms")),
        (([], []), "benchmark.invalid", ("got none",)),
        ((["accuracy"], ["latency_ms"], ["macs"]), "objective.unknown", ("'macs'",)),
    ],
)
def test_columns_that_make_no_problem_are_rejected(
    digits: Replay, columns: tuple[list[str], ...], code: str, values: tuple[str, ...]
) -> None:
    with raises(code, *values):
        Replay.from_table(digits.table, *columns)


def test_invalid_numbers_are_rejected_before_anything_runs(digits: Replay) -> None:
    with raises("algorithm.unknown", "'guidad'", "'guided'"):
        bench_search(digits, ["random", "guidad"], evaluations=10, seeds=1)
    with raises("benchmark.invalid", "random, random"):
        bench_search(digits, ["random", "random"], evaluations=10, seeds=1)
    with raises("benchmark.invalid", "seeds"):
        bench_search(digits, ["random"], evaluations=10, seeds=0)
    with raises("benchmark.invalid", "1 evaluations"):
        bench_search(digits, ["random"], evaluations=1, seeds=1)
    with raises("benchmark.invalid", "99"):
        bench_search(digits, ["random"], evaluations=10, seeds=1, target=99)
    with raises("benchmark.invalid", "batches of 0"):
        bench_search(digits, ["random"], evaluations=10, seeds=1, batch=0)


def test_progress_reports_every_batch(digits: Replay) -> None:
    seen: list[tuple[str, int, int, float]] = []
    rows: list[Row] = list(
        bench_search(
            digits, ["random", "nsga2"], evaluations=25, seeds=2, on_progress=lambda *shown: seen.append(shown)
        )
    )
    assert [(row.algorithm, row.seed) for row in rows] == [("random", 0), ("random", 1), ("nsga2", 0), ("nsga2", 1)]
    assert [shown[2] for shown in seen] == [2, 12, 22] * 4
    assert seen[2][:2] == ("random", 0)
    assert seen[2][3] == pytest.approx(dict(rows[0].hypervolume)[22])


def test_results_are_kept_when_they_come_and_an_interrupted_benchmark_goes_on(digits: Replay, tmp_path: Path) -> None:
    results, done = ResultsFile(tmp_path / "results.jsonl", Row), list[str]()

    def run(seeds: int, evaluations: int = 25) -> list[Row]:
        return list(
            bench_search(
                digits, ["random", "nsga2"], evaluations=evaluations, seeds=seeds, results=results,
                on_progress=lambda name, seed, n, _: done.append(f"{name} {seed}") if n == 2 else None,
            )
        )  # fmt: skip

    begun = bench_search(digits, ["random", "nsga2"], evaluations=25, seeds=2, results=results)
    first = next(begun)
    assert len(results.path.read_text().splitlines()) == 1
    with results.path.open("a") as file:
        file.write('{"settings": {"ta')  # as a kill leaves it
    rows = run(2)
    assert rows[0] == first
    assert done == ["random 1", "nsga2 0", "nsga2 1"]
    assert run(2) == rows
    assert len(results.path.read_text().splitlines()) == 4
    run(1, evaluations=24)
    assert len(results.path.read_text().splitlines()) == 6
    results.path.write_text('{"row": {"algorithm": "random"}}\n')
    with raises("benchmark.invalid", str(results.path), "line 1"):
        run(1)


def test_an_algorithm_may_be_a_users_class(digits: Replay) -> None:
    (row,) = bench_search(digits, ["nas.search.random:RandomSearch"], evaluations=25, seeds=1)
    (same,) = bench_search(digits, ["random"], evaluations=25, seeds=1)
    assert row.hypervolume == same.hypervolume


def test_equal_points_of_the_exact_front_count_once(tmp_path: Path) -> None:
    table = Table.load(write_table(tmp_path, lambda genes: {"gain": genes[0], "cost": 1.0 + genes[0]}, n_genes=2))
    assert Replay.from_table(table, ["gain"], ["cost"]).n_front == 3


def test_quartiles_of_runs_some_of_which_did_not_arrive() -> None:
    assert quartiles([10, 20, 30, 40, 50]) == (20, 30, 40)
    assert quartiles([40, 10]) == (17.5, 25.0, 32.5)
    assert quartiles([10, 20, None, None]) == (17.5, math.inf, math.inf)
    assert quartiles([10, 20, 30, None]) == (17.5, 25.0, math.inf)
    assert quartiles([None]) == (math.inf,) * 3
