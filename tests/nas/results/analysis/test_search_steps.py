"""The steps of searches: what is read of the store, and how little of it is shown of a long search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.engine.store.memory import MemoryStore
from nas.results.analysis.report import build_report
from nas.results.analysis.report_json import show_json
from nas.results.analysis.run_measurements import RecordedSteps
from nas.results.analysis.search_steps import SHOWN_STEPS, SearchStep, StepModel, search_steps, shown_steps
from nas.results.plots.html_page import page
from nas.results.plots.search_charts import MAX_MODELS, MAX_STEPS, models_chart
from supernets.space import Architecture

SPACE = {f"layer{i}.width": (1, 2, 4, 8) for i in range(6)}
GOALS = {"accuracy": "maximize", "latency_ms": "minimize"}


def evaluate(values: Mapping[str, Any]) -> dict[str, float]:
    if values["layer0.width"] == 4 and values["layer1.width"] == 4:
        raise ValueError("too large")
    total = sum(values.values())
    return {"accuracy": 1 - 1 / (1 + total / 10), "latency_ms": sum(w * (i + 1) for i, w in enumerate(values.values()))}


def searched(algorithm: str, predictor: str | None, store: Any = None) -> nas.OptimizationResult:
    return nas.optimize(
        SPACE, GOALS, evaluate, algorithm=algorithm, predictor=predictor, budget=34, store=store, progress=False
    )


@pytest.mark.parametrize(("algorithm", "predictor"), [("nsga2", "ridge"), ("guided", None)])
def test_each_step_has_its_models_and_its_evolution(algorithm: str, predictor: str | None) -> None:
    store = MemoryStore()
    result = searched(algorithm, predictor, store)
    asks = store.asks()
    assert [step.proposed for step in result.steps] == [len(ask) for ask in asks]
    measured = {point.architecture for point in result.evaluations}
    assert [step.measured for step in result.steps] == [sum(a in measured for a in ask) for ask in asks]
    by_models = [step for step in result.steps if step.models]
    first = by_models[0].step
    assert [step.step for step in by_models] == list(range(first, len(asks)))
    assert result.report.models_from == sum(step.proposed for step in result.steps[:first]) + 1
    for step in by_models:
        assert step.models.keys() == GOALS.keys()
        assert step.generations == 15
        assert step.bred is not None
        assert step.bred > 15 * 80 / 2
        assert predictor is None or all(model.weights == {predictor: 1.0} for model in step.models.values())
    for step in result.steps[:first]:
        assert (step.generations, step.bred, step.candidates, step.text) == (None, None, None, "not by models")
    shown = json.loads(json.dumps(show_json(result.report)))
    assert shown["steps"][first]["models"]["accuracy"]["kendall_tau"] == by_models[0].models["accuracy"].kendall_tau
    assert shown["predictor"] == predictor
    assert f"{len(by_models)} of {len(asks)} steps by models" in result.report.steps_text


def test_a_search_continues_with_its_predictor_and_with_no_other(tmp_path: Path) -> None:
    whole = searched("nsga2", "ridge")
    store = tmp_path / "search.db"
    arguments: dict[str, Any] = {"algorithm": "nsga2", "predictor": "ridge", "store": store, "progress": False}
    nas.optimize(SPACE, GOALS, evaluate, budget=26, **arguments)
    continued = nas.optimize(SPACE, GOALS, evaluate, budget=34, **arguments)
    assert [p.key for p in continued.evaluations] == [p.key for p in whole.evaluations]
    assert continued.steps == whole.steps
    assert continued.report.label == "nsga2+ridge"
    with pytest.raises(nas.NasError, match="predictor"):
        nas.optimize(SPACE, GOALS, evaluate, budget=34, **{**arguments, "predictor": "auto"})


def test_runs_that_recorded_neither_have_no_steps() -> None:
    store = MemoryStore()
    searched("guided", None, store)
    fits = [
        replace(fit, quality={name: fit.quality[name] for name in ("quality", "predictions")}) for fit in store.fits()
    ]
    assert search_steps(RecordedSteps(store.asks(), fits), set()) == ()
    report = build_report(store, run="old", steps=RecordedSteps(store.asks(), fits))
    assert (report.steps, report.steps_text) == ((), "")
    assert "Steps of the search" not in page(report, None, None)
    assert models_chart(report) is None


def steps_of(n: int, n_models: int) -> tuple[SearchStep, ...]:
    models = {"accuracy": StepModel({f"model {i}": 1 / n_models for i in range(n_models)}, 0.9)}
    return tuple(SearchStep(i, 8, 8, 15, 1200, 1000, models) for i in range(n))


def test_of_ten_thousand_steps_few_are_shown() -> None:
    steps = steps_of(10_000, 30)
    shown = shown_steps(steps)
    assert len(shown) == SHOWN_STEPS
    assert (shown[0].step, shown[-1].step) == (0, 9_999)
    assert shown_steps(steps[:3]) == list(steps[:3])
    report = replace(searched("random", None).report, steps=steps)
    text = page(report, None, None)
    assert text.count("3 % model 0") == SHOWN_STEPS
    assert f"{SHOWN_STEPS} of the steps, evenly spaced" in text
    chart = models_chart(report)
    assert chart is not None
    (cells,) = chart.panels[0].marks
    assert cells.shares.shape == (MAX_MODELS, MAX_STEPS)  # type: ignore[union-attr]
    assert cells.shares.sum(axis=0) == pytest.approx(1.0)  # type: ignore[union-attr]
    assert chart.panels[0].y.labels[-1] == f"{30 - MAX_MODELS + 1} others"
    assert models_chart(replace(report, steps=steps_of(5, 1))) is None


def test_a_budget_of_one_evaluates_one_candidate(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"store": tmp_path / "one.db", "progress": False}
    single = nas.optimize(SPACE, GOALS, evaluate, budget=1, **arguments)
    assert [p.key for p in single.evaluations] == [Architecture((0,) * 6).key]
    more = nas.optimize(SPACE, GOALS, evaluate, budget=12, **arguments)
    assert len(more.evaluations) + len(more.failures) == 12
    assert more.evaluations[0].key == single.evaluations[0].key
