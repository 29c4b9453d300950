"""The reference page of the command line, from the Typer application."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from docs.generators.markdown import code, sentence, table
from nas.cli.commands import app

_HEAD = """\
# Command line

Every command has `--help`. `--json` prints data on stdout; progress and errors are text on stderr. Exit codes: 0 success, 1 an
error (explained in one or two lines), 2 wrong usage, 130 Ctrl-C.

"""


def command_line_page() -> str:
    """All commands that are not hidden, in the groups and the order of `nas --help`."""
    groups: dict[str, list[str]] = {}
    whole: Any = typer.main.get_command(app)
    for name in whole.list_commands(typer.Context(whole)):
        command = whole.commands[name]
        if not command.hidden:
            panel = getattr(command, "rich_help_panel", None)
            groups.setdefault(panel if isinstance(panel, str) else "", []).extend(_sections(f"nas {name}", command))
    return _HEAD + "\n".join(
        (f"## {panel}\n\n" if panel else "") + "\n".join(sections) for panel, sections in groups.items()
    )


def _sections(name: str, command: Any) -> Iterator[str]:
    """The section of a command, then those of its subcommands."""
    parameters = [p for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option"]
    below = {key: sub for key, sub in getattr(command, "commands", {}).items() if not sub.hidden}
    words = [name, "[OPTIONS]", *(["COMMAND"] if below else []), *(_word(p) for p in arguments)]
    parts = [f"### {code(name)}\n", _help(command.help or ""), f"```text\n{' '.join(words)}\n```\n"]
    if arguments:
        parts.append(table(["argument", "meaning"], [[code(_metavar(p)), _meaning(p)] for p in arguments]))
    if options:
        parts.append(table(["option", "meaning", "default"], [[_names(p), _meaning(p), _default(p)] for p in options]))
    if command.epilog:
        parts.append(_help(command.epilog))
    yield "\n".join(parts)
    for key, sub in below.items():
        yield from _sections(f"{name} {key}", sub)


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _word(argument: Any) -> str:
    """An argument in the usage line; brackets mark one that may be left out."""
    word = _metavar(argument) + ("..." if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def _help(text: str) -> str:
    """A help text; its examples of commands become blocks of code."""
    made: list[str] = []
    for line in text.replace("\b", "").splitlines():
        example = re.match(r"(?:(\w+): )?\$? ?(nas .*)", line.strip())
        made.append(line.strip() if example is None else f"\n{_colon(example[1])}\n\n```text\n{example[2]}\n```\n")
    return "\n".join(made) + "\n"


def _colon(word: str | None) -> str:
    return f"{word}:" if word else ""


def _meaning(parameter: Any) -> str:
    environment = f" Environment variable {code(parameter.envvar)}." if parameter.envvar else ""
    return sentence(getattr(parameter, "help", None) or "") + environment


def _names(parameter: Any) -> str:
    return ", ".join(map(code, [*parameter.opts, *parameter.secondary_opts]))


def _default(parameter: Any) -> str:
    value = parameter.default
    shown = value is None or value is False or callable(value) or value == () or parameter.required
    return "" if shown else code(" ".join(map(str, value)) if isinstance(value, tuple | list) else value)
