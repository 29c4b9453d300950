"""An evaluator that calls a function; its failures are in the tests of `nas.optimize`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from nas.engine.evaluation.base import Evaluator, InlinePool
from nas.engine.evaluation.metric_function import FunctionEvaluator, MetricFunction, checked_call, name_of
from nas.search.problem.objectives import Request, Status
from supernets.space import Architecture, Choice, SearchSpace
from tests.contracts.evaluator import EvaluatorContract

SPACE = SearchSpace([Choice("depth", (1, 2, 3)), Choice("kernel", (3, 5), requires=("depth", 1))])


def function(values: Any) -> dict[str, float]:
    if values["depth"] == 3:
        raise ValueError("too deep")
    return {"accuracy": 0.1 * values["depth"], "latency_ms@pi": values.get("kernel", 0)}


def evaluator_of(metric_function: MetricFunction, metrics: Sequence[str]) -> FunctionEvaluator:
    calls = InlinePool(partial(checked_call, metric_function, metrics))
    return FunctionEvaluator(SPACE, calls, name_of(metric_function))


class TestFunctionEvaluator(EvaluatorContract):
    @pytest.fixture
    def evaluator(self) -> Evaluator:
        return evaluator_of(function, ["accuracy", "latency_ms@pi"])

    @pytest.fixture
    def requests(self) -> Sequence[Request]:
        found = [Request(architecture, "accuracy") for architecture in SPACE.enumerate()]
        return [*found, *(Request(request.architecture, "latency_ms", "pi") for request in found)]


def test_a_candidate_is_called_once_for_all_of_its_metrics() -> None:
    calls = []

    def counted(values: Any) -> dict[str, float]:
        calls.append(dict(values))
        return {"a": 1.0, "b": 2.0}

    evaluator = evaluator_of(counted, ["a", "b"])
    one, other = Architecture((1, 1)), SPACE.smallest
    found = list(evaluator.evaluate([Request(one, "a"), Request(other, "b"), Request(one, "b")]))
    assert calls == [{"depth": 2, "kernel": 5}, {"depth": 1}]
    assert {(m.request.architecture, m.request.metric): m.value for m in found} == {
        (one, "a"): 1.0, (one, "b"): 2.0, (other, "b"): 2.0,
    }  # fmt: skip


def test_a_traceback_is_kept_in_the_detail() -> None:
    evaluator = evaluator_of(function, ["accuracy", "latency_ms@pi"])
    (failed,) = evaluator.evaluate([Request(SPACE.largest, "accuracy")])
    assert failed.status is Status.FAILED
    assert 'raise ValueError("too deep")' in failed.detail["traceback"]


def test_functions_are_named_in_messages_as_their_authors_know_them() -> None:
    class Model:
        def __call__(self, values: Any) -> dict[str, float]:
            return {}

    assert [name_of(f) for f in (function, partial(partial(function), 1), Model())] == ["function", "function", "Model"]
