"""Writes a run as an Optuna study (Akiba et al. 2019, arXiv 1907.10902), for its dashboard and its analyses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import MetaData, Table, delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from nas.analysis.report import RunReport
from nas.analysis.run_measurements import MeasuredRun
from nas.errors import ExportFailedError
from nas.problem.objectives import Constraint, Goal
from nas.search.optuna import quiet
from nas.store import tables
from nas.store.base import Outcome, RunStore
from supernets.space import Architecture, SearchSpace

_TABLES = ("trials", "trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes")


def export_study(
    report: RunReport, store: RunStore, *, storage: str, name: str, replace: bool = False
) -> dict[str, Any]:
    """Writes one trial an evaluation, in the order told, and returns ``study``, ``storage``, ``trials`` and ``failed``.

    Parameters are the active genes with their options, values the figures seen while searching in their natural sign and
    unit. What failed is a failed trial. Bounds are Optuna's constraints: the share by which each is missed, negative
    where it is kept. User attributes tell errors, statuses, the architecture's key, and which trials are the run's front.

    Args:
        storage: a database's URL (``sqlite:///study.db``), or the path of a journal file.
        replace: an existing study of this name is deleted first.

    Raises:
        ExportFailedError: nothing is measured yet, there is a study of this name, or the storage cannot be opened or
            written.
    """
    trials = study_trials(report, store)
    if not trials:
        raise ExportFailedError(
            f"run {report.run!r} ({report.status}) has no evaluated network to write; `nas resume {report.run}` goes on "
            "with it"
        )
    try:
        with quiet():
            opened = _open(storage)
            _write(opened, report, trials, storage=storage, name=name, replace=replace)
    except (OSError, ImportError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        why = str(error).splitlines()[0]
        raise ExportFailedError(
            f"the study cannot be written to {storage}: {why}; expected a database's URL such as sqlite:///study.db, or the "
            "path of a journal file"
        ) from error
    n_failed = sum(trial.state is TrialState.FAIL for trial in trials)
    return {"study": name, "storage": storage, "trials": len(trials), "failed": n_failed}


def study_trials(report: RunReport, store: RunStore) -> list[FrozenTrial]:
    """The trials of a run, numbered as they were told."""
    search, finalists = store.search_facts(), store.state().finalists
    space = search.space
    measured = MeasuredRun(store, search, finalists, store.asks())
    distributions = {choice.name: CategoricalDistribution(choice.options) for choice in space.choices}
    numbers = {point.architecture: number for number, point in enumerate(report.front)}
    trials = []
    for architecture in measured.evaluated:
        outcomes = measured.outcomes(architecture)
        found = {metric.name: outcome for metric, outcome in zip(measured.metrics, outcomes, strict=True)}
        attributes = _attributes(
            report, architecture, found, measured.test_score(architecture), numbers.get(architecture)
        )
        trials.append(_trial(report, space, distributions, architecture, found, attributes))
    return trials


def _trial(
    report: RunReport,
    space: SearchSpace,
    distributions: Mapping[str, CategoricalDistribution],
    architecture: Architecture,
    found: Mapping[str, Outcome],
    attributes: dict[str, Any],
) -> FrozenTrial:
    params = dict(space.values(architecture))
    values = [found[o.name].value for o in report.objectives]
    failed = any(outcome.value is None for outcome in found.values())
    bounds = [] if failed else _slacks(report.constraints, found)
    trial = create_trial(
        state=TrialState.FAIL if failed else TrialState.COMPLETE,
        values=None if failed else [float(value) for value in values if value is not None],
        params=params,
        distributions={gene: distributions[gene] for gene in params},
        user_attrs=attributes,
        system_attrs={"constraints": bounds} if bounds else {},
    )
    # Naive local times, as Optuna writes them.
    trial.datetime_start = datetime.fromtimestamp(min(o.committed - o.seconds for o in found.values()))
    trial.datetime_complete = datetime.fromtimestamp(max(o.committed for o in found.values()))
    return trial


def _attributes(
    report: RunReport,
    architecture: Architecture,
    found: Mapping[str, Outcome],
    test: Mapping[str, float] | None,
    number: int | None,
) -> dict[str, Any]:
    attributes: dict[str, Any] = {"key": architecture.key}
    for name, outcome in found.items():
        if outcome.value is None:
            attributes[f"message:{name}"] = outcome.message
        elif outcome.error:
            attributes[f"error:{name}"] = outcome.error
        if all(o.name != name for o in report.objectives) and outcome.value is not None:
            attributes[name] = outcome.value
        attributes[f"status:{name}"] = str(outcome.status)
    attributes["precision"] = ", ".join(sorted({outcome.precision for outcome in found.values()}))
    if number is not None:
        attributes["front"] = number
        attributes["final"] = dict(report.front[number].values)
    if test is not None:
        attributes["test_accuracy"] = test["accuracy"]
    return attributes


def _slacks(constraints: Sequence[Constraint], found: Mapping[str, Outcome]) -> list[float]:
    """`Constraint.slacks` of each bound, which all have figures."""
    values = [(c, np.array(found[c.metric.name].value, dtype=np.float64)) for c in constraints]
    return [float(slack) for constraint, value in values for slack in constraint.slacks(value).values()]


def _open(storage: str) -> BaseStorage:
    if "://" in storage:
        _check_no_run(storage)
        return RDBStorage(storage)
    if not storage:
        raise ExportFailedError("--storage names nothing; expected a database's URL or the path of a journal file")
    path = Path(storage)
    if path.is_file() and not _is_journal(path):  # which Optuna would append to
        raise ExportFailedError(f"{storage} is there and no journal of Optuna; name another file")
    return JournalStorage(JournalFileBackend(str(path)))


def _check_no_run(url: str) -> None:
    """Raises `ExportFailedError` where a run is kept, which Optuna would add its tables to."""
    engine = sqlalchemy.create_engine(url)
    try:
        found = sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()
    if {tables.measurements.name, tables.lease.name} <= set(found):
        raise ExportFailedError(f"{url} is the database of a run; name another one for the study")


def _is_journal(path: Path) -> bool:
    """Whether a file is empty, or its first line one of Optuna's journals."""
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
            raise ExportFailedError(
                f"{storage} has a study named {name!r}; give another with --name, or replace it with --replace"
            )
        if isinstance(opened, RDBStorage):
            _delete_trials(opened, opened.get_study_id_from_name(name))
        optuna.delete_study(study_name=name, storage=opened)
    directions = ["maximize" if o.goal is Goal.MAXIMIZE else "minimize" for o in report.objectives]
    study = optuna.create_study(storage=opened, study_name=name, directions=directions)
    try:
        study.set_metric_names([o.name for o in report.objectives])
        study.set_user_attr("run", report.run)
        study.set_user_attr("reference", dict(report.reference))
        if isinstance(opened, RDBStorage):
            _insert(opened, study, trials)
        else:
            study.add_trials(trials)
    except BaseException:
        optuna.delete_study(study_name=name, storage=opened)
        raise


def _delete_trials(opened: RDBStorage, study_id: int) -> None:
    """All of a study's trials at once: `optuna.delete_study` loads each of their parameters to delete it, for minutes."""
    metadata = MetaData()
    metadata.reflect(opened.engine)
    own = select(metadata.tables["trials"].c.trial_id).where(metadata.tables["trials"].c.study_id == study_id)
    with opened.engine.begin() as connection:
        for name, table in metadata.tables.items():
            if name.startswith("trial_"):
                connection.execute(delete(table).where(table.c.trial_id.in_(own)))
        trials = metadata.tables["trials"]
        connection.execute(delete(trials).where(trials.c.study_id == study_id))


def _insert(opened: RDBStorage, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """All trials in one transaction.

    `Study.add_trials` looks for what there is before each of a trial's parameters: 70 ms a trial of 45, minutes for
    thousands. It writes the first one here, and checks with it that the tables are as this function knows them.

    Raises:
        ExportFailedError: this version of Optuna keeps trials in other tables, or reads others back.
    """
    study.add_trials(trials[:1])
    rest, study_id = trials[1:], opened.get_study_id_from_name(study.study_name)
    metadata = MetaData()
    try:
        metadata.reflect(opened.engine, only=_TABLES)
    except sqlalchemy.exc.InvalidRequestError as error:
        raise ExportFailedError(
            f"Optuna {optuna.__version__} keeps trials in other tables; export to a journal file: --storage study.log"
        ) from error
    known = metadata.tables
    with opened.engine.begin() as connection:
        start = 1 + int(connection.execute(select(func.max(known["trials"].c.trial_id))).scalar_one() or 0)
        for table, rows in _rows(rest, start, study_id).items():
            if rows:
                connection.execute(insert(_known(known[table], rows[0])), rows)
    last = opened.get_trial(start + len(rest) - 1) if rest else trials[0]
    same = (last.params, last.values, last.state) == (trials[-1].params, trials[-1].values, trials[-1].state)
    if opened.get_n_trials(study_id) != len(trials) or not same:
        raise ExportFailedError(
            f"Optuna {optuna.__version__} reads other trials than were written; export to a journal file: --storage study.log"
        )


def _known(table: Table, row: Mapping[str, Any]) -> Table:
    if not set(row) <= set(table.c.keys()):
        raise ExportFailedError(
            f"Optuna {optuna.__version__} keeps {table.name} otherwise; export to a journal file: --storage study.log"
        )
    return table


def _rows(trials: Sequence[FrozenTrial], start: int, study_id: int) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
    texts: dict[str, str] = {}
    for number, trial in enumerate(trials, start=1):
        own = {"trial_id": start + number - 1}
        rows["trials"].append(
            {**own, "number": number, "study_id": study_id, "state": trial.state.name,
             "datetime_start": trial.datetime_start, "datetime_complete": trial.datetime_complete}
        )  # fmt: skip
        for gene, option in trial.params.items():
            distribution = trial.distributions[gene]
            if gene not in texts:
                texts[gene] = distribution_to_json(distribution)
            level = distribution.to_internal_repr(option)
            rows["trial_params"].append(
                {**own, "param_name": gene, "param_value": level, "distribution_json": texts[gene]}
            )
        for objective, value in enumerate(trial.values or ()):
            rows["trial_values"].append({**own, "objective": objective, "value": value, "value_type": "FINITE"})
        for table, attributes in (("user", trial.user_attrs), ("system", trial.system_attrs)):
            rows[f"trial_{table}_attributes"] += [
                {**own, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()
            ]
    return rows
