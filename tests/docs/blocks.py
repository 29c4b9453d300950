"""Code blocks of a page in Markdown, with the comments that say how tests run them.

A comment, which readers do not see, directly before a block changes what is done with it:

- ``<!-- no-run: REASON -->``: the block is not executed;
- ``<!-- into: FILE -->``: the keys of a YAML block replace those of this job file, which later blocks then use.

A comment anywhere:

- ``<!-- needs: trained -->``: the page's folder has the finished run ``digits-cnn-1`` of the first tutorial;
- ``<!-- needs: ray -->``: the page starts Ray;
- ``<!-- before: COMMANDS -->``: commands of bash, which run in their place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^( *)(`{3,})(.*)$")
_TITLE = re.compile(r'title="([^"]+)"')
_COMMENT = re.compile(r"<!--\s*(?:(no-run|into|before|needs):\s*)?(.*?)-->", re.DOTALL)


class Use(StrEnum):
    """What tests do with a block."""

    EXECUTED = "executed"
    JOB_KEYS = "checked as keys of a job file"
    FILE = "written to the file that it shows"
    OUTPUT = "output of a command"
    NOT_RUN = "not executable"


@dataclass(frozen=True)
class Block:
    """A code block, or a hidden one of commands.

    Attributes:
        line: of its first line, from 1.
        title: the file that it shows; "" for none.
        into: the job file that its keys are written to; "" for none.
        reason: why it is not executed; "" for a block that is.
        hidden: whether readers do not see it.
    """

    page: Path
    line: int
    language: str
    text: str
    title: str = ""
    into: str = ""
    reason: str = ""
    hidden: bool = False

    @property
    def use(self) -> Use:
        if self.reason:
            return Use.NOT_RUN
        if self.title:
            return Use.FILE
        if self.language == "text":
            return Use.OUTPUT
        return Use.JOB_KEYS if self.language == "yaml" else Use.EXECUTED

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name}:{self.line}"


@dataclass(frozen=True)
class Page:
    """A page: its blocks in order, and what it needs (``trained``, ``ray``)."""

    path: Path
    blocks: tuple[Block, ...]
    needs: frozenset[str]

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path.name)


def pages() -> list[Page]:
    """The README, and all pages of the documentation that are written by hand."""
    return [read(path) for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]]


def read(path: Path) -> Page:
    """A page.

    Raises:
        ValueError: a block has no language or does not end, or a comment is before no block.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    blocks: list[Block] = []
    needs: set[str] = set()
    marks: dict[str, str] = {}
    i = 0
    while i < len(lines):
        if lines[i].lstrip().startswith("<!--"):
            end = next((j for j in range(i, len(lines)) if "-->" in lines[j]), len(lines) - 1)
            kind, text = _comment("\n".join(lines[i : end + 1]))
            if kind == "before":
                blocks.append(Block(path, i + 1, "bash", text, hidden=True))
            elif kind == "needs":
                needs.update(text.split())
            elif kind:
                marks[kind] = text
            i = end + 1
            continue
        if fence := _FENCE.match(lines[i]):
            indent, ticks, info = fence.groups()
            end = next((j for j in range(i + 1, len(lines)) if lines[j].strip() == ticks), 0)
            if not end or not info.strip():
                raise ValueError(f"{path.name}:{i + 1}: the block has no {'language' if end else 'end'}")
            text = "\n".join(line[len(indent) :] for line in lines[i + 1 : end]) + "\n"
            title = _TITLE.search(info)
            blocks.append(
                Block(
                    path, i + 1, info.split()[0], text, title=title[1] if title else "",
                    into=marks.pop("into", ""), reason=marks.pop("no-run", ""),
                )
            )  # fmt: skip
            i = end + 1
            continue
        if lines[i].strip() and marks:
            raise ValueError(f"{path.name}:{i + 1}: expected a block after the comment {marks}")
        i += 1
    return Page(path, tuple(blocks), frozenset(needs))


def _comment(text: str) -> tuple[str, str]:
    """The kind of a comment ("" for one to people) and its text."""
    found = _COMMENT.search(text)
    return (found[1] or "", found[2].strip()) if found else ("", "")
