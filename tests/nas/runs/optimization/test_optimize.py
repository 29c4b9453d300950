"""`nas.optimize`: fronts of own functions, by the loop of jobs."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nas
from nas.engine.store.memory import MemoryStore
from nas.runs.bench.table import Table, TableEvaluator
from nas.search.problem.pareto import hypervolume
from nas.search.random import RandomSearch
from tests.errors import raises
from tests.nas.runs.optimization.small_search import OBJECTIVES, SPACE, InOrder, evaluate, exact_front
from tests.nas.table_search import COLUMNS, TABLE
from tests.nas.table_search import OBJECTIVES as TABLE_OBJECTIVES
from tests.plugin_packages import PluginPackages


def values_of(result: nas.OptimizationResult) -> list[tuple[str, dict[str, float]]]:
    return [(point.key, dict(point.values)) for point in result.evaluations]


def test_the_front_of_a_whole_space_is_exact() -> None:
    result = nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm="random", budget=1000, progress=False)
    assert result.stop == "every architecture of the space was evaluated"
    assert len(result.evaluations) == 40
    assert {(p.values["accuracy"], p.values["latency_ms"]) for p in result.front} == exact_front()
    assert [p.values["latency_ms"] for p in result.front] == sorted(p.values["latency_ms"] for p in result.front)
    assert result.front[0].described == {"depth": 1, "width": 8, "activation": "relu"}


def test_the_default_algorithm_uses_its_budget_and_is_repeatable() -> None:
    first, again, other = (
        nas.optimize(SPACE, OBJECTIVES, evaluate, budget=22, seed=seed, progress=False) for seed in (1, 1, 2)
    )
    assert len(first.evaluations) == 22
    assert values_of(first) == values_of(again)
    assert values_of(first) != values_of(other)


def test_the_history_of_the_hypervolume_is_that_of_the_front() -> None:
    result = nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm="random", budget=15, progress=False)
    numbers, volumes = zip(*result.hypervolume_history, strict=True)
    assert numbers == tuple(range(1, 16))
    assert list(volumes) == sorted(volumes)
    reference = result.report.reference
    front = np.array([[-p.values["accuracy"], p.values["latency_ms"]] for p in result.front])
    corner = np.array([-reference["accuracy"], reference["latency_ms"]])
    assert volumes[-1] == pytest.approx(hypervolume(front, corner))


@pytest.mark.parametrize("as_object", [True, False])
def test_an_own_algorithm_is_a_class_or_an_object(as_object: bool) -> None:
    space = nas.SearchSpace([nas.Choice(name, tuple(options)) for name, options in SPACE.items()])
    algorithm: Any = InOrder(space, [], seed=1, constraints=()) if as_object else InOrder
    result = nas.optimize(space, OBJECTIVES, evaluate, algorithm=algorithm, budget=10, batch=3, progress=False)
    expected = [space.smallest, space.largest, *(a for a in space.enumerate() if a != space.largest)][:11]
    assert [p.architecture for p in result.evaluations] == list(dict.fromkeys(expected))[:10]
    assert result.report.algorithm == f"{InOrder.__module__}:InOrder"


@pytest.mark.parametrize("predictor", ["auto", "gaussian-process", "ridge"])
@pytest.mark.parametrize(
    "space", [{"depth": [1, 2, 3, 4, 5], "width": [8, 16, 32]}, {"a": ["x", "y", "z"], "b": ["p", "q"]}]
)
def test_a_predictor_needs_no_choices_with_equal_options(space: Any, predictor: str) -> None:
    def measured(values: Mapping[str, Any]) -> dict[str, float]:
        total = sum(i * (ord(v[0]) if isinstance(v, str) else v) for i, v in enumerate(values.values(), start=1))
        return {"error": float(total), "size": 1000.0 / total}

    objectives = {"error": "minimize", "size": "minimize"}
    result = nas.optimize(
        space, objectives, measured, algorithm="nsga2", predictor=predictor, budget=5, batch=2, progress=False
    )
    assert len(result.evaluations) == 5


def test_an_own_algorithm_is_named_by_its_module_and_class() -> None:
    by_name = nas.optimize(
        SPACE,
        OBJECTIVES,
        evaluate,
        algorithm="tests.nas.runs.optimization.small_search:InOrder",
        budget=10,
        progress=False,
    )
    by_class = nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm=InOrder, budget=10, progress=False)
    assert values_of(by_name) == values_of(by_class)


def test_constraints_are_on_any_metric_that_the_function_returns() -> None:
    def with_size(values: Mapping[str, Any]) -> dict[str, float]:
        return {**evaluate(values), "size": values["depth"] * values["width"]}

    limits = {"size": {"max": 40}, "accuracy": {"min": 0.8}}
    result = nas.optimize(
        SPACE, OBJECTIVES, with_size, algorithm="random", budget=40, constraints=limits, progress=False
    )
    assert result.front
    assert all(p.values["size"] <= 40 and p.values["accuracy"] >= 0.8 for p in result.front)
    assert any(p.values["size"] > 40 for p in result.evaluations)
    energy = nas.Constraint(nas.Objective("size", "units", nas.Goal.MINIMIZE), maximum=40)
    as_values = nas.optimize(
        SPACE, OBJECTIVES, with_size, algorithm="random", budget=40, constraints=[energy], progress=False
    )
    assert {p.key for p in result.front} <= {p.key for p in as_values.front}


def test_an_evaluator_of_its_own_measures_with_errors_and_units() -> None:
    table = Table.load(TABLE)
    result = nas.optimize(
        table.space, TABLE_OBJECTIVES, TableEvaluator(table, COLUMNS, scales={"accuracy": 0.01}), algorithm="random",
        budget=12, progress=False,
    )  # fmt: skip
    assert len(result.evaluations) == 12
    with raises("optimize.invalid", "parallel"):
        nas.optimize(table.space, TABLE_OBJECTIVES, TableEvaluator(table, COLUMNS), budget=2, parallel=nas.Processes(2))


def test_progress_counts_what_is_committed() -> None:
    store, seen = MemoryStore(), []

    class Watching(nas.ProgressObserver):
        def progress(self, progress: Any) -> None:
            seen.append((progress.done, store.counts(2).total))

    nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm="random", budget=12, store=store, progress=Watching())
    assert [done for done, _ in seen][-1] == 12
    assert all(stored >= done for done, stored in seen)


def test_progress_is_shown_at_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm="random", budget=5)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_at_a_terminal_a_bar_counts_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm="random", budget=5)
    assert "5/5" in terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", silent := Terminal())
    nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm="random", budget=5, progress=False)
    assert silent.getvalue() == ""


class TestFailures:
    """Candidates that fail, and searches in which all do."""

    @staticmethod
    def search(bad: Any) -> nas.OptimizationResult:
        """A search in which the function does something else for depth 2."""

        def partly(values: Mapping[str, Any]) -> Any:
            return bad(values) if values["depth"] == 2 else evaluate(values)

        return nas.optimize(SPACE, OBJECTIVES, partly, algorithm="random", budget=30, progress=False)

    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            (lambda values: 1 / 0, ["raised ZeroDivisionError", "division by zero"]),
            (lambda values: None, ["returned None", "'accuracy' and 'latency_ms'"]),
            (lambda values: [1.0, 2.0], ["returned [1.0, 2.0] (list)"]),
            (lambda values: {"accuracy": 0.5}, ["returned no 'latency_ms'", "'accuracy'"]),
            (lambda values: {"accuracy": float("nan"), "latency_ms": 1}, ["returned nan as 'accuracy'", "finite"]),
            (lambda values: {"accuracy": float("inf"), "latency_ms": 1}, ["returned inf as 'accuracy'"]),
            (lambda values: {"accuracy": "0.5", "latency_ms": 1}, ["returned '0.5' (str) as 'accuracy'"]),
            (lambda values: {"accuracy": np.ones(3), "latency_ms": 1}, ["(ndarray) as 'accuracy'"]),
            (lambda values: {"accuracy": 1j, "latency_ms": 1}, ["1j (complex) as 'accuracy'"]),
        ],
    )
    def test_a_candidate_fails_with_a_message_that_names_the_function(self, bad: Any, words: list[str]) -> None:
        result = self.search(bad)
        assert result.failures
        assert len(result.failures) + len(result.evaluations) == 30
        for message in result.failures.values():
            assert message.startswith("partly({'depth': 2, ")
            assert all(word in message for word in words), message
        assert all(p.described["depth"] != 2 for p in result.front)

    def test_numbers_of_numpy_count_as_numbers(self) -> None:
        assert not self.search(lambda values: {"accuracy": np.float32(0.5), "latency_ms": np.array(2)}).failures

    def test_where_all_fail_the_error_has_the_first_reason_and_its_traceback(self) -> None:
        def broken(values: Mapping[str, Any]) -> dict[str, float]:
            raise RuntimeError("no data")

        with raises("evaluation.anchor-failed", "broken({'depth': 1", "RuntimeError: no data") as caught:
            nas.optimize(SPACE, OBJECTIVES, broken, algorithm="random", budget=30, progress=False)
        assert 'raise RuntimeError("no data")' in "\n".join(caught.value.__notes__)

    def test_where_all_others_fail_the_search_ends_after_twenty(self) -> None:
        def only_ends(values: Mapping[str, Any]) -> dict[str, float]:
            if values["depth"] in (1, 4) and values["width"] in (8, 32):
                return evaluate(values)
            raise RuntimeError("no data")

        with raises("evaluation.failures-in-a-row", "only_ends", "RuntimeError: no data"):
            nas.optimize(SPACE, OBJECTIVES, only_ends, algorithm=InOrder, budget=40, progress=False)

    def test_ctrl_c_is_no_failure(self) -> None:
        def stopped(values: Mapping[str, Any]) -> dict[str, float]:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            nas.optimize(SPACE, OBJECTIVES, stopped, algorithm="random", budget=30, progress=False)


class TestStores:
    """Searches that are continued."""

    def test_a_finished_search_is_returned_without_a_call(self, tmp_path: Path) -> None:
        store = tmp_path / "search.db"
        first = nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm="random", budget=12, store=store, progress=False)

        def unused(values: Mapping[str, Any]) -> dict[str, float]:
            raise AssertionError("was called")

        again = nas.optimize(SPACE, OBJECTIVES, unused, algorithm="random", budget=12, store=store, progress=False)
        assert values_of(again) == values_of(first)
        assert again.hypervolume_history == first.hypervolume_history

    def test_a_larger_budget_continues(self, tmp_path: Path) -> None:
        calls: list[Mapping[str, Any]] = []

        def counted(values: Mapping[str, Any]) -> dict[str, float]:
            calls.append(values)
            return evaluate(values)

        for budget, n_calls in ((10, 10), (18, 18), (18, 18), (4, 18)):
            result = nas.optimize(
                SPACE, OBJECTIVES, counted, algorithm="random", budget=budget, batch=4, store=str(tmp_path / "a.db"),
                progress=False,
            )  # fmt: skip
            assert len(calls) == n_calls == len(result.evaluations)
        whole = nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm="random", budget=18, batch=4, progress=False)
        assert values_of(result) == values_of(whole)

    @pytest.mark.parametrize("algorithm", ["random", "nsga2", "guided", InOrder])
    def test_an_interrupted_search_continues_as_if_it_had_not_been(self, tmp_path: Path, algorithm: Any) -> None:
        left = [13]

        def interrupted(values: Mapping[str, Any]) -> dict[str, float]:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            return evaluate(values)

        def run(function: Any, store: Any) -> nas.OptimizationResult:
            return nas.optimize(
                SPACE, OBJECTIVES, function, algorithm=algorithm, budget=30, batch=4, store=store, progress=False
            )

        with pytest.raises(KeyboardInterrupt):
            run(interrupted, tmp_path / "a.db")
        calls: list[Mapping[str, Any]] = []
        result = run(lambda values: (calls.append(values), evaluate(values))[1], tmp_path / "a.db")
        assert len(calls) == 30 - 12
        assert values_of(result) == values_of(run(evaluate, None))

    def test_after_an_error_what_failed_is_tried_again(self, tmp_path: Path) -> None:
        def broken(values: Mapping[str, Any]) -> dict[str, float]:
            raise RuntimeError("no data")

        arguments: dict[str, Any] = {"algorithm": "random", "budget": 9, "store": tmp_path / "a.db", "progress": False}
        with raises("evaluation.anchor-failed"):
            nas.optimize(SPACE, OBJECTIVES, broken, **arguments)
        result = nas.optimize(SPACE, OBJECTIVES, evaluate, **arguments)
        assert len(result.evaluations) == 9
        assert not result.failures

    def test_single_failures_are_tried_again_on_request(self, tmp_path: Path) -> None:
        def partly(values: Mapping[str, Any]) -> dict[str, float]:
            return {} if values["depth"] == 2 else evaluate(values)

        arguments: dict[str, Any] = {"algorithm": "random", "budget": 20, "store": tmp_path / "a.db", "progress": False}
        failed = nas.optimize(SPACE, OBJECTIVES, partly, **arguments).failures
        assert nas.optimize(SPACE, OBJECTIVES, evaluate, **arguments).failures == failed != {}
        retried = nas.optimize(SPACE, OBJECTIVES, evaluate, retry_failed=True, **arguments)
        assert not retried.failures
        assert len(retried.evaluations) == 20
        assert not nas.optimize(SPACE, OBJECTIVES, evaluate, **arguments).failures

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"space": {**SPACE, "depth": [1, 2, 3]}}, ["space", "depth"]),
            ({"space": dict(reversed(SPACE.items()))}, ["order of the choices"]),
            ({"objectives": {"accuracy": "maximize"}}, ["objectives", "latency_ms"]),
            (
                {"objectives": {"accuracy": "maximize", "latency_ms": "maximize"}},
                ["latency_ms", "minimize", "maximize"],
            ),
            ({"constraints": {"latency_ms": {"max": 2}}}, ["constraints", "none", "latency_ms at most 2"]),
            ({"algorithm": "nsga2"}, ["algorithm", "random", "nsga2"]),
            ({"seed": 7}, ["seed", "was 1, is 7"]),
        ],
    )
    def test_another_search_is_rejected(self, tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
        given: dict[str, Any] = {
            "space": SPACE, "objectives": OBJECTIVES, "evaluator": evaluate, "algorithm": "random", "budget": 5,
            "store": tmp_path / "a.db", "progress": False,
        }  # fmt: skip
        nas.optimize(**given)
        with raises("run.incompatible", str(tmp_path / "a.db"), "with another store", *words):
            nas.optimize(**{**given, **changes})
        assert len(nas.optimize(**given).evaluations) == 5

    def test_another_process_with_the_store_is_named(self, tmp_path: Path) -> None:
        def nested(values: Mapping[str, Any]) -> dict[str, float]:
            nas.optimize(SPACE, OBJECTIVES, evaluate, budget=3, store=tmp_path / "a.db", progress=False)
            return evaluate(values)

        with raises("evaluation.anchor-failed", "RunHeldError"):
            nas.optimize(SPACE, OBJECTIVES, nested, budget=3, store=tmp_path / "a.db", progress=False)

    def test_a_store_that_was_given_open_stays_open(self) -> None:
        store = MemoryStore()
        nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm="random", budget=5, store=store, progress=False)
        assert store.counts(2).total == 5


class TestAlgorithms:
    """Algorithms that do not fulfil the contract."""

    def test_a_class_lacks_a_method(self) -> None:
        class Half:
            def ask(self, n: int) -> list[nas.Architecture]:
                return []

        with raises("plugin.contract", "Half"):
            nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm=Half, budget=5)  # type: ignore[arg-type]

    def test_a_constructor_takes_other_arguments(self) -> None:
        class NoSeed(RandomSearch):
            def __init__(self, space: nas.SearchSpace) -> None:
                super().__init__(space, seed=0)

        with raises("plugin.contract", "NoSeed"):
            nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm=NoSeed, budget=5)

    def test_what_it_asks_for_is_checked_and_what_it_raises_names_it(self) -> None:
        class Twice(InOrder):
            def ask(self, n: int) -> list[nas.Architecture]:
                return self.left[:1] * n

        class Broken(InOrder):
            def tell(self, evaluations: Sequence[nas.Evaluation]) -> None:
                raise LookupError("lost")

        for cls, words in ((Twice, ["ask"]), (Broken, ["tell", "LookupError: lost"])):
            with raises("plugin.failed", cls.__name__, *words):
                nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm=cls, budget=9, progress=False)

    def test_another_version_of_its_package_is_rejected_unless_accepted(
        self, tmp_path: Path, plugin_packages: PluginPackages
    ) -> None:
        module = {"hill_climbing": "from tests.nas.runs.optimization.small_search import InOrder as HillClimb"}
        given: dict[str, Any] = {"algorithm": "hill-climb", "store": tmp_path / "a.db", "progress": False}
        entries = {"search": {"hill-climb": "hill_climbing:HillClimb"}}
        plugin_packages.install("hill-climbing", module, version="1.0", entries=entries)
        nas.optimize(SPACE, OBJECTIVES, evaluate, budget=5, **given)
        plugin_packages.install("hill-climbing", module, version="1.1", entries=entries)
        with raises("plugin.version", "hill-climb", "1.0", "1.1", "accept_plugin_versions=True"):
            nas.optimize(SPACE, OBJECTIVES, evaluate, budget=8, **given)
        result = nas.optimize(SPACE, OBJECTIVES, evaluate, budget=8, accept_plugin_versions=True, **given)
        assert len(result.evaluations) == 8

    def test_no_algorithm_has_the_name(self) -> None:
        with raises("algorithm.unknown", "guidet", "did you mean 'guided'"):
            nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm="guidet", budget=5)


class Silent:
    """An evaluator that answers nothing."""

    def evaluate(self, requests: Sequence[nas.Request]) -> Iterator[nas.Measurement]:
        return iter(())

    def close(self) -> None:
        """Nothing to close."""


def test_an_evaluator_that_does_not_answer_is_named() -> None:
    with raises("evaluation.failed", "Silent", "unanswered"):
        nas.optimize(SPACE, OBJECTIVES, Silent(), algorithm="random", budget=5, progress=False)


_PROGRAM = """
import sys
import nas
from tests.nas.runs.optimization.small_search import InOrder, OBJECTIVES, SPACE, evaluate
result = nas.optimize(SPACE, OBJECTIVES, evaluate, algorithm={algorithm}, budget=30, store={store})
assert len(result.evaluations) == 30, result
print(sorted(name for name in {heavy} if name in sys.modules))
"""
_HEAVY = ("torch", "ray", "onnxruntime", "onnx", "matplotlib", "plotly", "pydantic", "fastapi", "transformers")


@pytest.mark.parametrize("algorithm", ["InOrder", "'guided'"])
def test_neither_torch_nor_ray_is_imported(tmp_path: Path, algorithm: str) -> None:
    program = _PROGRAM.format(algorithm=algorithm, store=repr(str(tmp_path / "a.db")), heavy=_HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_search_by_an_own_algorithm_in_memory_loads_numpy_alone() -> None:
    heavy = (*_HEAVY, "sqlalchemy", "scipy", "sklearn", "pandas", "lightgbm", "pymoo", "moocore", "optuna", "rich")
    program = _PROGRAM.format(algorithm="InOrder", store=None, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_smaller_budget_than_a_store_has_used_keeps_the_evaluations(tmp_path: Path) -> None:
    for budget, expected in ((10, 10), (5, 10), (12, 12)):
        result = nas.optimize(SPACE, OBJECTIVES, evaluate, budget=budget, store=tmp_path / "s.db", progress=False)
        assert len(result.evaluations) == expected
