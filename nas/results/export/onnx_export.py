"""Exports a network of a run as ONNX, checked against torch on real examples, with its weights and a manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.torch import save as serialise_tensors
from torch import Tensor, nn

from nas.engine.process_memory import frozen_collector, release_free_memory
from nas.engine.store.folder import RunsFolder
from nas.engine.store.stored_run import StoredRun
from nas.errors import SelectionError
from nas.jobs.build.trained_run import TrainedRun, load_trained_run
from nas.jobs.evaluation.parity import accepted_difference, rounding_of
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH, in_precision
from nas.jobs.schema.search_job import stored_job
from nas.results.analysis.network_selection import choose
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import build_report
from nas.results.export.bundle import Bundle, StagedFiles
from nas.results.export.cost_selection import networks_by_cost
from nas.results.export.export_paths import export_path, paths_beside
from nas.results.export.export_scripts import script_of
from nas.results.export.model_checks import (
    agreement,
    as_measured,
    parity,
    parity_in_runtime,
    parity_on_images,
    torch_outputs,
)
from nas.results.export.preprocessing_graph import add_preprocessing, check_available
from nas.results.export.provenance import Provenance, preprocessing_facts, score_network
from nas.results.export.served_models import Continuation, continued, served_as_scored, served_parity
from supernets.data import BlockFormat, PairFormat, TextFormat, head
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_serving import PORTABLE_STEP, PREFILL, STEP
from supernets.networks.module_to_onnx import onnx_model
from supernets.training.recalibration import Extraction

_MAX_CHECKED = 8
"""Examples of which the model's outputs are compared with torch's, in one call."""
_EXACT, _SHIPPED = Path("exact.onnx"), Path("shipped.onnx")
"""Names of the scored model while it is checked: in fp32, and in the precision that is written."""
_COMPARED = 1000
"""Examples on which the written model is compared with the one in fp32."""
_RAW_IMAGES = 16
"""Images as their files have them, on which a model that resizes is compared with the training's preprocessing."""


def export_onnx(
    runs: RunsFolder,
    run: str,
    path: Path,
    *,
    select: str | None = None,
    index: int | None = None,
    with_preprocessing: bool = False,
    accept_plugin_versions: bool = False,
    data: object = None,
) -> dict[str, Any]:
    """Writes one network of a run as checked ONNX with its manifest, its weights and a script that runs it.

    Args:
        path: the ONNX file, or a folder in which it is named after the run and the network; see `export_path`.
        select: e.g. ``latency_ms<=1.0``: the most accurate of all evaluated networks that satisfies it, regardless of the
            job's constraints; or ``key=0-2-1``, the network with this key. Of a training of nested networks, the largest
            that satisfies limits on computed costs, which is then scored.
        index: position on the front; without either, the knee.
        accept_plugin_versions: export though the plug-ins of its networks are installed in other versions than the run's.
        data: the data set that the run was started with, where that was an object passed from Python.
        with_preprocessing: True if the graph takes decoded images of any size, and resizes and normalises them itself.

    Returns:
        The output of `nas export --json`.
    """
    opened = StoredRun.open(runs, run)
    if opened.kind == "training" and select is not None:
        network, _ = networks_by_cost(opened).satisfying(select)[-1]
        path = export_path(path, run, network.key)  # scoring takes longer
        if "fp32" not in (precisions := stored_job(opened).precisions):
            message = (
                f"without a search a network is exported in fp32, and its job deploys in {', '.join(precisions)} alone"
            )
            remedy = f"search it with   supernet: {{from: {run}}}"
            raise SelectionError(f"run {run!r}: {message}; {remedy}", code="export.precision-unavailable")
        trained = load_trained_run(opened, accept_plugin_versions=accept_plugin_versions, data=data)
        bundle = network_bundle(
            *score_network(run, network, trained), path, trained, in_graph=with_preprocessing, frees_supernet=True
        )
        return bundle.write()
    with opened.store() as store:
        report = build_report(store, run=run)
        point = choose(report, select, index)
        provenance = Provenance(run, report.metrics, report.profiles, store.search_facts().variants, store)
        path = export_path(path, run, point.key)
        trained = load_trained_run(opened, accept_plugin_versions=accept_plugin_versions, data=data)
        return network_bundle(
            point, provenance, path, trained, in_graph=with_preprocessing, frees_supernet=True
        ).write()


@frozen_collector()
def network_bundle(
    point: Point,
    provenance: Provenance,
    path: Path,
    trained: TrainedRun,
    *,
    in_graph: bool = False,
    frees_supernet: bool = False,
) -> Bundle:
    """``FILE.onnx``, ``FILE.safetensors``, ``FILE.predict.py`` and ``FILE.json`` (the manifest), which passed all checks.

    A network of sentences comes with the tokenizer that makes its input, ``FILE.tokenizer.json``; so does a language model,
    which is served by two models: ``FILE.onnx`` reads prompts or sources, and ``FILE.step.onnx`` one more token each.

    Args:
        point: The network.
        provenance: The run and the measurements of the network.
        path: Path of the ONNX file.
        trained: The trained supernet and its data.
        in_graph: True if the model does the preprocessing of images.
        frees_supernet: True if nothing needs the weights of the supernet any more, which are then gone.

    Returns:
        The files, described by ``path``, ``sha256``, ``parity`` (of the fp32 model with torch), ``precision``, ``runtime``
        (that it was scored and, if the job says so, measured in), ``parity_in_runtimes`` (of the fp32 model with ONNX Runtime),
        ``agreement`` (the share of examples to which the written model and the fp32 one answer alike, as its task says),
        ``as_measured`` (the share of validation examples on which the written model scores as the one that the search scored;
        None where it scored none), ``values``, ``fidelity``, ``architecture``, ``examples`` and ``answered`` (their name, and
        what a network does to them), and the paths of the other files; of a language model also ``served_parity`` (of the two
        models with torch) and, without a source, ``positions`` (the most tokens of a text).

    Raises:
        ExportFailedError: the path cannot be used, or the outputs differ from torch's or from those that were measured.
        ExportError: torch's exporter refuses the network.
        PrecisionError: the network cannot be written in its precision.
    """
    data, task, supernet = trained.data.dataset, trained.data.task, trained.checkpoint.supernet
    if in_graph:
        check_available(data.format)
    network, variant = provenance.variants.split(point.architecture)
    batches = trained.data.calibration.split(CALIBRATION_BATCH)  # as in the search
    index = np.resize(np.arange(len(data.validation)), _MAX_CHECKED)  # repeats examples of a small part
    inputs = data.validation.inputs[torch.from_numpy(index)].numpy()
    facts = {
        **provenance.facts(point, trained),
        "precision": variant.precision,
        "runtime": variant.runtime,
        "targets": data.targets,
        **preprocessing_facts(data.format, in_graph),
    }
    positions = 0
    if isinstance(data.format, BlockFormat):
        if not isinstance(data.format, PairFormat):
            positions = cast(DecoderFamily, supernet.family.plain(network)[0]).positions
        facts["positions"] = positions
    module = Extraction(supernet, batches)(network)
    if frees_supernet:
        supernet.to("meta")
    release_free_memory()
    lowered = _lowered(module, path, inputs, trained, batches[0][:2], in_place=provenance.in_place)
    del module  # it is as large as a model
    release_free_memory()
    files, served, exact = lowered.files, lowered.served, lowered.files.location(_EXACT)
    largest = accepted_difference(lowered.rounding)
    checks: dict[str, Any] = {
        "parity": max(parity(exact, inputs[: len(each)], each, task, largest=largest) for each in lowered.outputs)
    }
    release_free_memory()
    if other_runtimes := provenance.other_runtimes(variant):
        checks["parity_in_runtimes"] = {
            name: parity_in_runtime(exact, inputs, name, task, largest=largest) for name in other_runtimes
        }
    if lowered.continuation is not None:
        checks["served_parity"] = served_parity(
            lowered.continuation, files.locations(served), room=data.blocks.block, largest=largest
        )
    release_free_memory()
    model = _EXACT if variant.precision == "fp32" else _SHIPPED
    if variant.precision != "fp32":
        files[model] = in_precision(files[_EXACT], variant.precision, batches, task)
        for file in served.values():
            files[file] = in_precision(files[file], variant.precision, batches, task)
    location = files.location(model)
    checks["agreement"] = agreement(exact, location, head(data.validation, _COMPARED), task, variant.runtime)
    release_free_memory()
    checks["as_measured"] = as_measured(location, data.validation, provenance.scored(point), task)
    release_free_memory()
    if in_graph:
        files[path] = add_preprocessing(files[model], data.images)
        images = trained.data.some_images(_RAW_IMAGES)
        checks["parity_on_raw_images"] = parity_on_images(files[model], files[path], data.images, images, task)
    elif lowered.continuation is not None:
        source = lowered.continuation.source.shape[1]
        checks["served_as_scored"] = served_as_scored(location, files.locations(served), inputs[:1], source=source)
    else:
        files[path] = files[model]
    models = [path, *(file for file in served.values() if file != path)]
    for file in models:
        files.append(file, metadata(facts))
        onnx.checker.check_model(files.location(file), full_check=True)
    weights_path, manifest_path, tokenizer_path, script_path = paths_beside(path)
    files[script_path] = script_of(data.format, data.targets)
    written = [*models, weights_path, script_path]
    if isinstance(data.format, TextFormat | BlockFormat):
        files[tokenizer_path] = data.format.tokenizer.encode()
        written.append(tokenizer_path)
    files.select(written)
    described = {
        "precision": variant.precision,
        "runtime": variant.runtime,
        **checks,
        "values": dict(point.values),
        "task": trained.data.job.config.task,
        "answered": trained.data.task.verbs[1],
        "examples": "documents" if data.format.noun == "text" else f"{data.format.noun}s",
        "fidelity": str(point.fidelity),
        "architecture": dict(point.described),
        "key": point.key,
        "weights": str(weights_path),
        "manifest": str(manifest_path),
        "script": str(script_path),
        **({"tokenizer": str(tokenizer_path)} if tokenizer_path in files else {}),
        **({"step": str(_step_path(path))} if served else {}),
        **({"positions": positions} if positions else {}),
    }
    return Bundle(path, manifest_path, files, {**facts, **checks}, described)


@dataclass(frozen=True, slots=True)
class _Lowered:
    """The parts of a network that checks need once it is gone.

    Attributes:
        files: Its weights and its models in fp32: `_EXACT`, and those by which it is served.
        served: Paths of the models by which a language model is served, by name.
        outputs: Outputs of torch for the first examples, for each number of them that is compared.
        continuation: Texts that torch continued with it; None unless it is a language model.
        rounding: That of its outputs, see `rounding_of`.
    """

    files: StagedFiles
    served: Mapping[str, Path]
    outputs: Sequence[NDArray[Any]]
    continuation: Continuation | None
    rounding: float


def _lowered(
    module: nn.Module, path: Path, inputs: NDArray[Any], trained: TrainedRun, example: Tensor, *, in_place: bool
) -> _Lowered:
    """The files of a network, none of which is in memory any more, and what torch computes with it.

    Args:
        inputs: Examples that are compared, (n, ...).
        example: Inputs of which only shape and type are read, (2, ...).
        in_place: True if steps of a language model write into its cache.
    """
    task, format, files = trained.data.task, trained.data.dataset.format, StagedFiles(path)
    files[paths_beside(path)[0]] = serialise_tensors({name: t.contiguous() for name, t in module.state_dict().items()})
    files[_EXACT] = onnx_model(task.scored(module), example)
    # Of a language model no more examples than scores are computed for at once: the logits of each take some megabytes.
    sizes = (1, max(2, min(len(inputs), task.scored_together)))
    outputs = [torch_outputs(task.scored(module), inputs[:n]) for n in sizes]
    compared = torch.from_numpy(inputs[:2])
    if not isinstance(format, BlockFormat):
        return _Lowered(files, {}, outputs, None, rounding_of(task.scored(module), compared))
    served, models = {PREFILL: path, STEP if in_place else PORTABLE_STEP: _step_path(path)}, task.served(module)
    for name, file in served.items():
        files[file] = models[name]
    source = format.source if isinstance(format, PairFormat) else 0
    continuation = continued(module, inputs[:1], positions=format.block, source=source)
    return _Lowered(files, served, outputs, continuation, rounding_of(task.scored(module), compared))


def _step_path(path: Path) -> Path:
    """The path of the model of steps of a language model, beside that of prompts."""
    return path.with_suffix(".step.onnx")


def metadata(facts: Mapping[str, Any]) -> bytes:
    """What follows the bytes of an ONNX model that is to have each fact in its ``metadata_props``.

    Messages of protobuf one after another are read as one with the fields of all, so that models of gigabytes are not parsed.

    Args:
        facts: Values by name; those that are not text are written as JSON.
    """
    proto = onnx.ModelProto(producer_name="subnet-nas")
    for key, value in facts.items():
        proto.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    return bytes(proto.SerializeToString())
