"""A model in another precision, and which provider runs which: `precision` is a variant of a deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from numpy.typing import NDArray

from hardware_profiles.errors import PrecisionError
from hardware_profiles.precisions.half import to_half
from hardware_profiles.precisions.int8 import quantize

PRECISIONS = ("fp32", "int8", "fp16", "bf16")
_RUNS: Mapping[str, tuple[str, ...]] = {
    "CPUExecutionProvider": ("fp32", "int8"),
    "CUDAExecutionProvider": ("fp32", "fp16", "bf16"),
    "TensorrtExecutionProvider": ("fp32", "fp16", "bf16"),
}
"""What each provider computes in. Others of ONNX Runtime's run a model, but through casts, in float32 or on the CPU."""
_WHY_NOT = {
    ("CPUExecutionProvider", "fp16"): "ONNX Runtime casts it to fp32 on a CPU",
    ("CPUExecutionProvider", "bf16"): "ONNX Runtime has no bf16 kernels for a CPU",
    ("CUDAExecutionProvider", "int8"): "ONNX Runtime's CUDA kernels compute int8 models in fp32",
    (
        "TensorrtExecutionProvider",
        "int8",
    ): "activations are quantized to uint8 here, as CPUs want, and TensorRT takes int8",
}


def check_precision(precision: str, provider: str) -> None:
    """Returns if a provider computes in a precision.

    Raises:
        PrecisionError: the precision is unknown, or the provider does not have it.
    """
    _check_known(precision)
    runs = _RUNS.get(provider, ("fp32",))
    if precision not in runs:
        why = _WHY_NOT.get((provider, precision), "nobody has shown yet that it does")
        others = [name for name, known in _RUNS.items() if precision in known]
        raise PrecisionError(
            f"{provider} does not run {precision} ({why}); it runs {', '.join(runs)}: take one of these, or a profile "
            f"whose provider has {precision} ({', '.join(others)})"
        )


def convert(model: bytes, precision: str, calibration: Sequence[Mapping[str, NDArray[Any]]]) -> bytes:
    """The model in a precision; its inputs, outputs and dynamic batch stay as they are, float32 among them.

    ``fp32`` gives the model back, ``int8`` quantizes it (see `int8.quantize`), ``fp16`` and ``bf16`` convert weights and
    activations (see `precision.to_half`). The same arguments give the same bytes.

    Args:
        model: serialised ONNX in float32.
        calibration: real inputs by name, a mapping a batch; read for ``int8`` alone.

    Raises:
        PrecisionError: the precision is unknown, the model cannot be had in it, or the calibration does not fit it.
    """
    _check_known(precision)
    match precision:
        case "fp32":
            return model
        case "int8":
            return quantize(model, calibration)
        case _:
            return to_half(model, precision)


def _check_known(precision: str) -> None:
    if precision not in PRECISIONS:
        near = get_close_matches(precision, PRECISIONS, n=1, cutoff=0.3)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise PrecisionError(f"unknown precision {precision!r}{hint}; expected one of: {', '.join(PRECISIONS)}")
