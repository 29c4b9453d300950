"""What a server answers, written by hand: summaries, and files that break off where a test wants them to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx

from nas.service.api.schemas import RunSummary
from nas.service.client import NasClient

URL = "http://nas.test:8700"


def summary(status: str = "running", **changes: Any) -> RunSummary:
    """Where the run ``small-1`` stands."""
    values = {
        "run": "small-1", "name": "small", "kind": "search", "status": status, "reason": "", "live": status == "running",
        "submitted": None, "submitter": "", "queue_position": None, "started": None, "ended": None,
        "evaluations": 0, "evaluations_wanted": 30, "epoch": 4, "epochs": 4,
    }  # fmt: skip
    return RunSummary.model_validate({**values, **changes})


def as_json(value: RunSummary) -> httpx.Response:
    return httpx.Response(200, content=value.model_dump_json())


def problem(status: int, detail: str, **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"title": "No", "status": status, "detail": detail, **more})


class Stream(httpx.SyncByteStream):
    """Pieces of an answer, and at its end whatever is to break it."""

    def __init__(self, *pieces: bytes, broken: bool = False) -> None:
        self.pieces, self.broken = pieces, broken

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.broken:
            raise httpx.ReadError("connection reset by peer")


class Script:
    """A server that answers by path what it is told, one answer after the other, the last one again and again.

    Attributes:
        asked: the requests it got.
        waited: the pauses that its client made.
    """

    def __init__(self, **answers: list[Callable[[], httpx.Response]]) -> None:
        self.answers = {name: list(given) for name, given in answers.items()}
        self.asked: list[httpx.Request] = []
        self.waited: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        name = request.url.path.rpartition("/")[2]
        left = self.answers[name]
        return (left.pop(0) if len(left) > 1 else left[0])()

    def times(self, name: str) -> int:
        """How often a path that ends so was asked for."""
        return sum(request.url.path.endswith(f"/{name}") for request in self.asked)

    def client(self, token: str | None = None) -> NasClient:
        return NasClient(URL, token, wait=self.waited.append, through=httpx.MockTransport(self))


def gone() -> httpx.Response:
    """Nothing answers."""
    raise httpx.ConnectError("[Errno 111] Connection refused")
