"""Runs of the service, shown, cancelled, resumed and deleted, with a job runner that runs nothing."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from nas.engine.run_listing import RunSnapshot
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.engine.store.run_state import Away
from nas.errors import NasError, RunHeldError, ServiceError, StoreError, UnknownNameError
from nas.runs.run import Run
from nas.search.problem.objectives import Fidelity, Measurement, Status
from nas.service.api.schemas import JobSubmission, ResumeRequest, RunsQuery
from nas.service.jobs.dispatcher import driver_command, requeue_run
from nas.service.jobs.driver_jobs import log_of, new_log
from nas.service.jobs.job_runner import JobState
from nas.service.pages.rendering import may, shown_status
from nas.service.rest_routes.operations import readiness
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import RequestedState, ServiceState, Submission, TaskKind, TaskStatus
from nas.service.views.networks import NetworkQuery
from nas.service.views.run_index import RunIndex
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.service.made_runs import Jobs, searched, trained


def mark(runs: RunsFolder, run: str, status: RunStatus, reason: str = "") -> None:
    store = open_store(runs.get(run), driver=True)
    store.set_status(status, reason=reason)
    store.close()


def started(service: Service, jobs: Jobs, run: str, attempt: int = 1) -> str:
    """As the dispatcher starts a run's driver."""
    service.state.change(run, attempt=attempt, started=True)
    job = job_of(service, run, attempt)
    jobs.start(job, ["nas", "drive", run], new_log(service.settings.runs.get(run), job))
    return job


def test_runs_are_listed_newest_first_and_filtered(service: Service, runs: RunsFolder) -> None:
    searched(runs, name="by-hand")
    trained(runs)
    service.submissions.submit(JobSubmission(job=SMALL_JOB))
    assert [r.run for r in service.runs.page().runs] == ["small-1", "supernet-1", "by-hand-1"]
    assert [r.run for r in service.runs.page(RunsQuery(status="finished")).runs] == ["supernet-1", "by-hand-1"]
    assert [r.run for r in service.runs.page(RunsQuery(kind="training")).runs] == ["supernet-1"]
    assert [r.run for r in service.runs.page(RunsQuery(name="HAND")).runs] == ["by-hand-1"]
    page = service.runs.page(RunsQuery(offset=1, limit=1))
    assert (page.total, page.offset, [r.run for r in page.runs]) == (3, 1, ["supernet-1"])


def test_a_run_that_is_started_again_while_its_status_is_read_is_not_shown_as_ended(
    service: Service, runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = searched(runs).id
    mark(runs, run, RunStatus.CANCELLED)
    service.submissions.resume(run, ResumeRequest(evaluations="+3"))
    read = RunIndex.last_snapshot

    def starts_after(index: RunIndex, name: str) -> RunSnapshot:
        snapshot = read(index, name)
        requeue_run(runs.get(name))
        service.state.change(name, attempt=1, started=True)
        return snapshot

    monkeypatch.setattr(RunIndex, "last_snapshot", starts_after)
    assert service.runs.summary(run).status == "queued"
    assert service.runs.summary(run).status == "queued"


def test_failures_are_retried_by_a_resume(service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    with raises("run.nothing-failed", run):
        service.submissions.resume(run, ResumeRequest(retry_failed=True))
    store = open_store(runs.get(run), driver=True)
    request = replace(store.measurements()[-1].request, fidelity=Fidelity.SEARCH)
    known = store.find([request])[request]
    noise = {"too_noisy": True}
    store.add(replace(known, status=Status.FAILED, value=None, error=None, attempt=known.attempt + 1, detail=noise))
    store.close()
    counts = service.runs.summary(run).counts
    assert (counts.measured + counts.noisy, counts.too_noisy, counts.failed) == (39, 1, 0)
    page = service.results.evaluations(run, NetworkQuery(status="too-noisy"))
    assert [network.key for network in page.networks] == [request.architecture.key]
    assert service.submissions.resume(run, ResumeRequest(retry_failed=True)).status == "queued"
    submission = service.state.submission(run)
    assert submission is not None
    command = driver_command(service.settings, submission, None)
    assert "--retry-failed" in command
    assert submission.options["extension"] in command


def test_reasons_that_drivers_and_tasks_stored_have_no_path_of_the_server(service: Service, runs: RunsFolder) -> None:
    folder = searched(runs, final=False)
    store = open_store(folder, driver=True)
    (request, *_) = [m.request for m in store.measurements()]
    message = f"{folder.checkpoint}/weights.safetensors cannot be read"
    store.add(Measurement(request, Status.FAILED, None, None, message=message, attempt=7))
    store.set_status(RunStatus.FAILED, reason=f"{message}; restore it, or train again")
    store.close()
    shown = service.runs.summary(folder.id).reason
    assert shown == f"{folder.id}/checkpoint/weights.safetensors cannot be read; restore it, or train again"
    page = service.results.evaluations(folder.id, NetworkQuery(status="failed"))
    (network,) = page.networks
    assert str(runs.root) not in network.reason
    assert f"{folder.id}/checkpoint" in network.reason
    service.state.add_task("export-1", TaskKind.EXPORT, folder.id, {"result": str(folder.path / "x"), "asked": {}})
    service.state.change_task("export-1", TaskStatus.FAILED, reason=f"{message}; choose another")
    (task,) = service.tasks.all()
    assert task.reason == f"{folder.id}/checkpoint/weights.safetensors cannot be read; choose another"


def test_a_damaged_run_is_listed_with_its_error(service: Service, runs: RunsFolder) -> None:
    folder = searched(runs)
    folder.database.write_bytes(b"nothing of a database" * 100)
    (only,) = service.runs.page().runs
    assert only.status == "failed"
    assert "is damaged" in only.reason
    with pytest.raises(StoreError, match=folder.id):
        service.runs.summary(folder.id)


def test_the_detail_of_a_search_has_its_objectives_and_events(service: Service, runs: RunsFolder) -> None:
    run = searched(runs, limits={"macs": (None, 1e9)}).id
    store = open_store(runs.get(run), driver=True)
    for i in range(60):
        store.record_event("warning", {"text": f"number {i}"})
    store.close()
    detail = service.runs.detail(run)
    assert detail.algorithm == "guided"
    assert [o.name for o in detail.objectives] == ["accuracy", "latency_ms@cpu-1-thread"]
    assert [(c.figure, c.minimum, c.maximum) for c in detail.constraints] == [("macs", None, 1e9)]
    assert (detail.profiles, detail.precisions) == (("cpu-1-thread",), ("fp32",))
    assert detail.front_size == len(service.results.front(run).members)
    assert detail.hypervolume == service.results.report(run).front_hypervolume
    assert set(detail.reference) == {"accuracy", "latency_ms@cpu-1-thread"}
    assert len(detail.events) == 50
    assert detail.events[-1]["detail"] == {"text": "number 59"}


def test_the_detail_of_a_training_has_no_objectives(service: Service, runs: RunsFolder) -> None:
    detail = service.runs.detail(trained(runs).id)
    assert (detail.kind, detail.epoch, detail.epochs) == ("training", 4, 4)
    assert (detail.objectives, detail.front_size, detail.hypervolume) == ((), 0, None)


def job_of(service: Service, run: str, attempt: int) -> str:
    submission = service.state.submission(run)
    assert submission is not None
    return submission.job_of(attempt)


def test_cancelling_is_durable_and_idempotent(service: Service, jobs: Jobs, runs: RunsFolder) -> None:
    run = service.submissions.submit(JobSubmission(job=SMALL_JOB)).run
    started(service, jobs, run)
    assert service.submissions.cancel(run).reason == "is being cancelled"
    again = ServiceState.open(service.settings.database)
    submission = again.submission(run)
    again.close()
    assert submission is not None
    assert submission.wanted is RequestedState.CANCELLED
    service.submissions.cancel(run)
    mark(runs, run, RunStatus.CANCELLED, "interrupted")
    jobs.stop(job_of(service, run, 1))
    assert service.submissions.cancel(run).status == "cancelled"


def test_a_run_that_cannot_be_read_is_cancelled_and_deleted(service: Service, runs: RunsFolder) -> None:
    """Else it would wait for ever, with others behind it."""
    broken = service.submissions.submit(JobSubmission(job=SMALL_JOB)).run
    behind = service.submissions.submit(JobSubmission(job=SMALL_JOB)).run
    runs.get(broken).database.write_bytes(b"nothing of a database" * 100)
    cancelled = service.submissions.cancel(broken)
    assert (cancelled.status, cancelled.queue_position) == ("failed", None)
    assert "is damaged" in cancelled.reason
    assert service.runs.summary(behind).queue_position == 1
    service.submissions.delete(broken)
    assert [r.run for r in service.runs.page().runs] == [behind]
    other = searched(runs)
    other.database.write_bytes(b"nothing of a database" * 100)
    with pytest.raises(StoreError, match=other.id):
        service.submissions.cancel(other.id)


def test_a_finished_run_is_not_cancelled(service: Service, runs: RunsFolder) -> None:
    with raises("run.ended", "finished"):
        service.submissions.cancel(searched(runs).id)


def test_a_driver_started_by_hand_is_not_cancelled(service: Service, runs: RunsFolder) -> None:
    folder = searched(runs, final=False)
    with raises("run.abandoned", folder.id):
        service.submissions.cancel(folder.id)
    store = open_store(folder, driver=True)
    with raises("run.not-submitted", folder.id):
        service.submissions.cancel(folder.id)
    store.close()


def test_a_cancelled_run_is_put_into_the_queue_again(service: Service, jobs: Jobs, runs: RunsFolder) -> None:
    run = service.submissions.submit(JobSubmission(job=SMALL_JOB)).run
    job = started(service, jobs, run)
    service.submissions.cancel(run)
    with pytest.raises(RunHeldError):
        service.submissions.resume(run, ResumeRequest())
    assert jobs.known[job] is not JobState.ENDED  # as its process's, which ends a moment after its work
    mark(runs, run, RunStatus.CANCELLED, "interrupted")
    assert service.runs.summary(run).status == "cancelled"
    resumed = service.submissions.resume(run, ResumeRequest())
    assert (resumed.status, resumed.queue_position, resumed.ended) == ("queued", 1, None)
    with raises("run.queued", run):
        service.submissions.resume(run, ResumeRequest())


def test_a_finished_search_is_resumed_only_with_a_larger_budget(service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    with raises("run.ended", run):
        service.submissions.resume(run, ResumeRequest())
    with pytest.raises(NasError, match="40"):
        service.submissions.resume(run, ResumeRequest(evaluations="20"))
    assert service.state.submission(run) is None
    assert service.submissions.resume(run, ResumeRequest(evaluations="+50"), "ada").status == "queued"
    submission = service.state.submission(run)
    assert submission is not None
    assert submission.options["evaluations"] == "+50"
    assert submission.submitter == "ada"


def test_an_interrupted_run_of_a_command_is_taken_over(service: Service, runs: RunsFolder) -> None:
    folder = searched(runs, final=False)
    assert service.runs.summary(folder.id).reason == "has no driver: it was interrupted"
    store = open_store(folder, driver=True)
    with pytest.raises(RunHeldError):
        service.submissions.resume(folder.id, ResumeRequest())
    store.close()
    assert service.submissions.resume(folder.id, ResumeRequest()).queue_position == 1


def test_a_run_whose_machine_is_away_says_when_it_is_tried_and_a_resume_tries_it_now(
    service: Service, jobs: Jobs, runs: RunsFolder
) -> None:
    folder = searched(runs, final=False)
    service.state.submit(folder.id, "search", "")
    service.state.change(folder.id, attempt=1, started=True)
    assert service.runs.summary(folder.id).reason == "its driver is starting"
    with raises("run.queued"):
        service.submissions.resume(folder.id, ResumeRequest())
    away = Away("pi6", time.time() - 600, 3, time.time() + 60)
    with closing(open_store(folder, driver=True)) as store:
        store.update_state(away=away)
    summary = service.runs.summary(folder.id)
    assert summary.reason == str(away)
    assert summary.next_try is not None
    assert (shown_status(summary), may(summary, "cancel"), may(summary, "resume")) == ("waiting", True, True)
    assert Run.open(runs, folder.id).waiting == str(away)
    assert service.submissions.resume(folder.id, ResumeRequest()).queue_position == 1
    service.submissions.cancel(folder.id)
    assert service.runs.summary(folder.id).reason == "is being cancelled"


def test_a_run_of_a_command_is_taken_over_with_what_it_is_given_at_once(
    service: Service, runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two writes a dispatcher would start a driver that knows of no more evaluations."""
    folder = searched(runs)
    kept: list[dict[str, object]] = []
    submit = service.state.submit

    def look(*args: Any) -> Submission:
        made = submit(*args)
        kept.append(dict(made.options))
        assert service.state.submission(folder.id) == made
        return made

    monkeypatch.setattr(service.state, "submit", look)
    service.submissions.resume(folder.id, ResumeRequest(evaluations="+5"))
    ((name, more), _) = kept[0].items()
    assert (name, more) == ("evaluations", "+5")
    (submission,) = service.state.submissions()
    assert submission.options == kept[0]


def test_a_training_is_given_no_evaluations(service: Service, runs: RunsFolder) -> None:
    with pytest.raises(NasError, match="supernet-1"):
        service.submissions.resume(trained(runs).id, ResumeRequest(evaluations="+5"))


def test_deleting_removes_all_of_a_run(service: Service, runs: RunsFolder) -> None:
    run, other = searched(runs).id, trained(runs).id
    service.results.report(run)
    service.submissions.delete(run)
    assert not (runs.root / run).exists()
    assert list((runs.root / ".service" / "deleted").iterdir()) == []
    assert [r.run for r in service.runs.page().runs] == [other]
    with pytest.raises(UnknownNameError):
        service.runs.summary(run)
    with pytest.raises(UnknownNameError):
        service.results.front(run)
    with pytest.raises(UnknownNameError):
        service.submissions.delete("..")


def test_runs_that_wait_or_run_or_are_needed_are_not_deleted(service: Service, jobs: Jobs, runs: RunsFolder) -> None:
    supernet = trained(runs).id
    job = SMALL_JOB.replace("  family: mobile-cnn", f"  from: {supernet}\n  family: mobile-cnn")
    run = service.submissions.submit(JobSubmission(job=job)).run
    with raises("run.needed", run):
        service.submissions.delete(supernet)
    with pytest.raises(RunHeldError):
        service.submissions.delete(run)
    started(service, jobs, run)
    with pytest.raises(RunHeldError):
        service.submissions.delete(run)
    service.submissions.cancel(run)
    jobs.stop(job_of(service, run, 1))
    mark(runs, run, RunStatus.CANCELLED)
    service.submissions.delete(run)
    service.submissions.delete(supernet)
    assert service.runs.page().total == 0


def test_a_run_that_is_being_exported_is_not_deleted(service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    service.state.add_task("of-a-profile", TaskKind.MEASUREMENT, run, {})
    service.state.add_task("of-it", TaskKind.EXPORT, run, {})
    for status in (TaskStatus.QUEUED, TaskStatus.RUNNING):
        service.state.change_task("of-it", status)
        with raises("run.exporting", run):
            service.submissions.delete(run)
    service.state.change_task("of-it", TaskStatus.FAILED)
    service.submissions.delete(run)
    assert [task.task for task in service.state.tasks(run)] == ["of-a-profile"]


def test_logs_are_those_of_all_drivers_in_their_runs_folder(service: Service, jobs: Jobs) -> None:
    run = service.submissions.submit(JobSubmission(job=SMALL_JOB)).run
    assert service.submissions.logs(run) == ""
    folder = service.settings.runs.get(run)
    logs = [log_of(folder, started(service, jobs, run, attempt=attempt)) for attempt in (1, 2)]
    for seconds, (log, text) in enumerate(zip(logs, ("first\n", "second\n"), strict=True), start=1):
        log.write_text(text)
        os.utime(log, (seconds, seconds))
    assert service.submissions.logs(run) == "first\nsecond\n"
    service.state.forget(run)  # as without the server's database
    assert service.submissions.logs(run) == "first\nsecond\n"
    million = "a" * 2**20
    logs[1].write_text(f"{million}b")
    assert service.submissions.logs(run) == f"{million[1:]}b"
    with pytest.raises(UnknownNameError):
        service.submissions.logs("nothing-1")


def test_waiting_runs_show_why_no_job_can_be_started(runs: RunsFolder, jobs: Jobs) -> None:
    runs.check_writable()
    problem = [""]
    settings = ServiceSettings(runs)
    state = ServiceState.open(settings.database)
    service = Service(settings, state, jobs, problem=lambda: problem[0])
    first, second = (service.submissions.submit(JobSubmission(job=SMALL_JOB)).run for _ in range(2))
    problem[0] = "Ray is starting"
    started(service, jobs, first)
    assert service.runs.summary(second).reason == "waits for a place; no job can be started now: Ray is starting"
    assert service.runs.summary(first).reason == "has no driver yet: Ray is starting"
    problem[0] = ""
    assert service.runs.summary(first).reason == "its driver is starting"
    problem[0] = ""
    assert service.runs.summary(second).reason == "waits for a place"
    state.close()


def test_readiness_names_the_part_that_is_missing(
    service: Service, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert readiness(service.settings, service.state, service.jobs).ready

    def fails(asked: object) -> dict[str, JobState]:
        raise ServiceError("the head does not answer")

    monkeypatch.setattr(jobs, "states", fails)
    found = readiness(service.settings, service.state, service.jobs)
    assert not found.ready
    assert found.parts["jobs"] == "the head does not answer"
    assert found.parts["state"] == "ok"
