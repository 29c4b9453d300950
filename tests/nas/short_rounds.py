"""``python -m tests.nas.short_rounds``: ``nas``, but measuring latencies in few short rounds.

For tests that run it in a process of its own: what the fixture `short_rounds` is for those that call it in theirs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hardware_profiles.measuring import energy, protocol
from nas.engine.store import run_state

_MODULE = "tests.nas.short_rounds"
_SHORT = {
    "LEAST_ROUNDS": 6, "ENOUGH_ROUNDS": 6, "MOST_ROUNDS": 6, "LEAST_LONGER_ROUNDS": 8, "ENOUGH_LONGER_ROUNDS": 8,
    "MOST_LONGER_ROUNDS": 8, "ROUND_MS": 3.0,
}  # fmt: skip
_SHORT_ENERGY = {"LEAST_ROUNDS": 4, "MOST_ROUNDS": 6, "LEAST_LONGER_ROUNDS": 4, "MOST_LONGER_ROUNDS": 6}
_TRUE_ROUNDS = {name: getattr(protocol, name) for name in _SHORT}


def command(*arguments: str | Path) -> list[str]:
    """The command line of ``nas ARGUMENTS`` with short rounds."""
    return [sys.executable, "-m", _MODULE, *map(str, arguments)]


def environment() -> dict[str, str]:
    """The environment in which `command` runs, from any folder.

    Read when it is needed: once this process has started a cluster of its own, Ray (2.60 and later) switches it to tokens,
    and so the clusters that it starts later; a command that joins one of those has to know.
    """
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_WAIT_POLICY": "passive"}


def take_short_rounds(patched: pytest.MonkeyPatch) -> None:
    """Lets this process's profilers measure in few short rounds."""
    for name, value in _SHORT.items():
        patched.setattr(protocol, name, value)
    for name, value in _SHORT_ENERGY.items():
        patched.setattr(energy, name, value)


def take_true_rounds(patched: pytest.MonkeyPatch) -> None:
    """Lets this process's profilers run as often as they do for users."""
    for name, value in _TRUE_ROUNDS.items():
        patched.setattr(protocol, name, value)


def drive_alike(patched: pytest.MonkeyPatch) -> None:
    """Lets this process, a server, start drivers with short rounds, too."""
    from nas.service.jobs import dispatcher

    true = dispatcher.driver_command
    patched.setattr(
        dispatcher, "driver_command", lambda *given: [_MODULE if word == "nas.cli" else word for word in true(*given)]
    )


if __name__ == "__main__":
    from nas.cli import main

    take_short_rounds(pytest.MonkeyPatch())
    pytest.MonkeyPatch().setattr(run_state, "_PAUSES_S", (2.0,))  # between a server's tries to reach a board
    if sys.argv[1:2] == ["serve"]:
        drive_alike(pytest.MonkeyPatch())
    main()
