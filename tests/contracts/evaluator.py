"""What every evaluator must do; subclasses give the `evaluator` fixture and `requests` that it can take."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.engine.evaluation.base import Evaluator
from nas.search.problem.objectives import Request, Status


class EvaluatorContract:
    """One test class for every `Evaluator`; `requests` must hold at least two, all different."""

    def test_each_request_is_answered_once(self, evaluator: Evaluator, requests: Sequence[Request]) -> None:
        answers = list(evaluator.evaluate(requests))
        assert len(answers) == len(requests) >= 2
        assert {answer.request for answer in answers} == set(requests)

    def test_answers_are_finite_figures_or_failures_that_say_why(
        self, evaluator: Evaluator, requests: Sequence[Request]
    ) -> None:
        for answer in evaluator.evaluate(requests):
            if answer.status is Status.FAILED:
                assert answer.message
            else:
                assert answer.value is not None
                assert math.isfinite(answer.value)
                assert answer.error is not None
                assert answer.error >= 0

    def test_nothing_asked_is_nothing_answered(self, evaluator: Evaluator) -> None:
        assert list(evaluator.evaluate([])) == []

    def test_it_can_be_asked_again_and_for_less(self, evaluator: Evaluator, requests: Sequence[Request]) -> None:
        list(evaluator.evaluate(requests))
        assert [answer.request for answer in evaluator.evaluate(requests[-1:])] == [requests[-1]]

    def test_closing_twice_is_harmless(self, evaluator: Evaluator) -> None:
        evaluator.close()
        evaluator.close()
