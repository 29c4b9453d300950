"""Changes of single values in the text of a job file; everything else stays, comments included."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node

from nas.errors import JobError
from nas.jobs.schema.search import SearchConfig
from nas.jobs.schema.search_job import WHAT, SearchJob
from nas.jobs.schema.strict_yaml import PARSER, dump_inline, parse_mapping
from nas.jobs.schema.training import TrainingConfig

Path = tuple[str, ...]
"""The keys from the root of a job to a value, e.g. ``("search", "evaluations")``."""

_ORDERS: Mapping[Path, Sequence[str]] = {
    (): list(SearchJob.model_fields),
    ("training",): list(TrainingConfig.model_fields),
    ("search",): list(SearchConfig.model_fields),
}
"""A new key is inserted where this order puts it; at the end of other sections."""


def edit_job(text: str, changes: Mapping[Path, Any], *, source: str) -> str:
    """The text of a job with other values at some paths; None removes a key, and the sections that it leaves empty.

    The result is YAML; whether it describes a job is not checked.

    Raises:
        JobError: the text is not YAML, a path leads through a value that is no section, or its value is part of an alias.
    """
    for path, value in changes.items():
        expected = _replace_value(parse_mapping(text, source=source, noun=WHAT), path, value, source=source)
        text = _edited_once(text, path, value)
        try:
            content: Any = parse_mapping(text, source=source, noun=WHAT)
        except JobError:
            content = None
        if content != expected:
            key = ".".join(path)
            raise JobError(
                f"{source}: {key}: this part of the job is written in a way that only its author can change; edit the text",
                code="job.not-editable",
                fields=[(key, "edit it in the text")],
            )
    return text


def _replace_value(data: dict[str, Any], path: Path, value: Any, *, source: str) -> dict[str, Any]:
    """The content of a job with one value changed, without empty sections on its path."""
    name, *remaining = path
    if not remaining:
        return {k: v for k, v in data.items() if k != name} if value is None else {**data, name: value}
    section = {} if data.get(name) is None else data[name]
    if not isinstance(section, dict):
        text = f"{source}: {name}: expected a section of keys, got {str(section)[:60]!r}; edit the text"
        raise JobError(text, code="job.not-editable", fields=[(name, "expected a section of keys")])
    changed = _replace_value(section, tuple(remaining), value, source=source)
    if not changed and value is None:
        return {k: v for k, v in data.items() if k != name}
    return {**data, name: changed}


def _edited_once(text: str, path: Path, value: Any) -> str:
    """The text with one change; it was parsed before, so that it is YAML and within the limits."""
    root = yaml.compose(text, Loader=PARSER)  # for the positions of its values
    assert isinstance(root, MappingNode)
    node, at = root, 0
    sections = [node]  # from the root to the section of the last key that exists
    while at < len(path) - 1:
        child = _value_of(node, path[at])
        if not isinstance(child, MappingNode):
            break
        node, at = child, at + 1
        sections.append(node)
    if value is None:
        return _removed(text, sections, path) if at == len(path) - 1 else text
    for name in reversed(path[at + 1 :]):
        value = {name: value}
    return _set(text, node, path[:at], path[at], value)


def _set(text: str, section: MappingNode, where: Path, name: str, value: Any) -> str:
    """The text with a key's value replaced, or with a new key."""
    new = dump_inline(value)
    child = _value_of(section, name)
    if child is not None:
        start, end = child.start_mark.index, _end(child, text)
        if end <= start:  # nothing but `key:`
            return f"{text[:start]} {new}{text[start:]}"
        longer = 0 if "\n" in text[start:end] else len(new) - (end - start)
        return text[:start] + new + _aligned(text[end:], longer)
    pairs = section.value
    before = [key for key, _ in pairs if _rank(where, key.value) <= _rank(where, name)]
    after = before[-1] if before else None
    if section.flow_style:
        if not pairs:
            return f"{text[: section.start_mark.index]}{{{name}: {new}}}{text[section.end_mark.index :]}"
        if after is None:
            at = pairs[0][0].start_mark.index
            return f"{text[:at]}{name}: {new}, {text[at:]}"
        at = _end(_value_of(section, after.value), text)
        return f"{text[:at]}, {name}: {new}{text[at:]}"
    column = pairs[0][0].start_mark.column if pairs else 0
    line = f"{' ' * column}{name}: {new}\n"
    if after is None:
        at = pairs[0][0].start_mark.index - column
        return text[:at] + line + text[at:]
    at = _next_line(text, _end(_value_of(section, after.value), text), column)
    return text[:at] + ("" if text[:at].endswith("\n") else "\n") + line + text[at:]


def _removed(text: str, sections: Sequence[MappingNode], path: Path) -> str:
    """The text without a key, and without the sections that would be empty then."""
    depth = len(path) - 1
    while depth > 0 and len(sections[depth].value) == 1:
        depth -= 1
    section, name = sections[depth], path[depth]
    child = _value_of(section, name)
    if child is None:
        return text
    place = next(i for i, (key, _) in enumerate(section.value) if key.value == name)
    key, end = section.value[place][0], _end(child, text)
    if not section.flow_style:
        start = key.start_mark.index - key.start_mark.column
        return text[:start] + text[_next_line(text, end, key.start_mark.column) :]
    if place > 0:
        return text[: _end(section.value[place - 1][1], text)] + text[end:]
    following = section.value[1][0].start_mark.index if len(section.value) > 1 else end
    return text[: key.start_mark.index] + text[following:]


def _value_of(section: MappingNode, name: str) -> Node | None:
    return next((value for key, value in section.value if key.value == name), None)


def _end(node: Node | None, text: str) -> int:
    """The index after a value's last character: the mark of a block is after the comments that follow it."""
    assert node is not None
    if not isinstance(node, CollectionNode) or node.flow_style:
        start, end = node.start_mark.index, node.end_mark.index
        return start + len(text[start:end].rstrip())
    last = node.value[-1]
    return _end(last[1] if isinstance(node, MappingNode) else last, text)


def _next_line(text: str, at: int, column: int) -> int:
    """The index of the line after the one at an index, and after the comment lines that continue its comment."""
    lines = text[at:].splitlines(keepends=True)
    n = 1
    while n < len(lines) and re.match(rf" {{{column + 1},}}#", lines[n]):
        n += 1
    return at + len("".join(lines[:n]))


def _aligned(line_end: str, longer: int) -> str:
    """The end of a line whose value has become longer by some characters, its comment in the same column if it fits."""
    comment = re.match(r"( {2,})#", line_end)
    return line_end if comment is None else " " * max(2, len(comment[1]) - longer) + line_end[len(comment[1]) :]


def _rank(where: Path, name: str) -> int:
    order = _ORDERS.get(where, ())
    return order.index(name) if name in order else len(order)
