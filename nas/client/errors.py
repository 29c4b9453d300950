"""What a client raises where a server refuses, or where none answers."""

from __future__ import annotations

from nas.api.schemas import Problem
from nas.errors import ServiceError

_UNAUTHORIZED = 401


class RefusedError(ServiceError):
    """The server understood the request and says why it does not do it; the text is the server's own.

    Attributes:
        problem: what it said; its ``errors`` tell field by field what is wrong with a job.
    """

    def __init__(self, server: str, problem: Problem) -> None:
        self.problem = problem
        said = problem.detail or problem.title
        if problem.status == _UNAUTHORIZED:
            said = f"{server}: token missing or wrong; set NAS_TOKEN ({said})"
        more = [e for e in problem.errors if e.message not in said]
        super().__init__(
            "\n".join([said, *(f"  {e.field}: {e.message}" if e.field else f"  {e.message}" for e in more)])
        )


class UnreachableError(ServiceError):
    """Nothing answers at the address, or the connection broke."""
