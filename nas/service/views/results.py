"""Results of searches as the API describes them: fronts, evaluations, predictions, picks and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from nas.engine.formatting import title_of
from nas.errors import NasError, RunStateError, SelectionError
from nas.results.analysis.network_selection import best_within, parse_limits, within
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport
from nas.service.api import schemas
from nas.service.views.comparison import compared, job_differences
from nas.service.views.networks import EVERYTHING, NetworkQuery, networks, networks_page, objective_info, objectives_of
from nas.service.views.run_index import RunIndex

_MAX_COMPARED = 16


class Results:
    """Results of the searches of a runs folder."""

    def __init__(self, index: RunIndex) -> None:
        self._index = index

    def report(self, run: str, profile: str | None = None) -> RunReport:
        """The report of a search, cached until its store changes: reading 10,000 evaluations takes a second.

        Raises:
            UnknownNameError: no such run, or it has no objective on such a profile.
            RunStateError: it is a training, or has not begun.
        """
        if not self._begun(run):
            raise RunStateError(f"run {run!r} has not begun; it has results once it runs", code="run.not-begun")
        return self._index.report(run, profile)

    def front(self, run: str, *, profile: str | None = None, select: str | None = None) -> schemas.Front:
        """The front of all profiles or of one, within the job's limits or those of ``select``.

        Empty for a search that has not begun.
        """
        if not self._begun(run):
            return schemas.Front(
                run=run, profile=profile, objectives=(), members=(), smallest=None, largest=None, nearest=None
            )
        report = self.report(run, profile)
        constraints, numbers = report.constraints, self._numbers(run)
        if select is not None:
            report = within(report, parse_limits(report, select))
            constraints = report.constraints

        def shown(point: Point | None) -> schemas.Network | None:
            return None if point is None else networks([point], constraints, numbers)[0]

        return schemas.Front(
            run=run,
            profile=profile,
            objectives=objectives_of(report),
            members=tuple(networks(report.front, constraints, numbers)),
            smallest=shown(report.anchors.get("smallest")),
            largest=shown(report.anchors.get("largest")),
            nearest=None if report.nearest is None else shown(report.nearest.point),
        )

    def evaluations(
        self, run: str, query: NetworkQuery = EVERYTHING, *, offset: int = 0, limit: int = 1000
    ) -> schemas.NetworksPage:
        """Evaluated networks; final values where there are some."""
        if not self._begun(run):
            return schemas.NetworksPage(run=run, total=0, offset=offset, networks=())
        return networks_page(self.report(run), query, offset=offset, limit=limit)

    def predicted(self, run: str, *, limit: int = 2000) -> schemas.NetworksPage:
        """Networks that were predicted and never measured."""
        if not self._begun(run):
            return schemas.NetworksPage(run=run, total=0, offset=0, networks=())
        report = self.report(run)
        # Constraints on metrics without a predictor cannot be checked.
        predicted = [c for c in report.constraints if c.metric in report.objectives]
        page = networks(report.predicted[:limit], predicted, {})
        return schemas.NetworksPage(run=run, total=len(report.predicted), offset=0, networks=tuple(page))

    def scored(self, run: str) -> str:
        """The metric that networks are scored by on the test part."""
        return (self.report(run).scored if self._begun(run) else self._index.snapshot(run).scored).name

    def training(self, run: str) -> schemas.Training:
        """The training of a run's supernet; empty before its first epoch ends, and where it is trained already."""
        history, snapshot = self._index.training(run), self._index.snapshot(run)
        metric = snapshot.scored
        field_names = schemas.EpochInfo.model_fields
        return schemas.Training(
            epochs=snapshot.epochs,
            history=tuple(
                schemas.EpochInfo.model_validate({name: epoch.get(name) for name in field_names}) for epoch in history
            ),
            best=history[-1].get("best") if history else None,
            metric=objective_info(metric),
            title=title_of(metric),
        )

    def trainings(self, runs: Sequence[str]) -> dict[str, schemas.Training]:
        """The trainings of those of the runs that can be read, by run."""
        trainings = {}
        for run in runs:
            with suppress(NasError):  # the list of runs shows the error
                trainings[run] = self.training(run)
        return trainings

    def genes(self, run: str) -> Mapping[str, Any]:
        """The importance of the space's genes, and the diversity of the front, as `insight_json` has them."""
        self.report(run)  # raises where there is none
        return self._index.genes(run)

    def predictors(self, run: str) -> tuple[schemas.PredictorInfo, ...]:
        """The accuracy of each objective's predictor."""
        predictors = self.report(run).predictors if self._begun(run) else {}
        return tuple(
            schemas.PredictorInfo(
                objective=name,
                latest=dict(predictor.latest),
                history=tuple({"step": step, **quality} for step, quality in predictor.history),
            )
            for name, predictor in predictors.items()
        )

    def steps(self, run: str, *, offset: int = 0, limit: int = 1000) -> schemas.SearchSteps:
        """The steps of a search, in order."""
        steps = self.report(run).steps if self._begun(run) else ()
        page = tuple(schemas.SearchStep(**step.to_json()) for step in steps[offset : offset + limit])
        return schemas.SearchSteps(run=run, total=len(steps), offset=offset, steps=page)

    def convergence(self, run: str) -> tuple[tuple[int, float], ...]:
        """(evaluations, hypervolume) over the search."""
        return self.report(run).hypervolume if self._begun(run) else ()

    def pick(self, run: str, select: str, *, profile: str | None = None) -> schemas.Network:
        """The most accurate measured network within limits."""
        report = self.report(run, profile)
        selected = within(report, parse_limits(report, select))
        point = best_within(selected, select)
        return networks([point], selected.constraints, self._numbers(run))[0]

    def compare(self, runs: Sequence[str]) -> schemas.Comparison:
        """Searches compared in their common objectives, from one reference point."""
        run_ids = list(dict.fromkeys(runs))
        if not 1 <= len(run_ids) <= _MAX_COMPARED:
            raise SelectionError(f"expected 1 to {_MAX_COMPARED} runs to compare, got {len(run_ids)}")
        reports = [self.report(run) for run in run_ids]
        bases = {run: self._index.basis(run) for run in run_ids}
        return compared(reports, bases, self.job_differences(run_ids))

    def job_differences(self, runs: Sequence[str]) -> tuple[schemas.JobDifference, ...]:
        """The keys in which the runs' job files differ, of those that can be read; empty where that is less than two."""
        jobs = {}
        for run in runs:
            # There is no such run, or its job file is damaged: the caller reads its results, too.
            with suppress(NasError):
                jobs[run] = self._index.written_job(run)
        return job_differences(jobs) if len(jobs) > 1 else ()

    def _begun(self, run: str) -> bool:
        """True if a driver has begun the search.

        Raises:
            RunStateError: The run is a training.
        """
        snapshot = self._index.snapshot(run)
        if snapshot.kind == "training":
            text = f"run {run!r} is a training and has no front; search its supernet by a job with"
            raise RunStateError(f"{text}   supernet: {{from: {run}}}", code="run.not-a-search")
        return snapshot.begun

    def _numbers(self, run: str) -> dict[str, int]:
        return {point.key: number for number, point in enumerate(self._index.report(run).front)}
