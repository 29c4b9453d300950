"""A run on disk, open for reading: its report, its plots, and (through the composition root) its exports."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nas.jobs
import nas.results
import nas.runs
from nas.engine.formatting import wait_text
from nas.engine.predictions import Predictions
from nas.engine.run_listing import next_step
from nas.engine.run_usage import usage_json
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import is_held
from nas.engine.store.stored_run import StoredRun
from nas.errors import JobError, SelectionError, StoreError, checked_path
from nas.jobs.run.run_options import RunOptions
from nas.results.analysis.failures import FailedNetwork, failed_networks
from nas.results.analysis.finetuned_runs import Finetuning, finetunings_of
from nas.results.analysis.insight import Insight, insight_of
from nas.results.analysis.network_selection import limits_of, parse_limits, within
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport, build_report
from nas.results.analysis.run_measurements import RecordedSteps
from nas.results.export.format_names import ONNX, TORCH, TRANSFORMERS

if TYPE_CHECKING:
    from nas.errors import Remedy
    from nas.jobs.build.job_data import JobData
    from nas.jobs.schema import SearchJob
    from nas.results.export.cascade import Cascades
    from supernets.data import DataSet


@dataclass(frozen=True)
class Run(StoredRun):
    """A run in any state, with its report, plots and exports; every access reads its store anew.

    Attributes:
        loaded_data: The data of the run, where they are loaded already; exports then do not read them again.
    """

    loaded_data: JobData | None = field(default=None, repr=False, compare=False)

    @property
    def job(self) -> SearchJob:
        """The job file that the run was started with."""
        return nas.jobs.stored_job(self)

    @property
    def report(self) -> RunReport:
        """Everything that is shown of a search."""
        return self.report_of(None)

    def report_of(self, profile: str | None) -> RunReport:
        """The report of one hardware profile alone; None is the joint one.

        Args:
            profile: Name of a hardware profile of the search: the report then has its objectives and those without a profile.
                None for all objectives.
        """
        with self.store() as store:
            return build_report(store, run=self.id, profile=profile)

    def report_and_insight(self, profile: str | None = None) -> tuple[RunReport, Insight]:
        """A report, see `report_of`, and its further results: convergence, predictions, genes, diversity.

        Args:
            profile: Name of a hardware profile of the search, as for `report_of`; None for all objectives.
        """
        with self.store() as store:
            steps = RecordedSteps.read(store)
            report = build_report(store, run=self.id, profile=profile, steps=steps)
            return report, insight_of(report, store, steps)

    def finetunings(self, report: RunReport | None) -> list[Finetuning]:
        """The runs that trained this one's networks further, oldest first; `report` is None for a training.

        Args:
            report: A report of this run, from which the values before the fine-tuning are read; None for a training.
        """
        with self.store() as store:
            return finetunings_of(self.runs, self.id, report, store)

    def failures(self) -> list[FailedNetwork]:
        """The networks that could not be measured, with the reasons; `StoreError` for a training."""
        with self.store() as store:
            return failed_networks(store, store.search_facts())

    @property
    def next_step(self) -> Remedy | None:
        """The step that continues it; None where it is finished, or has a driver."""
        live = is_held(self.folder)
        with self.store() as store:
            status, begun = store.status(), store.facts() is not None
        return next_step(self.folder, status, live=live, begun=begun)

    @property
    def waiting(self) -> str:
        """The reason for which it waits now, and since when, in words; "" while its driver works, and once it has ended."""
        live = is_held(self.folder)
        with self.store() as store:
            if store.status() not in (RunStatus.QUEUED, RunStatus.RUNNING):
                return ""
            return wait_text(store.state(), time.time(), live=live)

    @property
    def usage(self) -> dict[str, Any]:
        """Seconds by phase and peak memory, with what a plan expected; see `nas.engine.run_usage.usage_json`."""
        with self.store() as store:
            return usage_json(store)

    @property
    def front(self) -> tuple[Point, ...]:
        """The measured front, the fastest first."""
        return self.report.front

    def plot(self, folder: Path | None = None, *, select: str | None = None) -> list[Path]:
        """Writes the plots and the page, with the networks that were fine-tuned; returns their paths.

        Args:
            folder: Folder of the files; None is the run's own folder for them.
            select: Limits in place of the job's constraints, e.g. ``latency_ms<=1.0``: drawn as lines, with the front
                of what keeps them.
        """
        with self.store() as store:
            steps = RecordedSteps.read(store)
            report = build_report(store, run=self.id, steps=steps)
            limits = limits_of(report.constraints) if select is None else parse_limits(report, select)
            if select is not None:
                report = within(report, limits)
            insight = insight_of(report, store, steps)
            finetunings = finetunings_of(self.runs, self.id, report, store)
        predictions, remarks = None, []
        try:
            predictions = Predictions.read(self.folder.predictions_file)
        except StoreError as error:
            remarks = [str(error)]
        return nas.results.write_plots(
            report,
            folder or self.folder.plots,
            limits=limits,
            insight=insight,
            finetunings=finetunings,
            predictions=predictions,
            remarks=remarks,
        )

    def solve(self, select: str, *, accept_plugin_versions: bool = False, data: object = None) -> dict[str, Any]:
        """Measures the network that is best within limits by all measurements of a finished search, which keeps it.

        Args:
            select: Limits on costs, e.g. ``latency_ms<=1.0, parameters<=2e6``.
            accept_plugin_versions: Whether the run's plug-ins may be installed in other versions than it recorded.
            data: Data set that the run was started with, where that was an object passed from Python; None otherwise.

        Returns:
            The ``key`` of the best measured network within the limits; of the network that was solved for them its key
            (``solved``), ``predicted`` and ``measured`` values with ``errors``; see `nas.runs.solving.solve`.
        """
        objects = {} if data is None else {"data.name": data}
        options = RunOptions(self.runs, inline=True, objects=objects, accept_plugin_versions=accept_plugin_versions)
        return nas.runs.solve(self, select, options)

    def export(
        self,
        path: Path | str,
        *,
        format: str = ONNX,
        select: str | None = None,
        solve: bool = False,
        index: int | None = None,
        with_preprocessing: bool = False,
        accept_plugin_versions: bool = False,
        data: object = None,
    ) -> dict[str, Any]:
        """Writes one network, verified; see `export_onnx`, `export_torch` and `export_folder` in `nas.results`.

        Args:
            path: Path of the ONNX or Python file; or a folder, in which the file is named after the run and the network. Of
                other formats, a new or an empty folder.
            format: ``onnx``; ``torch``; or the folders ``transformers``, ``gguf``, ``genai`` and ``optimum``.
            select: Limits, e.g. ``latency_ms<=1.0``: the most accurate evaluated network that satisfies them; or ``key=0-2-1``,
                the network of this key. Of a training, limits on computed costs: the largest network that satisfies them.
            solve: Whether the network that is best within the limits by all measurements is measured first, see `solve`, whose
                result is then ``solved`` in what is returned.
            index: Position on the front, from 0, in place of `select`; without either, the knee of the front. A training has no
                front.
            with_preprocessing: Whether the graph takes decoded images of any size, and resizes and normalises them itself.
            accept_plugin_versions: Whether plug-ins of the networks may be installed in other versions than the run recorded;
                otherwise this is an error.
            data: Data set that the run was started with, where that was an object passed from Python; None otherwise.
        """
        solved: dict[str, Any] = {}
        if solve:
            if select is None:
                raise SelectionError("solve: expected limits to solve for, as select", code="selection.malformed")
            solved = self.solve(select, accept_plugin_versions=accept_plugin_versions, data=data)
            select = f"key={solved['key']}"
        options: dict[str, Any] = {
            "select": select,
            "index": index,
            "accept_plugin_versions": accept_plugin_versions,
            "data": self.loaded_data if data is None else data,
        }
        if format == ONNX:
            exported = nas.results.export_onnx(
                self.runs, self.id, Path(path), with_preprocessing=with_preprocessing, **options
            )
        elif format == TORCH:
            exported = nas.results.export_torch(self.runs, self.id, Path(path), **options)
        else:
            exported = nas.results.export_folder(self.runs, self.id, Path(path), format=format, **options)
        return {**exported, "solved": solved} if solve else exported

    def export_torch(
        self,
        path: Path | str,
        *,
        select: str | None = None,
        index: int | None = None,
        accept_plugin_versions: bool = False,
        data: object = None,
    ) -> dict[str, Any]:
        """Writes a network as a Python module of torch's layers; see `nas.results.export.torch_export.export_torch`.

        Args:
            path: Path of the Python file; or a folder, in which the file is named after the run and the network.
            select: Limits or a key, as for `export`; of a training, limits on computed costs, and None for the largest network.
            index: Position on the front, from 0, in place of `select`; without either, the knee. Ignored for a training.
            accept_plugin_versions: Whether plug-ins of the networks may be installed in other versions than the run recorded.
            data: Data set that the run was started with, where that was an object passed from Python; None otherwise.
        """
        return nas.results.export_torch(
            self.runs,
            self.id,
            Path(path),
            select=select,
            index=index,
            accept_plugin_versions=accept_plugin_versions,
            data=data,
        )

    def export_transformers(
        self,
        folder: Path | str,
        *,
        select: str | None = None,
        index: int | None = None,
        accept_plugin_versions: bool = False,
        data: object = None,
    ) -> dict[str, Any]:
        """Writes a network for the transformers library: `export` with ``format="transformers"``.

        Args:
            folder: A new or an empty folder.
            select: Limits or a key, as for `export`; of a training, limits on computed costs, and None for the largest network.
            index: Position on the front, from 0, in place of `select`; without either, the knee.
            accept_plugin_versions: Whether plug-ins of the networks may be installed in other versions than the run recorded.
            data: Data set that the run was started with, where that was an object passed from Python; None otherwise.
        """
        return self.export(
            folder,
            format=TRANSFORMERS,
            select=select,
            index=index,
            accept_plugin_versions=accept_plugin_versions,
            data=data,
        )

    def cascades(
        self, *, profile: str | None = None, accept_plugin_versions: bool = False, data: object = None
    ) -> Cascades:
        """The cascades of two networks of its front: see `nas.results.export.cascade.Cascades`.

        Args:
            profile: Name of the hardware profile whose latencies count; None for that of the job's first latency objective.
            accept_plugin_versions: Whether plug-ins of the networks may be installed in other versions than the run recorded.
            data: Data set that the run was started with, where that was an object passed from Python; None otherwise.
        """
        return nas.results.Cascades(self, profile=profile, accept_plugin_versions=accept_plugin_versions, data=data)

    def examples(self, *, data: object = None) -> DataSet:
        """The run's data in its parts, ``train``, ``validation`` and ``test``, each with names, inputs and labels.

        Args:
            data: The data set that the run was started with, where that was an object passed from Python.
        """
        return nas.jobs.load_run_data(self, data).dataset


def open_run(run: str, runs: Path | str = "runs") -> Run:
    """A run of a runs folder, for reading; `UnknownNameError` if there is none of this id.

    Args:
        run: Id of the run, e.g. ``digits-cnn-1``.
        runs: Folder of all runs, relative to the current directory unless it is absolute.
    """
    if not isinstance(run, str):
        raise JobError(f"run: expected the id of a run, e.g. 'digits-cnn-1', got {run!r}", code="job.invalid-value")
    return Run.open(RunsFolder(checked_path("runs", runs)), run)
