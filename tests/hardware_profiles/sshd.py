"""An ssh server for tests on the loopback interface, with keys and configuration in a temporary folder."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.processes import descendants, name_of

SSHD = shutil.which("sshd", path=os.defpath + ":/usr/sbin:/usr/local/sbin")
PRIVILEGE_FOLDER = Path("/run/sshd")


def missing() -> str:
    """Why no server can be started here; empty if it can."""
    return "" if SSHD and shutil.which("ssh") else "needs sshd and ssh (Debian's openssh-server)"


class Server:
    """A server, which can be stopped and started again, and a configuration for ssh with the aliases of `serve`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.config, self._folder, self._port = folder / "config", folder, port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        assert SSHD is not None
        command = [SSHD, "-D", "-e", "-f", self._folder / "sshd_config"]
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        _await_listening(self._process, self._port, self._folder / "log")

    def stop(self) -> None:
        """Ends it with its connections at once, as a board does that loses its power; idempotent."""
        if self._process is None:
            return
        # First: a connection that is lost must not find it.
        self._process.send_signal(signal.SIGSTOP)
        try:
            for pid in [*self.commands(), *self.sessions()]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None

    def sessions(self) -> list[int]:
        """Its processes that serve a connection, without their commands."""
        return [pid for pid in descendants(self.pid) if name_of(pid).startswith("sshd")]

    def commands(self) -> list[int]:
        """The processes of its clients: shells and their descendants."""
        return [pid for pid in descendants(self.pid) if not name_of(pid).startswith("sshd")]


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """A server that knows one key, and a client configuration with the hosts

    ``board`` (works), ``stranger`` (an unknown host key), ``intruder`` (another user's key), ``closed`` (no server),
    ``nowhere`` (an unknown name) and ``asleep`` (a name that is unknown now, of a host whose key is known).
    """
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port, closed = _free_port(), _free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
    )
    kind, key = (folder / "host.pub").read_text().split()[:2]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {kind} {key}\nasleep.invalid {kind} {key}\n")
    (folder / "none").write_text("")
    common = (
        f"HostName 127.0.0.1\nUser {getpass.getuser()}\nIdentitiesOnly yes\nIdentityAgent none\n"
        "GlobalKnownHostsFile none\n"
    )
    hosts = {
        "board": (port, "known", "user"),
        "stranger": (port, "none", "user"),
        "intruder": (port, "known", "other"),
        "closed": (closed, "known", "user"),
    }
    config = folder / "config"
    config.write_text(
        "".join(
            f"Host {host}\n{common}Port {at}\nUserKnownHostsFile {folder}/{known}\nIdentityFile {folder}/{identity}\n\n"
            for host, (at, known, identity) in hosts.items()
        )
        + "Host nowhere\nHostName nowhere.invalid\n"
        + f"Host asleep\nHostName asleep.invalid\nUserKnownHostsFile {folder}/known\n"
    )
    # The system's service creates this folder, which sshd needs as root; a container lacks it. It stays for other servers.
    if os.getuid() == 0:
        PRIVILEGE_FOLDER.mkdir(mode=0o755, exist_ok=True)
    server = Server(folder, port)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        return int(client.getsockname()[1])


def _await_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(100):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    raise RuntimeError(f"sshd does not listen: {log.read_text()}")
