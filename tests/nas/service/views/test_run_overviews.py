"""Lists of runs: overviews of searches, labels, filters and orders."""

from __future__ import annotations

import os

import pytest

from nas.engine.formatting import format_value
from nas.engine.store.folder import RunsFolder
from nas.engine.store.sql import SqlStore
from nas.service.api.schemas import JobSubmission, RunLabels, RunsQuery
from nas.service.service import Service
from nas.service.views import run_summaries
from nas.service.views.run_overviews import RunOverview
from nas.service.views.run_summaries import natural_order
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.results.export.runs import BOARD, PROFILE, TWO
from tests.nas.service.made_runs import regressed, searched, trained

LATENCY = f"latency_ms@{PROFILE}"


def listed(service: Service, **options: object) -> list[str]:
    order = {name: options.pop(name) for name in ("sort", "descending", "offset", "limit") if name in options}
    return [run.run for run in service.runs.page(RunsQuery.model_validate({**options, **order})).runs]


def test_an_overview_has_the_best_of_the_front(service: Service, runs: RunsFolder) -> None:
    searched(runs, names=TWO)
    front = service.results.report("made-1").front
    found = service.runs.overviews(service.runs.page().runs)["made-1"]
    accuracy, latency = found.best("accuracy"), found.best("latency_ms")
    assert accuracy is not None
    assert latency is not None
    assert accuracy.value == max(p.values["accuracy"] for p in front)
    assert latency.value == min(p.values[LATENCY] for p in front)
    assert found.front == tuple((p.values[LATENCY], p.values["accuracy"]) for p in front)


def test_a_front_of_three_objectives_is_drawn_by_the_members_that_lead_in_two(
    service: Service, runs: RunsFolder
) -> None:
    searched(runs, names=[*TWO, f"latency_ms@{BOARD}"])
    front = service.results.report("made-1").front
    pairs = [(p.values[LATENCY], p.values["accuracy"]) for p in front]
    leading = [(x, y) for x, y in pairs if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in pairs)]
    assert list(service.runs.overviews(service.runs.page().runs)["made-1"].front) == sorted(leading)
    assert len(leading) < len(pairs)


def test_runs_without_results_have_no_overview(service: Service, runs: RunsFolder) -> None:
    trained(runs)
    searched(runs, name="none", limits={LATENCY: (None, 0.01)})
    assert service.runs.overviews(service.runs.page().runs) == {"none-1": RunOverview()}


def test_runs_are_sorted_by_their_best_values_and_those_without_come_last(service: Service, runs: RunsFolder) -> None:
    trained(runs)
    searched(runs, name="few", n=6, limits={LATENCY: (None, 0.5)})
    searched(runs, name="many", n=80)
    best = {run: service.runs.overviews(service.runs.page().runs)[run].best("accuracy") for run in ("few-1", "many-1")}
    rising = sorted(best, key=lambda run: best[run].value)  # type: ignore[union-attr]
    assert listed(service, sort="accuracy") == [*rising, "supernet-1"]
    assert listed(service, sort="accuracy", descending=True) == [*rising[::-1], "supernet-1"]
    assert listed(service, sort="run") == ["few-1", "many-1", "supernet-1"]
    assert listed(service, sort="started") == ["supernet-1", "few-1", "many-1"]
    assert listed(service, sort="evaluations", descending=True, limit=1) == ["many-1"]


def test_runs_of_other_tasks_are_sorted_by_their_metric_after_those_with_an_accuracy(
    service: Service, runs: RunsFolder
) -> None:
    searched(runs, n=6)
    regressed(runs, name="few", n=2)
    regressed(runs, name="many", n=40)
    overviews = service.runs.overviews(service.runs.page().runs)
    best = {run: overviews[run].score for run in ("few-1", "many-1")}
    errors = {run: score.value for run, score in best.items() if score is not None}
    worst_first = sorted(errors, key=lambda run: -errors[run])
    assert listed(service, sort="accuracy") == ["made-1", *worst_first]
    assert listed(service, sort="accuracy", descending=True) == ["made-1", *worst_first[::-1]]
    assert overviews["few-1"].best_text("accuracy") == f"mae {format_value(best['few-1'].metric, errors['few-1'])}"  # type: ignore[union-attr]


def test_numbers_of_runs_are_sorted_as_numbers() -> None:
    assert sorted(["a-10", "a-9", "b", "a-1"], key=natural_order) == ["a-1", "a-9", "a-10", "b"]


def test_a_run_shows_its_data_set_and_its_labels(service: Service, runs: RunsFolder) -> None:
    run = searched(runs)
    assert service.runs.summary("made-1").data == "digits"
    run.job_file.write_text(SMALL_JOB.replace("name: digits", "name: image-folder, path: /data/flowers"))
    assert service.runs.summary("made-1").data == "flowers"
    labelled = service.submissions.label("made-1", RunLabels(tags=("paper", "v2"), note="the one of table 3"))
    assert (labelled.tags, labelled.note) == (("paper", "v2"), "the one of table 3")
    assert service.runs.summary("made-1") == labelled
    searched(runs, name="second")
    assert listed(service, tag="v2") == ["made-1"]
    assert listed(service, tag="v2", kind="training") == []
    assert service.runs.filter_choices()["tag"] == ("paper", "v2")
    with raises("labels.invalid", "no word"):
        service.submissions.label("made-1", RunLabels(tags=("no word",)))
    run.labels_file.write_text("{")
    assert "labels.json" in service.runs.summary("made-1").note
    service.submissions.label("made-1", RunLabels())
    assert not service.runs.summary("made-1").note


def test_labels_of_no_run_are_refused(service: Service) -> None:
    with raises("run.unknown", "none-1"):
        service.submissions.label("none-1", RunLabels())


def test_a_list_waits_only_so_long_for_overviews_and_has_more_of_them_later(
    service: Service, runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        searched(runs, n=6)
    found = service.runs.page().runs
    now = iter(range(1000))
    monkeypatch.setattr(run_summaries.time, "monotonic", lambda: next(now))
    assert 0 < len(service.runs.overviews(found, within_s=3)) < 4
    monkeypatch.undo()
    assert len(service.runs.overviews(found)) == 4


def test_runs_are_filtered_by_data_submitter_and_their_best_values(service: Service, runs: RunsFolder) -> None:
    trained(runs)
    searched(runs)
    other = service.submissions.submit(JobSubmission(job=SMALL_JOB.replace("name: small", "name: adas")), "ada").run
    overview = service.runs.overviews(service.runs.page().runs)["made-1"]
    accuracy, latency = overview.best("accuracy"), overview.best("latency_ms")
    assert accuracy is not None
    assert latency is not None
    assert listed(service, submitter="ada") == [other]
    assert listed(service, data="digits") == [other, "made-1", "supernet-1"]
    assert listed(service, data="nothing") == []
    assert listed(service, min_accuracy=accuracy.value) == ["made-1"]
    assert listed(service, min_accuracy=accuracy.value + 1e-6) == []
    assert listed(service, max_latency_ms=latency.value) == ["made-1"]
    assert listed(service, max_latency_ms=latency.value - 1e-9, min_accuracy=0.0) == []
    assert service.runs.filter_choices() == {"tag": (), "data": ("digits",), "submitter": ("ada",)}


def test_runs_that_have_been_read_once_are_listed_without_their_stores(
    service: Service, runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (searched(runs), trained(runs)):
        for path in folder.path.glob(f"{folder.database.name}*"):
            os.utime(path, (1e9, 1e9))  # the stamps of files that were written a moment ago are not final
    service.runs.warm()

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("a store is opened")

    monkeypatch.setattr(SqlStore, "open", never)
    assert listed(service, min_accuracy=0.0, sort="accuracy") == ["made-1"]
    assert listed(service, status="finished", sort="run") == ["made-1", "supernet-1"]
