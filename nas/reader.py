"""A run on disk, open for reading: its report, its plots, and (through the composition root) its exports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from nas.export.points import Point
from nas.export.report import RunReport, build_report
from nas.export.rows import Guidance
from nas.store.base import RunStore
from nas.store.folder import RunFolder, RunsFolder
from nas.store.opening import open_store

if TYPE_CHECKING:
    from nas.config import SearchJob
    from nas.export.finetunings import Finetuning
    from nas.export.insight import Insight

Kind = Literal["training", "search"]


@dataclass(frozen=True)
class Run:
    """A run, whatever its state; every access reads its store anew."""

    folder: RunFolder
    runs: RunsFolder

    @classmethod
    def open(cls, runs: RunsFolder, run: str) -> Run:
        """The run of this id.

        Raises:
            UnknownNameError: there is none.
        """
        return cls(runs.get(run), runs)

    @property
    def id(self) -> str:
        """The run's name in commands."""
        return self.folder.id

    @contextmanager
    def store(self) -> Iterator[RunStore]:
        """The run's store, for reading."""
        store = open_store(self.folder)
        try:
            yield store
        finally:
            store.close()

    @property
    def kind(self) -> Kind:
        """Whether it trains a supernet only, or searches one."""
        with self.store() as store:
            return cast(Kind, store.info().get("kind", "search"))

    @property
    def job(self) -> SearchJob:
        """The job that made it."""
        from nas.config import load_job  # pydantic's models, which a report does without

        return load_job(self.folder.job_file)

    @property
    def report(self) -> RunReport:
        """Everything that is shown of a search."""
        return self.report_of(None)

    def report_of(self, profile: str | None) -> RunReport:
        """The report of one hardware profile alone; None is the joint one.

        Raises:
            UnknownNameError: the run has no objective on such a profile.
        """
        with self.store() as store:
            return build_report(store, run=self.id, profile=profile)

    def report_and_insight(self, profile: str | None = None) -> tuple[RunReport, Insight]:
        """A report, see `report_of`, and what the run tells beyond its front: convergence, predictions, genes, diversity."""
        from nas.export.insight import insight_of

        with self.store() as store:
            guidance = Guidance.of(store)
            report = build_report(store, run=self.id, profile=profile, guidance=guidance)
            return report, insight_of(report, store, guidance)

    def finetunings(self, report: RunReport | None) -> list[Finetuning]:
        """The runs that trained this one's networks further, with what that came to, oldest first.

        Args:
            report: this run's, see `report_of`; None for a training, which has none.
        """
        from nas.export.finetunings import finetunings_of

        with self.store() as store:
            return finetunings_of(self.runs, self.id, report, store)

    @property
    def front(self) -> tuple[Point, ...]:
        """The measured front, the fastest first."""
        return self.report.front

    def plot(self, folder: Path | None = None, *, select: str | None = None, processes: int = 1) -> list[Path]:
        """Writes the plots and the page, with the networks that were trained further; returns their paths.

        Args:
            folder: where; None is the run's own folder for them.
            select: limits in place of the job's constraints, e.g. ``latency_ms<=1.0``: drawn as lines, with the front
                of what keeps them.
            processes: from 2 on, so many others draw the pictures, a fork of this one and forks of it: quicker, for a
                program of one thread.
        """
        from nas.export.finetunings import finetunings_of
        from nas.export.insight import insight_of
        from nas.export.plot_files import drawing_beside, write_plots
        from nas.export.select import limits_of, parse_limits, within

        with drawing_beside(processes) as draw:
            with self.store() as store:
                guidance = Guidance.of(store)
                report = build_report(store, run=self.id, guidance=guidance)
                limits = limits_of(report.constraints) if select is None else parse_limits(report, select)
                if select is not None:
                    report = within(report, limits)
                insight = insight_of(report, store, guidance)
                further = finetunings_of(self.runs, self.id, report, store)
            return write_plots(
                report, folder or self.folder.plots, limits=limits, insight=insight, further=further, draw=draw
            )

    def export(self, path: Path | str, *, select: str | None = None, index: int | None = None) -> dict[str, Any]:
        """Writes one network as checked ONNX; see `nas.exports.export`."""
        from nas.exports import export  # torch, which reading does without

        return export(self.runs, self.id, Path(path), select=select, index=index)


def open_run(run: str, runs: Path | str = "runs") -> Run:
    """A run of a runs folder, for reading.

    Raises:
        UnknownNameError: there is none of this id.
    """
    return Run.open(RunsFolder(Path(runs)), run)
