"""Converts a model to another precision, and checks which execution provider runs which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from hardware_profiles.base import WEIGHT_PRECISIONS
from hardware_profiles.errors import PrecisionError, suggestion
from hardware_profiles.precisions.block_weights import quantize_weights
from hardware_profiles.precisions.half import to_half
from hardware_profiles.precisions.int8 import quantize
from hardware_profiles.runtimes.lookup import find_runtime

PRECISIONS = ("fp32", "int8", "int4", "fp16", "bf16")


def check_precision(precision: str, provider: str, runtime: str = "onnxruntime") -> None:
    """Returns if a provider, or a device of another runtime, computes in a precision.

    Raises:
        PrecisionError: the precision is unknown, or the provider does not support it.
        ProfileError: there is no such runtime.
    """
    _check_known(precision)
    backend = find_runtime(runtime)
    runs = backend.precisions.get(provider, ("fp32",))
    if precision not in runs:
        why = backend.reasons.get((provider, precision), "its support is not verified")
        other_providers = [name for name, supported in backend.precisions.items() if precision in supported]
        alternative = f", or a profile with another provider: {', '.join(other_providers)}" if other_providers else ""
        message = f"{provider} does not run {precision} ({why}); choose {', '.join(runs)}{alternative}"
        raise PrecisionError(message, code="precision.unsupported-by-provider")


def convert(model: bytes, precision: str, calibration: Sequence[Mapping[str, NDArray[Any]]]) -> bytes:
    """The model in a precision, with the same inputs, outputs and dynamic batch; float32 inputs and outputs stay float32.

    ``fp32`` returns the model, ``int8`` quantizes weights and activations (`int8.quantize`), ``int4`` weights alone
    (`block_weights.quantize_weights`), ``fp16`` and ``bf16`` convert weights and activations (`half.to_half`). The same
    arguments give the same bytes.

    Args:
        calibration: batches of real inputs by name; read for ``int8`` alone.

    Raises:
        PrecisionError: the precision is unknown, the model cannot be converted, or the calibration does not fit the model.
    """
    _check_known(precision)
    match precision:
        case "fp32":
            return model
        case "int8":
            return quantize(model, calibration)
        case "int4":
            return quantize_weights(model, precision)
        case _:
            return to_half(model, precision)


def convert_weights(model: bytes, precision: str) -> bytes:
    """The model with its weights in one of `WEIGHT_PRECISIONS`, without calibration; see `block_weights.quantize_weights`.

    Raises:
        PrecisionError: it is another precision, or the model cannot be converted.
    """
    _check_known(precision)
    if precision not in WEIGHT_PRECISIONS:
        message = (
            f"weights alone are in {', '.join(WEIGHT_PRECISIONS)}, and the precision is {precision}; choose one of them"
        )
        raise PrecisionError(message, code="precision.unsupported-operation")
    return model if precision == "fp32" else quantize_weights(model, precision)


def _check_known(precision: str) -> None:
    if precision not in PRECISIONS:
        expected = f"{suggestion(precision, PRECISIONS)}; expected one of {', '.join(PRECISIONS)}"
        raise PrecisionError(f"unknown precision {precision!r}{expected}", code="precision.unknown")
