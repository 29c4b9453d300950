"""Measuring over ssh, against a server for tests on the loopback interface."""

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
from hardware_profiles.measuring.profiler import WorkerProfiler
from hardware_profiles.profiler_factory import SSH_CONFIG, open_profiler
from hardware_profiles.transports import bootstrap
from hardware_profiles.transports.connection import Connection
from hardware_profiles.transports.ssh import connect_by_ssh, ssh_arguments
from nas.plugins.testing.onnx_networks import conv_net
from tests.contracts.latency_profiler import LatencyProfilerContract
from tests.errors import raises
from tests.hardware_profiles.energy_counters import BUSY_W, counters
from tests.hardware_profiles.sshd import Server, missing, serve

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

PROFILE = HardwareProfile("a-board", ssh="board", python=sys.executable, wait_minutes=2)
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
    """A Python of this version with only these modules besides the standard library."""
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
    """Whether a process ends in time; it checks for its driver twice a second."""
    deadline = time.monotonic() + 120
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class TestOverSsh(LatencyProfilerContract):
    def make(self) -> WorkerProfiler:
        return open_profiler(PROFILE)


def test_models_are_measured_remotely_as_locally() -> None:
    with open_profiler(PROFILE) as there, open_profiler(HardwareProfile("here")) as here:
        small, large = there.measure([SMALL, LARGE])
        _, twin = here.measure([SMALL, LARGE])
        assert all(there.environment()[key] == here.environment()[key] for key in ("cpu", "layout"))
    assert isinstance(small, LatencyMeasurement)
    assert isinstance(large, LatencyMeasurement)
    assert isinstance(twin, LatencyMeasurement)
    assert small.latency_ms < large.latency_ms / 5
    # One machine by two transports; load may slow either, hence the wide factor.
    assert 0.33 < large.latency_ms / twin.latency_ms < 3
    assert small.environment["profile"] == "a-board"


@pytest.mark.slow
def test_energy_is_read_on_the_host(tmp_path: Path) -> None:
    folder, python = tmp_path / "powercap", tmp_path / "python"
    python.write_text(f'#!/bin/sh\nNAS_POWERCAP={shlex.quote(str(folder))} exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    profile = replace(PROFILE, python=str(python))
    with (
        open_profiler(profile, energy=True) as profiler,
        raises("profile.no-energy", "a-board", "on board", str(folder)),
    ):
        profiler.environment()
    with counters(folder), open_profiler(profile, energy=True) as profiler:
        (large,) = profiler.measure([LARGE])
    assert isinstance(large, LatencyMeasurement)
    assert large.energy_mj is not None
    assert large.energy_mj / float(np.mean(large.raw_cpu_ms)) == pytest.approx(BUSY_W, rel=0.4)


@pytest.mark.parametrize(
    ("host", "code", "mentions"),
    [
        ("closed", "profile.unreachable", ["a-board is measured on closed", "refused"]),
        ("nowhere", "profile.unreachable", ["nowhere.invalid"]),
        ("stranger", "profile.access-denied", ["Host key verification failed", "`ssh stranger`"]),
        ("intruder", "profile.access-denied", ["Permission denied", "ssh-copy-id intruder"]),
    ],
)
def test_a_host_without_access_is_reported_with_the_remedy(host: str, code: str, mentions: list[str]) -> None:
    waits: list[str] = []
    with (
        open_profiler(replace(PROFILE, ssh=host), await_first=host != "closed", on_wait=waits.append) as profiler,
        raises(code, *mentions) as caught,
    ):
        next(profiler.measure([SMALL]))
    assert "\n" not in str(caught.value)
    assert waits == []  # none of it mends by itself


def test_a_host_that_is_away_at_first_is_waited_for(server: Server, tmp_path: Path) -> None:
    waits, ends = list[str](), list[int]()
    server.stop()

    def start(text: str) -> None:
        waits.append(text)
        server.start()

    with open_profiler(
        PROFILE, on_wait=start, on_wait_end=lambda: ends.append(len(waits)), lock=str(tmp_path / "lock")
    ) as profiler:
        (measured,) = profiler.measure([SMALL])
    assert isinstance(measured, LatencyMeasurement)
    assert ends == [1]
    assert waits[0].startswith("waits for a-board since ")
    assert "Connection refused" in waits[0]


def test_a_name_without_an_address_is_waited_for_where_ssh_has_the_hosts_key() -> None:
    waits: list[str] = []
    profile = replace(PROFILE, ssh="asleep", wait_minutes=0.001)
    with (
        open_profiler(profile, on_wait=waits.append) as profiler,
        raises("worker.machine-lost", "is not back", "asleep.invalid", "continue when"),
    ):
        profiler.environment()
    assert len(waits) == 1


def test_a_host_without_the_interpreter_is_reported() -> None:
    with (
        open_profiler(replace(PROFILE, python="no/such/python")) as profiler,
        raises("profile.host-python", "no/such/python"),
    ):
        profiler.environment()


def test_a_python_without_the_packages_is_reported_with_the_missing_one(tmp_path: Path) -> None:
    bare, half = tmp_path / "bare", tmp_path / "half"
    bare.mkdir()
    half.mkdir()
    for python, module in ((interpreter(bare), "numpy"), (interpreter(half, "numpy"), "onnxruntime")):
        with (
            open_profiler(replace(PROFILE, python=python)) as profiler,
            raises("profile.host-python", f"`import {module}`", "ModuleNotFoundError", f"`{python} -m pip install"),
        ):
            profiler.environment()


def test_a_host_needs_only_numpy_and_onnxruntime(tmp_path: Path) -> None:
    import onnxruntime  # so that `interpreter` finds it

    assert onnxruntime.__version__
    python = interpreter(tmp_path, "numpy", "onnxruntime")
    with open_profiler(replace(PROFILE, python=python)) as profiler:
        (found,) = profiler.measure([SMALL])
    assert isinstance(found, LatencyMeasurement)


def test_more_threads_than_the_hosts_cpus_are_rejected_by_its_worker() -> None:
    with (
        open_profiler(replace(PROFILE, threads=1000)) as profiler,
        raises("profile.too-few-cpus", "profile a-board", "1000"),
    ):
        profiler.environment()


def test_a_python_that_is_too_old_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_OLDEST", (9, 9))
    module, message = bootstrap.lacking()
    assert (module, message) == ("python", "Python 9.9 or newer is needed")
    old = tmp_path / "python"
    answer = json.dumps({"event": "lacking", "module": module, "message": message, "python": "3.5.1"})
    old.write_text(f"#!/bin/sh\necho {shlex.quote(answer)}\n")
    old.chmod(0o755)
    with (
        open_profiler(replace(PROFILE, python=str(old))) as profiler,
        raises("profile.host-python", "3.5.1", "9.9"),
    ):
        profiler.environment()


def test_a_shell_that_prints_is_reported(tmp_path: Path) -> None:
    talking = tmp_path / "python"
    talking.write_text("#!/bin/sh\necho Welcome to the board\n")
    talking.chmod(0o755)
    with (
        open_profiler(replace(PROFILE, python=str(talking))) as profiler,
        raises("profile.host-output", "'Welcome to the board'"),
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


def test_a_lost_connection_is_reconnected_and_its_worker_ends(server: Server) -> None:
    cut = Cut(server, PROFILE)
    tries: list[Connection] = [cut]
    connect = partial(connect_by_ssh, PROFILE, config=server.config)
    with WorkerProfiler(PROFILE, lambda: tries.pop() if tries else connect()) as profiler:
        results = list(profiler.measure([SMALL, LARGE]))
    assert all(isinstance(found, LatencyMeasurement) for found in results)
    assert len(cut.workers) >= 2  # the waiting shell, and the worker with its children
    assert all(ended(worker) for worker in cut.workers)


def test_a_host_that_stays_unreachable_ends_the_measurement(server: Server) -> None:
    cut = Cut(server, PROFILE)
    tries: list[Connection] = [cut]
    profile = replace(PROFILE, ssh="closed", wait_minutes=0.001)
    connect = partial(connect_by_ssh, profile, config=server.config)
    with (
        WorkerProfiler(profile, lambda: tries.pop() if tries else connect()) as profiler,
        raises("worker.machine-lost", "a-board", "refused"),
    ):
        list(profiler.measure([SMALL]))


def test_closing_ends_the_worker_on_the_host(server: Server) -> None:
    with open_profiler(PROFILE) as profiler:
        profiler.environment()
        commands = server.commands()
    assert len(commands) >= 2
    assert all(ended(command) for command in commands)


def test_a_connection_of_the_users_is_not_shared(server: Server, tmp_path: Path) -> None:
    shared = tmp_path / "config"
    shared.write_text(f"Host board\nControlPath {tmp_path / 'master'}\n{server.config.read_text()}")
    ssh = ["ssh", "-F", str(shared)]
    subprocess.run([*ssh, "-M", "-f", "-N", "board"], check=True, stderr=subprocess.DEVNULL)
    try:
        connection = connect_by_ssh(PROFILE, config=shared)
    finally:
        subprocess.run([*ssh, "-O", "exit", "board"], check=True, stderr=subprocess.DEVNULL)
    try:
        connection.send({"do": "start", "threads": 1, "provider": "CPUExecutionProvider", "trivial": ""})
        assert connection.receive(seconds=60)["event"] == "ready"
    finally:
        connection.close()


def test_the_command_is_safe_in_the_hosts_shell() -> None:
    arguments = ssh_arguments(replace(PROFILE, python="~/my env/bin/python", threads=2), Path("/c"))
    assert arguments[-3:-1] == ["--", "board"]
    outer = shlex.split(arguments[-1])
    assert outer[:2] == ["sh", "-c"]
    words = shlex.split(outer[2])
    inner = words[words.index("$fixed") + 1 :]
    assert inner[:2] == ["env", "OMP_NUM_THREADS=2"]
    assert inner[8:10] == ["my env/bin/python", "-c"]
