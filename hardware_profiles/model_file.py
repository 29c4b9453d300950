"""Measures any ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.errors import ModelError, PrecisionError
from hardware_profiles.model_inputs import make_inputs
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.quantize import check_precision, convert

SEED = 0
_MAX_BYTES = 2**31 - 1
"""What one protobuf message can hold."""


def profile_model(
    path: Path,
    profile: HardwareProfile,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    precision: str = "fp32",
    longer: bool = True,
    on_wait: Callable[[str], None] | None = None,
) -> LatencyMeasurement:
    """The latency of an ONNX file on a profile, per batch.

    Args:
        shapes: of inputs whose dynamic dimensions are to be given, whole and with the batch.
        precision: fp32 measures the model as it is; others convert it first, int8 calibrated on the made-up inputs, which
            is enough for its latency and says nothing of its accuracy.
        longer: more rounds, as for final figures.
        on_wait: told in a sentence when another measurement must be waited for.

    Raises:
        ModelError: the file is missing, is no ONNX model, does not take the profile's batch, does not run, or the
            machine is too noisy for a figure.
        PrecisionError: the model cannot be had in the precision, or the provider does not run it.
        ProfileError: the profile's machine does not have what it asks for, or is not there.
        WorkerError: the measuring process cannot be kept alive.
    """
    check_precision(precision, profile.provider)
    model = _read(path)
    inputs = make_inputs(model, profile, np.random.default_rng(SEED), shapes=shapes or {}, source=str(path))
    try:
        serialised = model.SerializeToString()
    except ValueError as error:  # protobuf's word for more than 2 GB
        raise ModelError(f"{path}: the model with its weights is larger than {_MAX_BYTES} bytes: {error}") from None
    if precision != "fp32":
        try:
            serialised = convert(serialised, precision, [inputs])
        except PrecisionError as error:
            raise PrecisionError(f"{path}: {error}") from None
    with open_profiler(profile, seed=SEED, on_wait=on_wait) as profiler:
        (result,) = profiler.measure([Deployment.single(serialised, inputs)], longer=longer)
    if isinstance(result, LatencyFailure):
        raise ModelError(f"{path}: {result.message}")
    return result


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes by input's name, of texts such as ``input=1x3x224x224``; a name may hold "=".

    Raises:
        ModelError: a text is not of this form, or two name one input.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        parts = sizes.split("x")
        if not name or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
            raise ModelError(f"expected a shape as NAME=1x3x224x224, with sizes from 1, got {text!r}")
        if name in shapes:
            raise ModelError(f"the shape of input {name!r} is given twice")
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def summary(profile: HardwareProfile, measurement: LatencyMeasurement) -> dict[str, Any]:
    """What ``nas profile --json`` prints; JSON-able."""
    return {
        "profile": profile.name,
        "latency_ms": measurement.latency_ms,
        "resolution": measurement.resolution,
        "p50_ms": measurement.p50_ms,
        "p90_ms": measurement.p90_ms,
        "p99_ms": measurement.p99_ms,
        "samples": measurement.samples,
        "throughput_per_s": 1e3 * profile.batch_size / measurement.latency_ms,
        "session_ms": measurement.session_ms,
        "session_error_ms": measurement.session_error_ms,
        "peak_mib": measurement.peak_mib,
        "peak_error_mib": measurement.peak_error_mib,
        "discarded_rounds": measurement.discarded_rounds,
        "drift": measurement.drift,
        "preempted_share": measurement.preempted_share,
        "noisy": measurement.noisy,
        "protocol": measurement.protocol,
        "environment": dict(measurement.environment),
    }


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
    except DecodeError:
        raise ModelError(f"{path}: this is no ONNX model (it cannot be decoded)") from None
    except (OSError, ValueError, onnx.checker.ValidationError) as error:  # the latter two: a file of external weights
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise ModelError(f"{path}: the model cannot be read: {why}") from None
    # Protobuf decodes an empty file, and some that hold anything, to a message without content.
    if not model.ir_version or not model.graph.node:
        raise ModelError(f"{path}: this is no ONNX model (it holds no graph)")
    return model
