"""Exports a run as an Optuna study (Akiba et al. 2019, arXiv 1907.10902), for Optuna's dashboard and analyses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from nas.engine.store import tables
from nas.engine.store.base import Outcome, RunStore
from nas.errors import REPEAT, ExportFailedError, Remedy
from nas.results.analysis.report import RunReport
from nas.results.analysis.run_measurements import MeasuredRun
from nas.search.optuna import quiet
from nas.search.problem.objectives import Constraint, Goal


def export_study(
    report: RunReport, store: RunStore, *, storage: str, name: str, replace: bool = False
) -> dict[str, Any]:
    """Writes one trial per evaluation, in their order, and returns ``study``, ``storage``, ``trials`` and ``failed``.

    Parameters are the active genes with their options, values the metrics measured by the search in their natural sign and
    unit. A failed evaluation is a failed trial. Bounds are Optuna's constraints: the share by which each is violated,
    negative where it is satisfied. User attributes hold errors, statuses, the architecture's key, and the position on the
    run's front.

    Args:
        storage: a database's URL (``sqlite:///study.db``), or the path of a journal file, which is written about ten times as
            fast: Optuna queries a database twice for each parameter.
        replace: an existing study of this name is deleted first.

    Raises:
        ExportFailedError: nothing is measured yet, a study of this name exists, or the storage cannot be opened or written.
    """
    trials = study_trials(report, store)
    if not trials:
        message = f"run {report.run!r} ({report.status}) has no evaluated network to write; resume the run"
        raise ExportFailedError(message, code="export.nothing-evaluated", remedy=Remedy("resume", report.run))
    try:
        with quiet():
            opened = _open(storage)
            _write(opened, report, trials, storage=storage, name=name, replace=replace)
    except (OSError, ImportError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
        expected = "a database's URL such as sqlite:///study.db, or a journal file's path"
        raise _unusable(f"the study cannot be written to {storage}: {why}; expected {expected}") from error
    n_failed = sum(trial.state is TrialState.FAIL for trial in trials)
    return {"study": name, "storage": storage, "trials": len(trials), "failed": n_failed}


def study_trials(report: RunReport, store: RunStore) -> list[FrozenTrial]:
    """The trials of a run, in the order of evaluation."""
    search = store.search_facts()
    measured = MeasuredRun(store, search, store.state().finalists, store.asks())
    distributions = {choice.name: CategoricalDistribution(choice.options) for choice in search.space.choices}
    numbers = {point.architecture: number for number, point in enumerate(report.front)}
    trials = []
    for architecture in measured.evaluated:
        outcomes = measured.outcomes(architecture)
        outcome_by_metric = {metric.name: outcome for metric, outcome in zip(measured.metrics, outcomes, strict=True)}
        attributes = {"key": architecture.key} | _attributes(report, outcome_by_metric, numbers.get(architecture))
        if (test := measured.test_score(architecture)) is not None:
            attributes[f"test_{report.scored.name}"] = test[report.scored.name]
        params = dict(search.space.values(architecture))
        trials.append(
            _trial(report, params, {gene: distributions[gene] for gene in params}, outcome_by_metric, attributes)
        )
    return trials


def _trial(
    report: RunReport,
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    outcomes: Mapping[str, Outcome],
    attributes: dict[str, Any],
) -> FrozenTrial:
    values = [outcomes[o.name].value for o in report.objectives]
    failed = any(outcome.value is None for outcome in outcomes.values())
    bounds = [] if failed else _slacks(report.constraints, outcomes)
    trial = create_trial(
        state=TrialState.FAIL if failed else TrialState.COMPLETE,
        values=None if failed else [float(value) for value in values if value is not None],
        params=params,
        distributions=distributions,
        user_attrs=attributes,
        system_attrs={"constraints": bounds} if bounds else {},
    )
    # Naive local times, as Optuna writes them.
    trial.datetime_start = datetime.fromtimestamp(min(o.committed - o.seconds for o in outcomes.values()))
    trial.datetime_complete = datetime.fromtimestamp(max(o.committed for o in outcomes.values()))
    return trial


def _attributes(report: RunReport, outcomes: Mapping[str, Outcome], number: int | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        if outcome.value is None:
            attributes[f"message:{name}"] = outcome.message
        elif outcome.error:
            attributes[f"error:{name}"] = outcome.error
        if all(o.name != name for o in report.objectives) and outcome.value is not None:
            attributes[name] = outcome.value
        attributes[f"status:{name}"] = str(outcome.status)
    for name in ("precision", "runtime"):
        attributes[name] = ", ".join(sorted({getattr(outcome, name) for outcome in outcomes.values()}))
    if number is not None:
        attributes["front"] = number
        attributes["final"] = dict(report.front[number].values)
    return attributes


def _slacks(constraints: Sequence[Constraint], outcomes: Mapping[str, Outcome]) -> list[float]:
    """`Constraint.slacks` of each bound."""
    values = [(c, np.array(outcomes[c.metric.name].value, dtype=np.float64)) for c in constraints]
    return [float(slack) for constraint, value in values for slack in constraint.slacks(value).values()]


def _open(storage: str) -> BaseStorage:
    if "://" in storage:
        _check_no_run(storage)
        return RDBStorage(storage)
    if not storage:
        message = "storage is empty; expected a database's URL or the path of a journal file"
        raise ExportFailedError(message, code="export.storage-unusable", parameter="storage")
    path = Path(storage)
    if path.is_file() and not _is_journal(path):  # Optuna would append to it
        raise _unusable(f"{storage} exists and is not an Optuna journal; choose another file")
    return JournalStorage(JournalFileBackend(str(path)))


def _check_no_run(url: str) -> None:
    """Raises `ExportFailedError` for the database of a run, to which Optuna would add its tables."""
    engine = sqlalchemy.create_engine(url)
    try:
        table_names = sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()
    if {tables.measurements.name, tables.lease.name} <= set(table_names):
        raise _unusable(f"{url} is the database of a run; choose another one for the study")


def _unusable(message: str) -> ExportFailedError:
    return ExportFailedError(message, code="export.storage-unusable")


def _is_journal(path: Path) -> bool:
    """Returns True if a file is empty, or its first line is one of Optuna's journals."""
    with path.open("rb") as file:
        line = file.readline()
    try:
        return not line or "op_code" in json.loads(line)
    except (ValueError, TypeError):
        return False


def _write(
    opened: BaseStorage, report: RunReport, trials: Sequence[FrozenTrial], *, storage: str, name: str, replace: bool
) -> None:
    if name in optuna.get_all_study_names(opened):
        if not replace:
            advice = "choose another name, or replace the study, which an interrupted export may have left"
            raise ExportFailedError(
                f"{storage} has a study named {name!r}; {advice}",
                code="export.study-exists",
                remedy=Remedy(REPEAT, options={"name": "NAME"}),
            )
        optuna.delete_study(study_name=name, storage=opened)
    directions = ["maximize" if o.goal is Goal.MAXIMIZE else "minimize" for o in report.objectives]
    study = optuna.create_study(storage=opened, study_name=name, directions=directions)
    try:
        study.set_metric_names([o.name for o in report.objectives])
        study.set_user_attr("run", report.run)
        study.set_user_attr("reference", dict(report.reference))
        study.add_trials(trials)
    except BaseException:
        optuna.delete_study(study_name=name, storage=opened)
        raise
