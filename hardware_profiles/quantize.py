"""Converts a model to another precision, and checks which execution provider runs which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from hardware_profiles.errors import PrecisionError, suggestion
from hardware_profiles.precisions.half import to_half
from hardware_profiles.precisions.int8 import quantize
from hardware_profiles.runtimes.registry import find_runtime

PRECISIONS = ("fp32", "int8", "fp16", "bf16")


def check_precision(precision: str, provider: str, runtime: str = "onnxruntime") -> None:
    """Returns if a provider, or a device of another runtime, computes in a precision.

    Raises:
        PrecisionError: the precision is unknown, or the provider does not support it.
        ProfileError: there is no such runtime.
    """
    _check_known(precision)
    found = find_runtime(runtime)
    runs = found.precisions.get(provider, ("fp32",))
    if precision not in runs:
        why = found.reasons.get((provider, precision), "its support is not verified")
        others = [name for name, known in found.precisions.items() if precision in known]
        other = f", or a profile with another provider: {', '.join(others)}" if others else ""
        message = f"{provider} does not run {precision} ({why}); choose {', '.join(runs)}{other}"
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
