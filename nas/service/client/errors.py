"""Errors of the client: the server rejected a request, or no server answers."""

from __future__ import annotations

from nas.errors import ServiceError
from nas.service.api.schemas import Problem

_UNAUTHORIZED = 401


class RefusedError(ServiceError):
    """The server rejected the request; the message and the code are the server's.

    Attributes:
        problem: the problem details; ``errors`` lists the invalid fields of a job.
    """

    def __init__(self, server: str, problem: Problem) -> None:
        self.problem = problem
        message = problem.detail or problem.title
        if problem.status == _UNAUTHORIZED:
            message = f"{server}: token missing or wrong; set NAS_TOKEN ({message})"
        more = [e for e in problem.errors if e.message not in message]
        code = "service.unauthorized" if problem.status == _UNAUTHORIZED else problem.type.partition("#")[2]
        lines = [message, *(f"  {e.field}: {e.message}" if e.field else f"  {e.message}" for e in more)]
        super().__init__("\n".join(lines), code=code or "service.rejected")


class UnreachableError(ServiceError):
    """No server answers at the address, or the connection broke."""

    code = "service.unreachable"
