"""What a page is made of, read by a parser of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

_VOID = frozenset({"input", "link", "meta", "br", "img"})


@dataclass
class Element:
    """A tag with its attributes, and all text inside it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class _Reader(HTMLParser):
    found: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.found.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


@dataclass(frozen=True)
class Outline:
    """A page's elements in their order."""

    elements: list[Element]

    @classmethod
    def of(cls, html: str) -> Outline:
        reader = _Reader()
        reader.feed(html)
        return cls(reader.found)

    def all(self, tag: str, **attributes: Any) -> list[Element]:
        """Elements of a tag with these attributes (``class_`` for class, ``_`` for a dash)."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [e for e in self.elements if e.tag == tag and all(e.attributes.get(k) == v for k, v in wanted.items())]

    def texts(self, tag: str, **attributes: Any) -> list[str]:
        """Their texts, blanks joined."""
        return [" ".join(e.text.split()) for e in self.all(tag, **attributes)]
