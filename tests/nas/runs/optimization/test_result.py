"""The result of `nas.optimize`: its table, its plots and its display in a notebook."""

from __future__ import annotations

import base64
import html.parser
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import nas
from tests.errors import raises
from tests.nas.runs.optimization.small_search import OBJECTIVES, SPACE, evaluate


def partly(values: Mapping[str, Any]) -> dict[str, float]:
    if values["depth"] == 2:
        raise ValueError("<no> depth of 2")
    return evaluate(values)


@pytest.fixture(scope="module")
def result() -> nas.OptimizationResult:
    limits = {"latency_ms": {"max": 1.0}}
    return nas.optimize(SPACE, OBJECTIVES, partly, algorithm="random", budget=20, constraints=limits, progress=False)


def test_the_table_has_a_row_for_every_evaluation(result: nas.OptimizationResult) -> None:
    table = result.to_dataframe()
    assert list(table.columns) == [*SPACE, *OBJECTIVES, "on_front", "failure"]
    assert list(table.index) == list(range(1, 21))
    assert (table["failure"] != "").sum() == len(result.failures) > 0
    failed = table[table["failure"] != ""]
    assert set(failed["depth"]) == {2}
    assert failed["accuracy"].isna().all()
    assert table["on_front"].sum() == len(result.front)
    for point in result.front:
        row = table[(table[list(SPACE)] == list(point.described.values())).all(axis=1)]
        assert row["accuracy"].tolist() == [point.values["accuracy"]]


def test_a_metric_with_the_name_of_a_choice_has_a_column_of_its_own() -> None:
    found = nas.optimize(
        {"size": [1, 2, 3]}, {"size": "minimize"}, lambda values: {"size": 10.0 * values["size"]}, algorithm="random",
        budget=3, progress=False,
    ).to_dataframe()  # fmt: skip
    assert sorted(found["size"]) == [1, 2, 3]
    assert found["size (metric)"].tolist() == [10.0 * size for size in found["size"]]


def test_options_of_inactive_choices_are_missing() -> None:
    space = nas.SearchSpace([nas.Choice("depth", (1, 2)), nas.Choice("kernel", (3, 5), requires=("depth", 1))])

    def fast(values: Mapping[str, Any]) -> dict[str, float]:
        return {"cost": values["depth"] * values.get("kernel", 1)}

    table = nas.optimize(space, {"cost": "minimize"}, fast, algorithm="random", budget=9, progress=False).to_dataframe()
    assert len(table) == 3
    assert table[table["depth"] == 1]["kernel"].isna().all()


def test_without_pandas_the_error_names_it(result: nas.OptimizationResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with raises("optimize.no-pandas", "pip install pandas"):
        result.to_dataframe()


def test_plots_show_the_front_and_the_convergence(result: nas.OptimizationResult) -> None:
    (axis,) = result.plot().axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("latency_ms", "accuracy")
    front = next(line for line in axis.lines if str(line.get_label()).startswith("front"))
    assert np.asarray(front.get_xdata()).tolist() == [p.values["latency_ms"] for p in result.front]
    (curve,) = result.plot("convergence").axes
    assert "Hypervolume" in curve.get_ylabel()
    with raises("optimize.invalid", "'fronts'"):
        result.plot("fronts")  # type: ignore[arg-type]


def test_a_single_objective_is_plotted_as_its_best_value_so_far() -> None:
    found = nas.optimize(SPACE, {"accuracy": "maximize"}, evaluate, algorithm="random", budget=9, progress=False)
    (axis,) = found.plot().axes
    assert axis.get_ylabel() == "accuracy, best so far"


class Page(html.parser.HTMLParser):
    """Collects texts, table rows and pictures, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.pictures: list[bytes] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += [base64.b64decode(str(value).partition(",")[2]) for name, value in attrs if name == "src"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_a_notebook_shows_the_front_as_a_picture_and_a_table(result: nas.OptimizationResult) -> None:
    page = Page(result._repr_html_())
    assert page.rows[0] == ["accuracy", "latency_ms", "depth", "width", "activation"]
    assert [row[2:] for row in page.rows[1:]] == [[str(o) for o in p.described.values()] for p in result.front]
    assert float(page.rows[1][0]) == pytest.approx(result.front[0].values["accuracy"], rel=1e-3)
    (picture,) = page.pictures
    assert all(f"<!-- {name} -->" in picture.decode() for name in OBJECTIVES)
    assert f"{len(result.failures)} failed" in page.text
    assert f"{len(result.front)} on the front" in repr(result)


def test_without_matplotlib_a_notebook_shows_the_table(
    result: nas.OptimizationResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.runs.optimization.result.has", lambda part: False)
    page = Page(result._repr_html_())
    assert page.pictures == []
    assert len(page.rows) == 1 + len(result.front)


def test_names_are_escaped_in_a_notebook() -> None:
    space = {"a<b>": ["<i>", "&"]}
    page = nas.optimize(space, {"x<y": "minimize"}, lambda values: {"x<y": 1.0}, budget=2, progress=False)._repr_html_()
    assert not {"<b>", "<i>", "x<y"} & set(page.replace(">", "> ").split())
    assert "a&lt;b&gt;" in page


def test_a_front_of_many_members_and_choices_is_cut_in_a_notebook() -> None:
    space = {f"c{i}": [0, 1] for i in range(8)}

    def flat(values: Mapping[str, Any]) -> dict[str, float]:
        ones = sum(values.values())
        return {"a": ones, "b": -ones}

    goals = {"a": "minimize", "b": "minimize", "c": "minimize"}
    found = nas.optimize(
        space, goals, lambda values: {**flat(values), "c": 0.0}, algorithm="random", budget=40, progress=False
    )
    assert len(found.front) == 40
    page = Page(found._repr_html_())
    assert len(page.rows) == 21
    assert page.rows[0][-1] == "options"
    assert "and 20 more" in page.text


def test_where_nothing_satisfies_the_constraints_the_nearest_is_shown() -> None:
    found = nas.optimize(
        SPACE, OBJECTIVES, evaluate, algorithm="random", budget=9, constraints={"latency_ms": {"max": 0.01}},
        progress=False,
    )  # fmt: skip
    assert found.front == ()
    assert "nearest: latency_ms 0.08" in found._repr_html_()
