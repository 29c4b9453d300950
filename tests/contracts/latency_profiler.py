"""The contract of latency profilers; subclass it, name the subclass `Test...` and implement `make`."""

from __future__ import annotations

import json

import numpy as np

from hardware_profiles.base import Deployment, LatencyFailure, LatencyMeasurement, LatencyProfiler
from hardware_profiles.environment import differences
from nas.plugins.testing.onnx_networks import conv_net
from tests.onnx_networks import sentence_net

IMAGE = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
SMALL, LARGE = (Deployment.single(conv_net(*size), {"x": IMAGE}) for size in ((8, 1), (64, 6)))


class LatencyProfilerContract:
    def make(self) -> LatencyProfiler:
        """A profiler with one thread and batch 1 on this machine."""
        raise NotImplementedError

    def test_results_are_in_order_and_a_model_that_does_not_run_fails_alone(self) -> None:
        profiler = self.make()
        try:
            asked = [
                LARGE,
                Deployment.single(b"junk", {"x": IMAGE}),
                Deployment.single(conv_net(), {"x": IMAGE[:, :2]}),
                SMALL,
            ]
            large, junk, wrong_input, small = profiler.measure(asked)
            assert list(profiler.measure([])) == []
        finally:
            profiler.close()
        assert isinstance(large, LatencyMeasurement), large
        assert isinstance(small, LatencyMeasurement), small
        assert 0 < small.latency_ms < large.latency_ms / 5  # some 300 x the multiplications
        assert isinstance(junk, LatencyFailure)
        assert "protobuf" in junk.message.lower()
        assert isinstance(wrong_input, LatencyFailure)
        assert "x" in wrong_input.message
        # Every record has its environment, failures included.
        assert (
            junk.environment["pinned_cpus"]
            == wrong_input.environment["pinned_cpus"]
            == small.environment["pinned_cpus"]
        )

    def test_a_deployment_is_timed_over_all_of_its_inputs_and_a_failure_names_one(self) -> None:
        short, long = ({"ids": np.arange(length)[None] % 10} for length in (4, 256))
        unknown = {"ids": np.array([[3, 10]])}  # the table has ten words
        profiler = self.make()
        try:
            net = sentence_net()
            asked = [Deployment.single(net, *x) for x in ((short,), (short, long), (long,), (short, unknown))]
            first, both, last, failed = profiler.measure(asked)
        finally:
            profiler.close()
        assert isinstance(first, LatencyMeasurement), first
        assert isinstance(both, LatencyMeasurement), both
        assert isinstance(last, LatencyMeasurement), last
        assert [found.environment["graphs"][0]["inputs"] for found in (first, both, last)] == [1, 2, 1]
        # some 4,000 x the multiplications, so that both together take half of the last
        assert first.latency_ms < both.latency_ms < last.latency_ms
        assert both.raw_ms.shape == both.raw_cpu_ms.shape == (sum(both.round_lengths),)
        assert isinstance(failed, LatencyFailure)
        assert failed.message.startswith("input 2 of 2: ")

    def test_the_environment_is_known_before_measuring_and_part_of_every_record(self) -> None:
        profiler = self.make()
        try:
            environment = profiler.environment()
            (found,) = profiler.measure([SMALL])
        finally:
            profiler.close()
            profiler.close()
        assert isinstance(found, LatencyMeasurement), found
        assert (environment["threads"], environment["provider"]) == (1, "CPUExecutionProvider")
        assert set(environment) <= set(found.environment)
        assert differences(environment, found.environment) == []
        assert json.loads(json.dumps(found.environment)) == found.environment

    def test_it_measures_again_after_closing(self) -> None:
        profiler = self.make()
        try:
            (first,) = profiler.measure([SMALL])
            profiler.close()
            (second,) = profiler.measure([SMALL])
        finally:
            profiler.close()
        assert isinstance(first, LatencyMeasurement), first
        assert isinstance(second, LatencyMeasurement), second
