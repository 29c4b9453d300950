"""A PostgreSQL server of the tests' own, from the binaries that are installed, in a folder that is thrown away."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

PASSWORD = "only-for-tests"
_INSTALLED = Path("/usr/lib/postgresql")
_SETTINGS = {"fsync": "off", "listen_addresses": "127.0.0.1", "max_connections": "40"}
_PATIENCE_S = 60


@dataclass(slots=True)
class Server:
    """A server with the user and the database `nas`, which can be stopped and started again.

    Attributes:
        sockets: the folder of its socket, through which it trusts everybody.
        port: on which it asks for the password, on the loopback address.
    """

    sockets: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and waits until it takes connections."""
        programs = binaries()
        assert programs is not None
        options = [option for key, value in _SETTINGS.items() for option in ("-c", f"{key}={value}")]
        command = [
            programs / "postgres",
            "-D",
            self.sockets / "data",
            "-k",
            self.sockets,
            "-p",
            str(self.port),
            *options,
        ]
        with (self.sockets / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **_as_user(self.sockets))
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                psycopg.connect(host=str(self.sockets), port=self.port, user="nas", dbname="template1").close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def stop(self, *, crash: bool = False) -> None:
        """Ends it and all sessions, as an administrator or, with ``crash``, as a lack of memory does; idempotent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
            self._process.wait(_PATIENCE_S)
            self._process = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://nas@/nas?host={self.sockets}&port={self.port}"

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of its own, in which each statement is committed."""
        return psycopg.connect(host=str(self.sockets), port=self.port, user="nas", dbname="nas", autocommit=True)

    @property
    def url_with_password(self) -> str:
        """Of the way in that needs PGPASSWORD."""
        return f"postgresql+psycopg://nas@127.0.0.1:{self.port}/nas"


def binaries() -> Path | None:
    """The folder of the newest server's programs; None where none is installed."""
    found = sorted(_INSTALLED.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    command = shutil.which("initdb")
    return None if command is None else Path(command).parent


@contextmanager
def running_server() -> Iterator[Server]:
    """Makes and starts one; it ends with everything in it."""
    programs = binaries()
    assert programs is not None
    with tempfile.TemporaryDirectory(prefix="nas-postgres-") as name:
        folder = Path(name)
        password = folder / "password"
        password.write_text(PASSWORD)
        for path in (folder, password):
            os.chown(path, _unprivileged(), -1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        data = folder / "data"
        initdb = [programs / "initdb", "-D", data, "-U", "nas", "--auth-local=trust", "--auth-host=scram-sha-256"]
        command = [*initdb, f"--pwfile={password}", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, **_as_user(folder))
        server = Server(folder, port)
        try:
            server.start()
            createdb = [programs / "createdb", "-h", folder, "-p", str(port), "-U", "nas", "nas"]
            subprocess.run(createdb, check=True, capture_output=True)
            yield server
        finally:
            server.stop(crash=True)


def _as_user(folder: Path) -> dict[str, Any]:
    """Options of a process of the server."""
    return {"user": _unprivileged(), "cwd": folder, "env": {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}}


def _unprivileged() -> int:
    """The user that the server runs as, which refuses to be root."""
    return pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else os.getuid()
