"""Exports a network of a run as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas.analysis.report import build_report
from nas.analysis.selection import choose
from nas.build.trained_run import load_trained_run
from nas.errors import SelectionError
from nas.export.bundle import check_path, write_bundle
from nas.export.cost_selection import networks_by_cost
from nas.export.network_scoring import score_network
from nas.export.provenance import Provenance
from nas.store.folder import RunsFolder
from nas.store.stored_run import StoredRun


def export_onnx(
    runs: RunsFolder, run: str, path: Path, *, select: str | None = None, index: int | None = None
) -> dict[str, Any]:
    """Writes one network of a run as checked ONNX with its manifest and weights.

    Args:
        select: e.g. ``latency_ms<=1.0``: the most accurate of all evaluated networks that satisfies it, regardless of the
            job's constraints; or ``key=0-2-1``, the network with this key. Of a training of nested networks, the largest
            that satisfies limits on computed costs, which is then scored.
        index: position on the front; without either, the knee.

    Returns:
        What `nas export --json` prints.
    """
    opened = StoredRun.open(runs, run)
    if opened.kind == "training" and select is not None:
        check_path(path)  # scoring takes longer
        network, _ = networks_by_cost(opened).satisfying(select)[-1]
        if "fp32" not in (precisions := opened.job.precisions):
            raise SelectionError(
                f"run {run!r}: without a search a network is exported in fp32, and its job deploys in "
                f"{', '.join(precisions)} alone; search it with   supernet: {{from: {run}}}",
                code="export.precision-unavailable",
            )
        trained = load_trained_run(opened)
        return write_bundle(*score_network(run, network, trained), path, trained)
    with opened.store() as store:
        report = build_report(store, run=run)
        point = choose(report, select, index)
        provenance = Provenance(run, report.metrics, report.profiles, store.search_facts().precisions, store)
        return write_bundle(point, provenance, path, load_trained_run(opened))
