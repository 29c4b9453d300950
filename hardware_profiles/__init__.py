"""Latency of ONNX models, measured in a pinned worker process: on this machine, over ssh, or on a node of a Ray cluster.

from hardware_profiles import compare_latency, measure_latency

measured = measure_latency("model.onnx", profile="cpu-1-thread")
print(f"{measured.latency_ms:.4f} ms, differences below {measured.resolution:.1%} are ties")
print(compare_latency(["model.onnx", "larger.onnx"]))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardware_profiles.base import (
        Deployment,
        Graph,
        HardwareProfile,
        LatencyFailure,
        LatencyMeasurement,
        LatencyProfiler,
    )
    from hardware_profiles.catalog import known_profiles, load_profile
    from hardware_profiles.comparison import LatencyComparison, compare_latency
    from hardware_profiles.errors import ProfilingError
    from hardware_profiles.model_file import measure_latency
    from hardware_profiles.profiler_factory import open_profiler

_HOMES = {
    name: module
    for module, names in {
        "base": "Deployment Graph HardwareProfile LatencyFailure LatencyMeasurement LatencyProfiler",
        "catalog": "known_profiles load_profile",
        "comparison": "LatencyComparison compare_latency",
        "errors": "ProfilingError",
        "model_file": "measure_latency",
        "profiler_factory": "open_profiler",
    }.items()
    for name in names.split()
}
"""The module of each public name."""

__all__ = [
    "Deployment",
    "Graph",
    "HardwareProfile",
    "LatencyComparison",
    "LatencyFailure",
    "LatencyMeasurement",
    "LatencyProfiler",
    "ProfilingError",
    "compare_latency",
    "known_profiles",
    "load_profile",
    "measure_latency",
    "open_profiler",
]


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: a profile is checked without ONNX."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hardware_profiles' has no attribute {name!r}")
    return getattr(import_module(f"hardware_profiles.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
