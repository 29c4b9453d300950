"""The cascades of a finished run: its front scored on the validation part, the test of a chosen pair, and its export."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.measuring.samples import decode_samples
from nas.engine.store.base import RunStore
from nas.engine.store.stored_run import StoredRun
from nas.errors import ExportFailedError
from nas.jobs.build.trained_run import load_trained_run
from nas.jobs.evaluation.scoring import InlineScoring, ScoringTask, outputs_of
from nas.results.analysis.cascade import CascadeTable, Member, cascade_of, cascade_pairs, confidence
from nas.results.analysis.report import build_report
from nas.results.export.cascade_bundle import write_cascade
from nas.results.export.export_paths import cascade_paths
from nas.results.export.onnx_export import network_bundle
from nas.results.export.provenance import Provenance
from nas.search.problem.objectives import Fidelity, Request
from supernets.data import Part


class Cascades:
    """The cascades of two networks of a run's front, with thresholds from the validation part.

    Args:
        opened: A finished search of a classification.
        profile: The hardware profile whose latencies count; by default that of the job's first latency objective.
        accept_plugin_versions, data: Options of `nas.results.export.onnx_export.export_onnx`.

    Raises:
        RunStateError, SelectionError: For the reasons of `cascade_pairs`.
        UnknownNameError: there is no such profile.
        NasError, CheckpointError, DataError: For the reasons of `load_trained_run`.
    """

    def __init__(
        self,
        opened: StoredRun,
        *,
        profile: str | None = None,
        accept_plugin_versions: bool = False,
        data: object = None,
    ) -> None:
        self._opened = opened
        with opened.store() as store:
            self._report = build_report(store, run=opened.id, profile=profile)
            self._pairs = cascade_pairs(self._report)  # before anything is loaded that takes longer
            self._variants, facts = store.search_facts().variants, store.facts()
        profiles = facts.compatibility.get("profiles", {}) if facts is not None else {}
        self._batch_size = int(profiles.get(self._report.cost.profile, {}).get("batch_size", 1))
        self._trained = load_trained_run(opened, accept_plugin_versions=accept_plugin_versions, data=data)
        trained, self._validation = self._trained.data, self._trained.data.dataset.validation
        supernet = self._trained.checkpoint.supernet
        self._scoring = InlineScoring(supernet, trained.calibration, self._validation, trained.task)
        self._models: dict[int, bytes] = {}

    @cached_property
    def table(self) -> CascadeTable:
        """The single networks and the cascades of their common front, on the validation part."""
        members = [self._member(i, self._validation) for i in range(len(self._report.front))]
        return CascadeTable.from_pairs(
            self._opened.id, members, self._pairs, latency=self._report.cost, batch_size=self._batch_size
        )

    def tested(self, number: int) -> dict[str, Any]:
        """The values of a row's ``cascade`` and of its ``small`` and ``large`` network on the test part, which chose nothing.

        Latencies are those that the run measured.

        Raises:
            SelectionError: the row is no cascade.
        """
        *chosen, threshold = self.table.pair(number)
        small, large = (self._member(member.index, self._trained.data.dataset.test) for member in chosen)
        cascade = cascade_of(small, large, threshold)
        cascade_by_name = {"small": cascade_of(small), "large": cascade_of(large), "cascade": cascade}
        return {name: asdict(values) for name, values in cascade_by_name.items()}

    def export(self, number: int, folder: Path) -> dict[str, Any]:
        """Writes a row's cascade into a folder; returns what `write_cascade` does.

        Raises:
            SelectionError: the row is no cascade.
            ExportFailedError: the folder cannot be used, or an output differs from torch's or from what was measured.
        """
        *chosen, threshold = self.table.pair(number)
        *paths, graph_path = cascade_paths(folder, self._opened.id)
        with self._opened.store() as store:
            report = build_report(store, run=self._opened.id)  # of all profiles, as that of other exports
            provenance = Provenance(report.run, report.metrics, report.profiles, self._variants, store)
            small, large = (
                network_bundle(member.point, provenance, path, self._trained)
                for member, path in zip(chosen, paths, strict=True)
            )
        cascade = self.table.rows[number].cascade
        return write_cascade(cascade, threshold, (small, large), graph_path, self.table, self._trained)

    def _member(self, index: int, part: Part) -> Member:
        """A network of the front with its answers to a part."""
        point, latency, task = self._report.front[index], self._report.cost, self._trained.data.task
        network, variant = self._variants.split(point.architecture)
        if index not in self._models:
            scored = self._scoring.score_one(ScoringTask(network, variant, (), model=True))
            if scored.model is None:
                raise ExportFailedError(f"network {point.key}: {scored.failure}", code="export.scoring-failed")
            self._models[index] = scored.model
        logits = outputs_of(self._models[index], part, variant.runtime, together=task.scored_together)
        right = task.score("accuracy", logits, part.labels.numpy()).examples
        requests = [self._variants.request(point.architecture, latency, f) for f in (Fidelity.FINAL, Fidelity.SEARCH)]
        with self._opened.store() as store:
            runs_ms = _runs_ms(store, requests)
        values = point.values[latency.name], point.errors[latency.name]
        return Member(index, point, *values, runs_ms, confidence(logits), right)


def _runs_ms(store: RunStore, requests: list[Request]) -> NDArray[np.float64]:
    """Wall times of the timed runs of the first request with a value, (r,); empty where they are too few for a p99."""
    stored = store.find(requests)
    for request in requests:
        if request in stored and stored[request].value is not None:
            samples = store.samples(request) if stored[request].detail.get("p99_ms") is not None else None
            return np.empty(0) if samples is None else decode_samples(samples).raw_ms
    return np.empty(0)
