"""Reads small hand-written YAML files: plain data only, bounded in size, nothing ambiguous."""

from __future__ import annotations

import re
from collections import deque
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, Event, NodeEvent, ScalarEvent
from yaml.nodes import MappingNode, Node, ScalarNode
from yaml.reader import Reader
from yaml.resolver import Resolver

from nas.errors import JobError

_unreadable = partial(JobError, code="job.unreadable")
_invalid = partial(JobError, code="job.invalid-yaml")

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NODES = 20_000
"""Scalars, lists and mappings of a document: as written, and with its aliases expanded, which an "alias bomb" multiplies."""

_MAP, _STR, _MERGE = "tag:yaml.org,2002:map", "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
# YAML 1.2's numbers. YAML 1.1, which PyYAML follows, takes 1e-3 for text, 010 for 8, 1:30 for 90.
_NUMBERS = (
    (_INT, re.compile(r"[-+]?[0-9]{1,18}\Z"), list("-+0123456789")),
    (_FLOAT, re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z"), list("-+.0123456789")),
    (_FLOAT, re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z"), list("-+.")),
)
_PLAIN_TAGS = {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:null", _MERGE}


PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser of libyaml; in builds of PyYAML that lack it, that of PyYAML, which is slower and accepts the same texts."""


class _Refused(yaml.MarkedYAMLError):
    """A feature of YAML that these files do not allow."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(Composer, SafeConstructor, Resolver):
    """Builds plain data from a document's events; rejects duplicate keys, and keys that are not text."""

    def __init__(self, events: deque[Event]) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._events = events
        self._sizes: dict[int, int] = {}

    def check_event(self, *kinds: type[Event]) -> bool:
        """True if the next event is of one of the kinds."""
        return isinstance(self._events[0], kinds)

    def peek_event(self) -> Event:
        """The next event."""
        return self._events[0]

    def get_event(self) -> Event:
        """The next event, which is removed."""
        return self._events.popleft()

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event, node = self.peek_event(), super().compose_node(parent, index)
        if node is None:
            return None
        if isinstance(event, AliasEvent):
            if id(node) not in self._sizes:
                raise _Refused(f"'*{event.anchor}' contains itself", event.start_mark)
            return node
        _check_keys(node)
        size = 1 + sum(self._sizes[id(child)] for child in _children(node))
        if size > MAX_NODES:
            raise _Refused(f"more than {MAX_NODES} values with the aliases expanded", node.start_mark)
        self._sizes[id(node)] = size
        return node

    def construct_number(self, node: ScalarNode) -> int | float:
        """A whole number or a float by YAML 1.2's rules (never octal, never sexagesimal)."""
        text = str(node.value)
        if node.tag == _INT:
            return int(text)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Quotes every text that this loader or a YAML 1.1 loader would read as another type; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _PLAIN_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in _NUMBERS:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)
for _tag in (_INT, _FLOAT):
    _Loader.add_constructor(_tag, _Loader.construct_number)  # type: ignore[type-var]


def _events(text: str) -> deque[Event]:
    """The parser's events of a document without tags, which is neither too deep nor too large.

    Checked before anything is built of them, so that a text of 256 KiB takes no longer than a document of the largest size.
    """
    events: deque[Event] = deque()
    n = depth = 0
    for event in yaml.parse(text, Loader=PARSER):
        events.append(event)
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        n += isinstance(event, NodeEvent)
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            raise _Refused(f"the tag {event.tag!r} is not allowed; remove it", event.start_mark)
        if depth > MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        if n > MAX_NODES:
            raise _Refused(f"more than {MAX_NODES} values", event.start_mark)
    return events


def _children(node: Node) -> list[Node]:
    if isinstance(node, ScalarNode):
        return []
    if isinstance(node, MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value)


def _check_keys(node: Node) -> None:
    """Raises `_Refused` for a mapping with a duplicate key, or with a key that is not text."""
    if not isinstance(node, MappingNode):
        return
    line_by_key: dict[str, int] = {}
    for key, _ in node.value:
        if key.tag not in (_STR, _MERGE):
            if isinstance(key, ScalarNode):
                kind = key.tag.rpartition(":")[2]
                text = (
                    f"the key {key.value} is of YAML's type {kind}; where it is meant as text, quote it: {key.value!r}"
                )
                raise _Refused(text, key.start_mark)
            raise _Refused("expected a key that is text, got a list or a mapping", key.start_mark)
        if key.value in line_by_key:
            raise _Refused(
                f"the key {key.value!r} occurs twice (also in line {line_by_key[key.value]})", key.start_mark
            )
        line_by_key[key.value] = key.start_mark.line + 1


def read_text(path: Path, *, noun: str) -> str:
    """The text of a small UTF-8 file; `noun` names its kind in errors, e.g. ``job file``.

    Raises:
        JobError: there is no such file, or it is a folder, unreadable, too large or not UTF-8.
    """
    try:
        if path == Path():
            raise _unreadable(f"an empty path; expected the path of a {noun} (YAML)")
        if path.is_dir():
            raise _unreadable(f"{path}: is a folder; expected a {noun} (YAML)")
        if path.exists() and not path.is_file():  # a pipe or a device could block, or never end
            raise _unreadable(f"{path}: is no regular file; expected a {noun} (YAML)")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = get_close_matches(path.name, [file.name for file in path.parent.glob("*.yaml")], n=1, cutoff=0.5)
        ask = f"; did you mean {path.with_name(near[0])}?" if near else ""
        raise _unreadable(f"{path}: no such file; expected the path of a {noun} (YAML){ask}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(f"{str(path)!r}: cannot be read: {reason}") from None
    if len(raw) > MAX_BYTES:
        raise _unreadable(f"{path}: larger than {MAX_BYTES // 1024} KiB; expected a {noun}; check the path")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _unreadable(f"{path}: line {line} is not UTF-8 text; save the {noun} as UTF-8") from None


def parse_mapping(text: str, *, source: str, noun: str) -> dict[str, Any]:
    """The mapping that a YAML text holds; errors name its `source`, usually a path, and its kind (`noun`), e.g. ``job file``.

    Raises:
        JobError: the text is not YAML, is no mapping, has a duplicate key, or exceeds the bounds of this module.
    """
    # Both come before the parser, which needs seconds for a text of many MiB.
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise _invalid(f"{source}: larger than {MAX_BYTES // 1024} KiB; expected a {noun}")
    if (wrong := Reader.NON_PRINTABLE.search(text)) is not None:
        line = text.count("\n", 0, wrong.start()) + 1
        raise _invalid(f"{source}: line {line}: is not valid YAML: a character that no text file holds")
    try:
        data = _Loader(_events(text)).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        kind = "" if isinstance(error, _Refused) else "is not valid YAML: "
        raise _invalid(f"{source}: {where}{kind}{problem}") from None
    if not isinstance(data, dict):
        came = "nothing" if data is None else {list: "a list"}.get(type(data), "a single value")
        raise _invalid(f"{source}: expected a {noun} (lines of 'key: value'), got {came}")
    return data


def dump_mapping(data: dict[str, Any]) -> str:
    """YAML text that `parse_mapping` reads back, equal and in the same order.

    ASCII throughout: PyYAML writes some Unicode line breaks bare and folds them when it reads them back.
    """
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=False, default_flow_style=None, width=110)


def dump_inline(value: Any) -> str:
    """YAML text of a value on one line, for a place inside of a file."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=False, default_flow_style=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
