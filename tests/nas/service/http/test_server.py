"""The server as a process: how it starts, whom it lets in, and how it ends."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import FastAPI

from nas.engine.store.folder import RunsFolder
from nas.service.http.server import serve, uvicorn_config
from nas.service.http.tokens import Tokens
from nas.service.settings import Limits, ServiceSettings
from tests.errors import raises
from tests.nas.commands import SMALL_JOB

ELSEWHERE = ["--address", "127.0.0.1:1", "--jobs-url", "http://127.0.0.1:1"]
"""A cluster that is not there: no head is started."""


@dataclass
class Running:
    """A server that answers."""

    process: subprocess.Popen[str]
    url: str

    def end(self) -> tuple[int, list[dict[str, object]]]:
        """Its exit code after SIGTERM, and its log."""
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=30)
        return self.process.returncode, [json.loads(line) for line in log.splitlines()]


@contextmanager
def running(runs: Path, *options: str, files: str = "") -> Iterator[Running]:
    """A server in a process of its own.

    Args:
        files: options of `ulimit` for its limits of open files.
    """
    limited = ["sh", "-c", f'ulimit {files}; exec "$@"', "sh"] if files else []
    command = [*limited, sys.executable, "-m", "nas.cli", "serve", "--runs", str(runs), "--port", "0", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    with process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, process.communicate()[1]
            yield Running(process, url)
        finally:
            process.kill()


def test_a_server_answers_and_ends_with_its_streams_on_a_signal(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with running(runs, *ELSEWHERE) as server, httpx.Client(base_url=server.url, timeout=20) as client:
        assert client.get("/api/v1/health").json()["status"] == "ok"
        run = client.post("/api/v1/runs", json={"job": SMALL_JOB}).json()["run"]
        ready = client.get("/api/v1/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        with client.stream("GET", f"/api/v1/runs/{run}/events") as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("data: "))
            server.process.send_signal(signal.SIGTERM)
            assert [line for line in lines if line and not line.startswith(":")] == []  # it ends, whole
        code, log = server.end()
    assert code == 0
    found = [line for line in log if line["text"] == "request"]
    assert [line["path"] for line in found][:2] == ["/api/v1/health", "/api/v1/runs"]
    assert all(line["status"] and line["request"] for line in found)
    assert [line["run"] for line in found if str(line["path"]).endswith("/events")] == [run]


def test_a_second_server_of_a_folder_is_rejected(tmp_path: Path) -> None:
    with running(tmp_path / "runs", *ELSEWHERE) as server:
        settings = ServiceSettings(RunsFolder(tmp_path / "runs"), port=0)
        with raises("server.already-running", f"process {server.process.pid}"):
            serve(settings, print)
        taken = ServiceSettings(RunsFolder(tmp_path / "other"), port=int(server.url.rpartition(":")[2]))
        with raises("server.address-unusable"):
            serve(taken, print)


SMUGGLED = {
    "length and chunks": b"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two hosts": b"GET /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "a header of two lines": b"GET /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b: c\r\nHost: evil\r\n\r\n",
    "a blank before the colon": b"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length : 4\r\n\r\n{}{}",
    "another server's address": b"GET http://evil.example/api/v1/runs HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    "endless headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 200_000,
    "a sum of chunks that is too large": b"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 40,
}


def test_smuggled_requests_are_rejected_and_the_connection_is_closed(tmp_path: Path) -> None:
    with running(tmp_path / "runs", *ELSEWHERE) as server:
        port = int(server.url.rpartition(":")[2])
        for name, sent in SMUGGLED.items():
            next_one = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
            statuses = answered(port, sent + next_one)
            # A client that is still sending when the connection is closed may lose the answer.
            assert statuses in ([400], [413]) or (name.startswith("a sum") and not statuses), name
        assert httpx.get(f"{server.url}/api/v1/health").status_code == 200
        assert httpx.get(f"{server.url}/api/v1/runs").json()["total"] == 0


def answered(port: int, sent: bytes) -> list[int]:
    """Statuses of the answers to what is sent over one connection, until the server closes it."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, suppress(ConnectionResetError):
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(sent)
        while piece := connection.recv(65536):
            received += piece
    return [int(line.split()[1]) for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def test_more_connections_than_open_files_keep_nobody_out_and_fill_no_log(tmp_path: Path) -> None:
    with running(tmp_path / "runs", *ELSEWHERE, files="-n 512") as server, ExitStack() as stack:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        for _ in range(600):
            stack.enter_context(socket.create_connection(address, timeout=20))
        assert httpx.get(f"{server.url}/api/v1/health", timeout=20).status_code == 200
        _, log = server.end()
    assert [line["text"] for line in log if line["level"] != "info"] == [
        "at most 256 connections at once: the limit of open files is low; raise it (LimitNOFILE, ulimit -Hn)"
    ]


def test_the_soft_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running(tmp_path / "runs", *ELSEWHERE, files="-Sn 300") as server:
        assert httpx.get(f"{server.url}/api/v1/health", timeout=20).status_code == 200
        assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (min(hard, 65_536), hard)


def test_a_public_server_needs_a_token(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path / "runs")
    settings = ServiceSettings(runs, host="0.0.0.0", port=0)
    with raises("token.missing", "nas token make"):
        serve(settings, print)
    made = Tokens(settings.tokens_file).make("ada", lifetime_s=None)
    with running(runs.root, "--host", "0.0.0.0", *ELSEWHERE) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/api/v1/runs").status_code == 401
        assert httpx.get(f"{url}/api/v1/runs", headers={"authorization": f"Bearer {made}"}).status_code == 200
        _, log = server.end()
    assert made not in json.dumps(log)


def test_an_unusable_certificate_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    files = {"certificate": tmp_path / "cert.pem", "key": tmp_path / "missing.pem"}
    with raises("server.certificate-unusable"):
        serve(ServiceSettings(RunsFolder(tmp_path / "runs"), port=0, **files), print)


def test_an_address_of_another_machine_is_rejected(tmp_path: Path) -> None:
    settings = ServiceSettings(RunsFolder(tmp_path / "runs"), host="192.0.2.1", port=0)
    Tokens(settings.tokens_file).make("ada", lifetime_s=None)
    with raises("server.address-unusable"):
        serve(settings, print)


def test_nothing_heavy_is_loaded_before_the_server_answers() -> None:
    heavy = ("torch", "ray", "pymoo", "sklearn", "scipy", "lightgbm", "onnxruntime", "onnx", "matplotlib", "pandas")
    code = f"import sys, nas.service.http.server; print([name for name in {heavy!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


def test_the_event_loop_does_not_depend_on_what_is_installed() -> None:
    assert uvicorn_config(FastAPI(), Limits()).loop == "asyncio"  # with uvloop, handshakes of TLS would not end
