"""Runs the Python blocks of a package's README, in order and in one namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.docs.blocks import ROOT, Use, read


def run_readme(package: str) -> dict[str, Any]:
    """The names that the blocks define; they run in the current folder."""
    names: dict[str, Any] = {}
    page = read(ROOT / package / "README.md")
    blocks = [block for block in page.blocks if block.language == "python" and block.use is Use.EXECUTED]
    assert blocks
    for block in blocks:
        # Padded, so that a traceback has the README's own line numbers.
        code = compile("\n" * block.line + block.text, str(Path(package, "README.md")), "exec")
        exec(code, names)
    return names
