"""An address at which no Ray cluster is, is told soon and in words."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from nas.engine.evaluation import cluster
from nas.engine.evaluation.cluster import connected
from nas.errors import EvaluationError

pytestmark = pytest.mark.ray


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of a program that is no Ray cluster."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a program that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def check_refused(address: str, why: str) -> None:
    with pytest.raises(EvaluationError, match=rf"no Ray cluster answers at .*{why}.*ray start --head"):  # noqa: SIM117
        with connected(address, spread=True):
            pass


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    check_refused(f"127.0.0.1:{port}", "refused")


def test_no_such_machine() -> None:
    check_refused("no-such-machine.invalid:6379", "")


def test_another_program_listens(web_server: int) -> None:
    check_refused(f"127.0.0.1:{web_server}", "another program listens there")
    check_refused(f"ray://127.0.0.1:{web_server}", "another program listens there")


def test_a_program_that_says_nothing(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ANSWER_S", 0.2)
    check_refused(f"127.0.0.1:{silent}", "timed out")


@pytest.mark.parametrize(("address", "why"), [("head", "Invalid address format: head"), ("", "no address")])
def test_no_address_of_a_cluster(address: str, why: str) -> None:
    with pytest.raises(EvaluationError, match=rf"no Ray cluster answers at .*{why}.*; look at the address, HOST:PORT"):  # noqa: SIM117
        with connected(address, spread=True):
            pass


class TestAuto:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        return tmp_path

    def test_there_is_no_cluster(self) -> None:
        with pytest.raises(EvaluationError, match="'auto': no Ray cluster was started on this machine"):  # noqa: SIM117
            with connected("auto", spread=True):
                pass

    def test_the_recorded_cluster_has_ended(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        (folder / "ray").mkdir()
        (folder / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")
        check_refused("auto", f"127.0.0.1:{port}.*refused")

    def test_the_environment_comes_first(self, web_server: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{web_server}")
        check_refused("auto", f"{web_server}.*another program listens there")


_CLUSTER = """
import json, os, signal, socket
from pathlib import Path
from nas.engine.evaluation.cluster import start_ray, stop_ray
from tests.processes import descendants, files_of

came = []
signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
start_ray(cpus=1)
os.kill(os.getpid(), signal.SIGTERM)
import ray
sockets = {
    file.partition("[")[2].rstrip("]") for pid in descendants(os.getpid()) for file in files_of(pid)
}
rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
listening = [row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in sockets]
logs = ray._private.worker._global_node.get_logs_dir_path()
stop_ray()
os.kill(os.getpid(), signal.SIGTERM)
print(json.dumps({"listening": listening, "logs": logs, "signals": len(came)}))
"""
_LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, itself and as an address of IPv6, and ::1, as the kernel prints them on little-endian machines."""


@pytest.mark.slow
def test_a_cluster_of_this_machine_is_closed_to_others_and_leaves_sigterm_to_its_owner() -> None:
    done = subprocess.run([sys.executable, "-c", _CLUSTER], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "SIGTERM received" not in done.stderr
    found = json.loads(done.stdout)
    assert found["signals"] == 2  # while the cluster runs, and afterwards
    assert len(found["listening"]) >= 3
    assert set(found["listening"]) <= _LOOPBACK
    private = [path for path in Path(found["logs"]).parents if path.name.startswith("nas-ray-")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o700]


def test_a_folder_of_another_user_or_open_to_others_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    folder = cluster._private_folder()
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert cluster._private_folder() == folder
    folder.chmod(0o755)
    assert cluster._private_folder() != folder
    folder.rmdir()
    folder.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    assert cluster._private_folder() != folder
