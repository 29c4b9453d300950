"""Runs the blocks of a page in order, in one folder, as a reader would."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from hardware_profiles.catalog import load_profile
from nas.jobs.recipes import read_recipe
from nas.jobs.schema import load_job
from nas.jobs.schema.search_job import job_of
from tests.docs import nas_command
from tests.docs.blocks import ROOT, Block, Page, Use

_PATIENCE_S = 400
JOB = "job.yaml"
"""The small job that every page finds in its folder; its keys are replaced by those of blocks that say so."""
SMALL = {
    "name": "small",
    "data": {"name": "digits", "validation": 0.25, "test": 0.25},
    "supernet": {"family": "mobile-cnn", "preset": "digits"},
    "training": {"epochs": 2},
    "search": {"evaluations": 10, "batch": 5},
    "calibration_images": 1000,
}


class BlockError(AssertionError):
    """A block failed; the text has its place and its output."""


class PageRunner:
    """Runs blocks in a folder; a context, which ends what the blocks started."""

    def __init__(self, folder: Path, *, trained: Path | None = None, ray: bool = False) -> None:
        """Prepares the folder.

        Args:
            trained: the folder of the first tutorial, whose run the page needs.
            ray: whether the commands of the page may start Ray.
        """
        self.folder = folder
        self._output = folder / ".output"
        self._groups: list[int] = []
        self._python: subprocess.Popen[str] | None = None
        job: dict[str, Any] = dict(SMALL)
        if trained is not None:
            subprocess.run(["cp", "-r", f"{trained}/.", str(folder)], check=True)
            job["supernet"] = {"from": "digits-cnn-1"}
        (folder / JOB).write_text(yaml.safe_dump(job, sort_keys=False))
        self._environment = {
            **os.environ,
            "PATH": f"{self._commands()}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PROJECT": str(ROOT),
            "OMP_WAIT_POLICY": "passive",
        }
        if ray:
            self._environment[nas_command.RAY] = "1"

    def _commands(self) -> Path:
        """A folder with the commands ``nas`` and ``python`` of these tests; hidden blocks find other files in ``$PROJECT``."""
        folder = self.folder / ".bin"
        folder.mkdir(exist_ok=True)
        for name, words in (("nas", "-P -m tests.docs.nas_command "), ("python", "")):
            # -P: as for users, modules of the current folder are found only where PYTHONPATH names it.
            paths = f'PYTHONPATH="{ROOT}:$PYTHONPATH"'
            (folder / name).write_text(f'#!/bin/sh\n{paths} exec {sys.executable} {words}"$@"\n')
            (folder / name).chmod(0o755)
        return folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._python is not None:
            self._python.communicate(timeout=60)  # the end of its input ends it
        for group in self._groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)
        if (served := self.folder / "serve.pid").exists():
            self._stop_server(int(served.read_text()))

    def _stop_server(self, process: int) -> None:
        """Waits for the end of the server that the page started, then ends its Ray cluster."""
        with suppress(ProcessLookupError):
            ended = os.pidfd_open(process)
            select.select([ended], [], [], _PATIENCE_S)
            os.close(ended)
        subprocess.run(["nas", "serve", "--stop-ray"], cwd=self.folder, env=self._environment, check=True, timeout=120)

    def run_page(self, page: Page) -> None:
        """Runs all blocks; raises `BlockError` for the first that fails."""
        for block in page.blocks:
            self.run(block)

    def run(self, block: Block) -> None:
        """Runs, writes or checks a block, by its use."""
        match block.use:
            case Use.FILE:
                self._write(block)
            case Use.JOB_KEYS:
                self._check_keys(block)
            case Use.EXECUTED if block.language == "bash":
                self._run_bash(block)
            case Use.EXECUTED if block.language == "python":
                self._run_python(block)
            case Use.EXECUTED:
                raise BlockError(f"{block.place}: no test runs {block.language}; expected bash, python, yaml or text")

    def _write(self, block: Block) -> None:
        path = self.folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        keys = yaml.safe_load(block.text) if path.suffix == ".yaml" else {}
        if "data" in keys:
            load_job(path)
        elif "threads" in keys:
            load_profile(str(path))

    def _check_keys(self, block: Block) -> None:
        """Reads a job with these keys, and changes the file that the block names."""
        keys = yaml.safe_load(block.text)
        if block.into:
            path = self.folder / block.into
            job = yaml.safe_load(path.read_text()) if path.exists() else yaml.safe_load((self.folder / JOB).read_text())
            path.write_text(yaml.safe_dump({**job, **keys}, sort_keys=False))
            load_job(path)
        else:
            job_of({**yaml.safe_load(read_recipe("digits-cnn")), **keys}, source=block.place)

    def _run_bash(self, block: Block) -> None:
        state = self.folder / ".environment"
        script = f"trap 'env -0 > {state}' EXIT\n{block.text}"
        with self._output.open("w") as output:
            shell = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            self._groups.append(shell.pid)
            code = shell.wait(timeout=_PATIENCE_S)
        if code:
            raise BlockError(f"{block.place}: exit code {code}\n{block.text}\n{self._output.read_text()}")
        pairs = (entry.partition("=") for entry in state.read_text().split("\0") if entry)
        self._environment = {key: value for key, _, value in pairs}

    def _run_python(self, block: Block) -> None:
        if self._python is None:
            with (self.folder / ".python").open("w") as output:
                self._python = subprocess.Popen(
                    [sys.executable, "-m", "tests.docs.python_session"], cwd=self.folder,
                    env={**self._environment, "PYTHONPATH": f"{ROOT}:{self._environment['PYTHONPATH']}"},
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True, start_new_session=True,
                )  # fmt: skip
            self._groups.append(self._python.pid)
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps(block.text) + "\n")
        self._python.stdin.flush()
        answer = self._python.stdout.readline()
        problem = json.loads(answer) if answer else "the interpreter ended"
        if problem:
            raise BlockError(f"{block.place}:\n{block.text}\n{(self.folder / '.python').read_text()}\n{problem}")
