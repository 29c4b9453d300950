"""Converts a model to another precision, and checks which execution provider runs which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from hardware_profiles.errors import PrecisionError, suggestion
from hardware_profiles.precisions.half import to_half
from hardware_profiles.precisions.int8 import quantize

PRECISIONS = ("fp32", "int8", "fp16", "bf16")
_RUNS: Mapping[str, tuple[str, ...]] = {
    "CPUExecutionProvider": ("fp32", "int8"),
    "CPU": ("fp32", "int8"),  # OpenVINO's
    "CUDAExecutionProvider": ("fp32", "fp16", "bf16"),
    "TensorrtExecutionProvider": ("fp32", "fp16", "bf16"),
}
"""Precisions in which each provider computes. Others of ONNX Runtime's are not listed: they cast to float32 or use the CPU."""
_WHY_NOT = {
    ("CPUExecutionProvider", "fp16"): "ONNX Runtime casts it to fp32 on a CPU",
    ("CPUExecutionProvider", "bf16"): "ONNX Runtime has no bf16 kernels for a CPU",
    ("CPU", "fp16"): "it is measured in fp32 arithmetic in OpenVINO on a CPU",
    ("CPU", "bf16"): "it is measured in fp32 arithmetic in OpenVINO on a CPU",
    ("CUDAExecutionProvider", "int8"): "ONNX Runtime's CUDA kernels compute int8 models in fp32",
    ("TensorrtExecutionProvider", "int8"): "TensorRT needs int8 activations, and this package quantizes them to uint8",
}


def check_precision(precision: str, provider: str) -> None:
    """Returns if a provider computes in a precision.

    Raises:
        PrecisionError: the precision is unknown, or the provider does not support it.
    """
    _check_known(precision)
    runs = _RUNS.get(provider, ("fp32",))
    if precision not in runs:
        why = _WHY_NOT.get((provider, precision), "its support is not verified")
        others = [name for name, known in _RUNS.items() if precision in known]
        advice = f"choose {', '.join(runs)}, or a profile with another provider: {', '.join(others)}"
        message = f"{provider} does not run {precision} ({why}); {advice}"
        raise PrecisionError(message, code="precision.unsupported-by-provider")


def convert(model: bytes, precision: str, calibration: Sequence[Mapping[str, NDArray[Any]]]) -> bytes:
    """The model in a precision, with the same inputs, outputs and dynamic batch; float32 inputs and outputs stay float32.

    ``fp32`` returns the model, ``int8`` quantizes it (`int8.quantize`), ``fp16`` and ``bf16`` convert weights and
    activations (`half.to_half`). The same arguments give the same bytes.

    Args:
        calibration: batches of real inputs by name; read for ``int8`` alone.

    Raises:
        PrecisionError: the precision is unknown, the model cannot be converted, or the calibration does not fit the model.
    """
    _check_known(precision)
    if precision == "fp32":
        return model
    return quantize(model, calibration) if precision == "int8" else to_half(model, precision)


def _check_known(precision: str) -> None:
    if precision not in PRECISIONS:
        expected = f"{suggestion(precision, PRECISIONS)}; expected one of {', '.join(PRECISIONS)}"
        raise PrecisionError(f"unknown precision {precision!r}{expected}", code="precision.unknown")
