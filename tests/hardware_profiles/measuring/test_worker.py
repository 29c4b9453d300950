"""The worker process: its imports, pinning, answers, lock, and its end with the driver."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import resource
import runpy
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.errors import WorkerDiedError
from hardware_profiles.measuring.session import _TRIVIAL as TRIVIAL
from hardware_profiles.runtimes.registry import source_of
from hardware_profiles.transports.connection import WORKER_FILE, LocalConnection, local_command, worker_environment
from nas.testing.onnx_networks import conv_net, declare
from tests.onnx_networks import endless

CPUS = len(os.sched_getaffinity(0))
SESSION = onnxruntime.InferenceSession
CODE = runpy.run_path(str(WORKER_FILE))
AZURE = "AzureExecutionProvider"
"""A provider of the runtime that runs none of our operations."""


def packed(*arrays: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, *arrays)
    return file.getvalue()


NET = (conv_net(), packed(np.ones((1, 3, 16, 16), np.float32)))
"""A model and its inputs as the worker's payloads."""


@pytest.fixture
def worker() -> Iterator[LocalConnection]:
    connection = LocalConnection(local_command(), worker_environment(1))
    yield connection
    connection.close()


def ask(connection: LocalConnection, payloads: Sequence[bytes] = (), **command: Any) -> dict[str, Any]:
    connection.send(command, payloads)
    return connection.receive(seconds=60)


def load(connection: LocalConnection, payloads: Sequence[bytes] = NET, *, n_calls: int = 1) -> dict[str, Any]:
    return ask(connection, payloads, do="load", id="0", names=[["x"]] * n_calls)


def start(connection: LocalConnection, threads: int = 1, provider: str = "CPUExecutionProvider") -> dict[str, Any]:
    started = ask(connection, do="start", threads=threads, provider=provider, trivial=TRIVIAL.hex())
    environment: dict[str, Any] = started["environment"]
    return environment


def allowed_cpus(pid: int) -> dict[str, str]:
    """The CPUs that each thread of a process may use, by thread, from the kernel."""
    found = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        found[status.parent.name] = lines["Cpus_allowed_list"].strip()
    return found


def test_the_file_and_that_of_a_runtime_alone_run_with_numpy_and_onnxruntime(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    installed = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs", "onnxruntime"):
        if (installed / name).exists():
            (packages / name).symlink_to(installed / name)
    alone = tmp_path / "worker.py"
    alone.write_bytes(WORKER_FILE.read_bytes())
    file, _, name = source_of("onnxruntime").rpartition(":")
    (tmp_path / "runtime.py").write_bytes(Path(file).read_bytes())
    # -S: no site-packages, only the standard library and the folder
    environment = {"PYTHONPATH": str(packages), "MEASURED_RUNTIME": f"{tmp_path / 'runtime.py'}:{name}"}
    connection = LocalConnection([sys.executable, "-S", "-P", str(alone)], environment)
    try:
        assert start(connection)["onnxruntime"] == onnxruntime.__version__
        assert load(connection)["event"] == "loaded"
        entries = ask(connection, do="round", order=[["0", 7]])["entries"]
    finally:
        connection.close()
    assert [len(entries["0"][key]) for key in ("wall_ms", "cpu_ms", "switches")] == [7, 7, 7]
    assert min(entries["0"]["wall_ms"]) > 0


def test_it_imports_no_other_package() -> None:
    code = f"import runpy, sys; runpy.run_path({str(WORKER_FILE)!r}); print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"numpy", "onnxruntime"} <= loaded
    ours = {"onnx", "pydantic", "yaml", "torch", "ray", "nas", "supernets", "predictors", "hardware_profiles"}
    assert not loaded & ours


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.skipif(CPUS < 2, reason="needs two CPUs"))])
def test_each_thread_of_the_runtime_has_a_cpu_of_its_own(worker: LocalConnection, threads: int) -> None:
    pinned = [str(cpu) for cpu in start(worker, threads)["pinned_cpus"]]
    assert len(set(pinned)) == threads
    before = allowed_cpus(worker.pid)
    assert before[str(worker.pid)] == pinned[0]
    assert load(worker)["event"] == "loaded"
    assert ask(worker, do="round", order=[["0", 3]])["event"] == "round"
    after = allowed_cpus(worker.pid)
    assert after[str(worker.pid)] == pinned[0]
    # the runtime adds one thread fewer, since the calling one computes too
    assert sorted(cpus for thread, cpus in after.items() if thread not in before) == pinned[1:]


def test_the_weights_of_a_large_model_are_put_into_huge_pages(worker: LocalConnection) -> None:
    if tuple(map(int, platform.release().split("-")[0].split(".")[:2])) < (6, 1):
        pytest.skip("Linux has the call that does this since 6.1")
    weights = numpy_helper.from_array(np.ones((4096, 2304), np.float32), "w")  # 36 MiB
    x, y = (declare(name, (1, n)) for name, n in (("x", 4096), ("y", 2304)))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "large", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    start(worker)
    assert load(worker)["scattered"] == 0.0  # a small model, whose pages do not matter
    large = load(worker, (model, packed(np.ones((1, 4096), np.float32))))
    assert 0.0 <= large["scattered"] < 0.8
    huge = re.search(r"AnonHugePages: +([0-9]+) kB", Path(f"/proc/{worker.pid}/smaps_rollup").read_text())
    assert huge is not None
    assert int(huge[1]) > 30 * 1024


def test_inputs_are_never_unpickled(worker: LocalConnection) -> None:
    start(worker)
    answer = load(worker, (NET[0], packed(np.array([{"a": 1}], dtype=object))))
    assert answer["event"] == "failed"
    assert "allow_pickle=False" in answer["message"]


def test_the_environment_describes_the_machine(worker: LocalConnection) -> None:
    environment = start(worker)
    cpuinfo = Path("/proc/cpuinfo").read_text()
    assert (
        all(part in cpuinfo or part == "part" for part in environment["cpu"].split())
        or environment["cpu"] == platform.machine()
    )
    assert all(re.search(rf"\b{flag}\b", cpuinfo) for flag in environment["isa"])
    assert re.fullmatch("[0-9a-f]{16}", environment["flags"])
    assert environment["available_providers"] == onnxruntime.get_available_providers()
    assert (environment["kernel"], environment["machine"], environment["python"]) == (
        platform.release(), platform.machine(), platform.python_version(),
    )  # fmt: skip
    assert environment["allowed_cpus"] == CPUS
    assert environment["device"] is None
    others = {"governor", "quota_cpus", "max_khz", "load_1m", "layout", "host", "numpy", "pinned_cpus", "threads"}
    assert others <= set(environment)
    assert json.loads(json.dumps(environment, allow_nan=False)) == environment


def test_workers_have_one_memory_layout_where_the_system_allows_it(worker: LocalConnection) -> None:
    setarch = shutil.which("setarch")
    allowed = setarch is not None and subprocess.run([setarch, "-R", "true"], check=False).returncode == 0
    environment = start(worker)
    assert environment["layout"] == ("fixed" if allowed else "random")
    if allowed:
        other = LocalConnection(local_command(), worker_environment(1))
        try:
            stacks = [
                re.search(r"^(\S+) .*\[stack\]$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
                for pid in (worker.pid, other.pid)
                if start(other)
            ]
        finally:
            other.close()
        assert stacks[0] is not None
        assert stacks[1] is not None
        assert stacks[0][1] == stacks[1][1]


def test_a_cgroup_quota_is_the_least_of_all_levels(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    def quota() -> float | None:
        found: float | None = CODE["cpu_quota"](str(tmp_path), str(tmp_path / "own"))
        return found

    assert quota() is None
    write("own", "0::/outer/inner\n")
    write("outer/inner/cpu.max", "max 100000\n")
    assert quota() is None
    write("outer/cpu.max", "150000 100000\n")
    write("outer/inner/cpu.max", "200000 100000\n")
    assert quota() == 1.5
    write("own", "3:cpuset:/\n1:cpu,cpuacct:/job\n0::/\n")
    write("cpu/job/cpu.cfs_quota_us", "-1\n")
    write("cpu/job/cpu.cfs_period_us", "100000\n")
    assert quota() is None
    write("cpu/job/cpu.cfs_quota_us", "50000\n")
    assert quota() == 0.5


def test_a_gpu_has_its_model_and_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def device(provider: str = "CUDAExecutionProvider") -> str | None:
        found: str | None = CODE["device"](provider, str(tmp_path))
        return found

    def add(address: str, model: str) -> None:
        folder = tmp_path / "gpus" / address
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 178\nGPU UUID: \t GPU-1\n")

    assert device() == "unknown GPU, driver unknown"
    add("0000:01:00.0", "NVIDIA H100 80GB HBM3")
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build  (dvs-builder@U16)\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
    )
    assert device() == device("TensorrtExecutionProvider") == "NVIDIA H100 80GB HBM3, driver 550.54.14"
    assert device("CPUExecutionProvider") is None
    add("0000:02:00.0", "NVIDIA H100 80GB HBM3")
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32\n"
    )
    assert device() == "NVIDIA H100 80GB HBM3, driver 535.129.03"
    add("0000:00:00.0", "Tesla T4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert device() == "NVIDIA H100 80GB HBM3, Tesla T4, CUDA_VISIBLE_DEVICES=1, driver 535.129.03"


@pytest.mark.skipif(
    AZURE not in onnxruntime.get_available_providers(), reason="needs a provider that leaves work to the CPU"
)
def test_a_model_that_a_provider_leaves_to_the_cpu_is_rejected(worker: LocalConnection) -> None:
    start(worker, provider=AZURE)
    answer = load(worker)
    assert answer["event"] == "failed"
    assert AZURE in answer["message"]
    assert "CPU" in answer["message"]
    session, _ = CODE["_create_session"](TRIVIAL, [0], AZURE, (), whole=False)  # the baseline of the peak memory
    assert session.devices[0] == AZURE


def test_a_provider_whose_libraries_are_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", _on_cpu)
    with pytest.raises(RuntimeError, match="NoProvider"):
        CODE["_create_session"](TRIVIAL, [0], "NoProvider", (), whole=False)


def _on_cpu(model: bytes, options: onnxruntime.SessionOptions, **asked: object) -> onnxruntime.InferenceSession:
    """The runtime's session where a provider cannot be loaded."""
    return SESSION(model, options, providers=["CPUExecutionProvider"])


def test_the_worker_runs_from_its_input() -> None:
    """As over ssh: the source and then the commands on one input, without a file."""
    code = (
        "import sys;n=int(sys.stdin.buffer.readline());"
        "exec(compile(sys.stdin.buffer.read(n),'worker','exec'),{'__name__':'__main__'})"
    )
    environment = {**os.environ, "MEASURED_RUNTIME": source_of("onnxruntime")}
    source = WORKER_FILE.read_bytes()
    load_line = json.dumps(
        {"do": "load", "id": "0", "names": [["x"]], "payloads": [len(part) for part in NET]}
    ).encode()
    command = {"do": "start", "threads": 1, "provider": "CPUExecutionProvider", "trivial": TRIVIAL.hex()}
    begin, pipe = json.dumps(command).encode(), subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join((b"%d\n" % len(source), source, begin, b"\n", load_line, b"\n", *NET)))
        process.stdin.flush()
        assert [json.loads(process.stdout.readline())["event"] for _ in range(2)] == ["ready", "loaded"]


def test_the_peak_is_the_memory_that_a_session_and_a_run_add(worker: LocalConnection) -> None:
    """Compared with the resident memory of a process that does the same."""
    start(worker)
    net, image = conv_net(512, 4, size=32), np.ones((1, 3, 32, 32), np.float32)
    small, first, second = (load(worker, payloads) for payloads in (NET, (net, packed(image)), (net, packed(image))))
    code = r"""
import re, sys, numpy, onnxruntime
def peak(): return int(re.search(r'VmHWM:\s+(\d+)', open('/proc/self/status').read())[1]) / 1024
def run(model, image):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": image})
length = int(sys.stdin.buffer.readline())
net, small = sys.stdin.buffer.read(length), sys.stdin.buffer.read()
image = numpy.ones((1, 3, 32, 32), numpy.float32)
run(small, image[:, :, :16, :16])
before = peak()
run(net, image)
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=f"{len(net)}\n".encode() + net + NET[0], capture_output=True, check=True
    )
    alone = float(done.stdout)
    assert first["peak_mib"] > len(net) / 2**20
    block = 5.0  # an allocator's 4 MiB and some pages, which it may or may not have returned
    assert first["peak_mib"] == pytest.approx(alone, abs=2 * block)
    assert second["peak_mib"] == pytest.approx(first["peak_mib"], abs=block)
    assert 0 <= small["peak_mib"] < first["peak_mib"] / 5
    for answer in (small, first, second):
        assert 2 <= len(answer["session_ms"]) <= 6  # fewer creations if one takes long
        assert min(answer["session_ms"]) > 0


def test_the_peak_of_several_inputs_is_that_of_the_largest(worker: LocalConnection) -> None:
    start(worker)
    net = conv_net(64, 2, size="size")
    small, large = (np.ones((1, 3, size, size), np.float32) for size in (16, 192))
    alone, other = (load(worker, (net, packed(image)))["peak_mib"] for image in (large, small))
    assert other < alone / 3
    for images in ((small, large), (large, small)):
        together = load(worker, (net, packed(*images)), n_calls=2)["peak_mib"]
        assert together > 0.8 * alone  # allocators return freed memory differently


def test_a_model_that_kills_its_process_fails_and_the_worker_survives(worker: LocalConnection, tmp_path: Path) -> None:
    """Its output is larger than the memory limit."""
    start(worker)
    values = helper.make_tensor_value_info("x", TensorProto.INT64, [1]), declare("y", ["n"])
    graph = helper.make_graph([helper.make_node("ConstantOfShape", ["x"], ["y"])], "huge", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    resource.prlimit(worker.pid, resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
    (zygote,) = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    resource.prlimit(int(zygote), resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
    answer = load(worker, (model, packed(np.array([1 << 33], np.int64))))
    assert answer["event"] == "failed"
    assert answer["message"]
    assert load(worker)["event"] == "loaded"


def test_killing_the_worker_ends_the_processes_that_run_its_model(worker: LocalConnection) -> None:
    start(worker)
    worker.send({"do": "load", "id": "0", "names": [["x"]]}, (endless(), packed(np.ones(1, np.float32))))
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    (zygote,) = children.read_text().split()
    forks = Path(f"/proc/{zygote}/task/{zygote}/children")
    while not (found := forks.read_text().split()):
        os.sched_yield()
    watched = [os.pidfd_open(int(pid)) for pid in (zygote, *found)]
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
    own = CODE["Worker"](out, None)
    own._cpus = [0]
    quotas = [2.0, 0.5]
    monkeypatch.setitem(own.release.__func__.__globals__, "cpu_quota", lambda: quotas.pop(0))
    own.release()
    own.release()
    found = [json.loads(line)["environment"]["quota_cpus"] for line in out.getvalue().splitlines()]
    assert found == [2.0, 0.5]


def test_a_suspension_between_acquire_and_release_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    own = CODE["Worker"](out, None)
    own._cpus = [0]
    clocks = [100.0, 3700.04]
    monkeypatch.setitem(own.release.__func__.__globals__, "_suspended_s", lambda: clocks.pop(0))
    own.acquire(str(tmp_path / "lock"), 5)
    own.release()
    assert json.loads(out.getvalue().splitlines()[-1])["environment"]["suspended_s"] == 3600.0


def test_a_locks_name_is_one_file_of_the_host_for_any_temporary_folder(worker: LocalConnection, tmp_path: Path) -> None:
    name = f"test-{os.getpid()}"
    other = LocalConnection(local_command(), {**worker_environment(1), "TMPDIR": str(tmp_path)})
    lock = Path(CODE["lock_path"](name))
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
    assert CODE["lock_path"]("name", tuple(found)) == str(shared / "name.lock")
    assert CODE["lock_path"]("name", tuple(found[:2])) == str(own / "name.lock")


def test_all_users_may_open_the_lock_of_any_user(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    before = os.umask(0o077)
    try:
        os.close(CODE["open_lock"](str(lock)))
    finally:
        os.umask(before)
    assert stat.S_IMODE(lock.stat().st_mode) == 0o666
    lock.write_text("kept")
    os.close(CODE["open_lock"](str(lock)))
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


def started(**variables: str) -> dict[str, Any]:
    """The answer of a worker with these environment variables to its start."""
    connection = LocalConnection(local_command(), {**worker_environment(1), **variables})
    try:
        return ask(connection, do="start", threads=1, provider="CPUExecutionProvider", trivial=TRIVIAL.hex())
    finally:
        connection.close()


def test_the_user_may_choose_the_cpus() -> None:
    last = max(os.sched_getaffinity(0))
    assert started(NAS_MEASURING_CPUS=f"{last},0")["environment"]["pinned_cpus"] == [last]
    for wrong in ("second", ",", "4095"):
        answer = started(NAS_MEASURING_CPUS=wrong)
        assert answer["event"] == "refused"
    assert "numbers of 1 CPUs" in started(NAS_MEASURING_CPUS="x")["message"]


def test_real_time_priority_is_used_where_asked_for_and_allowed_and_only_while_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    own = CODE["Worker"](io.StringIO(), None)
    own._cpus = [0]
    monkeypatch.setitem(own.release.__func__.__globals__, "_REALTIME", True)
    monkeypatch.setattr(os, "sched_setscheduler", lambda _, policy, __: given.append(policy))
    own.acquire(str(tmp_path / "lock"), 5)
    assert given == [os.SCHED_RR]
    own.release()
    assert given == [os.SCHED_RR, os.SCHED_OTHER]

    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    with pytest.raises(PermissionError, match="ulimit -r"):
        CODE["_prefer"](True)
    assert started(NAS_MEASURING_REALTIME="0")["event"] == "ready"
