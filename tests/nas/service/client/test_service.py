"""The client and the true server understand each other, method by method."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.errors import UnknownNameError
from nas.jobs.schema.job_schema import job_schema
from nas.plugins.testing.onnx_networks import conv_net
from nas.service.api.schemas import Export, ModelMeasurement
from nas.service.client import NasClient, RefusedError
from nas.service.http.tokens import Tokens
from nas.service.jobs.dispatcher import Dispatcher
from nas.service.jobs.driver_jobs import new_log
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState, TaskStatus
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.service.client.served import served
from tests.nas.service.made_runs import Jobs, searched

N = 16
"""Networks that a search evaluated."""


@pytest.fixture
def runs(tmp_path: Path) -> RunsFolder:
    made = RunsFolder(tmp_path / "runs")
    made.check_writable()
    return made


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def service(runs: RunsFolder, jobs: Jobs) -> Iterator[Service]:
    settings = ServiceSettings(runs)
    state = ServiceState.open(settings.database)
    yield Service(settings, state, jobs)
    state.close()


@pytest.fixture
def client(service: Service) -> Iterator[NasClient]:
    with served(service) as url, NasClient(url) as made:
        yield made


def started(service: Service) -> None:
    """Starts what waits, as the server's own rounds do."""
    assert Dispatcher(service.settings, service.state, service.jobs, address=lambda: None).tick()


def ended(jobs: Jobs) -> None:
    """Ends every driver."""
    for job in list(jobs.known):
        jobs.stop(job)


def set_status(runs: RunsFolder, status: RunStatus, reason: str = "") -> None:
    """What a driver of the run ``small-1`` records."""
    store = open_store(runs.get("small-1"), driver=True)
    store.set_status(status, reason=reason)
    store.close()


class TestRuns:
    def test_a_job_from_its_submission_to_its_end(self, client: NasClient) -> None:
        made = client.submit(SMALL_JOB)
        assert (made.run, made.status, made.queue_position) == ("small-1", "queued", 1)
        assert client.status("small-1") == made
        assert [run.run for run in client.runs(status="queued", kind="search", name="small").runs] == ["small-1"]
        assert client.runs(status="failed").total == 0
        assert client.detail("small-1").job == SMALL_JOB
        assert client.logs("small-1") == ""
        client.cancel("small-1")
        assert client.resume("small-1").run == "small-1"
        with pytest.raises(RefusedError) as refused:
            client.resume("small-1", evaluations="+5")
        assert refused.value.problem.status == 409
        assert client.submit(SMALL_JOB, kind="training", hardware=["cpu-1-thread"]).kind == "training"
        client.cancel("small-2")
        client.delete("small-2")
        assert [run.run for run in client.runs().runs] == ["small-1"]

    def test_a_job_as_an_object(self, client: NasClient) -> None:
        assert client.check({"name": "a", "data": {"name": "digits"}}).ok is False
        assert client.check(SMALL_JOB).ok

    def test_a_run_is_watched_and_its_logs_followed(
        self, client: NasClient, service: Service, runs: RunsFolder, jobs: Jobs
    ) -> None:
        client.submit(SMALL_JOB)
        seen = []
        for summary in client.watch("small-1"):
            seen.append(summary.status)
            if len(seen) == 1:
                started(service)
                set_status(runs, RunStatus.RUNNING)
            elif summary.status == "running":
                new_log(runs.get("small-1"), next(iter(jobs.started))).write_text("one\ntwo\n")
                ended(jobs)
                set_status(runs, RunStatus.FAILED, "the disk is full")
        assert seen[0] == "queued"
        assert seen[-2:] == ["running", "failed"]
        assert client.status("small-1").reason == "the disk is full"
        assert "".join(client.follow_logs("small-1")) == client.logs("small-1")
        assert client.logs("small-1").endswith("one\ntwo\n")

    def test_watching_outlives_the_server(self, service: Service, runs: RunsFolder, jobs: Jobs) -> None:
        with served(service) as url:
            client = NasClient(url)
            client.submit(SMALL_JOB)
            watch = client.watch("small-1")
            assert next(watch).status == "queued"
            started(service)
            ended(jobs)
        set_status(runs, RunStatus.FAILED, "it broke")
        with served(service, port=urlsplit(url).port or 0):
            assert [s.status for s in watch][-1] == "failed"
        client.close()

    def test_what_is_not_there_is_told_as_here(self, client: NasClient, runs: RunsFolder) -> None:
        searched(runs)
        with pytest.raises(UnknownNameError) as here:
            runs.get("mad-1")
        with pytest.raises(RefusedError) as there:
            client.status("mad-1")
        assert there.value.problem.status == 404
        assert str(here.value).replace(str(runs.root), "the runs folder") == str(there.value)

    def test_a_job_that_is_wrong(self, client: NasClient) -> None:
        with pytest.raises(RefusedError) as caught:
            client.submit(SMALL_JOB.replace("evaluations: 30", "evaluations: many"))
        assert "search.evaluations" in str(caught.value)
        assert client.runs().total == 0


class TestResults:
    @pytest.fixture
    def run(self, runs: RunsFolder) -> str:
        return searched(runs, n=N).id

    def test_the_front_and_a_pick_from_it(self, client: NasClient, run: str) -> None:
        front = client.front(run)
        assert front.members
        limit = front.members[1].figures["latency_ms@cpu-1-thread"].value
        picked = client.pick(run, f"latency_ms<={limit}")
        assert picked.figures["latency_ms@cpu-1-thread"].value <= limit
        assert {n.key for n in client.front(run, select=f"latency_ms<={limit}").members} <= {
            n.key for n in client.evaluations(run)
        }

    def test_evaluations_come_page_by_page(self, client: NasClient, run: str) -> None:
        whole = list(client.evaluations(run))
        assert len({n.key for n in whole}) == len(whole) == N
        assert list(client.evaluations(run, page=5)) == whole
        by_latency = [n.figures["latency_ms@cpu-1-thread"].value
                      for n in client.evaluations(run, sort="latency_ms@cpu-1-thread", descending=True, page=4)]  # fmt: skip
        assert by_latency == sorted(by_latency, reverse=True)

    def test_what_it_tells_beside(self, client: NasClient, run: str, runs: RunsFolder) -> None:
        other = searched(runs, n=12).id
        assert [r.run for r in client.compare([run, other]).runs] == [run, other]
        assert client.predicted(run, limit=10).run == run
        assert isinstance(client.predictors(run), tuple)
        steps = client.steps(run, offset=1, limit=1)
        assert [step.step for step in steps.steps] == [1]
        assert [n for n, _ in client.convergence(run)] == sorted(n for n, _ in client.convergence(run))

    def test_an_export_is_waited_for_and_fetched(
        self, client: NasClient, service: Service, run: str, runs: RunsFolder, tmp_path: Path
    ) -> None:
        content = {"model.onnx": b"\x08\x0a" * 5000, "model.json": b"{}"}

        def make(export: Export) -> None:
            """In place of the process that makes it."""
            if export.status == "queued":
                folder = runs.get(run).path / "exports" / export.export
                for name, data in content.items():
                    (folder / name).write_bytes(data)
                service.state.change_task(export.export, TaskStatus.FINISHED, result={"parity": 1e-7})

        made = client.export(run, index=0, on_change=make)
        assert (made.status, made.result, made.request.index) == ("finished", {"parity": 1e-7}, 0)
        assert {f.name: f.sha256 for f in made.files} == {n: hashlib.sha256(c).hexdigest() for n, c in content.items()}
        assert client.exports(run) == (made,)
        paths = client.fetch(made, tmp_path / "to")
        assert {path.name: path.read_bytes() for path in paths} == content

    def test_an_export_that_is_cancelled_ends_the_wait(self, client: NasClient, service: Service, run: str) -> None:
        def cancel(export: Export) -> None:
            client.cancel_task(export.export)
            started(service)  # the next round of the server

        with raises("service.unavailable", run, "was cancelled"):
            client.export(run, index=0, on_change=lambda export: cancel(export) if export.status == "queued" else None)
        (task,) = client.tasks(kind="export")
        assert task.status == "cancelled"
        client.delete_export(run, task.task)
        assert client.tasks() == ()

    def test_what_cannot_be_exported(self, client: NasClient, run: str) -> None:
        with pytest.raises(RefusedError, match="999"):
            client.export(run, index=999)


class TestHardwareAndRecipes:
    def test_profiles(self, client: NasClient) -> None:
        added = client.add_profile("name: board\nplacement: {hw-board: 1}\n")
        assert (added.name, added.placement, added.shipped) == ("board", {"hw-board": 1.0}, False)
        assert {"cpu-1-thread", "board"} <= {profile.name for profile in client.profiles()}
        assert client.profile("board") == added

    def test_a_model_is_measured(self, client: NasClient, service: Service, tmp_path: Path) -> None:
        model = tmp_path / "model.onnx"
        model.write_bytes(conv_net())

        def measure(asked: ModelMeasurement) -> None:
            if asked.status == "queued":
                service.state.change_task(asked.measurement, TaskStatus.FINISHED, result={"latency_ms": 1.5})

        assert client.measure("cpu-1-thread", model, on_change=measure).result == {"latency_ms": 1.5}

    def test_the_schema_of_jobs(self, client: NasClient) -> None:
        assert client.job_schema() == job_schema()

    def test_recipes(self, client: NasClient) -> None:
        assert "digits-cnn" in {recipe.name for recipe in client.recipes()}
        text = client.recipe("digits-cnn").job
        assert text is not None
        assert client.check(text).ok


def test_health_and_readiness(client: NasClient) -> None:
    assert client.health().status == "ok"
    assert client.ready().ready


def test_a_token(runs: RunsFolder, jobs: Jobs) -> None:
    settings = ServiceSettings(runs, host="0.0.0.0", names=("127.0.0.1",))
    settings.folder.mkdir()
    token = Tokens(settings.tokens_file).make("me", lifetime_s=60)
    state = ServiceState.open(settings.database)
    with served(Service(settings, state, jobs)) as url:
        for wrong in (None, "nas_wrong"):
            with (
                NasClient(url, wrong) as client,
                raises("service.unauthorized", "NAS_TOKEN"),
            ):
                client.runs()
        with NasClient(url, token) as client:
            assert client.submit(SMALL_JOB).submitter == "me"
    state.close()


def test_a_stream_ends_with_its_token(runs: RunsFolder, jobs: Jobs, caplog: pytest.LogCaptureFixture) -> None:
    settings = ServiceSettings(runs, names=("nas.test",))
    settings.folder.mkdir()
    tokens = Tokens(settings.tokens_file)
    state = ServiceState.open(settings.database)
    service = Service(settings, state, jobs)
    token = tokens.make("me", lifetime_s=60)
    with served(service) as url, NasClient(url, token) as client:
        watch = client.watch(client.submit(SMALL_JOB).run)
        assert next(watch).status == "queued"
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.stream("GET", f"{url}/api/v1/runs/small-1/events", headers=headers, timeout=20) as answer:
            events = (line for line in answer.iter_lines() if line.startswith("data:"))
            assert '"queued"' in next(events)
            tokens.revoke("me")
            service.submissions.cancel("small-1")  # which is not told any more
            assert list(events) == []
        with raises("service.unauthorized"):
            next(watch)
    state.close()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
