"""The runs that fine-tuned networks of a run, with their results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import nas.jobs
from nas.engine.formatting import change_text
from nas.engine.store.base import INTERRUPTED, RunStatus, RunStore, shown_status
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.opening import is_held, open_store
from nas.errors import JobError, StoreError
from nas.results.analysis.finetuning_improvement import FinetunedNetwork, Improvement, improvement_between, network_of
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport, build_report
from nas.results.analysis.report_json import point_json
from nas.search.problem.objectives import ACCURACY, Objective
from supernets.space import Architecture

if TYPE_CHECKING:
    from nas.jobs.schema import SearchJob


@dataclass(frozen=True, slots=True)
class Finetuning:
    """A run that fine-tunes, or fine-tuned, one network of another run.

    Attributes:
        status: Status as stored, or ``damaged``, or ``starting`` while its driver creates it; with its reason.
        live: True if a driver holds the run now.
        epoch, epochs: Last epoch of the training, and number of its epochs.
        metrics: Metrics that the run measures.
        before: The network as measured by the other run; None where it was not.
        after: The network as measured by this run; None before that.
        improvement: None until the run is finished, or where the other run is a training, which has no measurements.
    """

    run: str
    of: FinetunedNetwork
    status: str
    live: bool
    reason: str = ""
    epoch: int = 0
    epochs: int = 0
    metrics: tuple[Objective, ...] = ()
    before: Point | None = None
    after: Point | None = None
    improvement: Improvement | None = None

    @property
    def scored(self) -> Objective:
        """The metric of the task."""
        return ACCURACY if self.improvement is None else self.improvement.scored

    @property
    def summary(self) -> list[str]:
        """Texts: the scores before and after, and the verdict; the status while there are none."""
        if self.improvement is None:
            return [self._status_text]
        changes = self.improvement.parts.items()
        scored = self.scored
        texts = [f"{part} {scored.name} {change_text(scored, c.before, c.after)}" for part, c in changes]
        return [*texts, self.improvement.verdict]

    @property
    def interrupted(self) -> bool:
        """True if it has lost its driver, so that it can be resumed."""
        return shown_status(self.status, live=self.live) == INTERRUPTED

    @property
    def _status_text(self) -> str:
        if self.status == RunStatus.FINISHED:
            return str(self.status)
        shown = shown_status(self.status, live=self.live)
        reason = f"resume the run {self.run}" if self.interrupted else self.reason
        return f"{shown} after {self.epoch} of {self.epochs} epochs" + (f"; {reason}" if reason else "")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "run": self.run,
            "of": self.of.run,
            "network": self.of.network.key,
            "precision": self.of.precision,
            "status": self.status,
            "live": self.live,
            "reason": self.reason,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "before": None if self.before is None else point_json(self.before),
            "after": None if self.after is None else point_json(self.after),
            "gain": None if self.improvement is None else self.improvement.to_json(),
        }


def finetunings_of(runs: RunsFolder, run: str, report: RunReport | None, store: RunStore) -> list[Finetuning]:
    """The runs of a folder that fine-tune one network of a run with this store and report (None: a training), oldest first."""
    finetunings = []
    for folder, job in _jobs_of(runs, run):
        network, variant = Architecture.parse(str(job.supernet.network)), job.first_variant
        of = FinetunedNetwork(run, network, variant, None)
        if report is not None:
            of = network_of(run, store, network, variant)
        finetunings.append(_finetuning(folder, of, report, store))
    return finetunings


def _finetuning(folder: RunFolder, of: FinetunedNetwork, report: RunReport | None, store: RunStore) -> Finetuning:
    """The status and results of a run that fine-tunes one network of another; see `finetunings_of`."""
    live = is_held(folder)
    try:
        finetuned = open_store(folder)
    except StoreError as error:  # or its driver is creating it now
        return Finetuning(folder.id, of, "starting" if live else "damaged", live, "" if live else str(error))
    with closing(finetuned):
        status, facts = finetuned.status(), finetuned.facts()
        place = None if report is None or of.key is None else report.candidates.places.get(of.key)
        before = None if report is None or place is None else report.candidates[place]
        epochs = 0 if facts is None else facts.epochs
        begun = Finetuning(
            folder.id, of, str(status), live, finetuned.reason(), finetuned.state().epoch, epochs, before=before
        )
        if status is not RunStatus.FINISHED or facts is None or facts.search is None:
            return begun
        measured = build_report(finetuned, run=folder.id)
        after = next((p for p in measured.candidates if (p.precision or of.precision) == of.precision), None)
        improvement = None if report is None else improvement_between(of, finetuned, store)
        return replace(begun, metrics=measured.columns, after=after, improvement=improvement)


def may_finetune(folder: RunFolder, *, of: str = "") -> bool:
    """Returns True if a run may be a fine-tuning, by the text of its job file; much faster than reading the job.

    Args:
        folder: The folder of the run.
        of: The run whose network it fine-tunes; "" for any.
    """
    try:
        text = folder.job_file.read_bytes()
    except OSError:  # no run, or one that is being created
        return False
    return b"network:" in text and of.encode() in text


def _jobs_of(runs: RunsFolder, run: str) -> Iterator[tuple[RunFolder, SearchJob]]:
    """The runs of a folder whose job fine-tunes one network of a run, oldest first, each with its job."""
    folders = (RunFolder(path) for path in runs.root.iterdir())
    finetuning_folders = [folder for folder in folders if may_finetune(folder, of=run) and folder.holds_a_run]
    if not finetuning_folders:
        return

    for folder in sorted(finetuning_folders, key=lambda folder: (folder.written, folder.id)):
        with suppress(JobError):  # a damaged job file; `nas show` of that run reports it
            job = nas.jobs.load_job(folder.job_file, stored=True)
            if job.supernet.from_ == run and job.supernet.network is not None:
                yield folder, job
