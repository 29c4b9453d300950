"""The worker process: its imports, pinning, environment, and what it answers about models."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.measuring.worker import commands, machine, pinning
from hardware_profiles.measuring.worker.commands import Worker
from hardware_profiles.measuring.worker.model_runs import create_session
from hardware_profiles.measuring.worker.pinning import prefer_worker
from hardware_profiles.transports.connection import LocalConnection, local_command, worker_archive, worker_environment
from hardware_profiles.transports.ssh import BOOTSTRAP_FILE
from nas.plugins.testing.onnx_networks import conv_net, declare
from tests.hardware_profiles.measuring.worker_calls import NET, TRIVIAL, ask, load, packed, start

CPUS = len(os.sched_getaffinity(0))
SESSION = onnxruntime.InferenceSession
AZURE = "AzureExecutionProvider"
"""A provider of the runtime that runs none of our operations."""


def allowed_cpus(pid: int) -> dict[str, str]:
    """The CPUs that each thread of a process may use, by thread, from the kernel."""
    found = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(OSError):  # a thread that has ended
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            found[status.parent.name] = lines["Cpus_allowed_list"].strip()
    return found


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "worker.pyz"
    path.write_bytes(worker_archive("onnxruntime"))
    return path


def test_an_archive_alone_runs_with_numpy_and_onnxruntime(archive: Path, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    installed = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs", "onnxruntime"):
        if (installed / name).exists():
            (packages / name).symlink_to(installed / name)
    # The file of the runtime's class is not there, but in the archive. -S: no site-packages, only the standard library.
    environment = {"PYTHONPATH": f"{packages}:{archive}", "MEASURED_RUNTIME": "none.py:OnnxRuntime"}
    code = "from worker.main import main; main()"
    connection = LocalConnection([sys.executable, "-S", "-P", "-c", code], environment)
    try:
        assert start(connection)["onnxruntime"] == onnxruntime.__version__
        assert load(connection)["event"] == "loaded"
        entries = ask(connection, do="round", order=[["0", 7]])["entries"]
    finally:
        connection.close()
    assert [len(entries["0"][key]) for key in ("wall_ms", "cpu_ms", "switches")] == [7, 7, 7]
    assert min(entries["0"]["wall_ms"]) > 0


def test_the_same_files_give_the_same_archive(archive: Path) -> None:
    assert worker_archive("onnxruntime") == archive.read_bytes()
    assert worker_archive("openvino") != archive.read_bytes()


def test_it_imports_no_other_package(archive: Path) -> None:
    code = "import sys, worker.main; print(*{m.split('.')[0] for m in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": str(archive), "MEASURED_RUNTIME": "none.py:OnnxRuntime"}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
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


def large_payloads() -> tuple[bytes, bytes]:
    """A model of one matrix of 36 MiB, and its input."""
    weights = numpy_helper.from_array(np.ones((4096, 2304), np.float32), "w")
    x, y = (declare(name, (1, n)) for name, n in (("x", 4096), ("y", 2304)))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "large", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString(), packed(np.ones((1, 4096), np.float32))


def test_the_weights_of_a_large_model_are_put_into_huge_pages(worker: LocalConnection) -> None:
    if tuple(map(int, platform.release().split("-")[0].split(".")[:2])) < (6, 1):
        pytest.skip("Linux has the call that does this since 6.1")
    start(worker)
    assert load(worker)["scattered"] == 0.0  # a small model, whose pages do not matter
    large = load(worker, large_payloads())
    assert 0.0 <= large["scattered"] < 0.8
    huge = re.search(r"AnonHugePages: +([0-9]+) kB", Path(f"/proc/{worker.pid}/smaps_rollup").read_text())
    assert huge is not None
    assert int(huge[1]) > 30 * 1024


def test_the_worker_holds_a_large_model_once(worker: LocalConnection) -> None:
    """ONNX Runtime keeps the bytes that a session is made of beside its weights."""

    def own_mib() -> float:
        rollup = Path(f"/proc/{worker.pid}/smaps_rollup").read_text()
        return sum(int(kb) for kb in re.findall(r"^(?:Private_Dirty|Shared_Dirty): +([0-9]+) kB", rollup, re.M)) / 1024

    start(worker)
    load(worker)
    before_mib = own_mib()
    model, inputs = large_payloads()
    assert load(worker, (model, inputs))["event"] == "loaded"
    assert own_mib() - before_mib < 1.6 * len(model) / 2**20


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
        found: float | None = machine.cpu_quota(str(tmp_path), str(tmp_path / "own"))
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
        found: str | None = machine.device(provider, str(tmp_path))
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
    session, _ = create_session(TRIVIAL, [0], AZURE, (), exclusive=False)  # the baseline of the peak memory
    assert session.devices[0] == AZURE


def test_a_provider_whose_libraries_are_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", _on_cpu)
    with pytest.raises(RuntimeError, match="NoProvider"):
        create_session(TRIVIAL, [0], "NoProvider", (), exclusive=False)


def _on_cpu(model: bytes, options: onnxruntime.SessionOptions, **asked: object) -> onnxruntime.InferenceSession:
    """The runtime's session where a provider cannot be loaded."""
    return SESSION(model, options, providers=["CPUExecutionProvider"])


def test_the_worker_runs_from_its_input_and_leaves_no_file(archive: Path, tmp_path: Path) -> None:
    """As over ssh: the archive and then the commands on one input."""
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "MEASURED_RUNTIME": "none.py:OnnxRuntime", "TMPDIR": str(tmp_path / "temporary")}
    commands: list[tuple[dict[str, Any], list[bytes]]] = [
        ({"do": "worker"}, [archive.read_bytes()]),
        ({"do": "start", "threads": 1, "provider": "CPUExecutionProvider", "trivial": TRIVIAL.hex()}, []),
        ({"do": "load", "id": "0", "names": [["x"]]}, list(NET)),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, BOOTSTRAP_FILE], stdin=pipe, stdout=pipe, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for command, payloads in commands:
            lengths = {"payloads": [len(payload) for payload in payloads]} if payloads else {}
            process.stdin.write(b"".join((json.dumps({**command, **lengths}).encode(), b"\n", *payloads)))
        process.stdin.flush()
        assert [json.loads(process.stdout.readline())["event"] for _ in range(3)] == ["ready", "ready", "loaded"]
        assert not list((tmp_path / "temporary").rglob("*.pyz"))


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
    (fork_server,) = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    resource.prlimit(int(fork_server), resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
    answer = load(worker, (model, packed(np.array([1 << 33], np.int64))))
    assert answer["event"] == "failed"
    assert answer["message"]
    assert load(worker)["event"] == "loaded"


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
    assert "CPU 4095" in started(NAS_MEASURING_CPUS="4095")["message"]


def test_real_time_priority_is_used_where_asked_for_and_allowed_and_only_while_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    own = Worker(io.StringIO(), None)
    own._cpus = [0]
    for module in (commands, pinning):
        monkeypatch.setattr(module, "REALTIME", True)
    monkeypatch.setattr(os, "sched_setscheduler", lambda _, policy, __: given.append(policy))
    own.acquire(str(tmp_path / "lock"), 5)
    assert given == [os.SCHED_RR]
    own.release()
    assert given == [os.SCHED_RR, os.SCHED_OTHER]

    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    with pytest.raises(PermissionError, match="ulimit -r"):
        prefer_worker(True)
    assert started(NAS_MEASURING_REALTIME="0")["event"] == "ready"
