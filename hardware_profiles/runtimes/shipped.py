"""The runtimes of this project by name; a further one is a class beside it and a line here (it imports nothing)."""

from collections.abc import Mapping

RUNTIMES: Mapping[str, str] = {
    "onnxruntime": "hardware_profiles.runtimes.onnx_runtime:OnnxRuntime",
    "openvino": "hardware_profiles.runtimes.openvino_runtime:OpenVino",
}
"""The class of each runtime, ``module:Class``."""
