"""Exports an encoder or a language model of a run as a folder that the transformers library loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.engine.store.folder import RunsFolder, write_atomically
from nas.engine.store.stored_run import StoredRun
from nas.errors import ExportFailedError, Remedy, attach_remedy
from nas.jobs.build.trained_run import load_trained_run
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH
from nas.results.analysis.network_selection import choose
from nas.results.analysis.report import build_report
from nas.results.export.cost_selection import costs_of, largest_network, networks_by_cost
from nas.results.export.export_paths import check_empty
from nas.results.export.export_scripts import script_of
from nas.search.problem.objectives import Variant
from nas.search.problem.tasks import CLASSIFICATION, LANGUAGE
from supernets.data import BlockFormat, DataSet
from supernets.errors import ExportError
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_pretrained import read_decoder_config
from supernets.families.decoder.writing import write_decoder
from supernets.families.encoder.bert_pretrained import read_bert, write_bert
from supernets.families.encoder.encoder_family import EncoderFamily
from supernets.families.shared.pretrained_transformer import renumbered
from supernets.families.vision_transformer.vision_transformer_family import ViTEncoderFamily
from supernets.families.vision_transformer.vit_pretrained import read_vit, write_vit
from supernets.networks.family_program import outline
from supernets.sharing.base import Family
from supernets.space import Architecture
from supernets.training.recalibration import Extraction

_PREPROCESSING, _SCRIPT = "preprocessing.json", "predict.py"
ROUNDING = 1e-5
"""Largest accepted difference, as a share of the largest output: sums over weights at other addresses may be reordered."""


def export_transformers(
    runs: RunsFolder,
    run: str,
    folder: Path,
    *,
    select: str | None = None,
    index: int | None = None,
    accept_plugin_versions: bool = False,
    data: object = None,
) -> dict[str, Any]:
    """Writes one encoder (of sentences or images) or language model as a folder that the transformers library loads.

    The folder is read back, and the weights of the network that it makes are compared, and its outputs.

    Args:
        folder: A new or an empty one.
        select, index: The network, as for `nas.results.export.onnx_export.export_onnx`; of a training, without either the whole
            network.
        accept_plugin_versions, data: Options of `nas.results.export.onnx_export.export_onnx`.

    Returns:
        The output of `nas export-transformers --json`; ``values`` are those of fp32, in which it is written: of a network that
        was measured in other precisions alone, the computed costs.

    Raises:
        ExportFailedError: the folder is not empty, or the network read back gives other outputs.
        ExportError: the library has no such network.
    """
    check_empty(folder)
    opened = StoredRun.open(runs, run)
    network, measured = _select(opened, select, index)
    trained = load_trained_run(opened, accept_plugin_versions=accept_plugin_versions, data=data)
    if (task := trained.data.job.config.task) not in (CLASSIFICATION.name, LANGUAGE):
        problem = f"run {run!r} is of the task {task}, and this export writes classifiers and language models"
        raise ExportFailedError(f"{problem}; export ONNX", code="export.task-unavailable", remedy=Remedy("export", run))
    supernet, data = trained.checkpoint.supernet, trained.data.dataset
    values = costs_of(supernet, [network])[0][1] if measured is None else measured
    family, plain = supernet.family.plain(network)
    module = Extraction(supernet, trained.data.calibration.split(CALIBRATION_BATCH))(network)
    try:
        again, loader = _write(folder, family, plain, module, data)
    except ExportError as error:
        attach_remedy(error, Remedy("export", run))
        raise
    # What the library's own preprocessing does not state, and a script that preprocesses as in training.
    write_atomically(folder / _PREPROCESSING, json.dumps(data.format.to_json(), indent=2).encode())
    write_atomically(folder / _SCRIPT, script_of(data.format, in_transformers=True))
    examples = data.validation.inputs[: 1 if isinstance(data.format, BlockFormat) else 8]
    with torch.no_grad():
        outputs, expected = (network_module.eval()(examples) for network_module in (again, module))
    read_weights = again.state_dict()
    # Of decoders, the library has some weights in another form, with other roundings.
    same_weights = isinstance(family, DecoderFamily) or all(
        torch.equal(tensor, read_weights[name]) for name, tensor in module.state_dict().items()
    )
    # Not by ">": NaN must not pass.
    same_outputs = bool((outputs - expected).abs().max() <= ROUNDING * expected.abs().max())
    if not (same_weights and same_outputs):
        message = f"{folder}: the network read back gives other outputs than the one written"
        raise ExportFailedError(message, code="export.outputs-differ")
    return {"path": str(folder), "loader": loader, "key": network.key, "values": dict(values), "precision": "fp32"}


def _select(run: StoredRun, select: str | None, index: int | None) -> tuple[Architecture, Mapping[str, float] | None]:
    """A network of a run, and its metrics in fp32; None where it was measured in other precisions alone."""
    if run.kind == "training" and index is None:
        return largest_network(run) if select is None else networks_by_cost(run).satisfying(select)[-1]
    with run.store() as store:
        report = build_report(store, run=run.id)
        variants = store.search_facts().variants
    point = choose(report, select, index)
    network, _ = variants.split(point.architecture)
    same = [p for p in report.candidates if variants.split(p.architecture) == (network, Variant())]
    return network, same[0].values if same else None


def _write(
    folder: Path, family: Family, network: Architecture, module: nn.Module, data: DataSet
) -> tuple[nn.Module, str]:
    """The network read back from the folder that it was written to, and the class that loads the folder."""
    weights, class_names, format = module.state_dict(), data.class_names, data.format
    match family:
        case DecoderFamily() if isinstance(format, BlockFormat):
            write_decoder(
                folder,
                family,
                network,
                weights,
                tokenizer=format.tokenizer,
                separator=format.separator,
                separator_token=format.separator_token,
            )
            config = read_decoder_config(folder)
            again = DecoderFamily(config.space(), tokens=1, **config.fixed)
            return _loaded(again, again.space.largest, config.read(folder).weights(again)), "AutoModelForCausalLM"
        case EncoderFamily():
            write_bert(folder, family, network, weights, class_names=class_names, tokenizer=data.sentences.tokenizer)
            tensors, loader = read_bert(folder).tensors, "AutoModelForSequenceClassification"
        case ViTEncoderFamily():
            images = data.images
            write_vit(folder, family, network, weights, class_names=class_names, mean=images.mean, std=images.std)
            tensors, loader = read_vit(folder).tensors, "AutoModelForImageClassification"
        case _:
            names = (EncoderFamily.name, ViTEncoderFamily.name, DecoderFamily.name)
            available = f"{', '.join(names[:-1])} and {names[-1]}, and this one is of {family.name}"
            raise ExportError(f"the transformers library has networks of the families {available}; export ONNX")
    return _loaded(family, network, renumbered(tensors, dict(enumerate(family.layer_numbers(network))))), loader


def _loaded(family: Family, network: Architecture, tensors: Mapping[str, Tensor]) -> nn.Module:
    return family.standalone(outline(family), network, tensors)
