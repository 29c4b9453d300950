"""``nas`` as the pages' tests run it: with short rounds, and without Ray unless the page starts it."""

from __future__ import annotations

import os
import sys

import pytest

from nas.cli import main
from tests.nas import short_rounds

_WITH_RAY = ("plan", "search", "resume", "finetune")
RAY = "NAS_DOCS_RAY"
"""The environment variable that leaves Ray to the commands."""


def arguments(given: list[str]) -> list[str]:
    """The arguments, with ``--inline`` for a command that would start Ray."""
    starts = bool(given) and given[0] in _WITH_RAY and not {"--inline", "--address", "--help"} & {*given}
    return [*given, "--inline"] if starts and not os.environ.get(RAY) else given


if __name__ == "__main__":
    short_rounds.take_short_rounds(pytest.MonkeyPatch())
    if sys.argv[1:2] == ["serve"]:
        short_rounds.drive_alike(pytest.MonkeyPatch())
    sys.argv[1:] = arguments(sys.argv[1:])
    main()
