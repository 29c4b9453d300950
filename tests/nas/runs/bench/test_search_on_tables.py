"""The comparison of search algorithms: runs are cached, and its numbers are those of its rows."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from nas.runs.bench.results_file import Row
from nas.search.algorithms import ALGORITHMS
from tests.benchmarks import algorithm_source, search_on_tables
from tests.benchmarks.algorithm_source import source_digest
from tests.benchmarks.cached_runs import Cache, Spec, run_missing
from tests.benchmarks.engine_time import row as engine_row
from tests.benchmarks.instant_evaluations import InstantEvaluator, elastic_space
from tests.benchmarks.search_on_tables import Cell, Problem, plan, print_summary, print_table
from tests.nas.table_search import TABLE

SPEC = Spec(TABLE, ("accuracy",), ("latency_ms",), (), "random", 0, budget=30, target=0.8, batch=10)


def test_runs_are_done_once_and_go_on_after_a_kill(tmp_path: Path) -> None:
    specs = [replace(SPEC, seed=seed) for seed in (0, 1)]
    done = dict(run_missing(specs, Cache(tmp_path), jobs=1))
    assert {spec: row.seed for spec, row in done.items()} == {specs[0]: 0, specs[1]: 1}
    assert asdict(done[specs[1]]) | {"own_seconds": 0} == asdict(specs[1].run()) | {"own_seconds": 0}
    again = Cache(tmp_path)
    assert [again.find(spec) for spec in specs] == [done[spec] for spec in specs]
    assert list(run_missing(specs, again, jobs=1)) == []
    file = tmp_path / "random.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-40])  # killed while it wrote the second
    cut = Cache(tmp_path)
    assert [cut.find(spec) is None for spec in specs] == [False, True]
    cut.keep(specs[1], done[specs[1]])
    assert Cache(tmp_path).find(specs[1]) == done[specs[1]]


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1}, {"budget": 31}, {"target": 0.9}, {"batch": 9}, {"algorithm": "nsga2"}, {"exact": ("latency_ms",)},
        {"minimize": ("macs",)},
    ],
)  # fmt: skip
def test_a_run_of_other_settings_is_another(other: dict[str, object]) -> None:
    assert replace(SPEC, **other).key != SPEC.key  # type: ignore[arg-type]


def test_a_run_on_another_table_is_another(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("table: t.csv\ngenes: [a]\n")
    (tmp_path / "t.csv").write_text("a,accuracy,latency_ms\n0,1,2\n1,2,3\n")
    before = replace(SPEC, table=tmp_path / "t.yaml").key
    assert str(tmp_path) not in before  # the folder is not part of it
    (tmp_path / "u.yaml").write_text("table: u.csv\ngenes: [a]\n")
    (tmp_path / "u.csv").write_text("a,accuracy,latency_ms\n0,1,2\n1,2,4\n")
    assert replace(SPEC, table=tmp_path / "u.yaml").key != before


def planted(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    """The digest of random search when the module of its gene rows has this text."""
    (folder / "planted.py").write_text(text)
    own = algorithm_source._file
    monkeypatch.setattr(
        algorithm_source, "_file", lambda name: folder / "planted.py" if name == "nas.search.genes" else own(name)
    )
    caches = (source_digest, algorithm_source._module)
    try:
        for cached in caches:
            cached.cache_clear()
        return source_digest("random")
    finally:
        monkeypatch.undo()
        for cached in caches:
            cached.cache_clear()


def test_the_digest_follows_the_definitions_that_an_algorithm_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(text: str) -> str:
        return planted(tmp_path, monkeypatch, text)

    plain = of("LIMIT = 1\n\ndef GeneRows():\n    return _one()\n\ndef _one():\n    return LIMIT\n")
    same = '"""Says more."""\nLIMIT = 1\nOTHER = 5\n\ndef GeneRows():  # why\n    return _one()\n\n'
    assert of(same + "def _one():\n    return LIMIT\n\ndef neighbour():\n    return OTHER\n") == plain
    assert of("LIMIT = 2\n\ndef GeneRows():\n    return _one()\n\ndef _one():\n    return LIMIT\n") != plain
    assert of("LIMIT = 1\n\ndef GeneRows():\n    return _one()\n\ndef _one():\n    return LIMIT + 0\n") != plain
    assert of("from nas.search.ranking import survivors as GeneRows\n") != of("GeneRows = 1\n")
    digests = {name: source_digest(name) for name in ALGORITHMS}
    assert len(set(digests.values())) == len(digests)


def row(algorithm: str, seed: int, reached: int | None, share: str = "0.99") -> Row:
    return Row(algorithm, seed, {share: reached}, [(reached or 500, 0.99)], 2.0)


def test_a_run_that_does_not_arrive_counts_as_its_budget() -> None:
    specs = [replace(SPEC, budget=500, target=0.99, seed=s) for s in range(3)]
    cell = Cell.of(specs, [row("linas", 0, 320), row("linas", 1, None), row("linas", 2, None)])
    assert cell is not None
    assert (cell.median, cell.text(interval=False)) == (500, "> 500 (320 to > 500)")
    some = Cell.of(specs, [row("linas", 0, 320), None, row("linas", 2, 100)])
    assert some is not None
    assert (some.median, some.text(interval=False)) == (210, "210 (100 to 320), 1 to do")
    assert Cell.of(specs, [None, None, None]) is None


@pytest.mark.parametrize(("n", "cut"), [(1, 0), (5, 0), (6, 0), (9, 1), (11, 1), (12, 2), (30, 9)])
def test_intervals_of_medians_have_the_published_ranks(n: int, cut: int) -> None:
    """Conover 1999, table of the binomial distribution: of 30 values the 10th and the 21st, for example."""
    specs = [replace(SPEC, budget=500, target=0.99, seed=s) for s in range(n)]
    cell = Cell.of(specs, [row("linas", s, 100 + s) for s in range(n)])
    assert cell is not None
    assert cell.interval == (100 + cut, 100 + n - 1 - cut)


def test_an_algorithm_of_another_environment_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker answers for another project; with this environment's Python here."""
    monkeypatch.delenv("NAS_OTHER_PYTHON", raising=False)
    name = "tests.benchmarks.other_projects.algorithms:Uniform"
    problems = search_on_tables.own(TABLE, "accuracy", ["latency_ms"], 0.8, "")
    cells = plan(problems, 1, 1, [f"/{name}"], {"Uniform": 40}, 0, [name])
    ((cell, (spec,)),) = cells.items()
    made = spec.run()
    assert (made.evaluations <= 40, made.algorithm) == (True, name)
    assert made.hypervolume == spec.run().hypervolume  # of one seed
    Cache(tmp_path).keep(spec, made)
    assert Cache(tmp_path).find(spec) == made
    print_table(problems, {cell: Cell.of([spec], [made])}, intervals=True)
    assert "| Uniform | " in capsys.readouterr().out


def test_the_ratio_is_to_the_best_baseline_and_means_are_geometric(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem(name, "all", TABLE, ("accuracy",), ("latency_ms",), 0.99) for name in ("one", "two")]
    medians = {
        ("one", "guided"): 100, ("one", "nsga2"): 400, ("one", "linas"): 200, ("one", "random"): 10,
        ("two", "guided"): 80, ("two", "nsga2"): 640, ("two", "linas"): None,
    }  # fmt: skip
    found = {}
    for problem in problems:
        for line in ("guided", "nsga2", "linas", "random"):
            if (problem.name, line) in medians:
                spec = problem.spec(line, 0, 700, 10)
                found[problem, line] = Cell.of([spec], [row(line, 0, medians[problem.name, line])])
    print_table(problems, found)
    print_summary(problems, found)
    lines = capsys.readouterr().out.splitlines()
    assert "| ratio | 0.50 (linas) | 0.12 (nsga2) |  |" in lines
    assert lines[-2:] == [
        "all: guided needs 90 on the median of 2 columns, 100 on the worst",
        "all: geometric mean of 2 ratios 0.250",
    ]


def test_patterns_choose_cells_and_exact_columns_are_guideds_alone() -> None:
    problems = search_on_tables.own(TABLE, "accuracy", ["latency_ms", "latency_ms,macs"], 0.9, "macs")
    cells = plan(problems, 2, 3, [], {"guided": 40})
    assert [len(specs) for (_, line), specs in cells.items() if line == "nsga2"] == [2, 2]
    exact = {problem.name: specs for (problem, line), specs in cells.items() if line == "guided-exact"}
    assert list(exact) == ["latency_ms,macs"]
    assert [(s.algorithm, s.exact, s.budget, s.seed) for s in exact["latency_ms,macs"]] == [
        ("guided", ("macs",), 40, seed) for seed in range(3)
    ]
    assert all(not s.exact for (_, line), specs in cells.items() for s in specs if line != "guided-exact")
    chosen = plan(problems, 2, 3, ["latency_ms/nsga2", "*macs/"], {})
    assert {(p.name, line) for p, line in chosen if line in ("nsga2", "random")} == {
        ("latency_ms", "nsga2"), ("latency_ms,macs", "nsga2"), ("latency_ms,macs", "random"),
    }  # fmt: skip


def test_the_script_runs_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        search_on_tables.main(
            TABLE,
            tmp_path / "cache",
            maximize="accuracy",
            minimize=["latency_ms"],
            seeds=1,
            only=["/random"],
            target=0.9,
        )

    run()
    first = capsys.readouterr()
    assert first.err.startswith("latency_ms/random, seed 0: ")
    assert "| random | " in first.out
    assert "Reference point" in first.out
    run()
    assert capsys.readouterr() == (first.out, "")  # all of it was kept
    kept = json.loads((tmp_path / "cache" / "random.jsonl").read_text())
    assert kept["row"]["algorithm"] == "random"


def test_the_engines_space_has_45_genes_and_different_values() -> None:
    space = elastic_space()
    assert len(space) == 45
    evaluator = InstantEvaluator(space)
    accuracies, latencies = (
        [evaluator.value(a, metric) for a in (space.smallest, space.largest)] for metric in ("accuracy", "latency_ms")
    )
    assert accuracies[0] < accuracies[1] < 1
    assert latencies[0] < latencies[1]


def test_the_engines_times_are_of_the_evaluations_between_two_stamps() -> None:
    stamps = [(0, 10.0, 1.0), (2, 11.0, 1.1), (255, 20.0, 5.0), (262, 21.0, 5.5), (305, 25.0, 7.0), (315, 90.0, 90.0)]
    assert engine_row("x", stamps) == f"| x | {15000 / 305:.2f} | {6000 / 305:.2f} | 100.00 | 40.00 |"
