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
_PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A running server with the user and the database `nas`.

    Attributes:
        sockets: the folder of its socket, through which it trusts everybody.
        port: on which it asks for the password, on the loopback address.
    """

    sockets: Path
    port: int

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
    user = _unprivileged()
    with tempfile.TemporaryDirectory(prefix="nas-postgres-") as name:
        folder = Path(name)
        password = folder / "password"
        password.write_text(PASSWORD)
        for path in (folder, password):
            os.chown(path, user, -1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        data, settings = folder / "data", {"fsync": "off", "listen_addresses": "127.0.0.1", "max_connections": "40"}
        initdb = [programs / "initdb", "-D", data, "-U", "nas", "--auth-local=trust", "--auth-host=scram-sha-256"]
        common = {"user": user, "cwd": folder, "env": {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}}
        subprocess.run([*initdb, f"--pwfile={password}", "--no-sync"], check=True, capture_output=True, **common)  # type: ignore[call-overload]
        options = [option for key, value in settings.items() for option in ("-c", f"{key}={value}")]
        command = [programs / "postgres", "-D", data, "-k", folder, "-p", str(port), *options]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, **common)  # type: ignore[call-overload]
        try:
            server = Server(folder, port)
            _make_database(programs, server, process)
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(_PATIENCE_S)


def _make_database(programs: Path, server: Server, process: subprocess.Popen[bytes]) -> None:
    """Waits until the server takes connections, then makes the database."""
    command = [programs / "createdb", "-h", server.sockets, "-p", str(server.port), "-U", "nas", "nas"]
    deadline = time.monotonic() + _PATIENCE_S
    while (made := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
        assert process.poll() is None, (server.sockets / "log").read_text()
        assert time.monotonic() < deadline, made.stderr
        time.sleep(0.1)


def _unprivileged() -> int:
    """The user that the server runs as, which refuses to be root."""
    return pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else os.getuid()
