"""Measures: accuracy by scoring subnets, latency by timing them on their hardware profiles, never both at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, LatencyFailure, LatencyMeasurement, LatencyProfiler
from hardware_profiles.samples import encode_samples
from nas.evaluation.subnets import Scored, Scoring, Task
from nas.objectives import EXACT_METRICS, Fidelity, Measurement, Request, Status
from supernets.cost import Cost
from supernets.onnx_export import INPUT
from supernets.space import Architecture

ACCURACY_PROTOCOL = "recalibrated-top1-onnxruntime/v1"


@dataclass(frozen=True, slots=True)
class Timed:
    """A hardware profile's profiler with the real examples that it is fed, (batch, ...)."""

    profiler: LatencyProfiler
    examples: NDArray[np.float32]


class Measured:
    """Requests answered by measuring.

    Args:
        n_images: images behind an accuracy.
        weights: digest of the supernet's weights; data: digest of the images that accuracy is taken on.
    """

    def __init__(
        self,
        scoring: Scoring,
        costs: Callable[[Architecture], Cost],
        profiles: Mapping[str, Timed],
        *,
        n_images: int,
        weights: str,
        data: str,
        environment: Mapping[str, Any],
    ) -> None:
        self._scoring, self._costs, self._profiles = scoring, costs, profiles
        self._n_images, self._weights, self._data = n_images, weights, data
        self._environment = environment

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        wanted: dict[Architecture, list[Request]] = {}
        for request in requests:
            wanted.setdefault(request.architecture, []).append(request)
        yield from (self._exact(request) for request in requests if request.metric in EXACT_METRICS)
        tasks = []
        for architecture, own in wanted.items():
            metrics = {request.metric for request in own}
            if metrics - EXACT_METRICS:
                tasks.append(Task(architecture, accuracy="accuracy" in metrics, model="latency_ms" in metrics))
        models: dict[Architecture, Scored] = {}
        for scored in self._scoring.score(tasks):
            models[scored.task.architecture] = scored
            yield from (self._accuracy(r, scored) for r in wanted[scored.task.architecture] if r.metric == "accuracy")
        # Every task is done, so the cores are free: timing beside scoring would be wrong by more than the noise floor.
        latencies = [request for request in requests if request.metric == "latency_ms"]
        for name in dict.fromkeys(request.profile for request in latencies):
            for longer in (False, True):
                group = [r for r in latencies if r.profile == name and (r.fidelity is Fidelity.FINAL) is longer]
                yield from self._latencies(group, models, longer=longer)

    def close(self) -> None:
        self._scoring.close()
        for timed in self._profiles.values():
            timed.profiler.close()

    def _exact(self, request: Request) -> Measurement:
        value = float(getattr(self._costs(request.architecture), request.metric))
        return Measurement(request, Status.OK, value, 0.0, protocol="computed")

    def _accuracy(self, request: Request, scored: Scored) -> Measurement:
        if scored.failure:
            return self._failed(request, scored.failure, scored.seconds)
        share = scored.n_correct / self._n_images
        return Measurement(
            request,
            Status.OK,
            share,
            math.sqrt(share * (1 - share) / self._n_images),
            weights=self._weights,
            data=self._data,
            protocol=ACCURACY_PROTOCOL,
            environment=self._environment,
            detail={"images": self._n_images},
            samples=scored.correct,
            seconds=scored.seconds,
        )

    def _failed(self, request: Request, message: str, seconds: float = 0.0) -> Measurement:
        return Measurement(request, Status.FAILED, None, None, weights=self._weights, message=message, seconds=seconds)

    def _latencies(
        self, requests: Sequence[Request], models: Mapping[Architecture, Scored], *, longer: bool
    ) -> Iterator[Measurement]:
        timed = [r for r in requests if models[r.architecture].model is not None]
        yield from (self._failed(r, models[r.architecture].failure) for r in requests if r not in timed)
        if not timed:
            return
        profile = self._profiles[str(timed[0].profile)]
        deployments = [Deployment.single(models[r.architecture].model or b"", {INPUT: profile.examples}) for r in timed]
        started = time.perf_counter()
        for request, result in zip(timed, profile.profiler.measure(deployments, longer=longer), strict=True):
            seconds, started = time.perf_counter() - started, time.perf_counter()
            yield self._latency(request, result, seconds)

    def _latency(self, request: Request, result: LatencyMeasurement | LatencyFailure, seconds: float) -> Measurement:
        if isinstance(result, LatencyFailure):
            return self._failed(request, result.message, seconds)
        return Measurement(
            request,
            Status.NOISY if result.noisy else Status.OK,
            result.latency_ms,
            result.latency_ms * result.resolution,
            weights=self._weights,
            protocol=result.protocol,
            environment=result.environment,
            detail={
                "resolution": result.resolution,
                "p50_ms": result.p50_ms,
                "samples": result.samples,
                "preempted_share": result.preempted_share,
            },
            samples=encode_samples(result),
            seconds=result.seconds or seconds,
        )
