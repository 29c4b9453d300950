"""Why a search stopped is stored as an enumeration; the sentences that version 0.1 stored are understood."""

from __future__ import annotations

import json

import pytest

from nas.problem.budget import Plateau
from nas.problem.stop_reason import Stop, StopReason

STOPS = {
    "the budget of evaluations is used up": Stop(StopReason.EVALUATIONS),
    "the budget of 1.5 minutes is used up": Stop(StopReason.MINUTES, minutes=1.5),
    "the hypervolume grew by at most 0.01 of it over 40 evaluations": Stop(
        StopReason.PLATEAU, plateau=Plateau(40, 0.01)
    ),
    "every architecture of the space was evaluated": Stop(StopReason.SPACE_EXHAUSTED),
    "that will do": Stop(StopReason.CALLBACK, message="that will do"),
}


@pytest.mark.parametrize(("sentence", "stop"), STOPS.items())
def test_it_is_read_back_equal_also_from_its_sentence(sentence: str, stop: Stop) -> None:
    assert Stop.from_json(json.loads(json.dumps(stop.to_json()))) == stop
    assert Stop.from_json(sentence) == stop  # as version 0.1 stored it
    assert str(stop) == sentence


def test_every_reason_has_its_sentence() -> None:
    assert {stop.reason for stop in STOPS.values()} == set(StopReason)
