"""The help of the commands: their groups, their width and their examples."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from nas.cli.commands import app
from nas.cli.panels import PANELS
from tests.nas.commands import Shell

_PREFIX = "Example: "
_WIDTH = 80


def _visible(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and all below it, with the words that call them; the hidden ones are left out."""
    if command.hidden:
        return
    yield path, command
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from _visible(below, (*path, name))


COMMANDS = dict(_visible(get_command(app)))


def _parsed(words: list[str]) -> list[str]:
    """The names of the command that the parser finds in the words after ``nas``, whose options and arguments it takes."""
    command: Any = get_command(app)
    found: list[str] = []
    context = command.make_context("nas", words)
    while isinstance(command, TyperGroup) and (left := [*context._protected_args, *context.args]):
        name, command, rest = command.resolve_command(context, left)
        assert command is not None
        context = command.make_context(name, rest, parent=context)
        found.append(str(name))
    return found


def test_every_command_is_in_a_group() -> None:
    assert sorted(name for names in PANELS.values() for name in names) == sorted(
        path[0] for path in COMMANDS if len(path) == 1
    )


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_flags_are_shown_without_a_type(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"]).output
    assert "--help" in shown
    assert "bool" not in shown


def test_the_option_of_a_server_states_where_the_environment_is_ignored() -> None:
    options = [parameter for command in COMMANDS.values() for parameter in command.params if parameter.name == "server"]
    assert len(options) > 20
    for option in options:
        assert (option.envvar == "NAS_SERVER") != ("NAS_SERVER is ignored here" in option.help), option.help


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_help_text_ends_with_an_example_that_the_parser_takes(path: tuple[str, ...]) -> None:
    example = str(COMMANDS[path].epilog)
    assert example.startswith(_PREFIX)
    found = []
    for command in example.removeprefix(_PREFIX).split(" && "):
        nas, *words = shlex.split(command.partition(" > ")[0])
        assert nas == "nas"
        found.append(_parsed(words))
    assert any(names[: len(path)] == [*path] for names in found), f"{found} calls another command than {path}"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_help_text_fits_a_narrow_terminal(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", str(_WIDTH))
    answer = shell.nas(*path, "--help")
    assert answer.code == 0, answer
    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= _WIDTH
    assert COMMANDS[path].epilog in map(str.strip, lines)


def test_the_list_of_commands_has_a_line_for_each_in_the_order_of_use(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(_WIDTH))
    lines = shell.nas("--help").out.splitlines()
    first_words = [line.strip("╭─│╮ ").partition(" ")[0] for line in lines]
    start = first_words.index(next(iter(PANELS)))
    expected = [word for panel, names in PANELS.items() for word in (panel, *names)]
    assert [word for word in first_words[start:] if not word.startswith("╰")][: len(expected)] == expected
