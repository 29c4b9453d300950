"""``nas serve`` as a process of its own, with its Ray, for tests of real jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from nas.engine.store.folder import RunsFolder
from nas.service.api.schemas import RunSummary
from nas.service.client import NasClient
from nas.service.settings import ServiceSettings
from tests.nas import short_rounds

_PATIENCE_S = 300


class Served:
    """``nas serve`` over a folder of its own."""

    def __init__(self, root: Path, *options: str, modules: Path | None = None) -> None:
        """Starts it.

        Args:
            options: of the command.
            modules: a folder with modules that it and its jobs can import.
        """
        self.root, self.options, self.modules = root, options, modules
        self.runs = RunsFolder(root / "runs")
        self.folder = ServiceSettings(self.runs).folder
        self.start()

    def start(self) -> None:
        with (self.root / "server.log").open("ab") as log:
            self.server = subprocess.Popen(
                short_rounds.command("serve", "--runs", self.runs.root, "--port", "0", *self.options),
                env=self._environment(), stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.server.stdout is not None
        self.url = self.server.stdout.readline().strip()
        self.client = NasClient(self.url)

    def _environment(self) -> dict[str, str]:
        found = short_rounds.environment()
        paths = [str(self.modules), found.get("PYTHONPATH", "")] if self.modules else []
        return {**found, "PYTHONPATH": os.pathsep.join(filter(None, paths))} if paths else found

    def end(self, number: signal.Signals) -> None:
        self.client.close()
        self.server.send_signal(number)
        self.server.communicate(timeout=_PATIENCE_S)

    def wait(self, run: str, *, status: str = "", evaluations: int = 0) -> RunSummary:
        """Until a run has a status, and no driver any more (which gives it that before it ends), or a number of evaluations."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            found = self.client.status(run)
            if evaluations and found.evaluations >= evaluations:
                return found
            if status and found.status == status and not found.live and not self.drivers(run):
                return found
            assert found.status in ("queued", "running", status), (found, self.client.logs(run))
            time.sleep(0.1)
        found = self.client.status(run)
        server = (self.root / "server.log").read_text(errors="replace")
        raise AssertionError(
            f"{run} does not come to {status or evaluations}: {found}; its log: {self.client.logs(run)}; its drivers: "
            f"{self.drivers(run)}; the server's log: {server[-4000:]}"
        )

    def kill_driver(self, run: str) -> None:
        (pid,) = self.drivers(run)
        os.kill(pid, signal.SIGKILL)

    def drivers(self, run: str) -> list[int]:
        return [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            for command in [command_of(path)]
            if b"drive\0" + run.encode() in command and str(self.runs.root).encode() in command
        ]


def command_of(path: Path) -> bytes:
    with suppress(OSError):
        return path.read_bytes()
    return b""
