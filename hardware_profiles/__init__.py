"""Latency of ONNX models, measured in a pinned worker process: on this machine, over ssh, or on a node of a Ray cluster.

from hardware_profiles import compare_latency, measure_latency

measured = measure_latency("model.onnx", profile="cpu-1-thread")
print(f"{measured.latency_ms:.4f} ms, differences below {measured.resolution:.1%} are ties")
print(compare_latency(["model.onnx", "larger.onnx"]))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardware_profiles.base import Deployment as Deployment
    from hardware_profiles.base import Graph as Graph
    from hardware_profiles.base import HardwareProfile as HardwareProfile
    from hardware_profiles.base import LatencyFailure as LatencyFailure
    from hardware_profiles.base import LatencyMeasurement as LatencyMeasurement
    from hardware_profiles.base import LatencyProfiler as LatencyProfiler
    from hardware_profiles.catalog import known_profiles as known_profiles
    from hardware_profiles.catalog import load_profile as load_profile
    from hardware_profiles.comparison import LatencyComparison as LatencyComparison
    from hardware_profiles.comparison import compare_latency as compare_latency
    from hardware_profiles.errors import ProfilingError as ProfilingError
    from hardware_profiles.model_file import measure_latency as measure_latency
    from hardware_profiles.profiler_factory import open_profiler as open_profiler

_HOMES = {
    "Deployment": "base",
    "Graph": "base",
    "HardwareProfile": "base",
    "LatencyComparison": "comparison",
    "LatencyFailure": "base",
    "LatencyMeasurement": "base",
    "LatencyProfiler": "base",
    "ProfilingError": "errors",
    "compare_latency": "comparison",
    "known_profiles": "catalog",
    "load_profile": "catalog",
    "measure_latency": "model_file",
    "open_profiler": "profiler_factory",
}
"""The module of each public name."""

__all__ = [
    "Deployment", "Graph", "HardwareProfile", "LatencyComparison", "LatencyFailure", "LatencyMeasurement", "LatencyProfiler",
    "ProfilingError", "compare_latency", "known_profiles", "load_profile", "measure_latency", "open_profiler",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: a profile is checked without ONNX."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hardware_profiles' has no attribute {name!r}")
    return getattr(import_module(f"hardware_profiles.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
