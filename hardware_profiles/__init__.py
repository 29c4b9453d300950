"""Latency of ONNX models, measured in a pinned worker process: on this machine, over ssh, or on a node of a Ray cluster.

from hardware_profiles import compare_latency, measure_latency

measured = measure_latency("model.onnx", profile="cpu-1-thread")
print(f"{measured.latency_ms:.4f} ms, differences below {measured.resolution:.1%} are ties")
print(compare_latency(["model.onnx", "larger.onnx"]))
"""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: a profile is checked without ONNX.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
