"""Ray's head is found again, ended with what it left, and never mistaken for another process; without Ray itself."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from nas.engine.store.folder import RunsFolder
from nas.errors import StoreError
from nas.service.file_permissions import write_secret
from nas.service.jobs import ray_head as module
from nas.service.jobs import ray_head_process
from nas.service.jobs.job_runner import ExternalCluster
from nas.service.jobs.ray_head import RayHead, cluster_of, end_head
from nas.service.jobs.ray_head_process import RayHeadProcess
from nas.service.settings import ServiceSettings
from tests.errors import raises


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / ".service"
    made.mkdir()
    return made


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    made: list[subprocess.Popen[bytes]] = []
    yield made
    for process in made:
        process.kill()
        process.wait()


def sleep(naming: Path | str, sleepers: list[subprocess.Popen[bytes]]) -> RayHeadProcess:
    """A process that names a folder, as a head does."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", str(naming)])
    sleepers.append(process)
    url, version = "http://127.0.0.1:9", ray_head_process.this_version()
    return RayHeadProcess(process.pid, "127.0.0.1:1", url, "/nowhere/token", str(naming), version)


def keep(folder: Path, found: RayHeadProcess) -> None:
    (folder / "ray.json").write_text(json.dumps(asdict(found)))


def test_another_process_of_its_number_is_neither_taken_for_it_nor_ended(
    folder: Path, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    other = sleep("another", sleepers)
    keep(folder, replace(other, temporary=str(folder / "nas-ray-x")))
    assert not end_head(folder)
    assert sleepers[0].poll() is None
    assert RayHeadProcess.find(folder) is None


def test_it_is_ended_with_what_it_left(folder: Path, sleepers: list[subprocess.Popen[bytes]]) -> None:
    temporary = folder / "nas-ray-y"
    temporary.mkdir()
    found, left = sleep(temporary, sleepers), sleep(temporary, sleepers)
    keep(folder, found)
    assert RayHeadProcess.find(folder) == found
    threading.Thread(target=sleepers[0].wait).start()  # its parent, as the system is for a head of an earlier server
    titled = subprocess.Popen(["sleep", "600"], env={"NAS_RAY_HEAD": str(temporary)})  # as Ray's agents, and jobs
    sleepers.append(titled)
    assert end_head(folder)
    assert sleepers[1].wait(30) == -9
    assert titled.wait(30) == -9
    assert not found.lives()
    assert not left.lives()
    assert not temporary.exists()
    assert not end_head(folder)
    assert not end_head(folder / "never-made")


class Started:
    """Processes that a head's start comes to, in place of Ray's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.processes, self.found_before = (
            folder,
            list[subprocess.Popen[bytes]](),
            list[RayHeadProcess | None](),
        )
        self.popen = subprocess.Popen
        monkeypatch.setattr(ray_head_process.subprocess, "Popen", self.start)

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        if "ray.scripts.scripts" not in command:
            return self.popen(command, **options)
        self.found_before.append(RayHeadProcess.find(self.folder))
        sleeping = [sys.executable, "-c", "import time; time.sleep(600)", *command]
        self.processes.append(self.popen(sleeping, **options))
        return self.processes[-1]


def test_a_head_can_be_found_before_it_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is killed at any moment of its start leaves no head that the next one does not end."""
    started = Started(folder, monkeypatch)
    found = RayHeadProcess.start(folder, cpus=1, store_bytes=None)
    (before,) = started.found_before
    assert before == replace(found, pid=0)
    keep(folder, before)
    ray_head_process._CHILDREN.clear()  # the next server knows of no child
    assert not end_head(folder)
    assert started.processes[0].wait(30) == -9
    assert not Path(found.temporary).exists()


def test_a_full_disk_leaves_no_head_that_nobody_finds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, written = Started(folder, monkeypatch), []

    def full(path: Path, content: bytes) -> None:
        written.append(json.loads(content)["pid"])
        if len(written) == 2:
            raise StoreError("no space left")
        path.write_bytes(content)

    monkeypatch.setattr(ray_head_process, "write_atomically", full)
    with raises("store.unusable", "no space"):
        RayHeadProcess.start(folder, cpus=1, store_bytes=None)
    assert written == [0, started.processes[0].pid]
    assert started.processes[0].wait(30) != 0
    assert RayHeadProcess.find(folder) is None


def test_a_head_of_another_version_is_ended(
    folder: Path, sleepers: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Started(folder, monkeypatch)
    monkeypatch.setattr(RayHeadProcess, "answers", lambda self: True)
    old = replace(sleep(folder / "nas-ray-old", sleepers), version="Ray 1.0.0 on Python 3.11.0")
    threading.Thread(target=sleepers[0].wait).start()
    keep(folder, old)
    head = RayHead(folder)
    head.start()
    wait_until(lambda: not head.problem)
    head.close()
    assert not old.lives()
    (new,) = started.processes
    found = RayHeadProcess.find(folder)
    assert found is not None
    assert (found.pid, found.version) == (new.pid, ray_head_process.this_version())
    assert end_head(folder)


def test_another_program_at_its_port_is_no_answer(folder: Path) -> None:
    token = folder / "ray.token"
    token.write_text("one")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"SSH-2.0-other\r\n")

        threading.Thread(target=speak).start()
        port = listening.getsockname()[1]
        assert not RayHeadProcess(1, "", f"http://127.0.0.1:{port}", str(token), "none").answers()


def test_a_damaged_file_is_reported(folder: Path) -> None:
    (folder / "ray.json").write_text("{}")
    with raises("ray-head.file-damaged", "ray.json"):
        end_head(folder)


def test_ports_are_free_different_and_not_those_of_rays_workers() -> None:
    found = ray_head_process._free_ports(40)
    assert len(set(found)) == 40
    assert not set(found) & set(range(10002, 20000))
    for port in found:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_the_token_is_its_users_alone_and_jobs_get_what_they_need(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    monkeypatch.setenv("NAS_OIDC_SECRET", "the server's")
    token = folder / "ray.token"
    write_secret(token, "one")
    write_secret(token, "two")
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() == "two"
    environment = ray_head_process._environment(token, "/tmp/nas-ray-1")
    assert (environment["RAY_AUTH_MODE"], environment["RAY_AUTH_TOKEN_PATH"]) == ("token", str(token))
    assert not {"RAY_ADDRESS", "NAS_OIDC_SECRET"} & environment.keys()
    assert environment["NAS_RAY_HEAD"] == "/tmp/nas-ray-1"
    found = RayHeadProcess(1, "", "http://127.0.0.1:9", str(token), "none")
    assert found.headers == {"Authorization": "Bearer two"}
    assert not found.answers()


def test_a_server_does_not_wait_for_its_head_and_takes_another_when_it_is_gone(
    folder: Path, sleepers: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, started = threading.Event(), []

    def start(folder: Path, **options: object) -> RayHeadProcess:
        made = sleep(folder / f"nas-ray-{len(started)}", sleepers)
        started.append(made)
        keep(folder, made)
        return made

    monkeypatch.setattr(RayHeadProcess, "start", start)
    monkeypatch.setattr(RayHeadProcess, "answers", lambda self: answers.is_set())
    monkeypatch.setattr(module, "_LOOK_S", 0.05)
    head = RayHead(folder)
    head.start()
    with raises("ray-head.unavailable"):
        head.ready()
    answers.set()
    wait_until(lambda: not head.problem)
    assert head.ready().address == "127.0.0.1:1"
    again = RayHead(folder)
    again.start()
    wait_until(lambda: not again.problem)
    again.close()
    assert len(started) == 1  # the second server found it
    sleepers[0].kill()
    sleepers[0].wait()
    wait_until(lambda: len(started) == 2 and not head.problem)
    head.close()
    head.close()
    assert started[1].lives()  # it outlives the server


def test_a_head_that_starts_no_jobs_is_replaced(
    folder: Path, sleepers: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[RayHeadProcess] = []
    (token := folder / "ray.token").write_text("one")

    def start(folder: Path, **options: object) -> RayHeadProcess:
        made = sleep(folder / f"nas-ray-{len(started)}", sleepers)
        started.append(replace(made, token_file=str(token), agent_url=url))
        keep(folder, started[-1])
        threading.Thread(target=sleepers[-1].wait).start()
        return started[-1]

    monkeypatch.setattr(RayHeadProcess, "start", start)
    monkeypatch.setattr(RayHeadProcess, "answers", lambda self: True)
    monkeypatch.setattr(module, "_LOOK_S", 0.05)
    monkeypatch.setattr(module, "_STUCK_S", 0.5)
    monkeypatch.setattr(ray_head_process, "_ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as never_answering:
        url = f"http://127.0.0.1:{never_answering.getsockname()[1]}"
        (head := RayHead(folder)).start()
        wait_until(lambda: bool(started))
        url = ""
        wait_until(lambda: len(started) == 2 and not head.problem)
        head.close()
    assert not started[0].lives()
    assert started[1].lives()


def test_a_head_that_does_not_start_is_reported_with_its_last_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(folder: Path, **options: object) -> RayHeadProcess:
        (folder / "ray.log").write_text("no space left\n")
        made = RayHeadProcess(2**22 + 1, "", "http://127.0.0.1:9", str(folder / "token"), "none-such")
        keep(folder, made)
        return made

    monkeypatch.setattr(RayHeadProcess, "start", start)
    monkeypatch.setattr(RayHeadProcess, "answers", lambda self: False)
    head = RayHead(folder)
    head.start()
    wait_until(lambda: "no space left" in head.problem)
    head.close()
    assert RayHeadProcess.find(folder) is None


def test_a_cluster_that_was_given_is_taken(tmp_path: Path) -> None:
    given = ServiceSettings(RunsFolder(tmp_path), ray_address="10.0.0.1:6379", ray_jobs_url="http://10.0.0.1:8265")
    cluster = cluster_of(given)
    assert cluster == ExternalCluster("10.0.0.1:6379", "http://10.0.0.1:8265")
    assert isinstance(cluster_of(ServiceSettings(RunsFolder(tmp_path))), RayHead)
    with raises("server.settings-invalid", "--jobs-url"):
        ServiceSettings(RunsFolder(tmp_path), ray_address="10.0.0.1:6379")


def wait_until(holds) -> None:  # type: ignore[no-untyped-def]
    pause = threading.Event()
    for _ in range(3000):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError("it never holds")
