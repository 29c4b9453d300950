"""A run as an Optuna study, read back by Optuna itself."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nas.engine.store.base import RunStore
from nas.engine.store.memory import MemoryStore
from nas.engine.store.sql import SqlStore
from nas.errors import REPEAT, Remedy
from nas.results.analysis.report import build_report
from nas.results.export.optuna_study import export_study
from nas.search.problem.objectives import Objective
from nas.search.problem.variants import Variants
from supernets.space import Architecture
from tests.errors import raises
from tests.nas.results.export.runs import PROFILE, SPACE, TWO, example_run, fail

LATENCY = f"latency_ms@{PROFILE}"


def exported(store: RunStore, path: Path, **how: bool) -> optuna.Study:
    storage = f"sqlite:///{path / 'study.db'}"
    export_study(build_report(store, run="example-1"), store, storage=storage, name="example-1", **how)
    return optuna.load_study(study_name="example-1", storage=storage)


def broken() -> tuple[RunStore, Architecture]:
    """A run whose last evaluation failed."""
    store = example_run(final=False)
    evaluated = {a for step in store.asks() for a in step}
    new = next(a for a in SPACE.enumerate() if a not in evaluated)
    store.record_ask(len(store.asks()), [new])
    fail(store, new, [Objective.parse(name, [PROFILE]) for name in TWO])
    return store, new


def test_the_best_trials_are_the_front(tmp_path: Path) -> None:
    store = example_run(final=False)
    report, study = build_report(store, run="example-1"), exported(store, tmp_path)
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == list(TWO)
    assert {t.user_attrs["key"] for t in study.best_trials} == {p.key for p in report.front}
    numbered = {t.user_attrs["front"]: t.user_attrs["key"] for t in study.trials if "front" in t.user_attrs}
    assert numbered == {i: p.key for i, p in enumerate(report.front)}


def test_trials_hold_the_measurements_in_the_order_of_evaluation(tmp_path: Path) -> None:
    store = example_run()
    report, study = build_report(store, run="example-1"), exported(store, tmp_path)
    assert len(study.trials) == len(report.evaluated) == 40
    for i, (trial, point) in enumerate(zip(study.trials, report.evaluated, strict=True)):
        assert (trial.number, trial.state) == (i, TrialState.COMPLETE)
        assert trial.params == dict(point.described)
        assert trial.values == [point.values[name] for name in TWO]
        assert trial.user_attrs[f"error:{LATENCY}"] == point.errors[LATENCY]
        assert trial.user_attrs["precision"] == "fp32"
        assert trial.user_attrs["status:accuracy"] == "ok"
        assert trial.datetime_complete is not None
        assert trial.datetime_complete.timestamp() == pytest.approx(point.committed, abs=1e-3)
    member = next(t for t in study.trials if t.user_attrs.get("front") == 0)
    assert member.user_attrs["final"] == dict(report.front[0].values)
    # An inactive gene is no parameter; options of every active one are all of the space's.
    distributions = {c.name: optuna.distributions.CategoricalDistribution(c.options) for c in SPACE.choices}
    assert study.trials[1].distributions == {name: distributions[name] for name in study.trials[1].params}
    assert "block3.kernel" not in study.trials[0].params


def test_a_failed_evaluation_is_a_failed_trial_with_its_message(tmp_path: Path) -> None:
    store, new = broken()
    trial = exported(store, tmp_path).trials[-1]
    assert (trial.state, trial.values, trial.user_attrs["key"]) == (TrialState.FAIL, None, new.key)
    assert trial.user_attrs[f"message:{LATENCY}"] == "the worker died"


def test_bounds_are_constraints_of_the_study(tmp_path: Path) -> None:
    store = example_run(limits={"accuracy": (0.8, None)}, final=False)
    report, study = build_report(store, run="example-1"), exported(store, tmp_path)
    assert {t.user_attrs["key"] for t in study.best_trials} == {p.key for p in report.front}
    for trial, point in zip(study.trials, report.evaluated, strict=True):
        (missed,) = trial.system_attrs["constraints"]
        assert missed == pytest.approx((0.8 - point.values["accuracy"]) / 0.8)


def test_precision_is_a_parameter(tmp_path: Path) -> None:
    study = exported(example_run(variants=Variants(("int8", "fp32"))), tmp_path)
    assert {t.params["precision"] for t in study.trials} == {"int8", "fp32"}
    assert all(t.params["precision"] == t.user_attrs["precision"] for t in study.trials)


def test_an_existing_study_is_replaced_only_when_asked(tmp_path: Path) -> None:
    store = example_run()
    exported(store, tmp_path)
    with raises("export.study-exists", "example-1", remedy=Remedy(REPEAT, options={"name": "NAME"})):
        exported(store, tmp_path)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    export_study(build_report(store, run="other"), store, storage=storage, name="other")
    assert len(exported(example_run(n=12), tmp_path, replace=True).trials) == 12
    assert len(optuna.load_study(study_name="other", storage=storage).trials) == 40


def test_a_journal_file_holds_the_same(tmp_path: Path) -> None:
    store, path = example_run(n=12), tmp_path / "study.log"
    made = export_study(build_report(store, run="x"), store, storage=str(path), name="x")
    assert made == {"study": "x", "storage": str(path), "trials": 12, "failed": 0}
    study = optuna.load_study(study_name="x", storage=JournalStorage(JournalFileBackend(str(path))))
    other = exported(store, tmp_path)
    assert [(t.params, t.values, t.user_attrs) for t in study.trials] == [
        (t.params, t.values, t.user_attrs) for t in other.trials
    ]


def test_a_storage_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    store = example_run(n=12)
    report = build_report(store, run="x")
    for storage in (f"sqlite:///{tmp_path}/no/study.db", "nosuch://x", str(tmp_path / "no" / "study.log")):
        with raises("export.storage-unusable", storage) as found:
            export_study(report, store, storage=storage, name="x")
        assert "Errno" not in str(found.value)


@pytest.mark.parametrize("content", [b"name: small", b'{"a": 1}\n', b"[1]\n", b"1\n", b"\xff\xfe\n"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    store = example_run(n=12)
    with raises("export.storage-unusable", "job.yaml"):
        export_study(build_report(store, run="x"), store, storage=str(path), name="x")
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["job.yaml"]


def test_the_database_of_a_run_is_left_alone(tmp_path: Path) -> None:
    SqlStore.open(tmp_path / "run.db", create=True, driver=True).close()
    store = example_run(final=False)
    with raises("export.storage-unusable", "run.db"):
        export_study(
            build_report(store, run="example-1"), store, storage=f"sqlite:///{tmp_path / 'run.db'}", name="example-1"
        )
    with sqlite3.connect(tmp_path / "run.db") as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert "measurements" in names
    assert "studies" not in names


def test_a_run_without_evaluations_makes_no_study(tmp_path: Path) -> None:
    store, facts = MemoryStore(), example_run(n=12).facts()
    assert facts is not None
    store.describe(facts)
    with raises("export.nothing-evaluated", "x", remedy=Remedy("resume", "x")):
        export_study(build_report(store, run="x"), store, storage=str(tmp_path / "study.log"), name="x")
    assert not list(tmp_path.iterdir())


def test_optuna_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(example_run(n=12), tmp_path)
    assert capsys.readouterr() == ("", "")
