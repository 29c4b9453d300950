"""Writes a cascade: its two networks, the conditional graph of both, a manifest and a script."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from hardware_profiles.errors import ModelError
from nas.jobs.build.trained_run import TrainedRun
from nas.results.analysis.cascade import Cascade, CascadeTable
from nas.results.export.bundle import Bundle
from nas.results.export.cascade_graph import cascade_graph, cascade_parity
from nas.results.export.export_paths import paths_beside
from nas.results.export.export_scripts import script_of
from nas.results.export.onnx_export import metadata
from nas.results.export.provenance import preprocessing_facts
from supernets.data import by_length, head

_COMPARED = 1000
"""Validation examples on which the conditional graph is compared with the two networks."""


def write_cascade(
    cascade: Cascade,
    threshold: float,
    networks: tuple[Bundle, Bundle],
    path: Path,
    table: CascadeTable,
    trained: TrainedRun,
) -> dict[str, Any]:
    """Writes the two networks and ``cascade.onnx``, ``cascade.predict.py`` and ``cascade.json`` (the manifest).

    Returns:
        ``manifest``, ``script``, ``graph`` (None where the runtime of the networks rejects it; ``rejected`` then says why),
        ``parity`` (of the graph with the two networks), ``examples`` (on which it was compared), and of ``small`` and
        ``large`` what `nas export` prints.

    Raises:
        ExportFailedError: the graph's answers differ from those of the two networks.
    """
    data, (small, large) = trained.data.dataset, networks
    models = small.files[small.path], large.files[large.path]
    graph = cascade_graph(*models, threshold)
    inputs = [batch.numpy() for _, batch in by_length(head(data.validation, _COMPARED), 1)]
    proof: dict[str, Any] = {"examples": len(inputs), "parity": None}
    try:
        proof["parity"] = cascade_parity(graph, *models, threshold, inputs, runtime=small.described["runtime"])
    except ModelError as error:  # of a runtime without If, say
        proof["rejected"] = str(error)
    _, manifest, _, script = paths_beside(path)
    facts = {
        "run": table.run,
        "kind": "cascade",
        "rule": "the large network answers where the softmax probability of the small one's best class is below the threshold",
        "threshold": threshold,
        "latency": table.latency.name,
        "values": asdict(cascade),
        "proof": proof,
        **{
            name: {"model": bundle.path.name, "manifest": bundle.manifest.name, "key": bundle.described["key"]}
            for name, bundle in (("small", small), ("large", large))
        },
        "classes": list(data.class_names),
        **preprocessing_facts(data.format, in_graph=False),
    }
    files = {script: script_of(data.format)}
    if proof["parity"] is not None:
        files[path] = graph + metadata({key: facts[key] for key in ("run", "classes", "input", "preprocessing")})
        onnx.checker.check_model(files[path], full_check=True)
    manifest.unlink(missing_ok=True)  # before its networks are replaced
    written = {"small": small.write(), "large": large.write()}
    Bundle(script, manifest, files, facts, {}).write()
    paths = {"manifest": str(manifest), "script": str(script), "graph": str(path) if path in files else None}
    return {**paths, **proof, **written}
