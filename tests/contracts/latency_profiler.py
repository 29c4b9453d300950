"""What every latency profiler must do, wherever it measures; subclass it, name the subclass `Test...` and give `make`."""

from __future__ import annotations

import json

import numpy as np

from hardware_profiles.base import Deployment, LatencyFailure, LatencyMeasurement, LatencyProfiler
from hardware_profiles.environment import differences
from tests.hardware_profiles.networks import conv_net

IMAGE = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
SMALL, LARGE = (Deployment.single(conv_net(*size), {"x": IMAGE}) for size in ((8, 1), (64, 6)))


class LatencyProfilerContract:
    def make(self) -> LatencyProfiler:
        """A profiler of one thread and batch 1 on the machine at hand."""
        raise NotImplementedError

    def test_results_come_in_order_and_a_model_that_does_not_run_fails_alone(self) -> None:
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

    def test_the_environment_is_told_before_anything_is_measured_and_stands_in_every_record(self) -> None:
        profiler = self.make()
        try:
            told = profiler.environment()
            (found,) = profiler.measure([SMALL])
        finally:
            profiler.close()
            profiler.close()
        assert isinstance(found, LatencyMeasurement), found
        assert (told["threads"], told["provider"]) == (1, "CPUExecutionProvider")
        assert set(told) <= set(found.environment)
        assert differences(told, found.environment) == []
        assert json.loads(json.dumps(found.environment)) == found.environment

    def test_after_closing_it_measures_again(self) -> None:
        profiler = self.make()
        try:
            (first,) = profiler.measure([SMALL])
            profiler.close()
            (second,) = profiler.measure([SMALL])
        finally:
            profiler.close()
        assert isinstance(first, LatencyMeasurement), first
        assert isinstance(second, LatencyMeasurement), second
