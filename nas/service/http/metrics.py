"""Metrics of the server for Prometheus."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nas.service.api import schemas

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
PREFIX = "/api/v1"
STREAM = f"{PREFIX}/runs/{{run}}/events"


class Metrics:
    """One server's metrics, in a registry of its own."""

    def __init__(self, runs: Callable[[], Iterable[schemas.RunSummary]]) -> None:
        self._runs, self._registry = runs, CollectorRegistry()
        options: dict[str, Any] = {"registry": self._registry}
        self._requests = Counter("nas_requests", "Requests answered.", ["method", "route", "status"], **options)
        text = "Time to answer, streams left out."
        self._seconds = Histogram("nas_request_seconds", text, ["route"], buckets=_BUCKETS, **options)
        self.watchers = Gauge("nas_watchers", "Streams of progress that are open.", **options)
        self._by_status = Gauge("nas_runs", "Runs by status.", ["status"], **options)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a response.

        Args:
            route: as declared, with names in place of values, of which there could be any number.
        """
        self._requests.labels(method if method in _METHODS else "other", route or "none", str(status)).inc()
        if route != STREAM:
            self._seconds.labels(route or "none").observe(seconds)

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format; runs are counted now."""
        counted = Tally(run.status for run in self._runs())
        for status in get_args(schemas.RunStatusName):
            self._by_status.labels(status).set(counted[status])
        return generate_latest(self._registry)
