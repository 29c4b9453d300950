"""`RayJobs` on a job server: requests, states and failures."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nas.service.jobs import ray_jobs
from nas.service.jobs.job_runner import ExternalCluster, JobState
from nas.service.jobs.ray_jobs import RayJobs
from tests.errors import raises

LOG = Path("/runs/run/logs/1.log")


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
    return RayJobs(ExternalCluster("127.0.0.1:1", url).ready)


def test_a_command_reaches_the_shell_quoted_and_reserves_nothing(
    server: tuple[JobServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made, url = server
    argv = ["/bin/nas", "drive", "it's; $HOME", "*"]
    jobs_of(url).start("run.1", argv, LOG)
    (body,) = (body for method, _, body in made.asked if method == "POST")
    output = [f">>{LOG}", "2>&1"]
    assert shlex.split(body["entrypoint"]) == ["exec", "env", "-u", "OMP_NUM_THREADS", *argv, *output]
    assert body["submission_id"] == "run.1"
    assert body["entrypoint_num_cpus"] == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    jobs_of(url).start("run.2", argv, LOG)
    assert shlex.split(made.jobs["run.2"]["entrypoint"]) == ["exec", "env", *argv, *output]


def test_output_of_all_jobs_of_a_log_is_kept(server: tuple[JobServer, str], tmp_path: Path) -> None:
    made, url = server
    log = tmp_path / "it's; $HOME.log"
    for number, stream in enumerate(("stdout", "stderr")):
        program = f"import sys; sys.{stream}.write('of {stream}\\n')"
        jobs_of(url).start(f"run.{number}", [sys.executable, "-c", program], log)
        subprocess.run(made.jobs[f"run.{number}"]["entrypoint"], shell=True, check=True)  # as Ray runs it
    assert log.read_text() == "of stdout\nof stderr\n"


def test_a_job_that_is_there_is_left_alone(server: tuple[JobServer, str]) -> None:
    made, url = server
    jobs = jobs_of(url)
    jobs.start("run.1", ["one"], LOG)
    jobs.start("run.1", ["two"], LOG)
    assert "one" in made.jobs["run.1"]["entrypoint"]


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


def test_what_is_not_known_is_not_stopped(server: tuple[JobServer, str]) -> None:
    made, url = server
    jobs = jobs_of(url)
    jobs.stop("run.1")
    made.add("run.1", "RUNNING")
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
        lambda: jobs.start("a", ["b"], LOG),
        lambda: jobs.stop("a"),
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
