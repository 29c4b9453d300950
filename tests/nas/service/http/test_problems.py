"""Errors as problem details: the detail has the message without paths, and the remedy as a request."""

from __future__ import annotations

import pytest

from nas.errors import REPEAT, Remedy, RunStateError
from nas.service.http.problems import problem_of, request_text


@pytest.mark.parametrize(
    ("remedy", "request_of_the_api"),
    [
        (Remedy("resume", "a-1"), "POST /api/v1/runs/a-1/resume"),
        (Remedy("resume", "a-1", {"evaluations": "+50"}), 'POST /api/v1/runs/a-1/resume {"evaluations": "+50"}'),
        (Remedy("export", "a-1", {"index": 3}), 'POST /api/v1/runs/a-1/exports {"index": 3}'),
        (Remedy("show", "a-1"), "GET /api/v1/runs/a-1"),
        (Remedy("runs"), "GET /api/v1/runs"),
        (Remedy("calibrate", "cpu-1-thread"), ""),
        (Remedy(REPEAT, options={"select": "LIMITS"}), ""),
    ],
)
def test_a_remedy_is_a_request_where_the_api_has_one(remedy: Remedy, request_of_the_api: str) -> None:
    assert request_text(remedy) == request_of_the_api
    error = RunStateError("/srv/nas/a-1 is cancelled", remedy=remedy)
    detail = problem_of(error, lambda text: text.removeprefix("/srv/nas/")).detail
    assert detail == "a-1 is cancelled" + (f" ({request_of_the_api})" if request_of_the_api else "")


def test_an_error_without_a_remedy_is_its_message() -> None:
    problem = problem_of(RunStateError("a-1 is running", code="run.wrong-state"), str)
    assert (problem.status, problem.detail) == (409, "a-1 is running")
