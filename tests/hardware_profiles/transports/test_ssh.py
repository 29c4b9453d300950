"""Measuring over ssh, against a server of our own on the loopback interface."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware_profiles.base import Deployment, HardwareProfile, LatencyMeasurement
from hardware_profiles.errors import ProfileError, UnreachableError, WorkerError
from hardware_profiles.measuring.profiler import WorkerProfiler
from hardware_profiles.profiler_factory import SSH_CONFIG, open_profiler
from hardware_profiles.transports import bootstrap
from hardware_profiles.transports.connection import Connection
from hardware_profiles.transports.ssh import connect_by_ssh, ssh_arguments
from tests.contracts.latency_profiler import LatencyProfilerContract
from tests.hardware_profiles.networks import conv_net
from tests.hardware_profiles.sshd import Server, missing, serve

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

PROFILE = HardwareProfile("a-board", ssh="board", python=sys.executable)
IMAGE = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
SMALL, LARGE = (Deployment.single(conv_net(*size), {"x": IMAGE}) for size in ((8, 1), (64, 6)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(autouse=True)
def config(server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(SSH_CONFIG, str(server.config))
    return server.config


def interpreter(folder: Path, *modules: str) -> str:
    """A Python of this version that finds these modules alone, besides those of the standard library."""
    for module in modules:
        found = Path(str(sys.modules[module].__file__)).parent
        for part in (found, found.with_name(f"{module}.libs")):
            if part.exists():
                (folder / part.name).symlink_to(part)
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(folder))} exec {shlex.quote(sys.executable)} -S "$@"\n')
    script.chmod(0o755)
    return str(script)


def ended(pid: int) -> bool:
    """Whether a process ends within a while; it looks for its driver twice a second."""
    deadline = time.monotonic() + 120
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class TestOverSsh(LatencyProfilerContract):
    def make(self) -> WorkerProfiler:
        return open_profiler(PROFILE)


def test_models_are_measured_there_as_they_are_here() -> None:
    with open_profiler(PROFILE) as there, open_profiler(HardwareProfile("here")) as here:
        small, large = there.measure([SMALL, LARGE])
        _, twin = here.measure([SMALL, LARGE])
        assert all(there.environment()[key] == here.environment()[key] for key in ("cpu", "layout"))
    assert isinstance(small, LatencyMeasurement)
    assert isinstance(large, LatencyMeasurement)
    assert isinstance(twin, LatencyMeasurement)
    assert small.latency_ms < large.latency_ms / 5
    # The same machine by two ways; a busy one may slow either, hence a factor and no percentage.
    assert 0.33 < large.latency_ms / twin.latency_ms < 3
    assert small.environment["profile"] == "a-board"


@pytest.mark.parametrize(
    ("host", "kind", "words"),
    [
        ("closed", UnreachableError, ["a-board is measured on closed by ssh", "refused", "start its ssh server"]),
        ("nowhere", UnreachableError, ["nowhere.invalid", "no machine of that name is known here"]),
        ("stranger", ProfileError, ["Host key verification failed", "call `ssh stranger` by hand once"]),
        ("intruder", ProfileError, ["Permission denied", "ssh-copy-id intruder"]),
    ],
)
def test_a_host_that_does_not_let_us_in_is_told_with_what_to_do(
    host: str, kind: type[ProfileError], words: list[str]
) -> None:
    with open_profiler(replace(PROFILE, ssh=host)) as profiler, pytest.raises(ProfileError) as caught:
        next(profiler.measure([SMALL]))
    assert type(caught.value) is kind
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_host_without_that_python_is_told() -> None:
    with (
        open_profiler(replace(PROFILE, python="no/such/python")) as profiler,
        pytest.raises(
            ProfileError, match=r"there is no no/such/python that can be run; install Python there, or name its"
        ),
    ):
        profiler.environment()


def test_a_python_without_the_packages_is_told_which_is_missing(tmp_path: Path) -> None:
    bare, half = tmp_path / "bare", tmp_path / "half"
    bare.mkdir()
    half.mkdir()
    for python, module in ((interpreter(bare), "numpy"), (interpreter(half, "numpy"), "onnxruntime")):
        with (
            open_profiler(replace(PROFILE, python=python)) as profiler,
            pytest.raises(
                ProfileError, match=rf"`import {module}` fails \(ModuleNotFoundError.*-m pip install"
            ) as caught,
        ):
            profiler.environment()
        assert python in str(caught.value)


def test_numpy_and_onnxruntime_are_all_that_a_host_needs(tmp_path: Path) -> None:
    import onnxruntime  # so that it is found beside numpy

    assert onnxruntime.__version__
    python = interpreter(tmp_path, "numpy", "onnxruntime")
    with open_profiler(replace(PROFILE, python=python)) as profiler:
        (found,) = profiler.measure([SMALL])
    assert isinstance(found, LatencyMeasurement)


def test_more_threads_than_the_host_has_are_refused_by_its_worker() -> None:
    with (
        open_profiler(replace(PROFILE, threads=1000)) as profiler,
        pytest.raises(ProfileError, match=r"profile a-board: .*1000 threads"),
    ):
        profiler.environment()


def test_a_python_that_is_too_old_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_OLDEST", (9, 9))
    module, message = bootstrap.lacking()
    assert (module, message) == ("python", "Python 9.9 or newer is needed")
    old = tmp_path / "python"
    said = json.dumps({"event": "lacking", "module": module, "message": message, "python": "3.5.1"})
    old.write_text(f"#!/bin/sh\necho {shlex.quote(said)}\n")
    old.chmod(0o755)
    with (
        open_profiler(replace(PROFILE, python=str(old))) as profiler,
        pytest.raises(
            ProfileError, match=r"is Python 3.5.1, and Python 9.9 or newer is needed; name another interpreter"
        ),
    ):
        profiler.environment()


def test_a_shell_that_prints_is_named_as_the_culprit(tmp_path: Path) -> None:
    talking = tmp_path / "python"
    talking.write_text("#!/bin/sh\necho Welcome to the board\n")
    talking.chmod(0o755)
    with (
        open_profiler(replace(PROFILE, python=str(talking))) as profiler,
        pytest.raises(
            ProfileError, match=r"writes into what the worker says \('Welcome to the board'\).*startup files"
        ),
    ):
        profiler.environment()


class Cut:
    """A connection whose ssh session is killed on the host while the worker is in the second round of a batch."""

    def __init__(self, server: Server, profile: HardwareProfile) -> None:
        self._server, self._rounds = server, 0
        self._inner = connect_by_ssh(profile, config=server.config)
        self.workers: list[int] = []

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes] = ()) -> None:
        self._inner.send(command, payloads)
        self._rounds += command["do"] == "round"
        if self._rounds == 2:
            self.workers = self._server.commands()
            for session in self._server.sessions():
                os.kill(session, signal.SIGKILL)

    def receive(self, *, seconds: float) -> dict[str, Any]:
        return self._inner.receive(seconds=seconds)

    def close(self) -> None:
        self._inner.close()


def test_a_connection_lost_in_the_middle_is_made_again_and_its_worker_ends(server: Server) -> None:
    cut = Cut(server, PROFILE)
    tries: list[Connection] = [cut]
    connect = partial(connect_by_ssh, PROFILE, config=server.config)
    with WorkerProfiler(PROFILE, lambda: tries.pop() if tries else connect()) as profiler:
        results = list(profiler.measure([SMALL, LARGE]))
    assert all(isinstance(found, LatencyMeasurement) for found in results)
    assert len(cut.workers) >= 2  # the shell, which waits, and the worker with its own children
    assert all(ended(worker) for worker in cut.workers)


def test_a_host_that_stays_away_ends_the_measuring_with_what_is_kept(server: Server) -> None:
    cut = Cut(server, PROFILE)
    tries: list[Connection] = [cut]
    connect = partial(connect_by_ssh, replace(PROFILE, ssh="closed"), config=server.config)
    with (
        WorkerProfiler(PROFILE, lambda: tries.pop() if tries else connect(), pauses_s=(0.0, 0.0)) as profiler,
        pytest.raises(WorkerError, match=r"a-board was there and is gone: .*refused.*kept; .* `nas resume`"),
    ):
        list(profiler.measure([SMALL]))


def test_closing_ends_the_worker_on_the_host(server: Server) -> None:
    with open_profiler(PROFILE) as profiler:
        profiler.environment()
        commands = server.commands()
    assert len(commands) >= 2
    assert all(ended(command) for command in commands)


def test_a_connection_that_the_user_has_is_not_joined_and_may_end(server: Server, tmp_path: Path) -> None:
    shared = tmp_path / "config"
    shared.write_text(f"Host board\nControlPath {tmp_path / 'master'}\n{server.config.read_text()}")
    ssh = ["ssh", "-F", str(shared)]
    subprocess.run([*ssh, "-M", "-f", "-N", "board"], check=True, stderr=subprocess.DEVNULL)
    try:
        connection = connect_by_ssh(PROFILE, config=shared)
    finally:
        subprocess.run([*ssh, "-O", "exit", "board"], check=True, stderr=subprocess.DEVNULL)
    try:
        connection.send({"do": "start", "threads": 1, "provider": "CPUExecutionProvider"})
        assert connection.receive(seconds=60)["event"] == "ready"
    finally:
        connection.close()


def test_what_the_hosts_shell_is_given_is_safe_from_it() -> None:
    arguments = ssh_arguments(replace(PROFILE, python="~/my env/bin/python", threads=2), Path("/c"))
    assert arguments[-3:-1] == ["--", "board"]
    outer = shlex.split(arguments[-1])
    assert outer[:2] == ["sh", "-c"]
    words = shlex.split(outer[2])
    inner = words[words.index("$fixed") + 1 :]
    assert inner[:2] == ["env", "OMP_NUM_THREADS=2"]
    assert inner[6:8] == ["my env/bin/python", "-c"]
