"""The worker process: its lock, what a release reports, and its end with the driver."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hardware_profiles.errors import WorkerDiedError
from hardware_profiles.measuring.worker import commands, machine
from hardware_profiles.measuring.worker.commands import Worker
from hardware_profiles.measuring.worker.host_lock import lock_path, open_lock
from hardware_profiles.transports.connection import LocalConnection, local_command, worker_environment
from tests.hardware_profiles.measuring.worker_calls import NET, ask, load, packed, start
from tests.onnx_networks import endless


def test_killing_the_worker_ends_the_processes_that_run_its_model(worker: LocalConnection) -> None:
    start(worker)
    worker.send({"do": "load", "id": "0", "names": [["x"]]}, (endless(), packed(np.ones(1, np.float32))))
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    (fork_server,) = children.read_text().split()
    forks = Path(f"/proc/{fork_server}/task/{fork_server}/children")
    while not (found := forks.read_text().split()):
        os.sched_yield()
    watched = [os.pidfd_open(int(pid)) for pid in (fork_server, *found)]
    os.kill(worker.pid, signal.SIGKILL)
    try:
        for handle in watched:
            assert select.select([handle], [], [], 30)[0], "a process is still there"
    finally:
        for handle in watched:
            os.close(handle)


def test_a_release_reports_the_changing_environment(worker: LocalConnection, tmp_path: Path) -> None:
    start(worker)
    ask(worker, do="acquire", lock=str(tmp_path / "lock"), seconds=5)
    load(worker)
    environment = ask(worker, do="release")["environment"]
    assert 0 <= environment["steal"] <= 1
    assert environment["load_1m"] >= 0
    assert {"governor", "quota_cpus"} <= set(environment)


def test_the_changing_environment_is_read_at_each_release(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    own = Worker(out, None)
    own._cpus = [0]
    quotas = [2.0, 0.5]
    monkeypatch.setattr(machine, "cpu_quota", lambda: quotas.pop(0))
    own.release()
    own.release()
    found = [json.loads(line)["environment"]["quota_cpus"] for line in out.getvalue().splitlines()]
    assert found == [2.0, 0.5]


def test_a_suspension_between_acquire_and_release_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    own = Worker(out, None)
    own._cpus = [0]
    clocks = [100.0, 3700.04]
    monkeypatch.setattr(commands, "suspended_s", lambda: clocks.pop(0))
    own.acquire(str(tmp_path / "lock"), 5)
    own.release()
    assert json.loads(out.getvalue().splitlines()[-1])["environment"]["suspended_s"] == 3600.0


def test_a_locks_name_is_one_file_of_the_host_for_any_temporary_folder(worker: LocalConnection, tmp_path: Path) -> None:
    name = f"test-{os.getpid()}"
    other = LocalConnection(local_command(), {**worker_environment(1), "TMPDIR": str(tmp_path)})
    lock = Path(lock_path(name))
    try:
        start(worker)
        start(other)
        assert ask(worker, do="acquire", lock=name, seconds=5)["event"] == "acquired"
        answer = ask(other, do="acquire", lock=name, seconds=0.1)
        assert answer == {"event": "waiting", "holder": str(worker.pid), "lock": str(lock)}
        assert other.receive(seconds=60)["event"] == "lock-timeout"
    finally:
        other.close()
        lock.unlink(missing_ok=True)


def test_the_lock_is_in_the_first_folder_that_all_users_may_write_to(tmp_path: Path) -> None:
    own, shared, last = (tmp_path / name for name in ("own", "shared", "last"))
    found = [str(folder) for folder in (tmp_path / "missing", own, shared, last)]
    for folder in (own, shared, last):
        folder.mkdir()
    own.chmod(0o755)  # only root may write there
    shared.chmod(0o1777)
    last.chmod(0o1777)
    assert lock_path("name", tuple(found)) == str(shared / "name.lock")
    assert lock_path("name", tuple(found[:2])) == str(own / "name.lock")


def test_all_users_may_open_the_lock_of_any_user(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    before = os.umask(0o077)
    try:
        os.close(open_lock(str(lock)))
    finally:
        os.umask(before)
    assert stat.S_IMODE(lock.stat().st_mode) == 0o666
    lock.write_text("kept")
    os.close(open_lock(str(lock)))
    assert lock.read_text() == "kept"


def test_a_lock_that_cannot_be_opened_is_reported(worker: LocalConnection, tmp_path: Path) -> None:
    start(worker)
    victim, link, folder = (tmp_path / name for name in ("victim", "link", "folder"))
    victim.write_text("kept")
    link.symlink_to(victim)
    folder.mkdir()
    for lock, number in ((link, errno.ELOOP), (folder, errno.EISDIR), (tmp_path / "no" / "lock", errno.ENOENT)):
        answer = ask(worker, do="acquire", lock=str(lock), seconds=5)
        assert answer == {"event": "lock-unusable", "lock": str(lock), "reason": os.strerror(number)}
    assert victim.read_text() == "kept"


def test_text_in_the_lock_that_is_not_a_process_id_is_dropped(worker: LocalConnection, tmp_path: Path) -> None:
    start(worker)
    with (tmp_path / "lock").open("w") as file:
        file.write("\x1b[2J, and do as I say")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert ask(worker, do="acquire", lock=file.name, seconds=0.1)["holder"] == ""
        assert worker.receive(seconds=60) == {"event": "lock-timeout", "holder": "", "lock": file.name}


def test_the_lock_has_a_timeout_and_is_freed_by_a_death(worker: LocalConnection, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    start(worker)
    assert ask(worker, do="acquire", lock=str(lock), seconds=5)["event"] == "acquired"
    other = LocalConnection(local_command(), worker_environment(1))
    try:
        start(other)
        answer = ask(other, do="acquire", lock=str(lock), seconds=0.1)
        assert answer == {"event": "waiting", "holder": str(worker.pid), "lock": str(lock)}
        assert other.receive(seconds=60)["event"] == "lock-timeout"
        os.kill(worker.pid, signal.SIGKILL)
        other.send({"do": "acquire", "lock": str(lock), "seconds": 30})
        answers = [other.receive(seconds=60)["event"]]
        if answers == ["waiting"]:  # before the system has released it
            answers.append(other.receive(seconds=60)["event"])
        assert answers[-1] == "acquired"
    finally:
        other.close()


def test_the_lock_is_free_after_a_release(worker: LocalConnection, tmp_path: Path) -> None:
    start(worker)
    assert ask(worker, do="acquire", lock=str(tmp_path / "lock"), seconds=5)["event"] == "acquired"
    with (tmp_path / "lock").open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert ask(worker, do="release")["event"] == "released"
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_it_does_not_outlive_a_killed_driver_even_while_it_measures(tmp_path: Path) -> None:
    # The driver hands its own end of a second pipe to the worker: that pipe ends when both are gone.
    (tmp_path / "payloads").write_bytes(b"".join(NET))
    code = f"""
import json, pathlib, subprocess, sys, time
worker = subprocess.Popen({local_command()!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def say(payload=b"", **command):
    worker.stdin.write(json.dumps(command).encode() + b"\\n" + payload); worker.stdin.flush()
say(do="start", threads=1, provider="CPUExecutionProvider"); worker.stdout.readline()
say(pathlib.Path({str(tmp_path / "payloads")!r}).read_bytes(), do="load", id="0", names=[["x"]], payloads={[*map(len, NET)]})
worker.stdout.readline()
say(do="round", order=[["0", 10**9]])
print(worker.pid, flush=True)
time.sleep(600)
"""
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    watched = os.pidfd_open(pid)
    try:
        driver.kill()
        driver.wait()
        assert select.select([watched], [], [], 30)[0], "the worker is still there"
    finally:
        driver.stdout.close()
        os.close(watched)


def test_a_missing_answer_ends_the_process(worker: LocalConnection) -> None:
    with pytest.raises(WorkerDiedError, match="0 s"):
        worker.receive(seconds=0.01)


def test_the_cause_of_a_death_is_reported() -> None:
    connection = LocalConnection([sys.executable, "-c", "raise SystemExit('no such luck')"], dict(os.environ))
    with pytest.raises(WorkerDiedError, match=r"died \(exit code 1: no such luck\)"):
        connection.receive(seconds=60)
    connection.close()


def test_payloads_larger_than_a_pipe_arrive_whole_and_an_ended_process_is_reported() -> None:
    code = (
        "import hashlib, json, sys; f = sys.stdin.buffer; line = json.loads(f.readline()); "
        "print(json.dumps([hashlib.sha256(f.read(n)).hexdigest() for n in line['payloads']]))"
    )
    rng = np.random.default_rng(0)
    payloads = [rng.bytes(n) for n in (5_000_000, 0, 3)]
    connection = LocalConnection([sys.executable, "-c", code], dict(os.environ))
    try:
        connection.send({"do": "hash"}, payloads)
        answer: object = connection.receive(seconds=60)
        assert answer == [hashlib.sha256(payload).hexdigest() for payload in payloads]
        with pytest.raises(WorkerDiedError, match="exit code 0"):
            connection.send({"do": "hash"}, payloads)
    finally:
        connection.close()
