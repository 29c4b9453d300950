"""Measures the latency of ONNX files: of one, or of several in the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure, LatencyMeasurement
from hardware_profiles.catalog import load_profile
from hardware_profiles.errors import ModelError, PrecisionError
from hardware_profiles.files import check_regular
from hardware_profiles.measuring.profiler import MAX_BATCH, batches_of
from hardware_profiles.model_inputs import make_inputs
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.quantize import check_precision, convert

SEED = 0
_MAX_BYTES = 2**31 - 1
"""The size limit of a protobuf message."""
_SUMMARY = (
    "profile",
    "latency_ms",
    "resolution",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "samples",
    "throughput_per_s",
    "session_ms",
    "session_error_ms",
    "peak_mib",
    "peak_error_mib",
    "energy_mj",
    "energy_error_mj",
    "drift",
    "preempted_share",
    "noisy",
    "protocol",
    "environment",
)


def measure_latency(
    model: Path | str,
    profile: HardwareProfile | str = "cpu-1-thread",
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    precision: str = "fp32",
    longer: bool = True,
    energy: bool = False,
    on_wait: Callable[[str], None] | None = None,
) -> LatencyMeasurement:
    """The latency of an ONNX file on a profile, per batch.

        measure_latency("model.onnx").latency_ms

    Args:
        model: the path of the file; its inputs are random.
        profile: or the name of one of the catalog, or the path of a profile file.
        shapes: complete shapes, batch included, of inputs with dynamic dimensions.
        precision: fp32 measures the model unchanged; others convert it first. int8 is calibrated on random inputs, which
            is enough for its latency but not for its accuracy.
        longer: more rounds, for final measurements.
        energy: measure its energy as well, which must be possible on the machine.
        on_wait: receives a message when another measurement holds the host.

    Raises:
        ModelError: the file is missing, is no ONNX model, does not fit the batch, does not run, or is too uncertain.
        PrecisionError: the model cannot be converted to the precision, or the provider does not run it.
        ProfileError, WorkerError: the profile cannot be measured.
    """
    (measured,) = measure_together(
        [model], profile, shapes=shapes, precision=precision, longer=longer, energy=energy, on_wait=on_wait
    )
    return measured


def measure_together(
    models: Sequence[Path | str],
    profile: HardwareProfile | str,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    precision: str = "fp32",
    longer: bool = True,
    energy: bool = False,
    on_wait: Callable[[str], None] | None = None,
) -> list[LatencyMeasurement]:
    """The latencies of ONNX files, in order, measured in turns in the same rounds.

    Arguments and errors as `measure_latency`; `ModelError`, too, for more models than share their rounds.
    """
    chosen = load_profile(profile) if isinstance(profile, str) else profile
    check_precision(precision, chosen.provider, chosen.runtime)
    paths = [Path(model) for model in models]
    deployments = [_deployment(path, chosen, shapes or {}, precision) for path in paths]
    with open_profiler(chosen, seed=SEED, await_first=chosen.browser, on_wait=on_wait, energy=energy) as profiler:
        if len(list(batches_of(deployments, profiler.batch_bytes))) > 1:
            raise ModelError(
                f"{len(paths)} models are too many, or together too large, to be measured in the same rounds; expected at "
                f"most {MAX_BATCH}, of {profiler.batch_bytes() / 2**20:,.0f} MiB",
                code="model.not-comparable",
            )
        results = list(profiler.measure(deployments, longer=longer))
    measurements = []
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, LatencyFailure):
            raise ModelError(f"{path}: {result.message}", code="model.not-measured")
        if result.energy_failure:
            raise ModelError(
                f"{path}: its energy cannot be measured: {result.energy_failure}", code="model.not-measured"
            )
        measurements.append(result)
    return measurements


def _deployment(
    path: Path, profile: HardwareProfile, shapes: Mapping[str, Sequence[int]], precision: str
) -> Deployment:
    """The model of a file in a precision, with random inputs."""
    model = _read(path)
    inputs = make_inputs(model, profile, np.random.default_rng(SEED), shapes=shapes, source=str(path))
    try:
        serialised = model.SerializeToString()
    except ValueError as error:  # protobuf raises it above 2 GB
        message = f"{path}: the model with its weights is larger than {_MAX_BYTES} bytes: {error}"
        raise ModelError(message, code="model.too-large") from None
    try:
        serialised = convert(serialised, precision, [inputs])
    except PrecisionError as error:
        raise PrecisionError(f"{path}: {error}", code=error.code) from None
    return Deployment.single(serialised, inputs)


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes by input name, from texts such as ``input=1x3x224x224``; a name may contain "=".

    Raises:
        ModelError: a text does not have this form, or an input is repeated.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        parts = sizes.split("x")
        if not name or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
            message = f"expected a shape as NAME=1x3x224x224, with sizes from 1, got {text!r}"
            raise ModelError(message, code="model.shape-malformed")
        if name in shapes:
            raise ModelError(f"the shape of input {name!r} is repeated; give it once", code="model.shape-malformed")
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def summary(profile: HardwareProfile, measurement: LatencyMeasurement) -> dict[str, Any]:
    """The output of ``nas profile --json``; JSON-able."""
    computed = {
        "profile": profile.name,
        "throughput_per_s": 1e3 * profile.batch_size / measurement.latency_ms,
        "environment": dict(measurement.environment),
    }
    return {key: computed[key] if key in computed else getattr(measurement, key) for key in _SUMMARY}


def _read(path: Path) -> onnx.ModelProto:
    try:
        check_regular(path)
        model = onnx.load(path)
    except DecodeError:
        raise ModelError(f"{path}: not an ONNX model: it cannot be decoded") from None
    except (OSError, ValueError, onnx.checker.ValidationError) as error:  # the latter two: a file of external weights
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise ModelError(f"{path}: cannot read the model: {why}", code="model.unreadable") from None
    # Protobuf decodes an empty file, and some others, to a message without content.
    if not model.ir_version or not model.graph.node:
        raise ModelError(f"{path}: not an ONNX model: it has no graph")
    return model
