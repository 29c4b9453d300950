"""A process that forks others, which measure the cost of creating a session in fresh memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .large_models import LARGE_BYTES
from .model_runs import create_session, message_of, read_calls, time_runs

_LEAST_CREATIONS, _CREATIONS, _CREATION_MS = 3, 5, 50.0
"""A session is created at least and at most this number of times, until the creations take this time in all."""
_PR_SET_PDEATHSIG = 1


def read_commands(file: BinaryIO | io.BufferedReader) -> Iterator[dict[str, Any]]:
    """The commands of the input, with the bytes of their payloads in place of the lengths."""
    for line in iter(file.readline, b""):
        command = json.loads(line)
        if "payloads" in command:
            command["payloads"] = [file.read(length) for length in command["payloads"]]
        yield command


class ForkServer:
    """A process that forks others: each creates one session in fresh memory, and measures its cost.

    It is forked before this process has any session, pool or thread that a fork would lose.
    """

    def __init__(self) -> None:
        self._control, server_end = socket.socketpair()
        worker_pid, self.pid = os.getpid(), os.fork()
        if self.pid == 0:
            _die_with(worker_pid)
            self._control.close()
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, 0)  # so that the driver sees the worker end
            os.dup2(nowhere, 1)
            try:
                _serve(server_end)
            finally:
                os._exit(0)
        server_end.close()

    def measure(self, cpus: list[int], provider: str, names: list[list[str]], payloads: list[bytes]) -> dict[str, Any]:
        """``session_ms``, the milliseconds of each session creation, and ``peak_mib``, the peak memory of one and its run.

        Raises:
            RuntimeError: the model does not load or run (the runtime's message), or its process died.
        """
        connection, fork_end = socket.socketpair()
        with connection:
            with fork_end:
                socket.send_fds(self._control, [b"x"], [fork_end.fileno()])
            request = {"cpus": cpus, "provider": provider, "names": names, "payloads": [len(p) for p in payloads]}
            # Where the process has died, the answer is missing below.
            with contextlib.suppress(BrokenPipeError), connection.makefile("wb") as out:
                out.write(json.dumps(request).encode() + b"\n")
                out.writelines(payloads)
            answer: dict[str, Any] = {}
            with contextlib.suppress(ConnectionError), connection.makefile("rb") as answers:
                answer = json.loads(answers.readline() or b"{}")
        if "peak_mib" not in answer:
            raise RuntimeError(answer.get("message") or "the process that loaded and ran this model died")
        return answer


def _serve(control: socket.socket) -> None:
    """The fork_server's loop: forks for each socket that it receives, until the worker has ended."""
    server_pid = os.getpid()
    while True:
        _, handles, _, _ = socket.recv_fds(control, 1, 1)
        if not handles:
            return
        child = os.fork()
        if child == 0:
            _die_with(server_pid)
            try:
                with socket.socket(fileno=handles[0]) as connection:
                    _measure_alone(connection)
            finally:
                os._exit(0)
        os.close(handles[0])
        os.waitpid(child, 0)


def _measure_alone(connection: socket.socket) -> None:
    """The fork's work: reads one model, creates its session, runs it, and answers with the cost."""
    with connection.makefile("rb") as file, connection.makefile("w", encoding="utf-8") as out:
        request = next(read_commands(file))
        model, inputs, smallest = request["payloads"]
        os.sched_setaffinity(0, request["cpus"][:1])
        try:
            calls = read_calls(inputs, request["names"])
            # The runtime's code and the setup of its first session, some 16 MiB, are not the model's.
            example = {"x": np.zeros(1, np.float32)}
            trivial, _ = create_session(smallest, request["cpus"], request["provider"], (example,), exclusive=False)
            trivial.run(example)
            with contextlib.suppress(OSError):  # if the kernel cannot reset the peak, the previous one counts
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            session, session_ms = create_session(model, request["cpus"], request["provider"], calls)
            time_runs(session, calls, 1)
            added_kib = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib)
            creations_ms = [session_ms]
            large = len(model) >= LARGE_BYTES
            if large:
                del session
            while len(creations_ms) < _LEAST_CREATIONS or (
                len(creations_ms) < _CREATIONS and sum(creations_ms) < _CREATION_MS
            ):
                if large:
                    gc.collect()  # sessions that run in place refer to themselves; without it, all of them would be held
                creations_ms.append(create_session(model, request["cpus"], request["provider"], calls)[1])
            answer: dict[str, Any] = {"session_ms": creations_ms, "peak_mib": added_kib / 1024}
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            answer = {"message": message_of(error)}
        out.write(json.dumps(answer) + "\n")


def _die_with(parent: int) -> None:
    """Makes the system kill this process when its parent dies, even during an endless run."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has died already
        os._exit(0)
