"""A worker on another machine by the system's ssh; nothing is installed or left there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ConnectionLostError, ProfileError, UnreachableError, WorkerDiedError, WorkerError
from hardware_profiles.runtimes.lookup import find_runtime
from hardware_profiles.transports.connection import FIXED_LAYOUT, LocalConnection, worker_archive, worker_settings

BOOTSTRAP_FILE = Path(__file__).with_name("bootstrap.py")
_CONNECT_SECONDS = 10
_HELLO_SECONDS = 60.0
"""A small board needs some 10 s to import the runtime for the first time."""
_OPTIONS = {
    "BatchMode": "yes",  # there is no terminal to type a password
    "ConnectTimeout": str(_CONNECT_SECONDS),
    "ServerAliveInterval": "5",  # detects a board that has lost power
    "ServerAliveCountMax": "3",
    "LogLevel": "ERROR",  # no banners in error messages
    # Settings of a user's configuration that would break a pipe of bytes:
    "ControlMaster": "no",
    "ControlPath": "none",  # or it would share a connection of the user's, and end with it
    "ClearAllForwardings": "yes",
    "RemoteCommand": "none",
}
_SSH_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 255, 126, 127
# One line without a single quote, so that every shell passes it on; the program comes on standard input.
_LOADER = (
    "import json,sys;f=sys.stdin.buffer;"
    'exec(compile(f.read(json.loads(f.readline())["payloads"][0]),"bootstrap.py","exec"))'
)
_NO_ANSWER = "the host does not answer; check that it is switched on and on this network"
_ENDED = "the host ended the connection; it may be starting or stopping"
_NO_NAME = "the host name is unknown; check its spelling, or use its address"
_UNRESOLVED = "could not resolve hostname"
_REASONS: Mapping[str, tuple[str, bool]] = {
    _UNRESOLVED: (_NO_NAME, True),
    "connection refused": ("the host accepts no ssh connections at that port; start its ssh server", True),
    "timed out": (_NO_ANSWER, True),
    "not responding": (_NO_ANSWER, True),
    "no route to host": (_NO_ANSWER, True),
    "host is down": (_NO_ANSWER, True),
    "network is unreachable": ("this machine has no route to the host; check the network", True),
    "connection reset": (_ENDED, True),
    "connection closed": (_ENDED, True),
    "closed by remote host": (_ENDED, True),
    "broken pipe": (_ENDED, True),
    "host key verification failed": (
        "the host key is unknown or has changed; run `ssh {host}` once in a terminal and compare the key",
        False,
    ),
    "permission denied": ("the host does not accept this user's key; install it with `ssh-copy-id {host}`", False),
}
"""The remedy, and whether the reason may be temporary, by ssh's message in lower case."""


class SshConnection(LocalConnection):
    """The ssh client as a child process, whose input and output are the worker's; implements `Connection`."""

    def __init__(self, host: str, command: Sequence[str]) -> None:
        self._host = host
        super().__init__(command, os.environ)

    @property
    def exit_code(self) -> int | None:
        """The exit code of the client, None while it runs: 255 if ssh itself failed, else the remote command's."""
        return self._process.poll()

    def _dead(self) -> WorkerDiedError:
        death, reason = super()._dead(), self.last_error_line() or "without a message"
        if self.exit_code != _SSH_FAILED:
            return death
        return ConnectionLostError(f"the ssh connection to {self._host} was lost ({reason})")


def connect_by_ssh(profile: HardwareProfile, *, config: Path | None = None) -> SshConnection:
    """A worker on the profile's host.

    Args:
        config: a configuration file for ssh that replaces the user's own.

    Raises:
        UnreachableError: the host does not answer.
        ProfileError: the host denies access, or its Python lacks what the worker needs.
        WorkerError: this machine has no ssh client.
    """
    client = shutil.which("ssh")
    if client is None:
        message = f"{_place(profile)}, and this machine has no ssh command; install Debian's openssh-client"
        raise WorkerError(message, code="worker.no-ssh")
    connection = SshConnection(profile.ssh, [client, *ssh_arguments(profile, config)])
    try:
        connection.send({"do": "bootstrap"}, [BOOTSTRAP_FILE.read_bytes()])
        answer = connection.receive(seconds=_HELLO_SECONDS)
        if answer["event"] == "ready":
            connection.send({"do": "worker"}, [worker_archive(profile.runtime)])
            return connection
    except WorkerDiedError as death:
        error: ProfileError = _connect_error(profile, connection, death, config)
    except (json.JSONDecodeError, UnicodeDecodeError) as junk:
        output = junk.doc if isinstance(junk, json.JSONDecodeError) else str(junk)
        printed = f"the host prints text into the worker's output ({output[:60].strip()!r})"
        advice = "its shell's startup files must print nothing in a shell without a terminal"
        error = ProfileError(f"{_place(profile)}: {printed}; {advice}", code="profile.host-output")
    except BaseException:
        connection.close()
        raise
    else:
        fault = f"{profile.python} there is Python {answer['python']}: {answer['message']}"
        packages = f"numpy {find_runtime(profile.runtime).package}"
        install = f"install {answer['module']} there (`{profile.python} -m pip install {packages}`), or "
        advice = f"{'' if answer['module'] == 'python' else install}set the profile's key python to another interpreter"
        error = ProfileError(f"{_place(profile)}: {fault}; {advice}", code="profile.host-python")
    connection.close()
    raise error


def ssh_arguments(profile: HardwareProfile, config: Path | None) -> list[str]:
    """The arguments of ssh: options, host, and one command, which is safe in any shell of the host."""
    options = [argument for key, value in _OPTIONS.items() for argument in ("-o", f"{key}={value}")]
    package = find_runtime(profile.runtime).package
    settings = [f"{key}={value}" for key, value in worker_settings(profile.threads, profile.runtime).items()]
    settings.append(f"MEASURED_PACKAGE={package}")
    python = profile.python.removeprefix("~/")  # quoted, ~ is not expanded; ssh starts in the home folder
    worker = shlex.join(["env", *settings, python, "-c", _LOADER])
    fixed = shlex.join(FIXED_LAYOUT)
    # The shell remains, so that a killed worker (128 + signal) differs from a failure of ssh itself (255).
    script = f"fixed=; {fixed} true 2>/dev/null && fixed={shlex.quote(fixed)}; $fixed {worker}; exit $?"
    command = shlex.join(["sh", "-c", script])
    return ["-T", "-x", *(["-F", str(config)] if config else []), *options, "--", profile.ssh, command]


def _connect_error(
    profile: HardwareProfile, connection: SshConnection, death: WorkerDiedError, config: Path | None
) -> ProfileError:
    """The error of a first contact that failed, from ssh's exit code and message."""
    code, message = connection.exit_code, connection.last_error_line() or str(death)
    advice = f"try `ssh {profile.ssh} {profile.python} -V` in a terminal"
    if code in (_NOT_FOUND, _NOT_EXECUTABLE):
        message = f"cannot run {profile.python} there"
        advice = "install Python, or set the profile's key python to its path"
    if code is not None and code < 0:  # ended here, since the host took the connection and then said nothing
        return UnreachableError(f"{_place(profile)}: {death}: {_NO_ANSWER}", profile=profile.name, reason=str(death))
    if code != _SSH_FAILED:
        return ProfileError(f"{_place(profile)}: no worker starts: {message}; {advice}", code="profile.host-python")
    for words, (reason, temporary) in _REASONS.items():
        if words in message.lower():
            text = f"{_place(profile)}: {message}: {reason.format(host=profile.ssh)}"
            doubtful = words == _UNRESOLVED and not _has_key(profile.ssh, config)
            return (
                UnreachableError(text, profile=profile.name, reason=message, doubtful=doubtful)
                if temporary
                else ProfileError(text, code="profile.access-denied")
            )
    text = f"{_place(profile)}: {message}; {advice}"
    return UnreachableError(text, profile=profile.name, reason=message, doubtful=True)


def _has_key(host: str, config: Path | None) -> bool:
    """True if ssh knows the host's key, so that it was reached before, and its name had an address then."""
    command = ["ssh", *(["-F", str(config)] if config else []), "-G", "--", host]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    settings = dict(line.split(" ", 1) for line in printed.splitlines() if " " in line)
    name, port = settings.get("hostkeyalias") or settings.get("hostname", host), settings.get("port", "22")
    shown = name if port == "22" or "hostkeyalias" in settings else f"[{name}]:{port}"
    files = f"{settings.get('userknownhostsfile', '')} {settings.get('globalknownhostsfile', '')}".split()
    return any(
        subprocess.run(
            ["ssh-keygen", "-F", shown, "-f", Path(file).expanduser()], capture_output=True, check=False
        ).returncode
        == 0
        for file in files
    )


def _place(profile: HardwareProfile) -> str:
    return f"profile {profile.name} is measured on {profile.ssh} by ssh"
