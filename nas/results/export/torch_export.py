"""Exports a network of a run as a Python module of torch's layers and calls, with its weights; it runs without this project."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialise_tensors
from torch import Tensor, nn

from nas.engine.store.folder import RunsFolder
from nas.engine.store.stored_run import StoredRun
from nas.errors import ExportFailedError, Remedy
from nas.jobs.build.trained_run import TrainedRun, load_trained_run
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH
from nas.results.analysis.network_selection import choose
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import build_report
from nas.results.export.bundle import write_bundle
from nas.results.export.cost_selection import largest_network, networks_by_cost
from nas.results.export.export_paths import torch_path
from nas.results.export.format_names import TRANSFORMERS
from nas.results.export.provenance import Provenance, preprocessing_facts, score_network
from supernets.data import BlockFormat, TextFormat
from supernets.errors import CaptureError
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.network import PlainNetwork
from supernets.networks.capture.program import Program
from supernets.networks.capture.python_source import CLASS, source_of
from supernets.networks.capture.specialisation import specialised
from supernets.networks.capture.tracing import capture
from supernets.sharing.base import Family
from supernets.space import Architecture
from supernets.training.recalibration import Extraction

ROUNDING = 1e-5
"""Largest accepted difference of outputs, as a share of the largest one."""
_BATCHES = (1, 3)
_MAX_DIFFERENCES = 3
_SCRIPT = '''"""{about}

    from {module} import load

    network = load()            # with the weights of {weights}, in evaluation mode
    outputs = network(images)   # float32, {shape}: (pixel - mean) / std, see {manifest}

Needs torch and safetensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = {classes}


{network}

def load(weights: str | Path = Path(__file__).with_suffix(".safetensors")) -> {name}:
    """The network with its weights, in evaluation mode."""
    network = {name}()
    network.load_state_dict(load_file(weights))
    return network.eval()
'''


def export_torch(
    runs: RunsFolder,
    run: str,
    path: Path,
    *,
    select: str | None = None,
    index: int | None = None,
    accept_plugin_versions: bool = False,
    data: object = None,
) -> dict[str, Any]:
    """Writes one network as ``FILE.py``, which defines it in torch's layers and calls, ``FILE.safetensors`` and ``FILE.json``.

    The written file is run, and its outputs are compared with those of the network.

    Args:
        path: The Python file, or a folder in which it is named after the run and the network.
        select, index, accept_plugin_versions, data: Options of `nas.results.export.onnx_export.export_onnx`; of a training,
            without either the whole network.

    Returns:
        The output of `nas export --format torch --json`. ``original`` is empty where the state also fits the class of the
        model that the supernet was made of, and says what differs where it does not.

    Raises:
        ExportFailedError: the path cannot be used, the network is of sentences, or the written one gives other outputs.
    """
    opened = StoredRun.open(runs, run)
    if opened.kind == "training":
        network = largest_network(opened)[0] if select is None else networks_by_cost(opened).satisfying(select)[-1][0]
        path = torch_path(path, run, network.key)
        trained = load_trained_run(opened, accept_plugin_versions=accept_plugin_versions, data=data)
        return _write(*score_network(run, network, trained), path, trained)
    with opened.store() as store:
        report = build_report(store, run=run)
        point = choose(report, select, index)
        path = torch_path(path, run, point.key)
        provenance = Provenance(run, report.metrics, report.profiles, store.search_facts().variants, store)
        trained = load_trained_run(opened, accept_plugin_versions=accept_plugin_versions, data=data)
        return _write(point, provenance, path, trained)


def _write(point: Point, provenance: Provenance, path: Path, trained: TrainedRun) -> dict[str, Any]:
    data, supernet = trained.data.dataset, trained.checkpoint.supernet
    if isinstance(data.format, TextFormat | BlockFormat):
        text = "the network reads texts of any length, and the written module would read those of one; "
        raise ExportFailedError(
            f"{text}export ONNX, or a folder of the transformers library",
            code="export.format-unavailable",
            remedy=Remedy("export", provenance.run, {"format": TRANSFORMERS}),
        )
    network, variant = provenance.variants.split(point.architecture)
    module = Extraction(supernet, trained.data.calibration.split(CALIBRATION_BATCH))(network)
    program = _program(module, data.validation.inputs[:2])
    weights, manifest = path.with_suffix(".safetensors"), path.with_suffix(".json")
    facts = {
        **provenance.facts(point, trained),
        "precision": "fp32",
        **preprocessing_facts(data.format, False),
        "original": _original(*supernet.family.plain(network), program),
    }
    shape = ", ".join(["batch", *map(str, data.validation.inputs.shape[1:])])
    script = _SCRIPT.format(
        about=f"{path.stem}: a network of the run {provenance.run}, as torch layers and calls.",
        module=path.stem,
        weights=weights.name,
        manifest=manifest.name,
        shape=shape,
        classes=json.dumps(list(data.class_names)),
        name=CLASS,
        network=source_of(program, about=f"The network {point.key} of {provenance.run}."),
    )
    tensors = {name: tensor for name, tensor in module.state_dict().items() if name in program.tensors}
    state, parity = _checked(script, path.stem, tensors, module, data.validation.inputs)
    if parity > ROUNDING:
        message = f"{path}: the written network gives other outputs than the one that was searched ({parity:.1e})"
        raise ExportFailedError(message, code="export.outputs-differ")
    files = {path: script.encode(), weights: serialise_tensors({name: t.contiguous() for name, t in state.items()})}
    digests = write_bundle(files, manifest, {**facts, "parity": parity})
    return {
        "path": str(path),
        "sha256": digests[path],
        "format": "torch",
        "precision": "fp32",
        "searched_precision": variant.precision,
        "parity": parity,
        "values": dict(point.values),
        "key": point.key,
        "original": facts["original"],
        "architecture": dict(point.described),
        "weights": str(weights),
        "manifest": str(manifest),
    }


def _program(module: nn.Module, x: Tensor) -> Program:
    """The network's program, with sizes that depend on the batch alone.

    Raises:
        ExportFailedError: its forward cannot be captured.
    """
    if isinstance(module, PlainNetwork):
        return module.captured_program
    try:
        elastic = infer_axes(capture(module, [x]).program)
    except CaptureError as error:
        raise ExportFailedError(f"the network cannot be written as Python: {error}", code=error.code) from error
    return specialised(elastic, elastic.full_sizes)


def _checked(
    script: str, name: str, tensors: Mapping[str, Tensor], module: nn.Module, inputs: Tensor
) -> tuple[dict[str, Tensor], float]:
    """The state of the network that a script defines, and the largest relative difference of its outputs."""
    written = types.ModuleType(name)
    written.__file__ = f"{name}.py"
    exec(compile(script, written.__file__, "exec", dont_inherit=True), written.__dict__)
    again = getattr(written, CLASS)()
    again.load_state_dict(tensors)
    again.eval()
    parity = 0.0
    with torch.no_grad():
        for n in _BATCHES:
            x = torch.cat([inputs[:n]] * n)[:n]  # a small part is repeated
            outputs, expected = again(x), module(x)
            change = float((outputs - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
            parity = max(parity, change if change == change else float("inf"))
    return again.state_dict(), parity


def _original(family: Family, network: Architecture, program: Program) -> str:
    """Why the network's state does not fit the class that the supernet was made of; empty where it does."""
    if not isinstance(family, CapturedFamily):
        return f"the network is of the family {family.name}, not of a model of yours"
    full = family.source
    missing = [name for name in full.tensors if name not in program.tensors]
    differing = [
        f"{name} is {_shape(program, name)} instead of {_shape(full, name)}"
        for name in program.tensors
        if program.values[name].shape != full.values[name].shape
    ]
    differing += [f"{name} is left out" for name in missing]
    if not differing:
        return ""
    more = f" and {len(differing) - _MAX_DIFFERENCES} more" if len(differing) > _MAX_DIFFERENCES else ""
    return f"{', '.join(differing[:_MAX_DIFFERENCES])}{more}"


def _shape(program: Program, name: str) -> str:
    return "x".join(map(str, program.values[name].shape))
