"""A worker on a machine that is reached by the system's ssh; nothing is installed or left there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ConnectionLostError, ProfileError, UnreachableError, WorkerDiedError, WorkerError
from hardware_profiles.transports.connection import FIXED_LAYOUT, WORKER_FILE, LocalConnection, worker_settings

BOOTSTRAP_FILE = Path(__file__).with_name("bootstrap.py")
_CONNECT_SECONDS = 10
_HELLO_SECONDS = 60.0
"""A small board takes some 10 s to import the runtime for the first time."""
_OPTIONS = {
    "BatchMode": "yes",  # nobody is there to type a password
    "ConnectTimeout": str(_CONNECT_SECONDS),
    "ServerAliveInterval": "5",  # a board without power says no goodbye
    "ServerAliveCountMax": "3",
    "LogLevel": "ERROR",  # no banners among the reasons
    # What a user's configuration may ask for, and a pipe of bytes cannot stand:
    "ControlMaster": "no",
    "ControlPath": "none",  # or it would join a connection that the user has, and end with it
    "ClearAllForwardings": "yes",
    "RemoteCommand": "none",
}
_LAST_BYTES = 2000
_SSH_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 255, 126, 127
# One line, and no single quote, so that every shell passes it on; what it runs comes by its input.
_LOADER = (
    "import json,sys;f=sys.stdin.buffer;"
    'exec(compile(f.read(json.loads(f.readline())["payloads"][0]),"bootstrap.py","exec"))'
)
_REASONS: Mapping[str, str] = {
    "could not resolve hostname": "no machine of that name is known here; look at its spelling, or give its address",
    "connection refused": "the machine is there and takes no ssh connections at that port; start its ssh server",
    "timed out": "it does not answer; look whether it is switched on and on this network",
    "no route to host": "it does not answer; look whether it is switched on and on this network",
    "network is unreachable": "this machine has no way to it; look at the network",
    "host key verification failed": "its host key is unknown or has changed; call `ssh {host}` by hand once and compare it",
    "permission denied": "it does not accept this user's key; install it there with `ssh-copy-id {host}`",
}
"""What ssh says, in lower case, and what to do about it."""
_AWAY = ("could not resolve hostname", "connection refused", "timed out", "no route to host", "network is unreachable")
"""Reasons that may pass while nobody does anything."""


class SshConnection(LocalConnection):
    """The ssh client as a child process, whose input and output are the worker's."""

    def __init__(self, host: str, command: Sequence[str]) -> None:
        self._host = host
        super().__init__(command, os.environ)

    @property
    def exit_code(self) -> int | None:
        """The client's, None while it runs: 255 where it is its own failure, else the remote command's."""
        return self._process.poll()

    def last_words(self) -> str:
        """The last line that ssh, or what it ran, wrote beside its output; empty if there is none."""
        file = self._errors.fileno()
        size = os.fstat(file).st_size
        lines = os.pread(file, _LAST_BYTES, max(0, size - _LAST_BYTES)).decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300].strip() if lines else ""

    def _dead(self) -> WorkerDiedError:
        death = super()._dead()
        if self.exit_code == _SSH_FAILED:
            return ConnectionLostError(
                f"the ssh connection to {self._host} was lost ({self.last_words() or 'it said nothing'})"
            )
        return death


def connect_by_ssh(profile: HardwareProfile, *, config: Path | None = None) -> SshConnection:
    """A worker on the profile's host.

    Args:
        config: a configuration file for ssh, instead of the user's own.

    Raises:
        UnreachableError: the host does not answer.
        ProfileError: it refuses us, or its Python lacks what the worker needs.
        WorkerError: there is no ssh client here.
    """
    client = shutil.which("ssh")
    if client is None:
        raise WorkerError(
            f"profile {profile.name} is measured on {profile.ssh}, and there is no ssh command here; "
            "install it (Debian's package openssh-client)"
        )
    connection = SshConnection(profile.ssh, [client, *ssh_arguments(profile, config)])
    try:
        connection.send({"do": "bootstrap"}, [BOOTSTRAP_FILE.read_bytes()])
        answer = connection.receive(seconds=_HELLO_SECONDS)
        if answer["event"] == "here":
            connection.send({"do": "worker"}, [WORKER_FILE.read_bytes()])
            return connection
    except WorkerDiedError as death:
        error: ProfileError = _why_not_there(profile, connection, death)
    except (json.JSONDecodeError, UnicodeDecodeError) as junk:
        told = junk.doc if isinstance(junk, json.JSONDecodeError) else str(junk)
        error = ProfileError(
            f"{_place(profile)}: something there writes into what the worker says ({told[:60].strip()!r}); "
            "its shell's startup files must print nothing where nobody is looking"
        )
    except BaseException:
        connection.close()
        raise
    else:
        mend = f"install {answer['module']} there (`{profile.python} -m pip install numpy onnxruntime`), or "
        error = ProfileError(
            f"{_place(profile)}: {profile.python} there is Python {answer['python']}, and {answer['message']}; "
            f"{'' if answer['module'] == 'python' else mend}name another interpreter by the profile's key python"
        )
    connection.close()
    raise error


def ssh_arguments(profile: HardwareProfile, config: Path | None) -> list[str]:
    """What ssh is called with: its options, the host, and one command for the host's shell, whichever that is."""
    options = [argument for key, value in _OPTIONS.items() for argument in ("-o", f"{key}={value}")]
    settings = [f"{key}={value}" for key, value in worker_settings(profile.threads).items()]
    python = profile.python.removeprefix("~/")  # quoted it would not be expanded, and ssh begins in the home folder
    worker = shlex.join(["env", *settings, python, "-c", _LOADER])
    fixed = shlex.join(FIXED_LAYOUT)
    # The shell stays, and tells a killed worker (128 + signal) from a failure of ssh itself (255).
    script = f"fixed=; {fixed} true 2>/dev/null && fixed={shlex.quote(fixed)}; $fixed {worker}; exit $?"
    command = shlex.join(["sh", "-c", script])
    return ["-T", "-x", *(["-F", str(config)] if config else []), *options, "--", profile.ssh, command]


def _why_not_there(profile: HardwareProfile, connection: SshConnection, death: WorkerDiedError) -> ProfileError:
    """The error for a first contact that failed, from ssh's exit code and words."""
    code, told = connection.exit_code, connection.last_words() or str(death)
    if code in (_NOT_FOUND, _NOT_EXECUTABLE):
        return ProfileError(
            f"{_place(profile)}: there is no {profile.python} that can be run; "
            "install Python there, or name its path by the profile's key python"
        )
    kind = UnreachableError if code == _SSH_FAILED else ProfileError
    for words, advice in _REASONS.items() if code == _SSH_FAILED else ():
        if words in told.lower():
            kind = UnreachableError if words in _AWAY else ProfileError
            return kind(f"{_place(profile)}: {told}: {advice.format(host=profile.ssh)}")
    return kind(
        f"{_place(profile)}: no worker starts there: {told}. Try `ssh {profile.ssh} {profile.python} -V` by hand"
    )


def _place(profile: HardwareProfile) -> str:
    return f"profile {profile.name} is measured on {profile.ssh} by ssh"
