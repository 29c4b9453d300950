"""Finds commands of ``nas`` in texts, and checks them against the command line."""

from __future__ import annotations

import re
import shlex
from typing import Any

import typer

from nas.cli.commands import app
from tests.docs.blocks import Page

_INLINE = re.compile(r"`nas ([a-z][^`]*)`")
_IN_BLOCK = re.compile(r"""(?:^|[\s/(])nas ([a-z](?:"[^"]*"|'[^']*'|[^#&|;>\n)"'])*)""")


def commands_of(page: Page) -> list[str]:
    """The commands of its blocks, and those in its text, each from the word after ``nas``."""
    text = page.path.read_text(encoding="utf-8")
    found = _INLINE.findall(text)
    for block in page.blocks:
        if block.language == "bash":
            joined = block.text.replace("\\\n", " ")
            found += _IN_BLOCK.findall(joined)
    return [command.strip() for command in found]


def problem_of(command: str) -> str:
    """What is wrong with a command; "" where it and its options exist."""
    words = shlex.split(command)
    known: Any = typer.main.get_command(app)
    while getattr(known, "commands", None):
        if not words or not re.fullmatch(r"[a-z-]+", words[0]):
            return ""  # a group, named in a text
        if words[0] not in known.commands:
            return f"there is no command nas {command}"
        known = known.commands[words.pop(0)]
    options = {name for parameter in known.params for name in [*parameter.opts, *parameter.secondary_opts]} | {"--help"}
    unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in options]
    return f"nas {command}: there is no option {unknown[0]}" if unknown else ""
