"""The connection to a browser's page, which answers the worker's commands."""

from __future__ import annotations

import hashlib
import io
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ConnectionLostError, ProfileError, UnreachableError, WorkerDiedError
from hardware_profiles.transports.browser import messages
from hardware_profiles.transports.browser.board import CODE_MINUTES, BrowserBoard
from hardware_profiles.transports.browser.server import BrowserServer, running_server

CLOCK_MS = 0.5
"""Runs that are shorter are timed several at once: the clock of a page steps by 0.005 ms at the least, and some by 0.02 ms."""
MIN_GROUPS, MAX_REPEATS = 3, 200
INTERRUPTED_SHARE, INTERRUPTED_MS = 0.5, 0.5
"""A run was interrupted if it took longer than the fastest of its round by more than both: a time slice of another process
takes milliseconds, and what the browser does between runs, less."""
_TYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")

_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Version": "Safari"}
"""Names of browsers by key of their user agents; the first that is there counts."""


class BrowserConnection:
    """Commands to the page of one visit; implements `Connection`.

    Args:
        board: The profile's browser, whose page is open.
        profile: Profile that is measured.
    """

    def __init__(self, board: BrowserBoard, profile: HardwareProfile) -> None:
        self._board, self._profile, self._visit = board, profile, board.visit()
        self._ready: dict[str, Any] | None = None
        self._do, self._loading, self._holds = "", "", False
        self._n_repeats: dict[str, int] = {}

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes] = ()) -> None:
        if self._board.visit() != self._visit:
            raise self._lost("its page was loaded again")
        self._ready, do = None, command["do"]
        if do == "acquire":  # of several profilers in this process; the page has one process
            self._holds = self._holds or self._board.turn.acquire(timeout=command["seconds"])
            lost = {"event": "lock-timeout", "holder": "", "lock": f"of the browser of {self._profile.name}"}
            self._ready = {"event": "acquired"} if self._holds else lost
        elif do == "start" and command.get("energy"):
            self._ready = {"event": "no-energy", "message": "a browser has no counters of energy"}
        elif do == "start":
            about = {**_without(command, "trivial"), "payloads": [len(command["trivial"]) // 2]}
            self._post(about, bytes.fromhex(command["trivial"]), messages.started)
        elif do == "load":
            head, content = _load_command(command, payloads)
            self._loading = command["id"]
            self._post(head, content, messages.loaded)
        elif do == "round":
            order = [(id, *self._groups(id, n)) for id, n in command["order"]]
            check = partial(messages.round_times, n_runs={id: n for id, n, _ in order})
            self._post({"do": "round", "order": order}, b"", check)
        else:
            self._post(command, b"", messages.released)
        self._do = do

    def receive(self, *, seconds: float) -> dict[str, Any]:
        if self._ready is not None:
            return self._ready
        answer, reason = self._board.wait(self._visit, seconds)
        if answer is None:
            self._board.drop()
            if reason:
                raise self._lost(reason)
            raise WorkerDiedError(f"the page of {self._profile.name} did not answer in {seconds:.0f} s")
        if answer["event"] == "died":
            raise WorkerDiedError(f"the page of {self._profile.name} stopped: {answer['message']}")
        if self._do == "start" and answer["event"] != "ready":
            return {"event": "refused", "message": answer["message"]}
        return _COMPLETED[self._do](self, answer)

    def close(self) -> None:
        """Ends the turn of this connection; the page stays, and waits."""
        if self._holds:
            self._board.drop()
        self._let_go()

    def _let_go(self) -> None:
        if self._holds:
            self._holds = False
            self._board.turn.release()

    def _post(self, head: Mapping[str, Any], content: bytes, check: Callable[[Any], dict[str, Any]]) -> None:
        self._board.post(self._visit, head, content, check)

    def _groups(self, id: str, n: int) -> tuple[int, int]:
        """Number of times that the page takes, and number of runs of each."""
        n_repeats = self._n_repeats[id]
        return max(MIN_GROUPS, math.ceil(n / n_repeats)), n_repeats

    def _lost(self, reason: str) -> ConnectionLostError:
        return ConnectionLostError(f"lost the browser of {self._profile.name}: {reason}")

    def _started(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        return {"event": "ready", "environment": self._environment(str(answer["version"]))}

    def _environment(self, version: str) -> dict[str, Any]:
        device, profile = self._board.device, self._profile
        return {
            "cpu": device.platform or "unknown",
            "machine": device.architecture or "unknown",
            "flags": "",
            "cores": device.cores,
            "allowed_cpus": device.cores,
            "memory_mib": int(device.memory_gib * 1024) or None,
            "max_khz": None,
            "quota_cpus": None,
            "governor": None,
            "load_1m": None,
            "host": f"the browser of {profile.name}",
            "platform": device.platform,
            "agent": device.agent,
            "isolated": device.isolated,
            "onnxruntime": f"{version}-web",
            "runtime": f"ONNX Runtime Web {version} in {_browser_name(device.agent)}",
            "available_providers": ["wasm", *(["webgpu"] if device.webgpu else [])],
            "provider": profile.provider,
            "device": "browser " + hashlib.sha256(device.key.encode()).hexdigest()[:16],
            "threads": profile.threads,
        }

    def _loaded(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """A page cannot read its memory: the peak is 0."""
        if answer["event"] == "failed":
            return dict(answer)
        self._n_repeats[self._loading] = math.ceil(min(CLOCK_MS / answer["warm_ms"], MAX_REPEATS))
        return {**answer, "peak_mib": 0.0, "providers": [self._profile.provider], "scattered": 0.0}

    def _round(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """A page has no CPU time, and no count of context switches: long runs count as interrupted."""
        if answer["event"] != "round":
            raise WorkerDiedError(f"the page of {self._profile.name} failed: {answer['message']}")
        entries = {
            entry: times if "message" in times else _completed_times(times, self._n_repeats[entry])
            for entry, times in answer["entries"].items()
        }
        return {"event": "round", "entries": entries}

    def _released(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        self._let_go()
        environment = {"steal": 0.0, "suspended_s": 0.0, "battery": answer["battery"], "charging": answer["charging"]}
        return {"event": "released", "environment": environment}


_COMPLETED: Mapping[str, Callable[[BrowserConnection, Mapping[str, Any]], dict[str, Any]]] = {
    "start": BrowserConnection._started,
    "load": BrowserConnection._loaded,
    "round": BrowserConnection._round,
    "release": BrowserConnection._released,
}


def connect_by_browser(profile: HardwareProfile, *, announce: Callable[[str], None] | None = None) -> BrowserConnection:
    """The connection to the profile's page, which is open and in the foreground.

    The first call in a process starts the server.

    Args:
        announce: Receives the address with its code, several lines; None prints it to standard error.

    Raises:
        UnreachableError: no page is open, or it is in the background.
        ProfileError: the runtime's files are missing, or the server cannot start.
    """
    server = running_server()
    board = server.board(profile.name)
    if code := board.new_code():
        (announce or _print)(_invitation(server, profile.name, code))
    if reason := board.away():
        text = f"profile {profile.name} is measured in a browser: {reason}; open {server.address} there"
        raise UnreachableError(text, profile=profile.name, reason=f"{reason}: {server.address}")
    return BrowserConnection(board, profile)


def _invitation(server: BrowserServer, name: str, code: str) -> str:
    """The text that asks a person to open the page, with a QR code where the package segno is installed."""
    address = f"{server.address}/#{code}"
    lines = [f"{name}: open {address} in its browser within {CODE_MINUTES:.0f} minutes, and keep the page in front"]
    if not server.secure:
        lines.append(
            "  browsers measure at secure addresses only: set NAS_BROWSER_TLS to a file with a certificate and its key; "
            f"for a trial, start Chrome with `--unsafely-treat-insecure-origin-as-secure={server.address}`"
        )
    try:
        import segno
    except ImportError:
        return "\n".join(lines)
    picture = io.StringIO()
    segno.make(address, micro=False).terminal(picture, compact=True)
    return "\n".join([*lines, picture.getvalue()])


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _load_command(command: Mapping[str, Any], payloads: Sequence[bytes]) -> tuple[dict[str, Any], bytes]:
    """The command with the inputs as raw arrays behind the model: a page cannot read .npz files."""
    model, stored = payloads
    calls, parts, numbers = [], [model], itertools.count()
    with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
        for names in command["names"]:
            call = []
            for name in names:
                array = np.ascontiguousarray(arrays[f"arr_{next(numbers)}"])
                if array.dtype.name not in _TYPES:
                    raise ProfileError(f"input {name!r} is {array.dtype.name}; a browser takes {', '.join(_TYPES)}")
                call.append({"name": name, "type": array.dtype.name, "dims": list(array.shape)})
                parts.append(array.tobytes())
            calls.append(call)
    head = {"do": "load", "id": command["id"], "calls": calls, "payloads": [len(part) for part in parts]}
    return head, b"".join(parts)


def _completed_times(times: Mapping[str, Any], n_repeats: int) -> dict[str, Any]:
    """The wall times per run of a round, with what a worker process reports beside them.

    Args:
        n_repeats: Number of runs that were timed together.
    """
    wall = np.array(times["wall_ms"])
    interrupted = wall - wall.min() > np.maximum(INTERRUPTED_SHARE * wall.min(), INTERRUPTED_MS)
    per_run = (wall / n_repeats).tolist()
    return {"wall_ms": per_run, "cpu_ms": per_run, "switches": interrupted.astype(int).tolist()}


def _browser_name(agent: str) -> str:
    """Name and major version of a browser, by its user agent."""
    for key, name in _BROWSERS.items():
        if f"{key}/" in agent:
            return f"{name} {agent.split(f'{key}/', 1)[1].split('.', 1)[0]}"
    return "an unknown browser"


def _without(command: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in command.items() if name != key}
