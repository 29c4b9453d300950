"""Connecting to a Ray cluster, or starting one on this machine, for as long as work needs it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hardware_profiles.base import HardwareProfile
from nas.errors import ClusterError, EvaluationError, Remedy
from nas.plugins.parts import require

_ANSWER_S = 10.0
"""Seconds in which a cluster's head must answer. Ray itself tries an address without Ray for minutes."""
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""An empty frame of HTTP/2's settings (RFC 9113, 6.5), with which both sides begin; Ray speaks gRPC, and so HTTP/2."""

_LOOK = (
    "look at the address, HOST:PORT, that `ray start --head` printed there; with tokens, set RAY_AUTH_MODE=token here"
)


@contextmanager
def connected(
    address: str | None, *, spread: bool, profiles: Iterable[HardwareProfile] = (), cpus: int | None = None
) -> Iterator[None]:
    """Connects to a cluster, or starts one here, where work is to be spread or a profile is measured on a Ray node.

    A cluster that is connected already is used, and stays connected.

    Args:
        address: Address of a running cluster; None starts one in this process's name, which offers this machine alone.
        spread: True if scoring is spread over actors.
        cpus: Number of CPUs that a cluster started here offers; None for all of the machine.

    Raises:
        ClusterError: no cluster answers at the address.
        EvaluationError: none can be started, for instance because the machine is too busy.
    """
    if not spread and not any(profile.placement for profile in profiles):
        yield
        return
    is_own = start_ray(address, cpus=cpus)
    try:
        yield
    finally:
        if is_own:
            stop_ray()


def start_ray(address: str | None = None, *, cpus: int | None = None) -> bool:
    """Connects to a running cluster, or starts one in this process's name.

    Returns:
        Whether it did; not where one is connected already.

    Raises as `connected`.
    """
    require("ray", "work on a Ray cluster")
    # Before Ray is loaded: its processes listen on loopback then, not on all addresses of the machine.
    if address is None:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray  # takes a second to load

    if ray.is_initialized():
        return False
    if address == "auto":
        address = _recorded_address()
    if address is not None:
        check_answers(address)
    # Idle workers spin otherwise, which costs a two-core machine most of its speed.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # no colours in what drivers log
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # With Ray's own niceness of 15, scoring stands still beside other processes. Nothing is timed while it runs.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Without the word "local", Ray would join any cluster that somebody has started on this machine.
    options: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if address is None else {}
    try:
        if address is None:
            options["_temp_dir"] = str(_private_folder() / "ray")
        with _keeping_sigterm():
            ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **options)
        return True
    except Exception as error:  # Ray raises no narrower one, for instance where a node starts too slowly
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if address is None:
            advice = (
                "try again when the machine is less busy, or do without Ray (inline; for nas.optimize without parallel)"
            )
            raise EvaluationError(
                f"cannot start Ray: {why}; {advice}", code="cluster.not-started", remedy=Remedy("doctor")
            ) from error
        raise ClusterError(f"no Ray cluster answers at {address} ({why}); {_LOOK}") from error


def _recorded_address() -> str:
    """The cluster that ``auto`` stands for: that of ``RAY_ADDRESS``, or the last one that `ray start` started here.

    Ray itself would take any cluster among this machine's processes, also one that a search has started for itself
    alone and that answers nobody else, for which it waits for minutes.

    Raises:
        ClusterError: there is none.
    """
    folder = next((os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "/tmp")
    record = Path(folder) / "ray" / "ray_current_cluster"
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if not address and record.is_file():
        address = record.read_text().strip()
    if not address:
        raise ClusterError(f"address 'auto': no Ray cluster was started on this machine; {_LOOK}", parameter="address")
    return address


def _private_folder() -> Path:
    """A folder for temporary files of this user alone: Ray lets all users read its own, with the logs of its workers."""
    folder = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / f"nas-ray-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid == os.getuid() and about.st_mode == stat.S_IFDIR | 0o700:
        return folder
    return Path(tempfile.mkdtemp(prefix="nas-ray-"))  # another user has made the first


def stop_ray() -> None:
    """Leaves the cluster, and ends it where this process started it."""
    import ray

    if ray.is_initialized():
        with _keeping_sigterm():
            ray.shutdown()


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Sets SIGTERM's handler again: Ray sets its own when it starts, and the system's, which kills, when it ends."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler not in (None, signal.SIG_DFL) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def check_address(address: str) -> None:
    """Raises `ClusterError` for an address of no cluster: neither ``HOST:PORT`` nor ``ray://HOST:PORT`` nor ``auto``."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address != "auto" and (not host or "/" in host or not port.isdigit()):
        expected = "expected HOST:PORT, as `ray start --head` printed it, or auto for a cluster of this machine"
        raise ClusterError(f"address {address!r}: {expected}", code="cluster.invalid-address", parameter="address")


def check_answers(address: str) -> None:
    """Raises `ClusterError` where an address names a host and a port, and no Ray is there; other forms are Ray's."""
    if not address:
        raise ClusterError(f"no Ray cluster answers at no address; {_LOOK}")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS)
            answer = connection.recv(len(_SETTINGS), socket.MSG_WAITALL)
            if answer[3:4] != _SETTINGS[3:4]:
                raise OSError("another program listens there")
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster answers at {address} ({error}); {_LOOK}") from error
