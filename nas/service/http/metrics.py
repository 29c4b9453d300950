"""Metrics of the server for Prometheus."""

from __future__ import annotations

import shutil
import time
from collections import Counter as Tally
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nas.service.api import schemas
from nas.service.ownership import Thing, ThingKind
from nas.service.service import Service
from nas.service.views.run_summaries import EVERY_RUN

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
_MEMORY = Path("/proc/meminfo")
PREFIX = "/api/v1"
STREAM = f"{PREFIX}/runs/{{run}}/events"


class Metrics:
    """One server's metrics, in a registry of its own."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        options: dict[str, Any] = {"registry": self._registry}
        self._requests = Counter("nas_requests", "Requests answered.", ["method", "route", "status"], **options)
        text = "Time to answer, streams left out."
        self._seconds = Histogram("nas_request_seconds", text, ["route"], buckets=_BUCKETS, **options)
        self.watchers = Gauge("nas_watchers", "Streams of progress that are open.", **options)
        ProcessCollector(**options)  # memory, CPU time and open files of the server's process
        self._registry.register(_ServiceCollector(service))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a response.

        Args:
            route: as declared, with names in place of values, of which there could be any number.
        """
        self._requests.labels(method if method in _METHODS else "other", route or "none", str(status)).inc()
        if route != STREAM:
            self._seconds.labels(route or "none").observe(seconds)

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format; runs, tasks, disk and memory are looked at now."""
        return generate_latest(self._registry)


class _ServiceCollector(Collector):
    """The metrics of a service, read when Prometheus asks for them."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterator[Metric]:
        """Nothing: otherwise the registry reads all metrics when the server starts, to learn their names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from self._runs()
        yield from self._tasks()
        yield from self._machine()

    def _runs(self) -> Iterator[Metric]:
        service, now = self._service, time.time()
        n_by_status = Tally(run.status for run in service.runs.page(EVERY_RUN).runs)
        runs = GaugeMetricFamily("nas_runs", "Runs by status.", labels=["status"])
        for status in get_args(schemas.RunStatusName):
            runs.add_metric([status], n_by_status[status])
        yield runs
        waiting = [s.submitted for s in service.state.submissions() if s.waits and self._sees(ThingKind.RUN, s.run)]
        text = "Time since the submission of the run that waits longest; 0 where none waits."
        yield GaugeMetricFamily("nas_queue_age_seconds", text, max((now - since for since in waiting), default=0.0))
        text = "1 if jobs can be started now, 0 if not; the reason is in the log and beside runs that wait."
        yield GaugeMetricFamily("nas_can_start_jobs", text, float(not service.problem()))
        text = "Drivers of runs that died since the server started."
        yield CounterMetricFamily("nas_driver_deaths", text, service.driver_deaths())

    def _tasks(self) -> Iterator[Metric]:
        open_tasks = [t for t in self._service.state.open_tasks() if self._sees(ThingKind.TASK, t.task)]
        now = time.time()
        n_by_state = Tally((task.kind, str(task.status)) for task in open_tasks)
        tasks = GaugeMetricFamily("nas_tasks", "Tasks that wait or run, by kind.", labels=["kind", "status"])
        text = "Time since the request of the open task that is oldest, by kind; 0 where there is none."
        ages = GaugeMetricFamily("nas_task_age_seconds", text, labels=["kind"])
        for kind in get_args(schemas.TaskKindName):
            for status in ("queued", "running"):
                tasks.add_metric([kind, status], n_by_state[kind, status])
            ages.add_metric(
                [kind], max((now - task.submitted for task in open_tasks if task.kind == kind), default=0.0)
            )
        yield tasks
        yield ages

    def _sees(self, kind: ThingKind, name: str) -> bool:
        return self._service.owners.sees(Thing(kind, name))

    def _machine(self) -> Iterator[Metric]:
        disk = shutil.disk_usage(self._service.settings.runs.root)
        yield GaugeMetricFamily("nas_disk_size_bytes", "Size of the disk of the runs folder.", disk.total)
        yield GaugeMetricFamily("nas_disk_free_bytes", "Free space of that disk for the server's user.", disk.free)
        memory = dict(line.split(":") for line in _MEMORY.read_text().splitlines())
        for name, key in (("size", "MemTotal"), ("available", "MemAvailable")):
            text = f"The machine's {key} of {_MEMORY}."
            yield GaugeMetricFamily(f"nas_memory_{name}_bytes", text, 1024 * int(memory[key].split()[0]))
