"""Objectives by the names that users write."""

from __future__ import annotations

import re

import pytest

from nas.errors import UnknownNameError
from nas.search.problem.objectives import Goal, MetricKind, Objective


def listed_for(
    text: str, *, profiles: tuple[str, ...], task: tuple[str, ...], extra: tuple[str, ...] = ()
) -> list[str]:
    """The names that the error about an unknown objective lists."""
    kinds = dict.fromkeys(extra, MetricKind("", Goal.MINIMIZE))
    with pytest.raises(UnknownNameError) as caught:
        Objective.parse(text, profiles, task=task, extra_metrics=kinds)
    found = re.search(r"Known: (.*?)( and \d+ more)?\.( With|$)", str(caught.value))
    assert found is not None, str(caught.value)
    return found[1].split(", ")


def test_an_unknown_objective_lists_what_every_such_job_can_have_first() -> None:
    names = listed_for("acuracy", profiles=("cpu",), task=("accuracy",), extra=("noise",))
    assert names[:5] == ["accuracy", "noise", "latency_ms", "macs", "parameters"]
    assert names.index("time_per_token_ms") > names.index("energy_mj")
    names = listed_for("latency_ms", profiles=("cpu", "board"), task=("mae", "r2"))
    assert names[:6] == ["mae", "r2", "latency_ms@cpu", "latency_ms@board", "macs", "parameters"]
    assert "accuracy" not in names
