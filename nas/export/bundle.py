"""Exports one subnet: ONNX checked against torch on real inputs, its weights, and a manifest that names all of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.torch import save as serialise_tensors
from torch import nn

from hardware_profiles.runtime import run_model
from nas.analysis.points import Point
from nas.errors import ExportFailedError
from nas.evaluation.scoring import in_precision, logits_of
from nas.export.manifest import FORMAT, files_of
from nas.problem.objectives import Fidelity, Measurement, Objective
from nas.problem.precision import Precisions
from nas.store.base import RunStore
from nas.store.folder import write_atomically
from supernets.checkpoint import Checkpoint
from supernets.data import DataSet, ImageFormat, Part, TextFormat, head
from supernets.onnx_export import INPUT, onnx_model
from supernets.recalibration import recalibrate

MAX_PARITY = 1e-4
"""Largest difference from torch that is accepted, over the standard deviation of torch's outputs."""
MIN_SAME = 0.99
"""Least share of the validation examples that an exported model answers as the one that was measured did. On one machine they
are the same file; another processor or another torch may move a logit by its last bits."""
_CHECKED_BATCHES = (1, 8)
_COMPARED = 1000
_PACKAGES = ("subnet-nas", "torch", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a network's figures come from.

    Attributes:
        run: the run's id.
        figures: what it has of every network.
        profiles: that it measured on.
        store: where the measurements are.
    """

    run: str
    figures: Sequence[Objective]
    profiles: Sequence[str]
    precisions: Precisions
    store: RunStore


def export_bundle(
    point: Point,
    path: Path,
    *,
    origin: Origin,
    checkpoint: Checkpoint,
    data: DataSet,
    calibration: Part,
    calibration_batch: int,
) -> dict[str, Any]:
    """Writes ``FILE.onnx``, ``FILE.safetensors`` and ``FILE.json`` (the manifest), once all checks passed.

    A network of sentences comes with the tokenizer that makes its input, ``FILE.tokenizer.json``.

    Args:
        point: what to export; its figures go into the file.
        path: of the ONNX file; must end in ``.onnx``.
        calibration: of the training part, for the batch-norm statistics: what the search used, in the same batches.

    Returns:
        ``path``, ``sha256``, ``parity`` (of the fp32 model with torch), ``precision``, ``agreement`` (the share of
        examples that the written model and the fp32 one classify alike), ``as_measured`` (the share of validation examples
        that the written model answers as rightly or wrongly as the one that the search scored; None where it scored none),
        ``values``, ``fidelity``, ``architecture`` and the paths of the other files.

    Raises:
        ExportFailedError: the path will not do, or the file does not compute what torch does, or what was measured.
        ExportError: torch's exporter refuses the network.
        PrecisionError: the network cannot be written in its precision.
    """
    check_path(path)
    network, precision = origin.precisions.split(point.architecture)
    batches = calibration.split(calibration_batch)
    module = recalibrate(checkpoint.supernet.extract(network), batches)
    index = np.resize(np.arange(len(data.validation)), max(_CHECKED_BATCHES))  # repeats them where there are too few
    inputs = data.validation.inputs[torch.from_numpy(index)].numpy()
    exact = onnx_model(module, batches[0][:2])
    parity = max(compare(module, exact, inputs[:n]) for n in _CHECKED_BATCHES)
    facts = {**_facts(point, origin, checkpoint, data), "precision": precision}
    model = _with_metadata(in_precision(exact, precision, batches), facts)
    onnx.checker.check_model(model, full_check=True)
    agreement = _agreement(exact, model, head(data.validation, _COMPARED))
    same = as_measured(model, data.validation, _scored(point, origin))
    weights = serialise_tensors({name: t.contiguous() for name, t in module.state_dict().items()})
    sha256 = hashlib.sha256(model).hexdigest()
    weights_path, manifest_path = path.with_suffix(".safetensors"), path.with_suffix(".json")
    files = {path: model, weights_path: weights}
    if isinstance(data.format, TextFormat):
        files[_tokenizer_path(path)] = data.format.tokenizer.encode()
    manifest = {
        "format": FORMAT,
        "version": 1,
        **facts,
        "parity": parity,
        "agreement": agreement,
        "as_measured": same,
        "files": {
            file.name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for file, content in files.items()
        },
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    # An earlier export's manifest goes first and the new one comes last: where one stands, the files it names stand too.
    manifest_path.unlink(missing_ok=True)
    for file, content in files.items():
        write_atomically(file, content)
    write_atomically(manifest_path, json.dumps(manifest, indent=2).encode())
    return {
        "path": str(path),
        "sha256": sha256,
        "parity": parity,
        "precision": precision,
        "agreement": agreement,
        "as_measured": same,
        "values": dict(point.values),
        "fidelity": str(point.fidelity),
        "architecture": dict(point.described),
        "key": point.key,
        "weights": str(weights_path),
        "manifest": str(manifest_path),
        **({"tokenizer": str(_tokenizer_path(path))} if _tokenizer_path(path) in files else {}),
    }


def _tokenizer_path(path: Path) -> Path:
    return path.with_suffix(".tokenizer.json")


def check_path(path: Path) -> None:
    """Raises where an export cannot be written to a path, or would replace what is of no export.

    Raises:
        ExportFailedError: it cannot, or would.
    """
    if path.suffix != ".onnx":
        raise ExportFailedError(f"{path}: the file to write must end in .onnx")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ExportFailedError(f"{path}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise ExportFailedError(f"{path}: the folder {folder} cannot be written")
    manifest = path.with_suffix(".json")
    exported = files_of(manifest)
    for file in (manifest, path, path.with_suffix(".safetensors"), _tokenizer_path(path)):
        if file.exists() and file.name not in exported:
            raise ExportFailedError(f"{file} exists and is of no earlier export; choose another name, or move it")


def compare(module: nn.Module, model: bytes, inputs: NDArray[Any]) -> float:
    """The largest absolute difference between ONNX Runtime's and torch's outputs, over the deviation of torch's.

    Raises:
        ExportFailedError: shapes differ, outputs do not depend on the input, or the difference is over `MAX_PARITY`.
        ModelError: the runtime refuses the model.
    """
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(inputs)).numpy()
    (came,) = run_model(model, {INPUT: inputs})
    if came.shape != expected.shape:
        raise ExportFailedError(f"the exported file gives outputs of shape {came.shape}, torch of {expected.shape}")
    # Outputs that hardly vary over the inputs would agree whatever the weights are.
    if len(inputs) > 1 and not np.any(expected.std(axis=0) > 1e-3 * expected.std()):
        raise ExportFailedError("the network gives the same outputs for every input, so agreement would prove nothing")
    parity = float(np.abs(came - expected).max() / expected.std())
    if not parity <= MAX_PARITY:
        raise ExportFailedError(
            f"the exported file differs from torch by {parity:.2g} of its outputs' deviation (at most {MAX_PARITY:g})"
        )
    return parity


def _agreement(one: bytes, two: bytes, part: Part) -> float:
    """The share of examples that two models classify alike."""
    decisions = [logits_of(model, part).argmax(axis=1) for model in (one, two)]
    return float(np.mean(decisions[0] == decisions[1]))


def _scored(point: Point, origin: Origin) -> Measurement | None:
    """The network's accuracy on the validation part, with its answers; None where none was taken."""
    accuracy = next((o for o in origin.figures if o.metric == "accuracy"), None)
    if accuracy is None:
        return None
    request = origin.precisions.request(point.architecture, accuracy)
    measured, answers = origin.store.find([request]).get(request), origin.store.samples(request)
    return None if measured is None or answers is None else replace(measured, samples=answers)


def as_measured(model: bytes, validation: Part, scored: Measurement | None) -> float | None:
    """The share of validation examples on which a model is as right or wrong as the one that was scored.

    Raises:
        ExportFailedError: it is less than `MIN_SAME`.
    """
    if scored is None or scored.samples is None:
        return None
    labels = validation.labels.numpy()
    right = np.unpackbits(np.frombuffer(scored.samples, dtype=np.uint8), count=len(labels)).astype(bool)
    decisions = logits_of(model, validation).argmax(axis=1)
    same = float(np.mean((decisions == labels) == right))
    if same < MIN_SAME and round((1 - same) * len(labels)) > 1:
        raise ExportFailedError(
            f"the exported model answers {1 - same:.1%} of the validation examples otherwise than the one that was measured "
            f"(at most {1 - MIN_SAME:.0%}), so the run's figures are not its own; export it where it was searched: "
            "the processor, " + ", ".join(f"{name} {scored.environment.get(name)}" for name in ("torch", "onnxruntime"))
        )
    return same


def _facts(point: Point, origin: Origin, checkpoint: Checkpoint, data: DataSet) -> dict[str, Any]:
    """Everything that the file should say of itself, JSON-able."""
    return {
        "run": origin.run,
        "key": point.key,
        "architecture": dict(point.described),
        "family": checkpoint.supernet.family.to_json(),
        "supernet_weights": checkpoint.weights_digest,
        "source": point.source,
        "figures": {"values": dict(point.values), "errors": dict(point.errors), "test": dict(point.test or {})},
        "measured_with": {o.name: _provenance(o, point, origin) for o in origin.figures},
        "profiles": list(origin.profiles),
        "input": {"name": INPUT, **_input(data.format)},
        "classes": list(data.class_names),
    }


def _input(format: ImageFormat | TextFormat) -> dict[str, Any]:
    """What a deployment must know to make the network's input."""
    match format:
        case ImageFormat():
            return {
                "shape": ["batch", format.channels, format.image_size, format.image_size],
                "dtype": "float32",
                "scale": "pixels in [0, 1], minus the mean, over the deviation, by channel",
                "mean": list(format.mean),
                "std": list(format.std),
            }
        case TextFormat():
            return {
                "shape": ["batch", "tokens"],
                "dtype": "int64",
                "padding": format.padding,
                "max_tokens": format.max_tokens,
                "vocabulary": format.vocabulary,
                "tokenizer": "its ids, by the file .tokenizer.json beside the model, cut to max_tokens and padded at the end",
            }


def _provenance(objective: Objective, point: Point, origin: Origin) -> Mapping[str, Any]:
    """How an objective's figure came about: the final measurement where there is one that did not fail."""
    fidelities = (Fidelity.FINAL, Fidelity.SEARCH)
    requests = [origin.precisions.request(point.architecture, objective, fidelity) for fidelity in fidelities]
    found = origin.store.find(requests)
    measurement = next((found[r] for r in requests if r in found and found[r].value is not None), None)
    if measurement is None:
        return {}
    return {
        "protocol": measurement.protocol,
        "fidelity": measurement.request.fidelity.value,
        "environment": dict(measurement.environment),
        **measurement.detail,
    }


def _with_metadata(model: bytes, facts: Mapping[str, Any]) -> bytes:
    """The model with the facts as its ``metadata_props``, one a key; what is no text is JSON."""
    proto = onnx.load_model_from_string(model)
    for key, value in facts.items():
        proto.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    proto.producer_name = "subnet-nas"
    return bytes(proto.SerializeToString())
