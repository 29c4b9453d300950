"""A private server: people see only what belongs to them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest

from nas.engine.store.folder import RunsFolder
from nas.service.api.schemas import JobSubmission, ProfileUpload
from nas.service.people import SERVER, Caller, Role, acting_as
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState, TaskKind, TaskStatus
from tests.nas.commands import SMALL_JOB
from tests.nas.service.made_runs import Jobs, searched
from tests.nas.service.sent_files import begun_capture, flowers, packed
from tests.nas.service.team import Team, serving_a_team

BOBS = {
    "run": "small-1",
    "export": "export-0",
    "artifact": "plots-0",
    "task": "export-0",
    "profile": "board",
    "measurement": "measurement-0",
    "plan": "plan-0",
    "recipe": "digits-cnn",
}
NOBODYS = {**dict.fromkeys(BOBS, "nothing"), "recipe": "digits-cnn"}


@pytest.fixture
def private(runs: RunsFolder, jobs: Jobs) -> Iterator[Team]:
    """Everything is bob's; mia has nothing yet."""
    settings = ServiceSettings(runs, private=True)
    runs.check_writable()
    state = ServiceState.open(settings.database)
    with serving_a_team(Service(settings, state, jobs), settings) as team, acting_as(SERVER):
        yield team
    state.close()


def answered(team: Team, person: str, path: str) -> tuple[int, str]:
    answer = team.client.get(path, headers=team.headers[person])
    return answer.status_code, answer.text


def test_lists_and_pages_have_own_things_alone(private: Team, runs: RunsFolder) -> None:
    searched(runs, name="command")
    bobs = ("small-1", "flowers", "models/net", "board", "export-0")
    paths = ["/", "/storage", "/hardware", "/submit", "/compare", "/?tag=secret", "/api/v1/runs", "/api/v1/data"]
    paths += ["/api/v1/models", "/api/v1/profiles", "/api/v1/tasks", "/api/v1/runs?sort=accuracy"]
    private.send("bob", "PUT", "/runs/small-1/labels", json={"tags": ["secret"]})
    for path in paths:
        for person in ("mia", "rita"):
            status, text = answered(private, person, path)
            assert status == 200
            for name in (*bobs, "bob", "command-1", "secret</option>"):
                assert not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), (path, person, name)
        assert any(name in answered(private, "bob", path)[1] for name in bobs) or path == "/compare"
    assert "command-1" not in answered(private, "bob", "/api/v1/runs")[1]
    assert {"small-1", "command-1"} <= set(re.findall(r"[a-z]+-1", answered(private, "ada", "/api/v1/runs")[1]))


def test_runs_are_counted_for_their_owner_and_administrators(private: Team) -> None:
    counts = {person: answered(private, person, "/api/v1/metrics")[1] for person in ("mia", "bob", "ada")}
    queued = {person: 'nas_runs{status="queued"} 1.0' in text for person, text in counts.items()}
    assert queued == {"mia": False, "bob": True, "ada": True}
    for sample in ('nas_tasks{kind="export",status="queued"}', 'nas_tasks{kind="plan",status="queued"}'):
        assert f"{sample} 0.0" in counts["mia"]
        assert f"{sample} 1.0" in counts["bob"]
        assert f"{sample} 1.0" in counts["ada"]
    for age in ('nas_task_age_seconds{kind="export"}', "nas_queue_age_seconds"):
        assert f"\n{age} 0.0\n" in counts["mia"]
        assert f"\n{age} 0.0\n" not in counts["bob"]


def test_every_address_of_another_persons_thing_answers_as_that_of_nothing(private: Team) -> None:
    described = private.client.get("/api/v1/openapi.json", headers=private.headers["ada"]).json()["paths"]
    routes = [(m, path) for path, operations in described.items() for m in operations if "{" in path]
    routes += [("get", page) for page in ("/runs/{run}", "/runs/{run}/evaluations", "/runs/{run}/networks.json")]
    routes += [("get", page) for page in ("/runs/{run}/insight.json", "/runs/{run}/experts.svg", "/hardware/{profile}")]
    routes += [("get", f"/runs/{{run}}/predictions{rest}") for rest in (".json?network=0", "/0.jpg")]
    assert len(routes) > 37
    for method, path in routes:
        if "{recipe}" in path:
            continue
        name = "flowers" if "/data/" in path else "net"
        hidden, unknown = path.format(**BOBS, name=name), path.format(**NOBODYS, name="nothing")
        answers = [
            private.client.request(method, address, headers=private.headers["mia"]) for address in (hidden, unknown)
        ]
        assert [answer.status_code for answer in answers] == [404, 404], (method, path)
        assert "bob" not in answers[0].text


def test_jobs_name_own_things_alone(private: Team) -> None:
    with acting_as(Caller("mia", Role.MEMBER)):
        private.service.data_sets.add("mine", io.BytesIO(packed(flowers())))
    parts = {
        "data": "data: {name: image-folder, path: uploads/flowers}",
        "around": "data: {name: image-folder, path: uploads/mine/../flowers}",
        "hardware": "hardware: [board]",
        "from": "supernet: {from: small-1}",
        "warm_start": "warm_start: [small-1]",
        "model": "supernet: {model: models/net}",
    }
    for name, part in parts.items():
        key = part.partition(":")[0]
        job = "\n".join([*(line for line in SIMPLE if not line.startswith(key)), part])
        answers = {
            person: private.client.post("/api/v1/jobs/check", json={"job": job}, headers=private.headers[person]).json()
            for person in ("mia", "bob")
        }
        rejected = [error["field"] for error in answers["mia"]["errors"]]
        assert any(field.startswith(key.split("_")[0]) for field in rejected), (name, answers["mia"])
        assert "small-1, " not in str(answers["mia"])
        accepted = [error["field"] for error in answers["bob"]["errors"]]
        assert name in ("around", "hardware") or accepted == [], (name, answers["bob"])  # nothing serves the board


SIMPLE = ["name: other", "data: {name: digits}", "supernet: {preset: digits}", "search: {evaluations: 4}"]


def test_tasks_of_others_are_neither_listed_nor_used(private: Team, settings: ServiceSettings) -> None:
    service, folder = private.service, settings.folder / "calibration"
    folder.mkdir()
    (folder / "cpu-1-thread.lookup.json").write_bytes(b"{}")
    with acting_as(Caller("bob", Role.MEMBER)):
        service.tasks.add("calibration-0", TaskKind.CALIBRATION, "small-1", folder, [])
        service.tasks.add("measurement-1", TaskKind.MEASUREMENT, "cpu-1-thread", settings.folder / "measured", [])
    service.state.change_task("calibration-0", TaskStatus.FINISHED)
    for address in ("/tasks/nope/cancel", "/profiles/cpu-1-thread/measurements/nope", "/jobs/plans/nope"):
        method = "POST" if address.endswith("cancel") else "GET"
        detail = {
            person: private.client.request(method, f"/api/v1{address}", headers=private.headers[person]).json()[
                "detail"
            ]
            for person in ("mia", "bob")
        }
        assert detail["mia"] == detail["bob"]
        assert not re.search("(plan|calibration|measurement)-[01]", detail["mia"])
    tables = ["calibrations/calibration-0"]
    job = {"job": f"{SMALL_JOB}lookup_tables: {tables}\n"}
    errors = {
        person: private.client.post("/api/v1/jobs/check", json=job, headers=private.headers[person]).json()["errors"]
        for person in ("mia", "bob")
    }
    assert [error["field"] for error in errors["mia"]] == ["lookup_tables[0]"]
    assert errors["bob"] == []
    assert private.send("mia", "POST", "/runs", json={"job": SMALL_JOB}) == 201
    request = {"kind": "calibration", "profile": "cpu-1-thread", "tables": tables}
    assert private.send("mia", "POST", "/runs/small-2/artifacts", json=request) == 422
    assert private.send("bob", "POST", "/runs/small-1/artifacts", json=request) == 202


def test_a_data_set_of_a_run_that_its_owner_does_not_see_is_kept(private: Team, settings: ServiceSettings) -> None:
    job = {
        "name": "flowers",
        "data": {"name": "image-folder", "path": "uploads/flowers"},
        "supernet": {"preset": "digits"},
    }
    assert private.send("ada", "POST", "/runs", json={"job": job}) == 201
    answer = private.client.delete("/api/v1/data/flowers", headers=private.headers["bob"])
    assert answer.status_code == 409
    assert "another person's run" in answer.json()["detail"]
    assert "flowers-1" not in answer.json()["detail"]


def test_new_runs_and_uploads_avoid_the_names_of_all(private: Team) -> None:
    answer = private.client.post("/api/v1/runs", json={"job": SMALL_JOB}, headers=private.headers["mia"])
    assert answer.json()["run"] == "small-2"
    assert private.send("mia", "GET", "/runs/small-2") == 200
    taken = private.client.post(
        "/api/v1/models", data={"name": "net"}, files={"model": b"PK"}, headers=private.headers["mia"]
    )
    assert taken.status_code in (409, 422)


def add(team: Team, person: str, kind: str) -> None:
    """Adds a thing whose name a job of `REUSED` has."""
    with acting_as(Caller(person, Role.MEMBER)):
        match kind:
            case "data":
                team.service.data_sets.add("pictures", io.BytesIO(packed(flowers())))
            case "models":
                team.service.models.add("other", io.BytesIO(begun_capture()))
            case "profiles":
                team.service.hardware.add(ProfileUpload(profile="{name: shelf, placement: {hw-board: 1}}"))
            case _:
                team.service.submissions.submit(JobSubmission(job=SMALL_JOB.replace("small", "teach")), person)


REUSED = {
    "data/pictures": ["data: {name: image-folder, path: uploads/pictures}"],
    "models/other": ["supernet: {model: models/other}"],
    "profiles/shelf": ["hardware: [shelf]"],
    "runs/teach-1": ["warm_start: [teach-1]"],
}


@pytest.mark.parametrize("address", REUSED)
def test_a_job_is_not_used_again_after_its_names_became_another_persons(private: Team, address: str) -> None:
    kind, parts = address.partition("/")[0], REUSED[address]
    add(private, "bob", kind)
    keys = tuple(part.partition(":")[0] for part in parts)
    job = "\n".join([*(line for line in SIMPLE if not line.startswith(keys)), *parts])
    assert private.send("bob", "POST", "/runs", json={"job": job}) == 201
    for run in ("other-1", "teach-1") if kind == "runs" else ("other-1",):
        assert private.send("bob", "POST", f"/runs/{run}/cancel") == 200
    assert private.send("bob", "DELETE", f"/{address}") == 204
    assert private.send("bob", "POST", "/runs/other-1/resume") == 200  # nobody has the name
    assert private.send("bob", "POST", "/runs/other-1/cancel") == 200
    add(private, "mia", kind)
    requests = {
        "resume": {},
        "exports": {},
        "artifacts": {"kind": "calibration", "profile": "rpi4"},
    }
    for person in ("bob", "ada"):  # what an administrator makes of bob's run is bob's to read
        for action, content in requests.items():
            answer = private.client.post(
                f"/api/v1/runs/other-1/{action}", json=content, headers=private.headers[person]
            )
            assert answer.status_code == 422, (person, action, answer.text)
            assert "is hidden from the run's owner" in answer.json()["detail"]
