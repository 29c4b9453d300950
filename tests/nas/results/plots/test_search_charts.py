"""The pictures of a run's insight show its values, in any state of a run, and are part of its page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from nas.engine.store.memory import MemoryStore
from nas.results.analysis.insight import Insight, insight_of
from nas.results.analysis.report import RunReport, build_report
from nas.results.plots.matplotlib_charts import figure_of
from nas.results.plots.plot_files import write_plots
from nas.results.plots.search_charts import PICTURES, insight_charts
from nas.search.problem.objectives import Objective
from tests.contracts.run_facts import search_facts
from tests.nas.results.export.runs import BOARD, FOUR, PROFILE, SPACE, TWO, example_run, measure

BOARDS = (*TWO, f"latency_ms@{BOARD}")


def insight_figures(report: RunReport, insight: Insight) -> dict[str, Figure]:
    """Those that there is something to show in."""
    made = insight_charts(report, insight)
    return {name: figure_of(chart) for name, chart in made.items() if chart is not None}


def test_predictions_stand_against_what_was_measured_then() -> None:
    store = example_run()
    report = build_report(store, run="x")
    insight = insight_of(report, store)
    scatter, quality = insight_figures(report, insight)["predictors"].axes[2:4]
    assert scatter.get_xlabel() == f"Predicted: Latency (ms), {PROFILE}"
    dots = np.concatenate([line.get_xydata() for line in scatter.get_lines() if line.get_marker() == "o"])
    found = insight.predictor_accuracy[TWO[1]]
    expected = np.column_stack([found.predicted, found.measured])
    assert np.sort(dots, axis=0) == pytest.approx(np.sort(expected, axis=0))
    (tau,) = [line for line in quality.get_lines() if line.get_label() == "Kendall's τ"]
    assert np.asarray(tau.get_ydata()) == pytest.approx(0.8)


def test_bars_are_shares_and_cells_options_of_the_front() -> None:
    store = example_run()
    report = build_report(store, run="x")
    insight = insight_of(report, store)
    accuracy, _, options = insight_figures(report, insight)["genes"].axes
    names = [choice.name for choice in SPACE.choices]
    by_gene = insight.importance["accuracy"].by_gene
    widths = [patch.get_width() for patch in accuracy.patches]
    assert widths == pytest.approx([100 * by_gene[name] for name in names])
    assert insight.diversity is not None
    texts = [text.get_text() for text in options.texts]
    assert [text for text in texts if not text.startswith("in ")][:3] == ["1", "2", "3"]
    cells = options.collections[0].get_array()
    assert cells is not None
    assert np.asarray(cells)[0, :3] / 100 == pytest.approx(list(insight.diversity.options["depth"].values()))


def test_members_of_the_front_are_marked_when_they_were_found() -> None:
    store = example_run()
    report = build_report(store, run="x")
    insight = insight_of(report, store)
    slow = replace(insight.timeline, seconds=60.0 * np.arange(len(report.evaluated)))
    (axis,) = insight_figures(report, replace(insight, timeline=slow))["timeline"].axes
    assert "minutes" in axis.get_xlabel()
    _, marks = axis.get_lines()
    assert np.asarray(marks.get_xdata()).tolist() == sorted(slow.front_positions.values())
    (axis,) = insight_figures(report, replace(insight, timeline=replace(slow, front_positions={})))["timeline"].axes
    assert [line.get_label() for line in axis.get_lines()] == ["hypervolume"]


@pytest.mark.parametrize("names", [("accuracy",), FOUR, BOARDS], ids=["one", "four", "boards"])
def test_any_number_of_objectives_and_profiles_is_drawn(names: Sequence[str]) -> None:
    store = example_run(names)
    report = build_report(store, run="x")
    figures = insight_figures(report, insight_of(report, store))
    assert set(figures) == set(PICTURES)
    assert len(figures["genes"].axes) == len(names) + 1


def test_where_there_is_nothing_to_tell_nothing_is_drawn() -> None:
    store = MemoryStore()
    store.describe(search_facts(SPACE, TWO, profiles=[PROFILE]))
    objectives = [Objective.parse(name, [PROFILE]) for name in TWO]
    measure(store, SPACE.smallest, objectives)
    report = build_report(store, run="x")
    assert insight_figures(report, insight_of(report, store)) == {}


def test_the_page_holds_the_pictures_with_names_of_their_own(tmp_path: Path) -> None:
    store = example_run()
    report = build_report(store, run="x")
    paths = write_plots(report, tmp_path, insight=insight_of(report, store))
    names = [path.name for path in paths]
    assert {f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")} < set(names)
    text = paths[-1].read_text()
    start = text.index(f"<h2>{PICTURES['timeline']}</h2>")
    pictures = text[start : text.index("<h2>Members of the front</h2>")]
    assert pictures.count("<svg") == len(PICTURES)
    assert "<?xml" not in pictures
    own = re.findall(r'\bid="([^"]*)"', pictures)
    assert len(own) == len(set(own)) > 0
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', pictures)) <= set(own)
