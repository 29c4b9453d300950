"""The worker by itself: what it imports, where it runs, what it answers, and that it ends with its driver."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hardware_profiles.connection import (
    WORKER_FILE,
    LocalConnection,
    WorkerDiedError,
    local_command,
    worker_environment,
)
from tests.hardware_profiles.networks import conv_net

CPUS = len(os.sched_getaffinity(0))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """A model and its inputs as the worker takes them."""
    (tmp_path / "m.onnx").write_bytes(conv_net())
    np.savez(tmp_path / "m.npz", np.ones((1, 3, 16, 16), np.float32))
    return {"model": str(tmp_path / "m.onnx"), "inputs": str(tmp_path / "m.npz"), "names": ["x"]}


@pytest.fixture
def worker() -> Iterator[LocalConnection]:
    connection = LocalConnection(local_command(), worker_environment(1))
    yield connection
    connection.close()


def ask(connection: LocalConnection, **command: Any) -> dict[str, Any]:
    connection.send(command)
    return connection.receive(seconds=60)


def start(connection: LocalConnection, threads: int = 1) -> dict[str, Any]:
    environment: dict[str, Any] = ask(connection, do="start", threads=threads, provider="CPUExecutionProvider")[
        "environment"
    ]
    return environment


def allowed_cpus(pid: int) -> dict[str, str]:
    """The CPUs that each thread of a process may use, as the kernel tells them, by thread."""
    found = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        found[status.parent.name] = lines["Cpus_allowed_list"].strip()
    return found


def test_the_one_file_runs_where_there_is_only_numpy_and_onnxruntime(tmp_path: Path, files: dict[str, Any]) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    installed = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs", "onnxruntime"):
        if (installed / name).exists():
            (packages / name).symlink_to(installed / name)
    alone = tmp_path / "worker.py"
    alone.write_bytes(WORKER_FILE.read_bytes())
    # -S: no site-packages; what is left is the standard library and the folder
    connection = LocalConnection([sys.executable, "-S", "-P", str(alone)], {"PYTHONPATH": str(packages)})
    try:
        assert start(connection)["onnxruntime"] == onnxruntime.__version__
        assert ask(connection, do="load", id="0", **files)["event"] == "loaded"
        entries = ask(connection, do="round", order=[["0", 7]])["entries"]
    finally:
        connection.close()
    assert [len(entries["0"][key]) for key in ("wall_ms", "cpu_ms", "switches")] == [7, 7, 7]
    assert min(entries["0"]["wall_ms"]) > 0


def test_it_imports_nothing_else() -> None:
    code = f"import runpy, sys; runpy.run_path({str(WORKER_FILE)!r}); print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"numpy", "onnxruntime"} <= loaded
    ours = {"onnx", "pydantic", "yaml", "torch", "ray", "nas", "supernets", "predictors", "hardware_profiles"}
    assert not loaded & ours


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.skipif(CPUS < 2, reason="needs two CPUs"))])
def test_each_thread_of_the_runtime_has_a_cpu_of_its_own(
    worker: LocalConnection, files: dict[str, Any], threads: int
) -> None:
    pinned = [str(cpu) for cpu in start(worker, threads)["pinned_cpus"]]
    assert len(set(pinned)) == threads
    before = allowed_cpus(worker.pid)
    assert before[str(worker.pid)] == pinned[0]
    assert ask(worker, do="load", id="0", **files)["event"] == "loaded"
    assert ask(worker, do="round", order=[["0", 3]])["event"] == "round"
    after = allowed_cpus(worker.pid)
    assert after[str(worker.pid)] == pinned[0]
    # the runtime has added one thread fewer than it was asked to use, since the calling one works too
    assert sorted(cpus for thread, cpus in after.items() if thread not in before) == pinned[1:]


def test_inputs_are_never_unpickled(worker: LocalConnection, files: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", np.array([{"a": 1}], dtype=object))
    start(worker)
    answer = ask(worker, do="load", id="0", **files)
    assert answer["event"] == "failed"
    assert "allow_pickle=False" in answer["message"]


def test_a_fallback_to_another_provider_is_a_failure(worker: LocalConnection, files: dict[str, Any]) -> None:
    ask(worker, do="start", threads=1, provider="CUDAExecutionProvider")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this runtime has the provider")
    answer = ask(worker, do="load", id="0", **files)
    assert answer["event"] == "failed"
    assert "CUDAExecutionProvider" in answer["message"]


def test_the_lock_is_refused_in_bounded_time_and_freed_by_a_death(worker: LocalConnection, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    start(worker)
    assert ask(worker, do="acquire", lock=str(lock), seconds=5)["event"] == "acquired"
    other = LocalConnection(local_command(), worker_environment(1))
    try:
        start(other)
        answer = ask(other, do="acquire", lock=str(lock), seconds=0.1)
        assert answer == {"event": "waiting", "holder": str(worker.pid)}
        assert other.receive(seconds=60)["event"] == "refused"
        os.kill(worker.pid, signal.SIGKILL)
        other.send({"do": "acquire", "lock": str(lock), "seconds": 30})
        answers = [other.receive(seconds=60)["event"]]
        if answers == ["waiting"]:  # asked before the system had cleaned up
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


def test_it_does_not_outlive_a_killed_driver_even_while_it_measures(files: dict[str, Any], tmp_path: Path) -> None:
    # The driver hands its own end of a second pipe to the worker: that pipe ends when both are gone.
    code = f"""
import json, subprocess, sys, time
worker = subprocess.Popen({local_command()!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def say(**command):
    worker.stdin.write(json.dumps(command).encode() + b"\\n"); worker.stdin.flush()
say(do="start", threads=1, provider="CPUExecutionProvider"); worker.stdout.readline()
say(do="load", id="0", **json.loads({json.dumps(files)!r})); worker.stdout.readline()
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


def test_no_answer_in_time_ends_the_process(worker: LocalConnection) -> None:
    with pytest.raises(WorkerDiedError, match="no answer in 0 s"):
        worker.receive(seconds=0.01)


def test_how_a_process_died_is_told() -> None:
    connection = LocalConnection([sys.executable, "-c", "raise SystemExit('no such luck')"], dict(os.environ))
    with pytest.raises(WorkerDiedError, match=r"died \(exit code 1: no such luck\)"):
        connection.receive(seconds=60)
    connection.close()
