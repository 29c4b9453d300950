"""Server-sent events are parsed as the HTML standard's own examples say, however the stream is cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.client.events import MAX_BYTES, Event, parse_events
from nas.errors import ServiceError


def parsed(*chunks: bytes) -> list[tuple[str, str, str]]:
    return [(e.data, e.kind, e.id) for e in parse_events(chunks)]


# The examples of https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("YHOO\n+2\n10", "message", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
            [("first event", "message", "1"), ("second event", "message", "")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("", "message", ""), ("\n", "message", "")]),
        (b"data:test\n\ndata: test\n\n", [("test", "message", ""), ("test", "message", "")]),
        (
            b"event: add\ndata: 73857293\n\nevent: remove\n\ndata: x\n\n",
            [("73857293", "add", ""), ("x", "message", "")],
        ),
        (b"id: 7\ndata: a\n\ndata: b\n\n", [("a", "message", "7"), ("b", "message", "7")]),
        (b"id: a\0b\ndata: a\n\n", [("a", "message", "")]),
    ],
)
def test_examples_of_the_standard(stream: bytes, events: list[tuple[str, str, str]]) -> None:
    assert parsed(stream) == events
    assert parsed(stream.replace(b"\n", b"\r\n")) == events
    assert parsed(stream.replace(b"\n", b"\r")) == events


@given(st.lists(st.text(max_size=20), max_size=5), st.data(), st.sampled_from(["\n", "\r\n", "\r"]))
def test_no_cut_changes_what_is_read(texts: list[str], data: st.DataObject, end: str) -> None:
    values = [json.dumps(text, ensure_ascii=False) for text in texts]  # holds U+2028 and the like as they are
    whole = "".join(f"data: {value}{end}{end}" for value in values).encode(errors="replace")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert [e.data for e in parse_events(chunks)] == [v.encode(errors="replace").decode() for v in values]


def test_the_time_to_wait_before_another_connection() -> None:
    assert list(parse_events([b"retry: 250\ndata: a\n\nretry: soon\ndata: b\n\n"])) == [
        Event("a", "message", "", 250),
        Event("b", "message", "", 250),
    ]


@pytest.mark.parametrize("endless", [b"x" * 65536, b"data: " + b"x" * 65530 + b"\n"], ids=["line", "event"])
def test_what_never_ends_is_refused(endless: bytes) -> None:
    with pytest.raises(ServiceError, match="expected the progress of a run"):
        list(parse_events(endless for _ in range(2 + MAX_BYTES // 65536)))
