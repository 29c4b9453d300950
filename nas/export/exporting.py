"""Exports a network of a run: one that a search measured, or one picked among a training's nested networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.analysis.points import Point
from nas.analysis.report import build_report
from nas.analysis.selection import pick
from nas.build.trained_run import TrainedRun, load_trained_run
from nas.errors import ExportFailedError, SelectionError
from nas.evaluation.scoring import CALIBRATION_BATCH
from nas.export.bundle import Origin, check_path, export_bundle
from nas.export.nested_selection import costs_of, largest, sorted_list
from nas.export.unsearched import score_picked
from nas.store.folder import RunsFolder
from nas.store.stored_run import StoredRun
from supernets.base import Family
from supernets.data import DataSet
from supernets.errors import ExportError
from supernets.families.encoder.family import EncoderFamily
from supernets.families.encoder.pretrained import read_bert, write_bert
from supernets.families.pretrained_transformer import renumbered
from supernets.families.single import innermost
from supernets.families.vit_encoder.family import ViTEncoderFamily
from supernets.families.vit_encoder.pretrained import read_vit, write_vit
from supernets.space import Architecture

ROUNDING = 1e-5
"""Of the largest answer: equal weights at other addresses may be added up in another order."""


def export(
    runs: RunsFolder, run: str, path: Path, *, select: str | None = None, index: int | None = None
) -> dict[str, Any]:
    """Writes one network of a run as checked ONNX with its manifest and weights.

    Args:
        select: e.g. ``latency_ms<=1.0``: the most accurate of all evaluated ones that satisfies it, whatever the job's
            constraints; or ``key=0-2-1``, the one of this key; of a training of nested networks, the largest that does by
            its costs, which is then scored.
        index: a member of the front by position; without either, the knee.

    Returns:
        What `nas export --json` prints.
    """
    opened = StoredRun.open(runs, run)
    if opened.kind == "training" and select is not None:
        check_path(path)  # scoring takes longer
        network, _ = sorted_list(opened).within(select)[-1]
        if "fp32" not in opened.job.precisions:
            raise SelectionError(
                f"run {run!r}: without a search a network is exported in fp32, and its job deploys in "
                f"{', '.join(opened.job.precisions)} alone; search it with   supernet: {{from: {run}}}"
            )
        trained = load_trained_run(opened)
        point, origin = score_picked(run, network, trained)
        return _bundle(point, path, origin, trained)
    with opened.store() as store:
        report = build_report(store, run=run)
        point = pick(report, select, index)
        origin = Origin(run, report.metrics, report.profiles, store.search_facts().precisions, store)
        return _bundle(point, path, origin, load_trained_run(opened))


def export_transformers(
    runs: RunsFolder, run: str, folder: Path, *, select: str | None = None, index: int | None = None
) -> dict[str, Any]:
    """Writes one encoder, of sentences or images, as a folder that the transformers library loads.

    Its weights are read back, found to be the same, and to give the same answers in the network that they are of.

    Args:
        folder: to be made, or an empty one.
        select, index: as of `export`; of a training, the whole network that it trained without either.

    Returns:
        What `nas export-transformers --json` prints; ``values`` are those of fp32, in which it is written: of a network that
        was measured in other precisions alone, the computed costs.

    Raises:
        ExportFailedError: the folder is taken, or what was written does not compute what the network does.
        ExportError: the library has no such network, and why.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportFailedError(f"{folder} exists and is no empty folder; choose another name, or move it")
    opened = StoredRun.open(runs, run)
    network, measured = _chosen(opened, select, index)
    trained = load_trained_run(opened)
    supernet, data = trained.checkpoint.supernet, trained.data.dataset
    values = costs_of(supernet, [network])[0][1] if measured is None else measured
    family, plain = innermost(supernet.family, network)
    module = supernet.extract(network)
    tensors, loader = _written(folder, family, plain, module, data)
    again = family.build(plain).eval()
    again.load_state_dict(tensors)
    read = again.state_dict()
    same_weights = all(torch.equal(tensor, read[name]) for name, tensor in module.state_dict().items())
    with torch.no_grad():
        came, expected = (one(data.validation.inputs[:8]) for one in (again, module))
    # Not by ">": answers that are no numbers must not pass.
    same_answers = bool((came - expected).abs().max() <= ROUNDING * expected.abs().max())
    if not (same_weights and same_answers):
        raise ExportFailedError(f"{folder}: what was written, read again, gives other answers than the network")
    told = {"key": network.key, "values": dict(values), "precision": "fp32"}
    return {"path": str(folder), "loader": loader, **told}


def _chosen(run: StoredRun, select: str | None, index: int | None) -> tuple[Architecture, Mapping[str, float] | None]:
    """A network of a run, and its figures in fp32; None where it was measured in other precisions alone."""
    if run.kind == "training" and index is None:
        return largest(run) if select is None else sorted_list(run).within(select)[-1]
    with run.store() as store:
        report = build_report(store, run=run.id)
        precisions = store.search_facts().precisions
    point = pick(report, select, index)
    network, _ = precisions.split(point.architecture)
    same = [p for p in report.candidates if precisions.split(p.architecture) == (network, "fp32")]
    return network, same[0].values if same else None


def _written(
    folder: Path, family: Family, network: Architecture, module: nn.Module, data: DataSet
) -> tuple[Mapping[str, Tensor], str]:
    """Writes a network as a folder of the transformers library; its tensors, read again, and which of its classes loads it."""
    own, class_names = module.state_dict(), data.class_names
    tensors: Mapping[str, Tensor]
    match family:
        case EncoderFamily():
            write_bert(folder, family, network, own, class_names=class_names, tokenizer=data.sentences.tokenizer)
            tensors, loader = read_bert(folder).tensors, "AutoModelForSequenceClassification"
        case ViTEncoderFamily():
            images = data.images
            write_vit(folder, family, network, own, class_names=class_names, mean=images.mean, std=images.std)
            tensors, loader = read_vit(folder).tensors, "AutoModelForImageClassification"
        case _:
            raise ExportError(
                f"networks of the families {EncoderFamily.name} and {ViTEncoderFamily.name} are written for the transformers "
                f"library, and this one is of {family.name}; write ONNX by: nas export"
            )
    return renumbered(tensors, dict(enumerate(family.kept(network)))), loader


def _bundle(point: Point, path: Path, origin: Origin, trained: TrainedRun) -> dict[str, Any]:
    return export_bundle(
        point, path, origin=origin, checkpoint=trained.checkpoint, data=trained.data.dataset,
        calibration=trained.data.calibration, calibration_batch=CALIBRATION_BATCH,
    )  # fmt: skip
