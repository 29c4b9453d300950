"""Response times of a server for one client while another one attacks it.

    python -m tests.benchmarks.attacks [--only idle] [--seconds 20] [--files 1024] [--same-address]

Method. `nas serve` on a folder with 50 finished runs, without a cluster. A client requests the list of runs every 50 ms, each
time by a new connection, before, during and after each attack. The attacks come from another process and, unless
--same-address, another address of this machine; connections that the server closes are opened again, each at most once a
second. A request without a complete response in 30 s has failed, and counts as 30 s. In the end a job is submitted: the server
must still accept it.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import selectors
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import numpy as np
import typer

from nas.engine.store.folder import RunsFolder
from tests.benchmarks.markdown import table_head, table_row
from tests.benchmarks.serving import add_finished_runs, cpu_seconds, serving
from tests.nas.commands import SMALL_JOB

_RUNS = 50
_PAUSE_S = 0.05
_WARM_UP_S = 5.0
_TIMEOUT_S = 30.0
_ATTACKER, _CLIENT = "127.0.0.2", "127.0.0.1"
_HEAD = "{method} {path} HTTP/1.1\r\nHost: localhost\r\n"


@dataclass(frozen=True)
class Attack:
    """Connections that are all open at the same time.

    Attributes:
        first: what each sends once it is open.
        then: what it sends every `pause_s` seconds after that, as long as it is open.
    """

    title: str
    connections: int
    first: bytes = b""
    then: bytes = b""
    pause_s: float = 1.0


def _request(body: str, *, promised: int | None = None) -> bytes:
    content = body.encode()
    head = _HEAD.format(method="POST", path="/api/v1/jobs/check") + "Content-Type: application/yaml\r\n"
    return f"{head}Content-Length: {len(content) if promised is None else promised}\r\n\r\n".encode() + content


_GET = _HEAD.format(method="GET", path="/api/v1/runs").encode()
ATTACKS = {
    "yaml": Attack("45 lists of 120,000 items", 45, _request("[" + "1," * 120_000 + "]")),
    "keys": Attack("45 job files of 9,000 unknown keys", 45, _request("".join(f"k{i}: 1\n" for i in range(9_000)))),
    "names": Attack("45 job files of 18,000 warm starts", 45, _request(f"{SMALL_JOB}warm_start: [{'x, ' * 18_000}]\n")),
    "json": Attack(
        "45 profiles that are 1 MiB of JSON",
        45,
        _request(f'{{"profile": [{"{}," * 349_000}{{}}]}}')
        .replace(b"jobs/check", b"profiles")
        .replace(b"application/yaml", b"application/json"),
    ),
    "heads": Attack("200 half-sent heads", 200, _GET, b"X: a\r\n"),
    "bodies": Attack("200 bodies, a byte per second", 200, _request("", promised=10_000), b"#"),
    "unread bodies": Attack(
        "200 bodies that no route reads",
        200,
        _request("", promised=10_000).replace(b"/api/v1/jobs/check", b"/nowhere"),
        b"#",
    ),
    "idle": Attack("2,100 idle connections", 2_100),
}


@dataclass
class Spread:
    """Response times in seconds, and the number of failed requests."""

    took: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def cells(self) -> list[str]:
        """Requests, failed ones, and milliseconds: the percentiles 50 and 99, and the longest."""
        ms = 1000 * np.percentile(self.took, [50, 99, 100])
        return [str(len(self.took)), str(self.failed), *(f"{value:.0f}" for value in ms)]


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(ATTACKS)}")] = None,
    seconds: Annotated[float, typer.Option(help="of each of the three parts")] = 20.0,
    files: Annotated[int, typer.Option(help="limit of open files of the server, soft and hard")] = 0,
    same_address: Annotated[bool, typer.Option("--same-address", help="attack from the client's address")] = False,
) -> None:
    """Starts a server for each attack, and attacks it."""
    if unknown := set(only or ()) - ATTACKS.keys():
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}; expected of {', '.join(ATTACKS)}")
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    print(__doc__)
    columns = ("n", "failed", "p50, ms", "p99, ms", "longest, ms", "server CPU, s", "log, KB", "open")
    print(table_head("attack", "part", *columns), flush=True)
    for name in only or ATTACKS:
        for cells in _attacked(ATTACKS[name], seconds, files, _CLIENT if same_address else _ATTACKER):
            print(table_row(*cells), flush=True)


def _attacked(attack: Attack, seconds: float, files: int, address: str) -> Iterator[list[object]]:
    """The cells of each part: response times, CPU seconds and log of the server, and its open connections at the end."""
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        runs = RunsFolder(Path(temporary) / "runs")
        runs.check_writable()
        add_finished_runs(runs, _RUNS)
        log = Path(temporary) / "server.log"
        with log.open("wb") as errors, serving(runs, errors=errors, files=files) as (server, url, _):
            port = urlsplit(url).port
            assert port is not None

            def part(name: str) -> list[object]:
                cpu, size = cpu_seconds(server.pid), log.stat().st_size
                spread = _asked(port, seconds)
                used, written = cpu_seconds(server.pid) - cpu, (log.stat().st_size - size) / 1000
                return [attack.title, name, *spread.cells, f"{used:.1f}", f"{written:.0f}", _sockets(server.pid)]

            _asked(port, _WARM_UP_S)
            yield part("before")
            with _attacking(attack, port, address):
                yield part("during")
            yield part("after")
            status = _answer(port, _submission())
            if status != 201:
                raise SystemExit(f"after the attack, a submission was answered with status {status}; expected 201")


def _asked(port: int, seconds: float) -> Spread:
    found, end = Spread(), time.perf_counter() + seconds
    while not found.took or time.perf_counter() < end:
        begun = time.perf_counter()
        answered = _answer(port, _GET + b"Connection: close\r\n\r\n") == 200
        found.took.append(time.perf_counter() - begun if answered else _TIMEOUT_S)
        found.failed += not answered
        time.sleep(_PAUSE_S)
    return found


def _submission() -> bytes:
    return _request(SMALL_JOB).replace(b"jobs/check", b"runs").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)


def _answer(port: int, sent: bytes) -> int:
    """The status of the complete response to a request, which asks for the end of its connection; 0 without one."""
    received = b""
    with suppress(OSError), socket.create_connection((_CLIENT, port), timeout=_TIMEOUT_S) as connection:
        connection.sendall(sent)
        while piece := connection.recv(65_536):
            received += piece
        return int(received.split(b" ", 2)[1])
    return 0


@contextmanager
def _attacking(attack: Attack, port: int, address: str) -> Iterator[None]:
    """An attack that has begun, and ends with the context."""
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    process = context.Process(target=_attack, args=(attack, port, address, begun), daemon=True)
    process.start()
    try:
        begun.wait()
        yield
    finally:
        process.kill()
        process.join()


def _attack(attack: Attack, port: int, address: str, begun: object) -> None:
    """Keeps all connections open, until the process is killed."""
    every = [_Connection(attack, port, address) for _ in range(attack.connections)]
    begun.set()  # type: ignore[attr-defined]
    with selectors.DefaultSelector() as selector:
        for connection in every:
            connection.open(selector)
        while True:
            for key, _ in selector.select(timeout=0.1):
                key.data.read(selector)
            now = time.monotonic()
            for connection in every:
                connection.continue_(selector, now)


class _Connection:
    """One connection of an attack, which is opened again when it was closed."""

    def __init__(self, attack: Attack, port: int, address: str) -> None:
        self._attack, self._to, self._address = attack, (_CLIENT, port), address
        self._socket: socket.socket | None = None
        self._left, self._next = b"", 0.0

    def open(self, selector: selectors.BaseSelector) -> None:
        """Begins to connect."""
        self._socket = socket.socket()
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            self._socket.bind((self._address, 0))
            self._socket.connect(self._to)
        self._left, self._next = self._attack.first, time.monotonic() + self._attack.pause_s
        selector.register(self._socket, selectors.EVENT_READ, self)

    def read(self, selector: selectors.BaseSelector) -> None:
        """Reads a response; after its end, or the end of the connection, the next attempt begins."""
        assert self._socket is not None
        with suppress(BlockingIOError):
            try:
                received = self._socket.recv(65_536)
            except OSError:
                received = b""
            if not received or (not self._attack.then and self._attack.first):
                self._close(selector)

    def continue_(self, selector: selectors.BaseSelector, now: float) -> None:
        """Sends what is due, or opens the connection again."""
        if self._socket is None:
            return self.open(selector) if now >= self._next else None
        if not self._left and self._attack.then and now >= self._next:
            self._left, self._next = self._attack.then, now + self._attack.pause_s
        if self._left:
            try:
                self._left = self._left[self._socket.send(self._left) :]
            except BlockingIOError:
                pass
            except OSError:
                self._close(selector)
        return None

    def _close(self, selector: selectors.BaseSelector) -> None:
        assert self._socket is not None
        selector.unregister(self._socket)
        self._socket.close()
        self._socket = None


def _sockets(pid: int) -> int:
    """The number of a process's open sockets."""
    n = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            n += os.readlink(path).startswith("socket:")
    return n


if __name__ == "__main__":
    typer.run(main)
