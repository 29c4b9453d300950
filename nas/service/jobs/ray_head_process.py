"""A Ray head of the service's own as a process: started, found again, asked whether it answers, and ended."""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import Self

from nas.errors import ServiceError
from nas.store.folder import write_atomically

_HOST = "127.0.0.2"
"""Ray replaces 127.0.0.1 by the machine's outer address; this one is on loopback, too, and is left."""
_TAKEN = range(10002, 20000)
"""Where Ray looks for ports of its workers."""
_ANSWER_S = 3.0
_STOP_S = 20.0
"""That a stopped job may take to record that, and a head to end its processes."""


@dataclass(frozen=True, slots=True)
class RayHeadProcess:
    """A detached Ray head on loopback that lets in who shows its token.

    Attributes:
        pid: of ``ray start --block``, which leads a process group of its own.
        address: ``HOST:PORT`` for drivers.
        token_file: readable by this user alone.
        temporary: Ray's folder for sockets and logs; its name is the head's alone.
        version: of Ray and of Python; drivers of others cannot join it.
    """

    pid: int
    address: str
    jobs_url: str
    token_file: str
    temporary: str
    version: str = ""

    @classmethod
    def start(cls, folder: Path, *, cpus: int | None, store_bytes: int | None) -> Self:
        """Starts one, which answers some seconds later, and keeps in the folder how to find it again.

        Raises:
            ServiceError: it cannot be started.
            StoreError: how to find it cannot be kept; then it is not there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / "ray.token"
        _write_secret(token, secrets.token_hex(32))
        # Not in the runs folder: sockets' paths have at most 107 characters.
        temporary = tempfile.mkdtemp(prefix="nas-ray-")
        port, dashboard, client, agent = _free_ports(4)
        options = {
            "node-ip-address": _HOST, "port": port, "ray-client-server-port": client,
            "dashboard-host": "127.0.0.1", "dashboard-port": dashboard, "dashboard-agent-listen-port": agent,
            "include-dashboard": "true", "temp-dir": temporary, "num-cpus": cpus, "object-store-memory": store_bytes,
        }  # fmt: skip
        command = [
            sys.executable,
            "-P",
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            "--disable-usage-stats",
        ]
        command += [f"--{name}={value}" for name, value in options.items() if value is not None]
        address, url = f"{_HOST}:{port}", f"http://127.0.0.1:{dashboard}"
        made = cls(_UNBORN, address, url, str(token), temporary, this_version())
        try:
            made._keep(folder)  # before it lives: a server that is killed now leaves none that nobody finds
            with (folder / "ray.log").open("wb") as log:
                process = subprocess.Popen(
                    command, cwd=folder, env=_environment(token), start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                )  # fmt: skip
            _CHILDREN[process.pid] = process
            made = replace(made, pid=process.pid)
            made._keep(folder)
        except BaseException as error:
            made.end(folder)
            if isinstance(error, OSError):
                raise ServiceError(f"Ray's head cannot be started: {error}", code="ray-head.unavailable") from error
            raise
        return made

    def _keep(self, folder: Path) -> None:
        write_atomically(_file(folder), json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """The one that was started last for a folder, alive or not; None where that was ended, or there was none.

        Raises:
            ServiceError: the file that tells is damaged.
        """
        path = _file(folder)
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise ServiceError(
                f"{path}: damaged ({error!r}); end the Ray head by hand and remove the file",
                code="ray-head.file-damaged",
            ) from None

    @property
    def headers(self) -> Mapping[str, str]:
        """What its job server must be shown with every request; secret."""
        try:
            return {"Authorization": f"Bearer {Path(self.token_file).read_text().strip()}"}
        except OSError as error:
            raise ServiceError(f"the token of Ray's head cannot be read: {error}") from error

    def lives(self) -> bool:
        """Whether its process is there; another one that has got its number since is not taken for it."""
        if (child := _CHILDREN.get(self.pid)) is not None:
            return child.poll() is None
        return self.pid in _processes(naming=self.temporary)

    def answers(self) -> bool:
        """Whether its job server does, now."""
        request = urllib.request.Request(f"{self.jobs_url}/api/version", headers=dict(self.headers))
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                return int(answer.status) == 200
        except (OSError, HTTPException):  # nobody, or another program
            return False

    def end(self, folder: Path) -> None:
        """Ends it with all of its jobs, and forgets it; nothing of it is left where it was dead already."""
        if self.lives():
            os.kill(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_S
            while self.lives() and time.monotonic() < deadline:
                time.sleep(0.1)
        for pid in _processes(naming=self.temporary):  # what is left, also of one that was killed
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        _CHILDREN.pop(self.pid, None)
        shutil.rmtree(self.temporary, ignore_errors=True)
        for path in (_file(folder), Path(self.token_file)):
            path.unlink(missing_ok=True)


_UNBORN = 0
"""The number of a head whose process has not been started yet, as far as is known; no process has it."""
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}
"""Heads that this process started: one that has died stays in the table of processes until it is waited for."""


def this_version() -> str:
    """Of the Ray and the Python that drivers started by this process have."""
    return f"Ray {version('ray')} on Python {platform.python_version()}"


def log_of(folder: Path) -> str:
    """The last lines that the last head wrote."""
    try:
        return "\n".join((folder / "ray.log").read_text(errors="replace").splitlines()[-5:])
    except OSError:
        return ""


def _file(folder: Path) -> Path:
    return folder / "ray.json"


def _environment(token: Path) -> dict[str, str]:
    """Of the head, and so of its jobs."""
    return {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token.absolute()),
        "RAY_JOB_STOP_WAIT_TIME_S": f"{_STOP_S:.0f}",
        # A node ends whose agents are not there in 30 s, which on a machine full of work they may not be.
        "RAY_agent_register_timeout_ms": "120000",
        # As `nas.evaluation.cluster` has it: idle workers do not spin, and drivers without a GPU of Ray's see those.
        "OMP_WAIT_POLICY": "passive",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _free_ports(n: int) -> list[int]:
    """Different ports that nobody listens on at this moment."""
    found: list[int] = []
    with ExitStack() as open_:
        while len(found) < n:
            probe = open_.enter_context(socket.socket())
            probe.bind((_HOST, 0))
            if (port := probe.getsockname()[1]) not in _TAKEN:
                found.append(port)
    return found


def _processes(*, naming: str) -> list[int]:
    """Those whose command lines hold a text."""
    shown = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,command="], capture_output=True, text=True, check=False)
    lines = (line.split(maxsplit=1) for line in shown.stdout.splitlines() if naming in line)
    return [int(pid) for pid, _ in lines]
