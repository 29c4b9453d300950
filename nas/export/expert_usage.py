"""The share of tokens of the validation part that a network of a run routes to each of its experts."""

from __future__ import annotations

from typing import Any

from nas.analysis.network_selection import choose
from nas.analysis.report import build_report
from nas.build.prepared_job import load_trained_run
from nas.errors import SelectionError
from nas.evaluation.scoring import CALIBRATION_BATCH
from nas.export.cost_selection import largest_network, networks_by_cost
from nas.store.folder import RunsFolder
from nas.store.stored_run import StoredRun
from supernets.experts.routing_metrics import observed_routings
from supernets.experts.routing_statistics import load_entropy, usage
from supernets.recalibration import Extraction
from supernets.space import Architecture

_MOST_EXAMPLES = 256


def expert_usage(runs: RunsFolder, run: str, *, select: str | None = None) -> dict[str, Any]:
    """The usage of experts, layer by layer, of the network that `nas.export.onnx_export.export_onnx` would write.

    Args:
        select: as there; of a training, without it the largest network.

    Returns:
        JSON-able: the `run`, the key of the `network`, the number of `examples` (at most 256, the first ones), and `layers`,
        each with its name, its number of `active_experts`, the `usage` of each expert (the share of tokens that are routed to
        it), their `entropy` (1 for equal usage) and the `unused` experts.

    Raises:
        SelectionError: the network has no experts, or none is selected.
    """
    opened = StoredRun.open(runs, run)
    trained = load_trained_run(opened)
    architecture = _chosen(opened, run, select)
    supernet, texts = trained.checkpoint.supernet, trained.data.dataset.validation.inputs[:_MOST_EXAMPLES]
    network = Extraction(supernet, trained.data.calibration.split(CALIBRATION_BATCH))(architecture)
    names = [name.removesuffix(".router") for name, _ in network.named_modules() if name.endswith(".router")]
    layers = []
    for name, layer in zip(names, observed_routings(network, texts), strict=True):
        shares = usage(layer.routing, layer.experts)
        unused = [i for i, share in enumerate(shares) if share == 0]
        own = {"usage": shares.tolist(), "entropy": load_entropy(shares), "unused": unused}
        layers.append({"name": name, "active_experts": layer.routing.shape[2], **own})
    if not layers:
        raise SelectionError(
            f"{run}: the network {architecture.key} has no experts; choose another one with --select",
            code="selection.no-experts",
        )
    return {"run": run, "network": architecture.key, "examples": len(texts), "layers": layers}


def _chosen(opened: StoredRun, run: str, select: str | None) -> Architecture:
    if opened.kind == "training":
        return largest_network(opened)[0] if select is None else networks_by_cost(opened).satisfying(select)[-1][0]
    with opened.store() as store:
        report = build_report(store, run=run)
        return store.search_facts().variants.split(choose(report, select, None).architecture)[0]
