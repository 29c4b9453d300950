"""Errors of libraries name neither commands nor options: each door (command line, server, Python) renders their remedy."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from nas.cli.commands import app

ROOT = Path(__file__).parents[1]
PACKAGES = ("nas", "supernets", "predictors", "hardware_profiles")
DOORS = ("nas/cli/", "nas/service/", "nas/results/export/scripts/")  # the scripts are programs of their own
_COMMANDS = "|".join(sorted(typer.main.get_command(app).commands))  # type: ignore[attr-defined]  # a group's
_NAMES_COMMAND = re.compile(rf"\bnas (?:{_COMMANDS})\b")
_NAMES_OPTION = re.compile(r"(?<![\w\"-])--[a-z]")  # after a double quote it is a variable of CSS
_OF_OTHER_PROGRAMS = re.compile(r"`ray (?:start|status)[^`]*|`--gpus all`|`--unsafely-treat[^`]*`")
"""Commands of Ray, an option of Docker, and one of Chrome."""


def _strings_outside_docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every string that a module evaluates; the parts of an f-string are one."""
    expressions = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in node.values}
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
            yield node.lineno, text
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts | expressions:
            yield node.lineno, node.value


def _names_of_the_command_line(source: str) -> list[str]:
    """The strings of a module, with their lines, that name a command or an option; templates of whole files do not count."""
    named = []
    for line, text in _strings_outside_docstrings(ast.parse(source)):
        rest = _OF_OTHER_PROGRAMS.sub("", text)
        if "\n" not in text.strip() and (_NAMES_COMMAND.search(rest) or _NAMES_OPTION.search(rest)):
            named.append(f"{line}: {text}")
    return named


@pytest.mark.parametrize("package", PACKAGES)
def test_no_library_names_a_command_or_an_option(package: str) -> None:
    modules = {path: str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
    named = {
        name: lines
        for path, name in modules.items()
        if not name.startswith(DOORS) and (lines := _names_of_the_command_line(path.read_text(encoding="utf-8")))
    }
    assert modules
    assert named == {}


@pytest.mark.parametrize(
    ("source", "n_named"),
    [
        ("raise E(f'run {run}: continue it with `nas resume {run}`')", 1),
        ("problem = '--select ' + text", 1),
        ("raise E('resume the run')", 0),
        ("raise E('add a node (`ray start --address=HEAD`)')", 0),
        ('def f():\n    "What `nas show --json` prints."', 0),
    ],
)
def test_the_scan_sees_commands_and_options(source: str, n_named: int) -> None:
    assert len(_names_of_the_command_line(source)) == n_named
