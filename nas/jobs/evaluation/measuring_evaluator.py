"""The measuring evaluator: metrics of the task by scoring subnets, latency by timing them, never both at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from hardware_profiles.base import Deployment, LatencyFailure, LatencyMeasurement, LatencyProfiler
from hardware_profiles.measuring.energy import ENERGY_PROTOCOL
from hardware_profiles.measuring.energy import NOISY as NOISY_ENERGY
from hardware_profiles.measuring.profiler import MAX_BATCH_BYTES
from hardware_profiles.measuring.samples import encode_samples
from nas.engine.evaluation.base import Outcome
from nas.errors import EvaluationError
from nas.jobs.evaluation.environments import Environments
from nas.jobs.evaluation.own_metrics import OwnMetrics
from nas.jobs.evaluation.scoring import Scored, Scoring, ScoringTask
from nas.jobs.evaluation.served_memory import ServedMemory
from nas.jobs.evaluation.serving_inputs import serving_inputs
from nas.search.problem.objectives import (
    ENERGY,
    EXACT_METRICS,
    ONNX_RUNTIME,
    TIMED_METRICS,
    Fidelity,
    Measurement,
    Request,
    Status,
    Variant,
)
from nas.search.problem.tasks import SERVED_MEMORY, SERVED_METRICS
from nas.search.problem.variants import environment_name, exact_value
from supernets.families.decoder.decoder_serving import FILLED, PORTABLE_STEP, STEP
from supernets.networks.module_to_onnx import INPUT
from supernets.space import Architecture
from supernets.space.cost import Cost

_Candidate = tuple[Architecture, Variant]
"""A network in a variant."""
_KEPT_BYTES = 2**28
"""Limit of the models that are kept, as they may be needed again: most have a few hundred kilobytes, some half a gigabyte."""
_FLOAT_BYTES = 4
_DETAILS = (
    "resolution",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "samples",
    "session_ms",
    "peak_mib",
    "drift",
    "preempted_share",
)
"""Fields of a latency measurement that are kept as its detail."""
_LATENCIES = frozenset({"latency_ms", "time_to_first_token_ms", "time_per_token_ms"})


def scoring_protocol(metric: str, runtime: str = ONNX_RUNTIME) -> str:
    """The protocol by which a metric of the task is scored."""
    return f"recalibrated-{'top1' if metric == 'accuracy' else metric}-{runtime}/v1"


@dataclass(frozen=True, slots=True)
class TimedProfile:
    """A hardware profile's profiler with the real examples that it is fed: (batch, ...) for each call of a timed run.

    Attributes:
        context_tokens: Number of tokens in the cache of a step of a network that is served with a cache.
        in_place: True if the runtime writes into that cache; False if it copies the cache.
    """

    profiler: LatencyProfiler
    examples: tuple[NDArray[Any], ...]
    context_tokens: int = 1
    in_place: bool = True


class MeasuringEvaluator:
    """Requests answered by measuring.

    Args:
        weights: Digest of the supernet's weights.
        data: Digest of the examples that metrics of the task are taken on.
        profiles: Profilers with their examples, by profile name and runtime.
        environments: Environments that the measurements must come from.
        own_metrics: Measures the metrics of plug-ins; None without any.
        memory: Memory of language models; None for other networks.
    """

    def __init__(
        self,
        scoring: Scoring,
        costs: Callable[[Architecture], Cost],
        profiles: Mapping[tuple[str, str], TimedProfile],
        *,
        weights: str,
        data: str,
        environments: Environments | None = None,
        own_metrics: OwnMetrics | None = None,
        memory: ServedMemory | None = None,
    ) -> None:
        self._scoring, self._costs, self._profiles, self._memory = scoring, costs, profiles, memory
        self._weights, self._data = weights, data
        self._built: dict[_Candidate, bytes] = {}
        """Models of candidates whose latency is uncertain, which is measured again."""
        self._environments = environments or Environments()
        self._plugin_metrics = own_metrics
        self._started: dict[_Candidate, Sequence[Request]] = {}
        self._ready: list[Measurement] = []

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        wanted: dict[_Candidate, list[Request]] = {}
        for request in requests:
            wanted.setdefault((request.architecture, request.variant), []).append(request)
        yield from (self._exact(request) for request in requests if request.metric in EXACT_METRICS)
        for group in self._groups(wanted):
            yield from self._evaluate(group)

    def _groups(
        self, wanted: Mapping[_Candidate, Sequence[Request]]
    ) -> Iterator[Mapping[_Candidate, Sequence[Request]]]:
        """The candidates whose models are in memory at once: all, or of large ones as many as share a measuring session."""
        group, held = dict[_Candidate, Sequence[Request]](), 0
        for candidate, requests in wanted.items():
            size = self._model_bytes(candidate, requests)
            if held and held + size > MAX_BATCH_BYTES and held + size > self._batch_bytes():
                yield group
                group, held = {}, 0
            group[candidate], held = requests, held + size
        yield group

    def _batch_bytes(self) -> int:
        return max((profile.profiler.batch_bytes() for profile in self._profiles.values()), default=MAX_BATCH_BYTES)

    def _model_bytes(self, candidate: _Candidate, requests: Sequence[Request]) -> int:
        """The size of the models that are kept of a candidate until it is measured, in fp32."""
        task = self._task(candidate, requests)
        n_models = 0 if task is None else task.model + len(task.served)
        if not n_models:
            return 0
        try:
            return n_models * _FLOAT_BYTES * self._costs(candidate[0]).parameters
        except Exception:  # no model will be made of it: scoring it fails, and says why
            return 0

    def _evaluate(self, wanted: Mapping[_Candidate, Sequence[Request]]) -> Iterator[Measurement]:
        requests = [request for candidate_requests in wanted.values() for request in candidate_requests]
        tasks = [self._task(candidate, candidate_requests) for candidate, candidate_requests in wanted.items()]
        models: dict[_Candidate, Scored] = {}
        for outcome in self._scoring.run([task for task in tasks if task is not None]):
            candidate, scored = _scored(outcome)
            models[candidate] = scored
            yield from (self._score(r, scored) for r in wanted[candidate] if self._is_scored(r))
        yield from self._own_metrics(requests, models)
        # Every task is done, so the cores are free: timing beside scoring would be wrong by more than the noise floor.
        timed = [request for request in requests if request.metric in TIMED_METRICS and not self._is_own(request)]
        for place in dict.fromkeys((request.profile, request.runtime) for request in timed):
            for longer in (False, True):
                group = [
                    r for r in timed if (r.profile, r.runtime) == place and (r.fidelity is Fidelity.FINAL) is longer
                ]
                yield from self._time(group, models, longer=longer)

    def slots(self) -> int:
        """Networks that are scored at once, where nothing is timed and no plug-in measures: these need the cores alone."""
        return 0 if self._profiles or self._plugin_metrics is not None else self._scoring.slots()

    def start(self, requests: Sequence[Request]) -> None:
        """Begins to score a network; what is computed is ready at once."""
        candidate = requests[0].architecture, requests[0].variant
        self._ready += [self._exact(request) for request in requests if request.metric in EXACT_METRICS]
        if (task := self._task(candidate, requests)) is not None:
            self._started[candidate] = requests
            self._scoring.start(task)

    def arrived(self) -> Sequence[Measurement]:
        if not self._ready:
            for candidate, scored in map(_scored, self._scoring.finished()):
                requests = self._started.pop(candidate)
                self._ready += [self._score(request, scored) for request in requests if self._is_scored(request)]
        ready, self._ready = self._ready, []
        return ready

    def _task(self, candidate: _Candidate, requests: Sequence[Request]) -> ScoringTask | None:
        metrics = {request.metric for request in requests}
        if not metrics - EXACT_METRICS:
            return None
        return ScoringTask(
            *candidate,
            metrics=tuple(dict.fromkeys(request.metric for request in requests if self._is_scored(request))),
            model=any(self._needs_model(request) for request in requests),
            built=self._built.get(candidate),
            served=tuple(sorted({name for request in requests if (name := self._served_by(request))})),
        )

    def _needs_model(self, request: Request) -> bool:
        """True if a request is answered by running the network's ONNX model here: by its time, or by a plug-in's metric."""
        computed = request.metric in EXACT_METRICS or self._is_scored(request)
        return not (computed or self._served_by(request))

    def _served_by(self, request: Request) -> str:
        """The name of the model that is timed for a metric, of those by which a network is served; "" for the one of others."""
        timed = self._profiles.get((str(request.profile), request.runtime))
        return served_by(request.metric, in_place=timed is None or timed.in_place)

    def _keep_model(self, candidate: _Candidate, model: bytes | None) -> None:
        if model is not None:
            self._built.pop(candidate, None)
            self._built[candidate] = model
            while sum(map(len, self._built.values())) > _KEPT_BYTES:
                del self._built[next(iter(self._built))]

    def close(self) -> None:
        self._scoring.close()
        for timed in self._profiles.values():
            timed.profiler.close()

    def _exact(self, request: Request) -> Measurement:
        if request.metric not in SERVED_MEMORY:
            computed = float(getattr(self._costs(request.architecture), request.metric))
            value = exact_value(request.metric, computed, request.precision, weights_alone=self._memory is not None)
        elif self._memory is not None:
            value = float(self._memory.mib(request.metric, [request.architecture], [request.precision])[0])
        else:
            return self._failed(request, f"{request.metric} is of networks that are served with a cache")
        return Measurement(request, Status.OK, value, 0.0, protocol="computed")

    def _own_metrics(self, requests: Sequence[Request], models: Mapping[_Candidate, Scored]) -> Iterator[Measurement]:
        for request in requests:
            if self._plugin_metrics is None or not self._is_own(request):
                continue
            scored = models[request.architecture, request.variant]
            if scored.model is None:
                yield self._failed(request, scored.failure)
            else:
                measurement = self._plugin_metrics.measurement(request, scored.model, self._costs(request.architecture))
                yield replace(measurement, weights=self._weights, data=self._data)

    def _is_scored(self, request: Request) -> bool:
        """True if the metric of a request is one of the task."""
        return not (request.metric in EXACT_METRICS or request.metric in TIMED_METRICS or self._is_own(request))

    def _is_own(self, request: Request) -> bool:
        """True if the metric of a request is one of a plug-in."""
        return self._plugin_metrics is not None and request.metric in self._plugin_metrics

    def _score(self, request: Request, scored: Scored) -> Measurement:
        if scored.failure:
            return self._failed(request, scored.failure, scored.seconds, scored.environment)
        self._environments.check(environment_name(None, request.runtime), scored.environment)
        score = scored.scores[request.metric]
        return Measurement(
            request,
            Status.OK,
            score.value,
            score.error,
            weights=self._weights,
            data=self._data,
            protocol=scoring_protocol(request.metric, request.runtime),
            environment=scored.environment,
            detail=score.detail,
            samples=score.samples,
            seconds=scored.seconds,
        )

    def _failed(
        self,
        request: Request,
        message: str,
        seconds: float = 0.0,
        environment: Mapping[str, Any] | None = None,
    ) -> Measurement:
        return Measurement(
            request,
            Status.FAILED,
            None,
            None,
            weights=self._weights,
            environment=environment or {},
            message=message,
            seconds=seconds,
        )

    def _time(
        self, requests: Sequence[Request], models: Mapping[_Candidate, Scored], *, longer: bool
    ) -> Iterator[Measurement]:
        """Measurements for requests of one profile and runtime; a model is timed once for all of its metrics."""
        wanted: dict[tuple[_Candidate, str], list[Request]] = {}  # the text: the model of those that it is served by
        for request in requests:
            scored = models[request.architecture, request.variant]
            served = self._served_by(request)
            if scored.failure:
                yield self._failed(request, scored.failure)
            elif served and served not in scored.served:
                yield self._failed(request, f"{request.metric} is of networks that are served by a model {served!r}")
            else:
                wanted.setdefault(((request.architecture, request.variant), served), []).append(request)
        if not wanted:
            return
        name, runtime = str(requests[0].profile), requests[0].runtime
        profile, of = self._profiles[name, runtime], environment_name(name, runtime)
        deployments = [
            deployment_of(models[candidate], served, profile.examples, context_tokens=profile.context_tokens)
            for candidate, served in wanted
        ]
        results = profile.profiler.measure(deployments, longer=longer)
        for ((candidate, served), model_requests), deployment, result in zip(
            wanted.items(), deployments, results, strict=True
        ):
            if isinstance(result, LatencyFailure):
                yield from (
                    self._failed(request, result.message, environment=result.environment) for request in model_requests
                )
                continue
            self._environments.check(of, result.environment)
            if any(_is_noisy(request.metric, result) for request in model_requests):
                self._keep_model(candidate, models[candidate].model)
            cache = _cache(served, deployment)
            yield from (self._timed(request, result, len(profile.examples[0]), cache) for request in model_requests)

    def _timed(
        self, request: Request, result: LatencyMeasurement, batch_size: int, more: Mapping[str, str]
    ) -> Measurement:
        if request.metric == ENERGY and result.energy_mj is None:
            reason = result.energy_failure or "the profiler was opened without energy"
            message = f"energy on profile {request.profile} cannot be measured: {reason}"
            return self._failed(request, message, result.seconds, result.environment)
        value, error = _value_and_error(request.metric, result, batch_size)
        return Measurement(
            request,
            Status.NOISY if _is_noisy(request.metric, result) else Status.OK,
            value,
            error,
            weights=self._weights,
            environment=result.environment,
            protocol=ENERGY_PROTOCOL if request.metric == ENERGY else result.protocol,
            detail={name: getattr(result, name) for name in _DETAILS} | dict(more),
            samples=encode_samples(result) if request.metric in _LATENCIES else None,
            seconds=result.seconds,
        )


def _scored(outcome: Outcome[ScoringTask, Scored]) -> tuple[_Candidate, Scored]:
    """The result of a task, or its failure, and its candidate."""
    scored = outcome.result or Scored(outcome.task, seconds=outcome.seconds)
    if outcome.failure:
        scored = replace(scored, failure=outcome.failure)
    return (scored.task.architecture, scored.task.variant), scored


def served_by(metric: str, *, in_place: bool) -> str:
    """The name of the model that is timed for a metric, of those by which a network is served; "" for the one of others.

    Args:
        in_place: True if the runtime writes into the cache of a step, see `TimedProfile`.
    """
    name = SERVED_METRICS.get(metric, "")
    return PORTABLE_STEP if name == STEP and not in_place else name


def _cache(served: str, deployment: Deployment) -> dict[str, str]:
    """The use of the cache by a step, for the detail of a measurement; empty for other models."""
    if served not in (STEP, PORTABLE_STEP):
        return {}
    return {"cache": "in place" if FILLED in deployment.graphs[0].inputs[0] else "copied"}


def deployment_of(scored: Scored, served: str, examples: Sequence[NDArray[Any]], *, context_tokens: int) -> Deployment:
    """The deployment of a network that is timed: its model, or the one of the name `served`, with inputs made of examples.

    Args:
        served: Name of one of the models by which the network is served; "" for its only model.
        examples: Inputs of each call, (batch, ...).
        context_tokens: Number of tokens of each text in the cache, see `serving_inputs`.
    """
    if served:
        (texts,), model = examples, scored.served[served]
        return Deployment.single(model, serving_inputs(model, texts, context_tokens=context_tokens))
    return Deployment.single(scored.model or b"", *({INPUT: batch} for batch in examples))


def _is_noisy(metric: str, result: LatencyMeasurement) -> bool:
    """True if a timed metric should be measured again on a calmer machine."""
    if metric == ENERGY:
        return (result.energy_error_mj or 0.0) > NOISY_ENERGY * (result.energy_mj or 0.0)
    return result.noisy


def _value_and_error(metric: str, result: LatencyMeasurement, batch_size: int) -> tuple[float, float]:
    """The value of a timed metric and its error."""
    if metric in _LATENCIES:
        return result.latency_ms, result.latency_ms * result.resolution
    match metric:
        case "throughput" | "tokens_per_second":
            value = 1e3 * batch_size / result.latency_ms
            return value, value * result.resolution
        case "peak_mib":
            return result.peak_mib, result.peak_error_mib
        case "session_ms":
            return result.session_ms, result.session_error_ms
        case "energy_mj" if result.energy_mj is not None and result.energy_error_mj is not None:
            return result.energy_mj, result.energy_error_mj
        case _:
            raise EvaluationError(f"no timing gives {metric!r}; expected one of {', '.join(sorted(TIMED_METRICS))}")
