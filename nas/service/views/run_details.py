"""A run with what it is made of."""

from __future__ import annotations

from typing import Any

from nas.analysis.report import RunReport
from nas.api import schemas
from nas.engine.run import Run
from nas.errors import StoreError
from nas.problem.objectives import Constraint
from nas.service.submissions import SUBMITTED, Submissions
from nas.service.views.networks import objectives_of
from nas.service.views.results import Results
from nas.service.views.run_kind import Kinds
from nas.store.base import Event
from nas.store.folder import RunFolder, RunsFolder

_EVENTS = 50


class Details:
    """What is told of one run beyond its summary."""

    def __init__(self, runs: RunsFolder, submissions: Submissions, results: Results, kinds: Kinds) -> None:
        self._runs, self._submissions, self._results, self._kinds = runs, submissions, results, kinds

    def of(self, run: str) -> schemas.RunDetail:
        """See `Service.detail`."""
        summary, kind = self._submissions.summary(run), self._kinds.of(run)
        opened = Run.open(self._runs, run)
        with opened.store() as store:
            info, events = store.info(), store.events()
        report = self._results.report(run) if kind.begun and kind.kind == "search" else None
        return schemas.RunDetail(
            **summary.model_dump(),
            job=_job(opened.folder),
            objectives=() if report is None else objectives_of(report),
            constraints=() if report is None else tuple(map(_constraint, report.constraints)),
            profiles=() if report is None else report.profiles,
            precisions=() if report is None else tuple(map(str, info.get("precisions") or ("fp32",))),
            algorithm=None if report is None else info.get("algorithm"),
            **_front(report),
            events=tuple(map(_event, events[-_EVENTS:])),
        )


def _front(report: RunReport | None) -> dict[str, Any]:
    if report is None:
        return {"front_size": 0, "hypervolume": None, "reference": {}}
    return {
        "front_size": len(report.front),
        "hypervolume": report.front_hypervolume,
        "reference": dict(report.reference),
    }


def _job(folder: RunFolder) -> str:
    submitted = folder.path / SUBMITTED
    path = submitted if submitted.is_file() else folder.job_file
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None


def _constraint(constraint: Constraint) -> schemas.ConstraintInfo:
    return schemas.ConstraintInfo(figure=constraint.metric.name, minimum=constraint.minimum, maximum=constraint.maximum)


def _event(event: Event) -> dict[str, object]:
    return {"kind": event.kind, "time": event.time, "detail": dict(event.detail)}
