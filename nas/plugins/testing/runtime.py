"""The contract of runtimes: a class to subclass as `Test...` with a `make`."""

from __future__ import annotations

import subprocess
import sys
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.runtime import run_calls, run_model
from hardware_profiles.runtimes.base import Runtime
from hardware_profiles.runtimes.lookup import find_runtime, source_of
from nas.plugins import Kind, check, of_object
from nas.plugins.testing.onnx_networks import conv_net

IMAGES = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)
_ALONE = """\
import sys
source, package = open(sys.argv[1]).read(), sys.argv[3]
found = {}
exec(compile(source, sys.argv[1], "exec"), found)
found[sys.argv[2]]()
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(loaded & {package, "nas", "hardware_profiles", "supernets", "onnx", "torch"}))
"""


class RuntimeContract:
    """Inherit and give `make`; the class must be importable by its module's name."""

    tolerance: ClassVar[float] = 1e-4
    """Largest difference from ONNX Runtime's outputs, over their deviation."""

    @staticmethod
    @abstractmethod
    def make() -> Runtime:
        """The runtime."""

    @property
    def name(self) -> str:
        """``module:Class``, as a profile or a job names it."""
        runtime_class = type(self.make())
        return f"{runtime_class.__module__}:{runtime_class.__qualname__}"

    def test_it_has_the_parts_of_a_runtime(self) -> None:
        runtime = self.make()
        check(of_object(Kind.RUNTIMES, type(runtime)), type(runtime), Runtime)
        assert type(find_runtime(self.name)) is type(runtime)
        assert runtime.device in runtime.devices()
        assert "fp32" in runtime.precisions[runtime.device]
        assert runtime.label
        assert runtime.version()

    def test_the_source_of_its_module_stands_alone(self) -> None:
        """It is sent to the measuring process, and imports the runtime's package when that is used."""
        file, _, name = source_of(self.name).rpartition(":")
        command = [sys.executable, "-P", "-c", _ALONE, file, name, self.make().package]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(file).parent)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == []

    def test_outputs_are_those_of_onnx_runtime(self) -> None:
        (expected,) = run_model(conv_net(), {"x": IMAGES})
        calls = [{"x": IMAGES[:1]}, {"x": IMAGES[1:2]}]
        apart = [outputs for (outputs,) in run_calls(conv_net(), calls, runtime=self.name)]
        (together,) = run_model(conv_net(), {"x": IMAGES}, runtime=self.name)
        assert together.shape == expected.shape
        for outputs, wanted in ((together, expected), (np.concatenate(apart), expected[:2])):
            assert float(np.abs(outputs - wanted).max() / expected.std()) <= self.tolerance

    def test_it_is_measured_and_a_model_that_it_does_not_read_fails_alone(self) -> None:
        profile = HardwareProfile("contract", runtime=self.name, provider=self.make().device)
        with open_profiler(profile) as profiler:
            large, small = (Deployment.single(conv_net(*size), {"x": IMAGES[:1]}) for size in ((64, 6), (8, 1)))
            junk = Deployment.single(b"no model", {"x": IMAGES[:1]})
            first, failed, last = profiler.measure([large, junk, small])
        assert isinstance(first, LatencyMeasurement), first
        assert isinstance(last, LatencyMeasurement), last
        assert last.latency_ms < first.latency_ms  # some 300 times fewer multiplications
        assert min(last.session_ms, first.session_ms) > 0
        assert isinstance(failed, LatencyFailure)
        assert failed.message
        assert last.environment[self.make().package] == self.make().version()
