"""Checks of uploads in the tests' process: a process for each bad file would load torch for seconds."""

from __future__ import annotations

import json
from subprocess import CompletedProcess, TimeoutExpired
from types import SimpleNamespace

import pytest

from nas.service.uploads import check_process, content_check


def check_without_process(patched: pytest.MonkeyPatch) -> None:
    """Lets servers of this process check uploads by the same function as their processes, without limits of memory."""

    def run(command: list[str], *, input: str, **options: object) -> CompletedProcess[str]:
        return CompletedProcess(command, 0, json.dumps(check_process.answer(json.loads(input))), "")

    patched.setattr(content_check, "subprocess", SimpleNamespace(run=run, TimeoutExpired=TimeoutExpired))
