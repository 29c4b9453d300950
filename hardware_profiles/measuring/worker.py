"""The measuring process: pinned and alone on its host, it times ONNX models as it is told to, command by command.

It needs Python >= 3.9 on Linux, numpy and onnxruntime alone: this one file can be sent to a board and run there. It
decides nothing; who drives it does, and sets the environment variables of thread pools. A command is a line of JSON; where
that has "payloads": [length, ...], so many bytes each follow it. Each is answered by a line of JSON:

    {"do": "start", "threads", "provider"}   -> {"event": "ready", "environment"} | {"event": "unfit", "platform"}
    {"do": "acquire", "lock", "seconds"}     -> [{"event": "waiting", "holder", "lock"}]
                                                {"event": "acquired"} | {"event": "refused", "holder", "lock"}
                                                | {"event": "barred", "lock", "reason"}
    {"do": "load", "id", "names": [[name, ...], ...]}, payloads: the model, its inputs as .npz, call by call
                                             -> {"event": "loaded", "warm_ms", "session_ms", "peak_mib", "providers"}
                                              | {"event": "failed", "message"}
    {"do": "round", "order": [[id, n], ...]} -> {"event": "round", "entries": {id: {"wall_ms", ...} | {"message"}}}
    {"do": "release"}                        -> {"event": "released", "conditions"}

A run makes a call with each of the inputs, one after the other, and its times are of them all. It ends at the end of
its input.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import hashlib
import io
import itertools
import json
import os
import platform
import resource
import select
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import onnxruntime

_Calls = tuple[dict[str, Any], ...]
"""The inputs by name of each call that a run makes."""

_STABLE_RUNS, _STABLE_GAIN = 3, 0.02
"""Warm-up ends when this many runs in a row beat the fastest so far by no more than this share."""
_WARM_UP_SECONDS, _WARM_UP_RUNS = 0.25, 200
_LEAST_MAKINGS, _MAKINGS, _MAKING_MS = 3, 5, 50.0
"""Times that a session is made to tell how long that takes, the more of them if they take less than so long in all."""
_PARENT_SECONDS = 0.5
_PR_SET_PDEATHSIG, _ADDR_NO_RANDOMIZE = 1, 0x0040000
_TRIVIAL = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a"
    "08080112040a02080142040a00100d"
)
"""An ONNX model of one Identity node from ``x`` to ``y``, float32 (1,)."""
_ISA = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16",
    "neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "rvv",
)  # fmt: skip
"""Flags that decide which of the runtime's kernels run; those that begin with avx512 count as well."""


def _watch_parent(parent: int) -> None:
    """Ends this process when its parent is gone, whatever it is doing: an orphan would disturb the next measurement."""
    # With no events asked for, poll reports a hang-up alone. Forks of the parent may keep the pipe open, hence its id too.
    poller = select.poll()
    poller.register(0, 0)
    while os.getppid() == parent and not poller.poll(_PARENT_SECONDS * 1000):
        pass
    os._exit(0)


def _choose_cpus(n: int) -> list[int]:
    """`n` of the CPUs that this process may use: of different cores where possible, the last first (0 serves interrupts)."""
    allowed, siblings = os.sched_getaffinity(0), "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    one_a_core = {_read(siblings.format(cpu)) or str(cpu): cpu for cpu in sorted(allowed)}.values()
    return sorted(allowed, key=lambda cpu: (cpu not in one_a_core, -cpu))[:n]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):  # not every kernel and board has every file
        return ""


def _fields(path: str) -> dict[str, list[str]]:
    """The values of a file's lines ``key: value``, by key."""
    fields: dict[str, list[str]] = {}
    for line in _read(path).splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), []).append(value.strip())
    return fields


def _cpu() -> tuple[str, list[str]]:
    """The processor's name (x86 tells one; ARM tells the board's and its parts' numbers), and its flags, sorted."""
    lines = _fields("/proc/cpuinfo")
    names = [lines[key][0] for key in ("model name", "Model", "Hardware", "uarch") if key in lines][:1]
    parts = sorted({f"part {part}" for part in lines.get("CPU part", [])})
    flags = (lines.get("flags") or lines.get("Features") or lines.get("isa") or [""])[0].split()
    return " ".join(names + parts) or platform.processor() or platform.machine(), sorted(set(flags))


def device(provider: str, root: str = "/proc/driver/nvidia") -> str | None:
    """The GPU of a provider that computes on one, and its driver, as the system tells them; None for others.

    Where there are GPUs of several models, all are told, and which of all the process may use.
    """
    if provider not in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        return None
    found = [_fields(str(file)).get("Model", []) for file in Path(root, "gpus").glob("*/information")]
    models = sorted({model for told in found for model in told})
    if len(models) > 1:
        models.append(f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')}")
    version = next((word for word in _read(f"{root}/version").split() if word[0].isdigit() and "." in word), "unknown")
    return ", ".join([*(models or ["unknown GPU"]), f"driver {version}"])


def cpu_quota(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> float | None:
    """CPUs that the control groups of this process grant it, the least of all levels; None without a limit."""
    found = []
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder, group = Path(root, "cpu" if controllers else ""), Path(path.lstrip("/"))
        for level in (group, *group.parents):  # a container may see its own group as the root
            if controllers:
                quota, period = (_read(str(folder / level / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
            else:
                quota, _, period = _read(str(folder / level / "cpu.max")).partition(" ")
            if quota.isdigit() and period.isdigit() and int(period) > 0:  # without a limit: "max" or -1
                found.append(int(quota) / int(period))
    return min(found) if found else None


def _cpu_times(cpus: list[int]) -> tuple[int, int]:
    """Ticks of these CPUs that the hypervisor gave to others, and all of them."""
    own = [f"cpu{cpu}" for cpu in cpus]
    lines = [line.split() for line in _read("/proc/stat").splitlines() if line.split()[0] in own]
    ticks = [[int(value) for value in values[:8]] for _, *values in lines]  # what follows is counted in these already
    return sum(counts[7] for counts in ticks if len(counts) > 7), sum(map(sum, ticks))


def _limits(cpus: list[int]) -> dict[str, Any]:
    """What makes the CPUs slower or faster, and may change while this process lives."""
    governor = _read(f"/sys/devices/system/cpu/cpu{cpus[0]}/cpufreq/scaling_governor")
    load = _read("/proc/loadavg").split()
    return {"quota_cpus": cpu_quota(), "governor": governor or None, "load_1m": float(load[0]) if load else None}


def environment_of(cpus: list[int], provider: str) -> dict[str, Any]:
    """What this machine is, and the process on it, to decide what may be measured and which figures go together.

    Args:
        cpus: that runs are pinned to.
        provider: that runs them.
    """
    model, flags = _cpu()
    return {
        "cpu": model,
        "machine": platform.machine(),
        "flags": hashlib.sha256(" ".join(flags).encode()).hexdigest()[:16],
        "isa": [flag for flag in flags if flag in _ISA or flag.startswith("avx512")],
        "cores": os.cpu_count(),
        "allowed_cpus": len(os.sched_getaffinity(0)),
        "pinned_cpus": cpus,
        "max_khz": int(_read(f"/sys/devices/system/cpu/cpu{cpus[0]}/cpufreq/cpuinfo_max_freq") or 0) or None,
        **_limits(cpus),
        # Whether it is by chance where code and memory of this process lie.
        "layout": "fixed" if int(_read("/proc/self/personality") or "0", 16) & _ADDR_NO_RANDOMIZE else "random",
        "host": platform.node(),
        "platform": platform.platform(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        "available_providers": onnxruntime.get_available_providers(),
        "provider": provider,
        "device": device(provider),
        "threads": len(cpus),
    }


class Worker:
    """The commands, and what is loaded."""

    def __init__(self, out: TextIO, zygote: Zygote | None) -> None:
        self._out, self._zygote = out, zygote
        self._cpus: list[int] = []
        self._provider = ""
        self._lock: int | None = None
        self._ticks = (0, 0)
        self._loaded: dict[str, tuple[Any, _Calls]] = {}

    def say(self, event: str, **values: Any) -> None:
        self._out.write(json.dumps({"event": event, **values}) + "\n")
        self._out.flush()

    def start(self, threads: int, provider: str) -> None:
        """Pins this thread to the first of its CPUs; ONNX Runtime pins its own threads to the others."""
        if self._zygote is None:
            self.say("unfit", platform=sys.platform)
            return
        self._cpus, self._provider = _choose_cpus(threads), provider
        environment = environment_of(self._cpus, provider)
        os.sched_setaffinity(0, self._cpus[:1])
        self.say("ready", environment=environment)

    def acquire(self, lock: str, seconds: float) -> None:
        """Takes the host's lock, by its name or the path of its file. The system gives it back when this process ends."""
        path = lock if os.sep in lock else lock_path(lock)
        try:
            file = open_lock(path)
        except OSError as error:
            self.say("barred", lock=path, reason=error.strerror)
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(file, 20, 0)
            holder = pid.decode() if pid.isdigit() else ""  # anybody may have written anything
            self.say("waiting", holder=holder, lock=path)
            if not _wait_for(file, seconds):
                os.close(file)
                self.say("refused", holder=holder, lock=path)
                return
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._lock, self._ticks = file, _cpu_times(self._cpus)
        self.say("acquired")

    def load(self, id: str, names: list[list[str]], payloads: list[bytes]) -> None:
        """Makes a session and warms it up until it is stable, after another process has told what that takes.

        What making it took is told of each time that it was made.
        """
        assert self._zygote is not None  # "start" has refused without
        try:
            alone = self._zygote.measure(self._cpus, self._provider, names, payloads)
            model, inputs = payloads
            calls = _read_calls(inputs, names)
            session, session_ms = _make_session(model, self._cpus, self._provider)
            warm_ms = _warm_up(session, calls)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            self.say("failed", message=_told(error))
            return
        self._loaded[id] = session, calls
        told = {"warm_ms": warm_ms, "session_ms": [*alone["session_ms"], session_ms], "peak_mib": alone["peak_mib"]}
        self.say("loaded", **told, providers=session.get_providers())

    def round(self, order: list[tuple[str, int]]) -> None:
        """Runs the entries one after the other, each so many times in a row."""
        entries = {}
        gc.disable()  # a collection inside a run would be timed with it
        for id, n_runs in order:
            session, calls = self._loaded[id]
            try:
                wall, cpu, switches = _time_runs(session, calls, n_runs)
                entries[id] = {"wall_ms": wall, "cpu_ms": cpu, "switches": switches}
            except Exception as error:  # as above
                entries[id] = {"message": _told(error)}
        gc.enable()
        self.say("round", entries=entries)

    def release(self) -> None:
        """Drops what is loaded, gives the host's lock back, and tells how the machine was since it was taken."""
        self._loaded.clear()
        stolen, total = (now - was for was, now in zip(self._ticks, _cpu_times(self._cpus)))  # noqa: B905 - Python 3.9
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self.say("released", conditions={"steal": stolen / total if total > 0 else 0.0, **_limits(self._cpus)})


class Zygote:
    """A process that forks others: each makes one session, in a memory that no other has used, and tells what that takes.

    It is forked itself before this process has any session, pool or thread that a fork would miss.
    """

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        own, self.pid = os.getpid(), os.fork()
        if self.pid == 0:
            _die_with(own)
            self._control.close()
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, 0)  # so that whoever drives the worker sees it end
            os.dup2(nowhere, 1)
            try:
                _serve(theirs)
            finally:
                os._exit(0)
        theirs.close()

    def measure(self, cpus: list[int], provider: str, names: list[list[str]], payloads: list[bytes]) -> dict[str, Any]:
        """Milliseconds to make the model's session, for each making, and the MiB that it and one run of it added at most.

        Raises:
            RuntimeError: the model does not load or run, with the runtime's message; or the process died of it.
        """
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                socket.send_fds(self._control, [b"x"], [theirs.fileno()])
            request = {"cpus": cpus, "provider": provider, "names": names, "payloads": [len(p) for p in payloads]}
            with contextlib.suppress(BrokenPipeError), ours.makefile("wb") as out:  # what it died of follows
                out.write(json.dumps(request).encode() + b"\n")
                out.writelines(payloads)
            answer: dict[str, Any] = {}
            with contextlib.suppress(ConnectionError), ours.makefile("rb") as answers:
                answer = json.loads(answers.readline() or b"{}")
        if "peak_mib" not in answer:
            raise RuntimeError(answer.get("message") or "a process that loaded this model and ran it once died of it")
        return answer


def _serve(control: socket.socket) -> None:
    """The zygote's life: a fork for each conversation that it is handed, until the worker is gone."""
    own = os.getpid()
    while True:
        _, handles, _, _ = socket.recv_fds(control, 1, 1)
        if not handles:
            return
        child = os.fork()
        if child == 0:
            _die_with(own)
            try:
                with socket.socket(fileno=handles[0]) as conversation:
                    _answer_alone(conversation)
            finally:
                os._exit(0)
        os.close(handles[0])
        os.waitpid(child, 0)


def _answer_alone(conversation: socket.socket) -> None:
    """The fork's life: reads one model, makes and runs it, tells what that took."""
    with conversation.makefile("rb") as file, conversation.makefile("w", encoding="utf-8") as out:
        request = next(_commands(file))
        model, inputs = request["payloads"]
        os.sched_setaffinity(0, request["cpus"][:1])
        try:
            calls = _read_calls(inputs, request["names"])
            # The runtime's own code and what its first session sets up, some 16 MiB, is no model's.
            trivial, _ = _make_session(_TRIVIAL, request["cpus"], request["provider"], whole=False)
            trivial.run(None, {"x": np.zeros(1, np.float32)})
            with contextlib.suppress(OSError):  # where the kernel cannot start it anew, the peak so far counts
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            session, session_ms = _make_session(model, request["cpus"], request["provider"])
            _time_runs(session, calls, 1)
            added_kib = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib)
            makings = [session_ms]
            while len(makings) < _LEAST_MAKINGS or (len(makings) < _MAKINGS and sum(makings) < _MAKING_MS):
                makings.append(_make_session(model, request["cpus"], request["provider"])[1])
            answer: dict[str, Any] = {"session_ms": makings, "peak_mib": added_kib / 1024}
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            answer = {"message": _told(error)}
        out.write(json.dumps(answer) + "\n")


def _die_with(parent: int) -> None:
    """Has the system kill this process when its parent dies, even in the middle of an endless run."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(0)


def _read_calls(inputs: bytes, names: list[list[str]]) -> _Calls:
    numbers = itertools.count()  # the arrays lie call after call
    with np.load(io.BytesIO(inputs), allow_pickle=False) as arrays:
        return tuple({name: arrays[f"arr_{next(numbers)}"] for name in call} for call in names)


def _make_session(model: bytes, cpus: list[int], provider: str, *, whole: bool = True) -> tuple[Any, float]:
    """A session of the model, and the milliseconds that making it took; the provider has to run the `whole` of it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(cpus)
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if len(cpus) > 1:  # the runtime numbers processors from 1, and its first thread is the calling one
        others = ";".join(str(cpu + 1) for cpu in cpus[1:])
        options.add_session_config_entry("session.intra_op_thread_affinities", others)
    if whole and provider != "CPUExecutionProvider":  # what it leaves to the CPU would pass for its own time
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    start = time.perf_counter()
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[provider], enable_fallback=False)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        if "fallback to CPU EP has been explicitly disabled" in str(error):
            left = f"the provider {provider} does not run all of the model's operations and leaves some to the CPU"
            raise RuntimeError(f"{left}; choose another precision or another provider") from error
        raise
    session_ms = (time.perf_counter() - start) * 1e3
    session.disable_fallback()
    if session.get_providers()[0] != provider:
        raise RuntimeError(
            f"the provider {provider} cannot start here; look whether the libraries that it needs are there"
        )
    return session, session_ms


def lock_path(name: str, folders: tuple[str, ...] = ("/run/lock", "/dev/shm", "/tmp")) -> str:
    """A file in the first of the folders that everybody may write in, where all users of a host meet, and root."""
    open_to_all = (
        f for f in folders if os.path.isdir(f) and os.stat(f).st_mode & stat.S_IWOTH and os.access(f, os.W_OK)
    )
    return os.path.join(next(open_to_all, folders[-1]), f"{name}.lock")


def open_lock(path: str) -> int:
    """The descriptor of a file that all users may lock. It is made where there is none; no link is followed.

    A file that is there is not asked to be made, which a kernel refuses for another user's (fs.protected_regular).
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    if not os.path.lexists(path):
        with contextlib.suppress(FileExistsError):  # somebody was quicker
            file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(file, 0o666)  # whatever this user's mask is
            return file
    return os.open(path, flags)


def _wait_for(file: int, seconds: float) -> bool:
    """Whether the lock came within the time. Asking again and again would lose it to a driver with batch after batch."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)  # it raises KeyboardInterrupt; Ctrl-C is ignored here
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        return True
    except KeyboardInterrupt:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _warm_up(session: Any, calls: _Calls) -> float:
    """The fastest of the runs, in milliseconds."""
    best, calm, started = float("inf"), 0, time.perf_counter()
    for _ in range(_WARM_UP_RUNS):
        wall_ms = _time_runs(session, calls, 1)[0][0]
        calm = calm + 1 if wall_ms > best * (1 - _STABLE_GAIN) else 0
        best = min(best, wall_ms)
        if calm >= _STABLE_RUNS or time.perf_counter() - started > _WARM_UP_SECONDS:
            break
    return best


def _time_runs(session: Any, calls: _Calls, n: int) -> tuple[list[float], list[float], list[int]]:
    """Wall and thread CPU milliseconds and involuntary context switches of the process, for each run of all calls.

    Raises:
        Exception: what the runtime raised; a RuntimeError that names the input where there are several.
    """
    wall, cpu, switches = [], [], []
    run, perf_counter, thread_time = session.run, time.perf_counter, time.thread_time
    feeds = calls[0]
    try:
        for _ in range(n):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
            cpu_start, start = thread_time(), perf_counter()
            for feeds in calls:  # counting them would be timed, too
                run(None, feeds)
            end, cpu_end = perf_counter(), thread_time()
            wall.append((end - start) * 1e3)
            cpu.append((cpu_end - cpu_start) * 1e3)
            switches.append(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before)
    except Exception as error:
        if len(calls) == 1:
            raise
        i = [call is feeds for call in calls].index(True)
        raise RuntimeError(f"input {i + 1} of {len(calls)}: {_told(error)}") from error
    return wall, cpu, switches


def _told(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else text[:397] + "..."


def _commands(file: BinaryIO | io.BufferedReader) -> Iterator[dict[str, Any]]:
    """Commands as they come, with their payloads' bytes in the place of their lengths; ends with the input."""
    for line in iter(file.readline, b""):
        command = json.loads(line)
        if "payloads" in command:
            command["payloads"] = [file.read(length) for length in command["payloads"]]
        yield command


def main() -> None:
    """Answers commands until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what it means
    onnxruntime.disable_telemetry_events()  # nothing but the models shall be at work here
    zygote = Zygote() if sys.platform == "linux" else None  # before there is a second thread
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not fall between the answers
    worker = Worker(out, zygote)
    known = (worker.start, worker.acquire, worker.load, worker.round, worker.release)
    commands: dict[str, Callable[..., None]] = {command.__name__: command for command in known}
    for command in _commands(sys.stdin.buffer):
        commands[command.pop("do")](**command)


if __name__ == "__main__":
    main()
