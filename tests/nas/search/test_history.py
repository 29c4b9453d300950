"""The history of a search."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nas.plugins.testing.search import NARROW, OBJECTIVES, PARAMETERS, evaluate, space_of
from nas.search.history import History
from nas.search.problem.objectives import Evaluation, Status


def test_values_are_minimised_and_violations_are_sums() -> None:
    space = space_of(6)
    told = [space.smallest, space.largest]
    history = History(OBJECTIVES, NARROW)
    evaluations = evaluate(space, told)
    assert history.add(evaluations) == history.architectures == told
    values, violations = history.values(told)
    assert values.tolist() == [[-e.value(OBJECTIVES[0]), e.value(OBJECTIVES[1])] for e in evaluations]
    assert math.isclose(violations[0], (13.0 - evaluations[0].value(PARAMETERS)) / 13.0)
    assert history.values([])[0].shape == (0, 2)


def test_an_evaluation_without_a_metric_is_only_known() -> None:
    space = space_of(6)
    history = History(OBJECTIVES, NARROW)
    whole = evaluate(space, [space.smallest])[0]
    for metric in (OBJECTIVES[0], PARAMETERS):
        lost = replace(whole.measurements[metric.name], status=Status.FAILED, value=None, error=None)
        assert history.add([Evaluation(whole.architecture, {**whole.measurements, metric.name: lost})]) == []
    endless = replace(whole.measurements[OBJECTIVES[1].name], value=np.inf)
    assert history.add([Evaluation(whole.architecture, {**whole.measurements, OBJECTIVES[1].name: endless})]) == []
    assert (len(history), history.known) == (0, {space.smallest})
