"""Metrics of the server for Prometheus."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nas.api import schemas

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
PREFIX = "/api/v1"
STREAM = f"{PREFIX}/runs/{{run}}/events"


class Metrics:
    """One server's metrics, in a registry of its own."""

    def __init__(self, runs: Callable[[], Iterable[schemas.RunSummary]]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "nas_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "nas_request_seconds",
            "Time to answer, streams left out.",
            ["route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.watchers = Gauge("nas_watchers", "Streams of progress that are open.", registry=self._registry)
        self._registry.register(_Runs(runs))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a response.

        Args:
            route: as declared, with names in place of values, of which there could be any number.
        """
        self._requests.labels(method if method in _METHODS else "other", route or "none", str(status)).inc()
        if route != STREAM:
            self._seconds.labels(route or "none").observe(seconds)

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Runs(Collector):
    """Runs by status, counted when they are collected."""

    def __init__(self, runs: Callable[[], Iterable[schemas.RunSummary]]) -> None:
        self._runs = runs

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily("nas_runs", "Runs by status.", labels=["status"])]

    def collect(self) -> Iterable[Metric]:
        (family,) = self.describe()
        assert isinstance(family, GaugeMetricFamily)
        counted = Tally(run.status for run in self._runs())
        for status in schemas.RunStatusName.__args__:  # type: ignore[attr-defined]
            family.add_metric([status], counted[status])
        return [family]
