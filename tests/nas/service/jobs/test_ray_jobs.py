"""`RayJobs` on a job server: requests, states and failures."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nas.service.jobs import ray_jobs
from nas.service.jobs.job_runner import GivenCluster, JobState
from nas.service.jobs.ray_jobs import RayJobs
from tests.errors import raises


@dataclass
class JobServer:
    """What Ray's job server answers (its REST API), with nothing behind it."""

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    broken: bool = False
    hangs: threading.Event | None = None

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.asked.append((method, path, body))
        if self.hangs is not None:
            self.hangs.wait(60)
        if path == "/api/version":
            return 200, {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": "s"}
        if self.broken:
            return 500, "agent is gone"
        match method, path.strip("/").split("/")[2:]:
            case "POST", []:
                if body["submission_id"] in self.jobs:
                    return 500, "already exists"
                self.add(body["submission_id"], "PENDING", body["entrypoint"])
                return 200, {"job_id": body["submission_id"], "submission_id": body["submission_id"]}
            case "GET", []:
                return 200, list(self.jobs.values())
            case "GET", [job] if job in self.jobs:
                return 200, self.jobs[job]
            case "POST", [job, "stop"] if job in self.jobs:
                return 200, {"stopped": True}
            case "GET", [job, "logs"] if job in self.jobs:
                header = "2026-01-01 INFO job_manager.py:581 -- Runtime env is setting up.\nRunning entrypoint for job a: x\n"
                return 200, {"logs": header + "searching: 1 of 2\n"}
        return 404, "no such job"

    def add(self, job: str | None, status: str, entrypoint: str = "x") -> None:
        self.jobs[str(job)] = {"type": "SUBMISSION", "submission_id": job, "status": status, "entrypoint": entrypoint}


@pytest.fixture
def server() -> Iterator[tuple[JobServer, str]]:
    made = JobServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            code, answer = made.answer(self.command, self.path, body)
            said = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield made, f"http://127.0.0.1:{serving.server_port}"
        if made.hangs is not None:
            made.hangs.set()
        serving.shutdown()
        thread.join()


def jobs_of(url: str) -> RayJobs:
    return RayJobs(GivenCluster("127.0.0.1:1", url))


def test_a_command_reaches_the_shell_quoted_and_reserves_nothing(
    server: tuple[JobServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made, url = server
    argv = ["/bin/nas", "drive", "it's; $HOME", "*"]
    jobs_of(url).start("run.1", argv)
    (body,) = (body for method, _, body in made.asked if method == "POST")
    assert shlex.split(body["entrypoint"]) == ["exec", "env", "-u", "OMP_NUM_THREADS", *argv]
    assert body["submission_id"] == "run.1"
    assert body["entrypoint_num_cpus"] == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    jobs_of(url).start("run.2", argv)
    assert shlex.split(made.jobs["run.2"]["entrypoint"]) == ["exec", *argv]


def test_a_job_that_is_there_is_left_alone(server: tuple[JobServer, str]) -> None:
    made, url = server
    jobs = jobs_of(url)
    jobs.start("run.1", ["one"])
    jobs.start("run.1", ["two"])
    assert made.jobs["run.1"]["entrypoint"].endswith("one")


def test_rays_states_are_mapped_to_three(server: tuple[JobServer, str]) -> None:
    made, url = server
    for number, status in enumerate(("PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED")):
        made.add(f"run.{number}", status)
    made.add(None, "RUNNING")
    ended = dict.fromkeys(("run.2", "run.3", "run.4"), JobState.ENDED)
    expected = {"run.0": JobState.PENDING, "run.1": JobState.RUNNING, **ended}
    jobs = jobs_of(url)
    assert jobs.states([*expected, "run.5"]) == expected
    many = [f"other.{number}" for number in range(1000)]
    assert jobs.states([*expected, *many]) == expected
    asked = [path for _, path, _ in made.asked if path.startswith("/api/jobs")]
    assert asked == [*(f"/api/jobs/run.{number}" for number in range(6)), "/api/jobs/"]


def test_what_is_not_known_has_written_nothing_and_is_not_stopped(server: tuple[JobServer, str]) -> None:
    made, url = server
    jobs = jobs_of(url)
    assert jobs.logs("run.1") == ""
    jobs.stop("run.1")
    made.add("run.1", "RUNNING")
    assert jobs.logs("run.1") == "searching: 1 of 2\n"
    jobs.stop("run.1")
    assert made.asked[-1][:2] == ("POST", "/api/jobs/run.1/stop")


def test_failures_of_the_job_server_are_service_errors(
    server: tuple[JobServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, url = server
    jobs = jobs_of(url)
    assert jobs.states([]) == {}
    made.broken = True
    for ask in (
        lambda: jobs.states([]),
        lambda: jobs.start("a", ["b"]),
        lambda: jobs.stop("a"),
        lambda: jobs.logs("a"),
    ):
        with raises("job-server.unavailable", "agent is gone"):
            ask()
    made.broken = False
    made.hangs = threading.Event()
    monkeypatch.setattr(ray_jobs, "_ANSWER_S", (0.2, 0.2))
    with raises("job-server.unavailable", "timed out"):
        jobs.states(["a"])
    with raises("job-server.unavailable"):
        jobs_of("http://127.0.0.1:9").states([])  # nobody listens there
