"""A table of points gives the points it was made of, and the same columns as they do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas.results.analysis.network_values import Point, errors_of, keys_of, minimised_of, take_points, values_of
from nas.search.problem.objectives import Fidelity, Objective
from supernets.space import Choice, SearchSpace
from tests.nas.results.export.runs import table_of

SPACE = SearchSpace([Choice("depth", (1, 2, 3)), Choice("width", (8, 16, 32))])
NAMES = ("accuracy", "latency_ms@board")


def points() -> list[Point]:
    made = [
        Point(
            a, SPACE, {NAMES[0]: 0.1 * i, NAMES[1]: float(i)}, {NAMES[0]: 0.01, NAMES[1]: 0.1 * i}, committed=10.0 + i
        )
        for i, a in enumerate(SPACE.enumerate())
    ]
    made[2] = replace(made[2], fidelity=Fidelity.FINAL)
    made[5] = replace(made[5], test={"accuracy": 0.5, "error": 0.1})
    return made


def test_a_table_holds_the_points_it_was_made_of() -> None:
    made, table = points(), table_of(SPACE, NAMES, points())
    assert list(table) == made
    assert [table[i] for i in range(-len(made), len(made))] == made + made
    assert table[3] is table[3]
    assert (len(table), table[2:6:3][1]) == (len(made), made[5])
    assert made[4] in table
    assert [table.places[key] for key in table.keys] == list(range(len(made)))
    for beyond in (len(made), -len(made) - 1):
        with pytest.raises(IndexError):
            table[beyond]


def test_some_are_taken_in_the_order_wanted() -> None:
    made, table = points(), table_of(SPACE, NAMES, points())
    for places in ([5, 2, 5], np.array([2, 5]), []):
        assert list(table.take(places)) == list(take_points(made, places)) == [made[i] for i in places]
    assert table.take([]).values.shape == (0, 2)


def test_columns_of_a_table_are_those_of_its_points() -> None:
    made, table = points(), table_of(SPACE, NAMES, points())
    for name in NAMES:
        assert values_of(table, name).tolist() == values_of(made, name).tolist()
        assert errors_of(table, name).tolist() == errors_of(made, name).tolist()
    objectives = [Objective.parse(name, ["board"]) for name in NAMES]
    assert minimised_of(table, objectives).tolist() == [[-p.values[NAMES[0]], p.values[NAMES[1]]] for p in made]
    assert table.final.tolist() == [i == 2 for i in range(len(made))]
    assert list(keys_of(table)) == list(keys_of(made))


def test_what_a_point_lacks_is_no_number() -> None:
    predicted = Point(SPACE.smallest, SPACE, {"accuracy": 0.5}, {"accuracy": 0.1}, source="predicted")
    assert np.isnan([values_of([predicted], NAMES[1])[0], errors_of([predicted], NAMES[1])[0]]).all()
