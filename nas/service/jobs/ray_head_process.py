"""The process of the service's own Ray head: started, found again, checked and ended."""

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
from http import HTTPStatus
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import Self
from urllib.error import HTTPError

from nas.engine.store.folder import write_atomically
from nas.errors import ServiceError
from nas.service.file_permissions import UMASK, make_private, write_secret

_HOST = "127.0.0.1"
"""Ray's processes listen on this address alone if it is their node's; with any other, they listen on all of the machine's."""
_WORKER_PORTS = range(10002, 20000)
"""The ports of Ray's workers."""
_RECORD = "ray.json"
_ANSWER_S = 3.0
_STOP_S = 20.0
"""For a stopped job to record its end, and for a head to end its processes."""


@dataclass(frozen=True, slots=True)
class RayHeadProcess:
    """A detached Ray head on loopback, with token authentication.

    Attributes:
        pid: Id of the process of ``ray start --block``, the leader of its process group.
        address: ``HOST:PORT`` for drivers.
        token_file: readable by this user only.
        temporary: a folder of this user alone with a unique name, in which Ray's is: that one is open to all users.
        version: of Ray and of Python; drivers with other versions cannot join it.
        agent_url: The address of the process that starts jobs; "" for heads that an earlier release started.
    """

    pid: int
    address: str
    jobs_url: str
    token_file: str
    temporary: str
    version: str = ""
    agent_url: str = ""

    @classmethod
    def start(cls, folder: Path, *, cpus: int | None, store_bytes: int | None) -> Self:
        """A new head, which answers some seconds later, and is recorded in the folder.

        Raises:
            ServiceError: it cannot be started.
            StoreError: it cannot be recorded, and was not started.
        """
        make_private(folder)
        token = folder / "ray.token"
        write_secret(token, secrets.token_hex(32))
        # Not in the runs folder: paths of sockets have at most 107 characters.
        temporary = tempfile.mkdtemp(prefix="nas-ray-")
        port, dashboard, client, agent = _free_ports(4)
        options = {
            "node-ip-address": _HOST,
            "port": port,
            "ray-client-server-port": client,
            "dashboard-host": "127.0.0.1",
            "dashboard-port": dashboard,
            "dashboard-agent-listen-port": agent,
            "include-dashboard": "true",
            "temp-dir": f"{temporary}/ray",
            "num-cpus": cpus,
            "object-store-memory": store_bytes,
        }
        command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command.append("--disable-usage-stats")
        command += [f"--{name}={value}" for name, value in options.items() if value is not None]
        address, url = f"{_HOST}:{port}", f"http://127.0.0.1:{dashboard}"
        head = cls(_NO_PROCESS, address, url, str(token), temporary, this_version(), f"http://{_HOST}:{agent}")
        try:
            head._record(folder)  # before the start: a server killed afterwards leaves no unrecorded head
            with (folder / "ray.log").open("wb") as log:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=_environment(token, temporary),
                    start_new_session=True,
                    umask=UMASK,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            _CHILDREN[process.pid] = process
            head = replace(head, pid=process.pid)
            head._record(folder)
        except BaseException as error:
            head.end(folder)
            if isinstance(error, OSError):
                raise ServiceError(f"Ray's head cannot be started: {error}", code="ray-head.unavailable") from error
            raise
        return head

    def _record(self, folder: Path) -> None:
        write_atomically(folder / _RECORD, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """The recorded head of a folder, alive or not; None where there is none.

        Raises:
            ServiceError: the record is damaged.
        """
        path = folder / _RECORD
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            text = f"{path}: damaged ({error!r}); end the Ray head by hand and remove the file"
            raise ServiceError(text, code="ray-head.file-damaged") from None

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that its job server needs with every request; secret."""
        try:
            return {"Authorization": f"Bearer {Path(self.token_file).read_text().strip()}"}
        except OSError as error:
            raise ServiceError(f"the token of Ray's head cannot be read: {error}") from error

    def lives(self) -> bool:
        """True if the head's process runs; another process that has reused its id does not count."""
        if (child := _CHILDREN.get(self.pid)) is not None:
            return child.poll() is None
        return self.pid in _processes(naming=self.temporary)

    def answers(self) -> bool:
        """True if the head's job server answers now."""
        return self._status_of(f"{self.jobs_url}/api/version") == HTTPStatus.OK

    def starts_jobs(self) -> bool:
        """True if the process that starts jobs answers anything now; it blocks while a new worker of Ray hangs."""
        return not self.agent_url or self._status_of(f"{self.agent_url}/api/local_raylet_healthz") is not None

    def _status_of(self, url: str) -> int | None:
        """The status of the answer to a GET request; None where no HTTP server answers."""
        request = urllib.request.Request(url, headers=dict(self.headers))
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code
        except (OSError, HTTPException):  # no program answers, or another one
            return None

    def end(self, folder: Path) -> None:
        """Ends it with all of its jobs and removes its files, also where its process has died."""
        if self.lives():
            os.kill(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_S
            while self.lives() and time.monotonic() < deadline:
                time.sleep(0.1)
        for pid in _processes(naming=self.temporary):  # the rest, also of a head that was killed
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        _CHILDREN.pop(self.pid, None)
        shutil.rmtree(self.temporary, ignore_errors=True)
        for path in (folder / _RECORD, Path(self.token_file)):
            path.unlink(missing_ok=True)


_HEAD = "NAS_RAY_HEAD"
"""The variable by which all processes of a head are found, its jobs and those that outlive it included."""
_OF_THE_SERVER = ("RAY_ADDRESS", "NAS_OIDC_SECRET")
"""Variables that jobs do not get."""
_NO_PROCESS = 0
"""The id of a process that has not been started; no process has it."""
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}
"""Heads that this process started: a dead child stays in the process table until it is waited for."""


def this_version() -> str:
    """The versions of Ray and Python of drivers that this process starts."""
    return f"Ray {version('ray')} on Python {platform.python_version()}"


def log_of(folder: Path) -> str:
    """The last lines of output of the last head."""
    try:
        return "\n".join((folder / "ray.log").read_text(errors="replace").splitlines()[-5:])
    except OSError:
        return ""


def _environment(token: Path, temporary: str) -> dict[str, str]:
    """The environment of the head and of its jobs."""
    return {
        "RAY_worker_niceness": "5",  # the server's pages go first; with Ray's own 15, scoring stands still beside other work
        **{name: value for name, value in os.environ.items() if name not in _OF_THE_SERVER},
        _HEAD: temporary,
        "RAY_AUTH_MODE": "token",
        "RAY_COLOR_PREFIX": "0",
        "RAY_AUTH_TOKEN_PATH": str(token.absolute()),
        "RAY_JOB_STOP_WAIT_TIME_S": f"{_STOP_S:.0f}",
        # Without it, Ray replaces 127.0.0.1 by the machine's public address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # By default a node ends if its agents take 30 s to start, as they may on a busy machine.
        "RAY_agent_register_timeout_ms": "120000",
        # As in `nas.engine.evaluation.cluster`: idle workers do not spin, and drivers see GPUs that Ray did not assign to them.
        "OMP_WAIT_POLICY": "passive",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def _free_ports(n: int) -> list[int]:
    """Distinct ports that are free at this moment."""
    ports: list[int] = []
    with ExitStack() as open_:
        while len(ports) < n:
            bound = open_.enter_context(socket.socket())
            bound.bind((_HOST, 0))
            if (port := bound.getsockname()[1]) not in _WORKER_PORTS:
                ports.append(port)
    return ports


def _processes(*, naming: str) -> list[int]:
    """Ids of this user's processes whose command lines or environments contain a text."""
    text = naming.encode()
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if text in _process_text(path)]


def _process_text(process: Path) -> bytes:
    """The command line and the environment of a process; empty for one that has ended or is another user's."""
    try:
        # Processes of Ray replace their command lines by titles.
        return (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    except OSError:
        return b""
