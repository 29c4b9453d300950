"""Jobs before they are submitted: their usual settings, changes of their text, and plans that tasks make."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from nas.jobs.recipes import read_recipe
from nas.jobs.schema import load_job, parse_job
from nas.service.api.schemas import JobEdit, JobPlan, JobSubmission
from nas.service.client import NasClient
from nas.service.jobs.task_process import TaskResult
from nas.service.jobs.task_queue import TaskQueue
from nas.service.people import Caller, Role, acting_as
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import TaskStatus
from nas.service.views.jobs import edited
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.service.client.served import served
from tests.nas.service.made_runs import Jobs

API = "/api/v1"
RECIPE = read_recipe("digits-cnn")


def test_a_valid_job_has_its_usual_settings(client: TestClient) -> None:
    found = client.post(f"{API}/jobs/check", json={"job": SMALL_JOB + "constraints: {latency_ms: {max: 0.5}}\n"}).json()
    fields = found["fields"]
    assert (fields["epochs"], fields["evaluations"], fields["minutes"]) == (4, 30, None)
    assert (fields["algorithm"], fields["predictor"], fields["takes_predictor"]) == ("guided", None, False)
    assert fields["hardware"] == ["cpu-1-thread"]
    assert [one["name"] for one in fields["metrics"] if one["is_objective"]] == ["accuracy", "latency_ms"]
    assert [(one["limit_name"], one["maximum"]) for one in fields["metrics"] if one["maximum"]] == [("latency_ms", 0.5)]
    broken = client.post(f"{API}/jobs/check", json={"job": SMALL_JOB + "constrains: {}\n"}).json()
    assert (broken["ok"], broken["fields"]) == (False, None)


def test_a_job_whose_data_are_not_uploaded_yet_has_its_own_settings(client: TestClient) -> None:
    found = client.post(f"{API}/jobs/check", json={"job": read_recipe("own-numbers")}).json()
    assert [error["field"] for error in found["errors"]] == ["data.path"]
    assert [one["name"] for one in found["fields"]["metrics"] if one["is_objective"]] == ["mae", "macs"]


def test_a_trained_supernet_has_no_epochs(client: TestClient) -> None:
    job = "name: b\ndata: {name: digits}\nsupernet: {from: small-1}\n"
    assert parse_job(job, source="job").supernet.from_ == "small-1"
    found = client.post(f"{API}/jobs/check", json={"job": job}).json()
    assert [error["field"] for error in found["errors"]] == ["supernet.from"]  # there is no such run


def test_values_are_changed_and_comments_stay(client: TestClient) -> None:
    changes = {"search.evaluations": 80, "constraints.latency_ms.max": 0.03, "search.minutes": None}
    made = client.post(f"{API}/jobs/edit", json={"job": RECIPE, "changes": changes}).json()["job"]
    assert made.count("#") == RECIPE.count("#")
    job = parse_job(made, source="job")
    assert (job.search.evaluations, job.constraints["latency_ms"].max) == (80, 0.03)
    answer = client.post(f"{API}/jobs/edit", json={"job": "a: [", "changes": changes})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems#job.invalid-yaml")


def test_a_job_that_may_be_submitted_may_be_edited(client: TestClient) -> None:
    long = RECIPE + "# a comment\n" * 10_000  # more than other requests may have
    answer = client.post(f"{API}/jobs/edit", json={"job": long, "changes": {"search.evaluations": 80}})
    assert answer.status_code == 200
    assert answer.json()["job"].endswith("# a comment\n")


def test_other_profiles_rename_what_is_timed_on_them() -> None:
    text = RECIPE + "constraints: {latency_ms: {max: 0.5}, macs: {max: 30000.0}}\n"
    two = edited(JobEdit(job=text, changes={"hardware": ("cpu-1-thread", "cpu-2-threads")})).job
    job = parse_job(two, source="job")
    assert job.objectives == ("accuracy", "latency_ms@cpu-1-thread", "latency_ms@cpu-2-threads")
    assert set(job.constraints) == {"latency_ms@cpu-1-thread", "latency_ms@cpu-2-threads", "macs"}
    one = edited(JobEdit(job=two, changes={"hardware": ("cpu-2-threads",)})).job
    job = parse_job(one, source="job")
    assert job.objectives == ("accuracy", "latency_ms")
    assert {name: bounds.max for name, bounds in job.constraints.items()} == {"latency_ms": 0.5, "macs": 30000.0}
    assert edited(JobEdit(job=RECIPE, changes={"hardware": ("cpu-1-thread",)})).job == RECIPE


def test_a_plan_is_made_by_a_task(service: Service, jobs: Jobs, settings: ServiceSettings) -> None:
    made = service.plans.request(JobSubmission(job=RECIPE, hardware=("cpu-2-threads",)))
    assert (made.status, made.result) == ("queued", None)
    path = settings.plans / made.plan / "job.yaml"
    assert load_job(path).hardware == ("cpu-2-threads",)
    queue = TaskQueue(service.state, jobs, address=lambda: "127.0.0.1:6379")
    queue.look()
    queue.tick({})
    [command] = jobs.started.values()
    expected = (
        "plan",
        str(path.absolute()),
        "--runs",
        str(settings.runs.root),
        "--json",
        "--address",
        "127.0.0.1:6379",
    )
    assert command[command.index("plan") :] == expected
    TaskResult(0, json.dumps({"space": {"size": 9}}), "").write(path.with_name("result.json"))
    queue.look()
    queue.tick({})
    assert service.plans.get(made.plan).result == {"space": {"size": 9}}
    assert not path.exists()
    with raises("plan.unknown", "plan-0"):
        service.plans.get("plan-0")


def test_new_plans_replace_the_oldest_of_the_same_person(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.service.plans._MAX_PLANS", 2)

    def plan_of(person: str) -> str:
        with acting_as(Caller(person, Role.MEMBER)):
            made = service.plans.request(JobSubmission(job=RECIPE)).plan
        service.state.change_task(made, TaskStatus.FINISHED, result={})
        return made

    bobs, mias = plan_of("bob"), [plan_of("mia") for _ in range(5)]
    assert [task.task for task in service.state.tasks()] == [bobs, *mias[-3:]]


def test_the_reason_of_a_failed_plan_names_no_path_of_the_server(
    service: Service, jobs: Jobs, settings: ServiceSettings
) -> None:
    made = service.plans.request(JobSubmission(job=RECIPE))
    path = (settings.plans / made.plan / "job.yaml").absolute()
    queue = TaskQueue(service.state, jobs)
    queue.look()
    queue.tick({})
    TaskResult(1, "", f"error: {path}: search.batch: too large").write(path.with_name("result.json"))
    queue.look()
    queue.tick({})
    assert service.plans.get(made.plan).reason == "job: search.batch: too large"


@pytest.mark.parametrize("job", ["a: [", SMALL_JOB.replace("epochs: 4", "epochs: -4")])
def test_a_job_with_errors_has_no_plan(service: Service, job: str) -> None:
    with raises("job.invalid-yaml" if job == "a: [" else "job.invalid-value"):
        service.plans.request(JobSubmission(job=job))
    assert not service.state.open_tasks()


def test_a_client_edits_a_job_and_waits_for_its_plan(service: Service, jobs: Jobs, settings: ServiceSettings) -> None:
    queue = TaskQueue(service.state, jobs)

    def advance(plan: JobPlan) -> None:
        """What the dispatcher and the task's process would do."""
        queue.look()
        queue.tick({})
        TaskResult(0, json.dumps({"evaluations": 80}), "").write(settings.plans / plan.plan / "result.json")
        queue.look()
        queue.tick({})

    with served(service) as url, NasClient(url) as client:
        job = client.edit(RECIPE, {"search.evaluations": 80})
        fields = client.check(job).fields
        assert fields is not None
        assert fields.evaluations == 80
        assert client.plan(job, on_change=advance).result == {"evaluations": 80}
