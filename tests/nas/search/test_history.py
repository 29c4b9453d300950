"""What a search was told."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nas.objectives import Evaluation, Status
from nas.search.history import History
from tests.contracts.search import NARROW, OBJECTIVES, PARAMETERS, evaluate, space_of


def test_figures_are_minimised_and_violations_beside_them() -> None:
    space = space_of(6)
    told = [space.smallest, space.largest]
    history = History(OBJECTIVES, NARROW)
    evaluations = evaluate(space, told)
    assert history.add(evaluations) == history.architectures == told
    values, violations = history.figures(told)
    assert values.tolist() == [[-e.value(OBJECTIVES[0]), e.value(OBJECTIVES[1])] for e in evaluations]
    assert math.isclose(violations[0], (13.0 - evaluations[0].value(PARAMETERS)) / 13.0)
    assert history.figures([])[0].shape == (0, 2)


def test_what_lacks_an_objective_or_a_constrained_figure_is_known_and_no_more() -> None:
    space = space_of(6)
    history = History(OBJECTIVES, NARROW)
    whole = evaluate(space, [space.smallest])[0]
    for figure in (OBJECTIVES[0], PARAMETERS):
        lost = replace(whole.measurements[figure.name], status=Status.FAILED, value=None, error=None)
        assert history.add([Evaluation(whole.architecture, {**whole.measurements, figure.name: lost})]) == []
    endless = replace(whole.measurements[OBJECTIVES[1].name], value=np.inf)
    assert history.add([Evaluation(whole.architecture, {**whole.measurements, OBJECTIVES[1].name: endless})]) == []
    assert (len(history), history.known) == (0, {space.smallest})
