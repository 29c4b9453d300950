"""The evaluator that measures: every metric of real subnets, in two precisions, with the real parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from hardware_profiles.base import Deployment, LatencyFailure, LatencyMeasurement
from hardware_profiles.catalog import load_profile
from hardware_profiles.profiler_factory import open_profiler
from nas.engine.evaluation.base import Evaluator, Outcome
from nas.jobs.evaluation.environments import Environments
from nas.jobs.evaluation.measuring_evaluator import MeasuringEvaluator, TimedProfile
from nas.jobs.evaluation.scoring import InlineScoring, Scored, ScoringTask
from nas.search.problem.objectives import TIMED_METRICS, Request, Status
from nas.search.problem.tasks import SERVED_METRICS
from supernets.data import head, load_data
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.sharing.base import Supernet
from supernets.training.checkpoint import make_supernet
from tests.contracts.evaluator import EvaluatorContract
from tests.errors import raises
from tests.hardware_profiles.energy_counters import counters

PROFILE = load_profile("cpu-1-thread-batch-16")


class CountedScoring:
    """Scoring in this process that notes what it was given to do."""

    def __init__(self, inner: InlineScoring) -> None:
        self._inner = inner
        self.tasks: list[ScoringTask] = []

    def run(self, tasks: Sequence[ScoringTask]) -> Iterator[Outcome[ScoringTask, Scored]]:
        self.tasks += tasks
        return self._inner.run(tasks)

    def close(self) -> None:
        self._inner.close()


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    torch.manual_seed(0)
    family = MobileCNNFamily(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=10)
    return make_supernet(family)


def measured(
    supernet: Supernet,
    environments: Environments | None = None,
    *,
    energy: bool = False,
) -> MeasuringEvaluator:
    data = load_data("digits", validation=0.25, test=0.25, seed=0)
    part = data.validation
    return MeasuringEvaluator(
        InlineScoring(supernet, head(data.train, 200), part),
        supernet.cost,
        {
            (PROFILE.name, "onnxruntime"): TimedProfile(
                open_profiler(PROFILE, seed=0, energy=energy), (part.inputs[:16].numpy(),)
            )
        },
        weights="w",
        data=part.digest,
        environments=environments,
    )


@pytest.fixture(scope="module")
def shared(supernet: Supernet) -> Iterator[MeasuringEvaluator]:
    made = measured(supernet)
    yield made
    made.close()


class TestMeasured(EvaluatorContract):
    @pytest.fixture
    def evaluator(self, shared: MeasuringEvaluator) -> Evaluator:
        return shared

    @pytest.fixture
    def requests(self, supernet: Supernet) -> list[Request]:
        smallest = supernet.space.smallest
        return [Request(smallest, "accuracy"), Request(smallest, "macs"), Request(smallest, "latency_ms", PROFILE.name)]


def test_every_metric_of_two_precisions_comes_of_one_timing_each(
    shared: MeasuringEvaluator, supernet: Supernet
) -> None:
    largest = supernet.space.largest
    asked = [
        Request(largest, metric, PROFILE.name, precision=p)
        for p in ("fp32", "int8")
        for metric in sorted(TIMED_METRICS - SERVED_METRICS.keys())
    ]
    asked += [Request(largest, "accuracy", precision=p) for p in ("fp32", "int8")]
    found = {(m.request.precision, m.request.metric): m for m in shared.evaluate(asked)}
    assert len(found) == len(asked)
    for precision in ("fp32", "int8"):
        latency, throughput = found[precision, "latency_ms"], found[precision, "throughput"]
        assert latency.value is not None
        assert throughput.value == pytest.approx(16_000 / latency.value)
        assert throughput.error == pytest.approx(throughput.value * latency.detail["resolution"])
        assert found[precision, "peak_mib"].value == latency.detail["peak_mib"]
        loading = found[precision, "session_ms"]
        assert loading.value == latency.detail["session_ms"]
        assert [m.samples is not None for m in (latency, throughput)] == [True, False]
    # Untrained, but not of one class alone: eight bits answer most images as 32 do, and some otherwise.
    answers = [np.frombuffer(found[p, "accuracy"].samples or b"", np.uint8) for p in ("fp32", "int8")]
    assert len(answers[0]) == len(answers[1]) > 0


@pytest.mark.slow
def test_energy_comes_with_latency_or_fails_alone(
    supernet: Supernet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [Request(supernet.space.largest, metric, PROFILE.name) for metric in ("latency_ms", "energy_mj")]
    file = tmp_path / "intel-rapl:0" / "energy_uj"
    monkeypatch.setenv("NAS_POWERCAP", str(tmp_path))
    with counters(tmp_path):
        made = measured(supernet, energy=True)
        latency, energy = (found := {m.request.metric: m for m in made.evaluate(asked)}).values()
        assert list(found) == ["latency_ms", "energy_mj"]
        assert latency.value is not None
        assert energy.value is not None
        assert energy.error is not None
        assert min(energy.value, energy.error) > 0
        assert (energy.status is Status.NOISY) is (energy.error > 0.1 * energy.value)
        assert energy.protocol == "energy-above-waiting/v1" != latency.protocol
        assert energy.environment == latency.environment
        assert energy.environment["energy"]["waiting_w"] > 0
        file.unlink()
        latency, energy = made.evaluate(asked)
        made.close()
    assert latency.value is not None
    assert (energy.status, energy.value) == (Status.FAILED, None)
    assert f"energy on profile {PROFILE.name} cannot be measured: the energy counter {file}" in energy.message


def test_a_metric_of_served_models_fails_for_networks_of_one(shared: MeasuringEvaluator, supernet: Supernet) -> None:
    (found,) = shared.evaluate([Request(supernet.space.smallest, "time_per_token_ms", PROFILE.name)])
    assert found.status is Status.FAILED
    assert "'step'" in found.message


def test_a_network_that_cannot_be_made_fails_alone(shared: MeasuringEvaluator, supernet: Supernet) -> None:
    good, bad = supernet.space.smallest, replace(supernet.space.smallest, genes=(99,) * len(supernet.space))
    asked = [Request(a, metric, profile) for a in (good, bad) for metric, profile in (("accuracy", None), LATENCY)]
    found = {(m.request.architecture, m.request.metric): m for m in shared.evaluate(asked)}
    assert {m.status for (a, _), m in found.items() if a == bad} == {Status.FAILED}
    assert all(m.message for (a, _), m in found.items() if a == bad)
    assert found[good, "latency_ms"].value is not None


LATENCY = ("latency_ms", PROFILE.name)


def test_figures_of_another_machine_are_refused(supernet: Supernet) -> None:
    kept: dict[str, Any] = {}
    request = Request(supernet.space.smallest, *LATENCY)
    first = measured(supernet, Environments({}, lambda environments: kept.update(environments)))
    (found,) = first.evaluate([request])
    first.close()
    of = f"profile {PROFILE.name}"
    assert kept[of]["cpu"] == found.environment["cpu"]
    again = measured(supernet, Environments(kept))
    assert next(iter(again.evaluate([request]))).value is not None
    again.close()
    elsewhere = measured(supernet, Environments({of: {**kept[of], "cpu": "Another CPU"}}))
    with raises("evaluation.environment-changed", of, "cpu: was Another CPU"):
        list(elsewhere.evaluate([request]))
    elsewhere.close()


def test_accuracies_of_another_runtime_are_refused(supernet: Supernet) -> None:
    kept: dict[str, Any] = {}
    request = Request(supernet.space.smallest, "accuracy")
    first = measured(supernet, Environments({}, lambda environments: kept.update(environments)))
    (found,) = first.evaluate([request])
    first.close()
    assert kept["accuracy"]["onnxruntime"] == found.environment["onnxruntime"] == onnxruntime.__version__
    later = measured(supernet, Environments({"accuracy": {**kept["accuracy"], "onnxruntime": "0.9"}}))
    with raises("evaluation.environment-changed", "accuracy", "ONNX Runtime: was 0.9"):
        list(later.evaluate([request]))
    later.close()


def test_activations_take_the_bytes_of_their_precision(shared: MeasuringEvaluator, supernet: Supernet) -> None:
    network = supernet.space.largest
    asked = [Request(network, metric, precision=p) for metric in ("activation_bytes", "macs") for p in ("fp32", "int8")]
    found = {(m.request.metric, m.request.precision): m.value for m in shared.evaluate(asked)}
    cost = supernet.cost(network)
    assert found["activation_bytes", "fp32"] == cost.activation_bytes == 4 * (found["activation_bytes", "int8"] or 0)
    assert found["macs", "fp32"] == found["macs", "int8"] == cost.macs


def test_an_uncertain_time_to_load_has_a_value_and_its_error(
    supernet: Supernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = measured(supernet)
    profiler = made._profiles[PROFILE.name, "onnxruntime"].profiler
    measure = profiler.measure

    def unsettled(*args: Any, **options: Any) -> Iterator[Any]:
        for result in measure(*args, **options):
            yield replace(result, session_ms=2.0, session_error_ms=0.6)

    monkeypatch.setattr(profiler, "measure", unsettled)
    asked = [Request(supernet.space.smallest, metric, PROFILE.name) for metric in ("latency_ms", "session_ms")]
    found = {m.request.metric: m for m in made.evaluate(asked)}
    made.close()
    assert (found["session_ms"].value, found["session_ms"].error) == (2.0, 0.6)
    assert found["session_ms"].environment == found["latency_ms"].environment != {}


def test_a_network_is_scored_once_for_all_profiles_and_timed_once_on_each(supernet: Supernet) -> None:
    """Accuracy and the model are the same on every profile; only another precision is another deployment."""
    data = load_data("digits", validation=0.25, test=0.25, seed=0)
    part, profiles = data.validation, [load_profile(name) for name in ("cpu-1-thread", "cpu-1-thread-batch-16")]
    scoring = CountedScoring(InlineScoring(supernet, head(data.train, 200), part))
    timed = {
        (p.name, "onnxruntime"): TimedProfile(open_profiler(p, seed=0), (part.inputs[: p.batch_size].numpy(),))
        for p in profiles
    }
    evaluator = MeasuringEvaluator(scoring, supernet.cost, timed, weights="w", data=part.digest)
    network = supernet.family.space.smallest
    requests = [
        Request(network, metric, profile, precision=precision)
        for precision in ("fp32", "int8")
        for metric, profile in (("accuracy", None), *(("latency_ms", p.name) for p in profiles))
    ]
    found = {m.request: m for m in evaluator.evaluate(requests)}
    evaluator.close()
    assert len(found) == len(requests) == 6
    assert all(m.value is not None for m in found.values())
    assert [(task.variant.precision, bool(task.metrics), task.model) for task in scoring.tasks] == [
        ("fp32", True, True),
        ("int8", True, True),
    ]


def test_the_model_of_an_uncertain_latency_is_not_built_again(
    supernet: Supernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, built = measured(supernet), []
    scoring, profiler = made._scoring, made._profiles[PROFILE.name, "onnxruntime"].profiler
    build, measure = scoring._build, profiler.measure

    def counted(*args: Any) -> bytes:
        built.append(args)
        return build(*args)

    def noisy(*args: Any, **options: Any) -> Iterator[Any]:
        for result in measure(*args, **options):
            yield replace(result, noisy=True)

    monkeypatch.setattr(scoring, "_build", counted)
    monkeypatch.setattr(profiler, "measure", noisy)
    request = Request(supernet.space.smallest, "latency_ms", PROFILE.name)
    statuses = [m.status for _ in range(2) for m in made.evaluate([request])]
    made.close()
    assert statuses == [Status.NOISY] * 2
    assert len(built) == 1


class Listening:
    """A profiler that keeps what it is given and says that each call took 4 ms."""

    def __init__(self, batch_bytes: int = 0) -> None:
        self.given: list[Deployment] = []
        self._batch_bytes = batch_bytes

    def batch_bytes(self) -> int:
        return self._batch_bytes

    def environment(self) -> Mapping[str, Any]:
        return {}

    def measure(
        self, deployments: Iterable[Deployment], *, longer: bool = False
    ) -> Iterator[LatencyMeasurement | LatencyFailure]:
        self.given += deployments
        none = np.empty(0)
        for _ in deployments:
            yield LatencyMeasurement(
                4.0, 0.01, 4.0, None, None, 6, 1.0, 1.0, 0.1, 0.1, 0.0, 0.0, False, "p", {}, none, none, (),
            )  # fmt: skip

    def close(self) -> None:
        pass


def test_each_example_of_a_profile_is_a_call_and_the_throughput_is_that_of_one(supernet: Supernet) -> None:
    data = load_data("digits", validation=0.25, test=0.25, seed=0)
    part, profiler = data.validation, Listening()
    examples = (part.inputs[:16].numpy(), part.inputs[16:32].numpy())
    scoring = InlineScoring(supernet, head(data.train, 200), part)
    timed = {("p", "onnxruntime"): TimedProfile(profiler, examples)}
    evaluator = MeasuringEvaluator(scoring, supernet.cost, timed, weights="w", data=part.digest)
    (found,) = evaluator.evaluate([Request(supernet.space.smallest, "throughput", "p")])
    (deployment,) = profiler.given
    for call, example in zip(deployment.graphs[0].inputs, examples, strict=True):
        np.testing.assert_array_equal(call["input"], example)
    assert found.value == 1000 * 16 / 4


def test_no_more_large_models_are_in_memory_than_share_a_session(
    supernet: Supernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.jobs.evaluation.measuring_evaluator.MAX_BATCH_BYTES", 0)
    data = load_data("digits", validation=0.25, test=0.25, seed=0)
    part, space = data.validation, supernet.space
    smallest, largest = (4 * supernet.cost(network).parameters for network in (space.smallest, space.largest))
    profiler = Listening(batch_bytes=largest + smallest)
    scoring = CountedScoring(InlineScoring(supernet, head(data.train, 200), part))
    timed = {("p", "onnxruntime"): TimedProfile(profiler, (part.inputs[:1].numpy(),))}
    evaluator = MeasuringEvaluator(scoring, supernet.cost, timed, weights="w", data=part.digest)
    networks = [space.smallest, space.largest, space.sample(np.random.default_rng(1))]
    requests = [Request(network, metric, "p") for network in networks for metric in ("latency_ms", "accuracy")]
    progress = [(len(scoring.tasks), len(profiler.given)) for _ in evaluator.evaluate(requests)]
    assert progress == [(2, 0), (2, 0), (2, 2), (2, 2), (3, 2), (3, 3)]
