"""Hostile browsers: every malformed message is refused, and changes nothing for the device that measures."""

from __future__ import annotations

from http.client import HTTPConnection
from typing import Any

import pytest

from hardware_profiles.base import HardwareProfile
from hardware_profiles.errors import ConnectionLostError
from hardware_profiles.transports.browser.connection import BrowserConnection
from hardware_profiles.transports.browser.server import BrowserServer
from tests.hardware_profiles.transports.browser.visitor import DEVICE, Visitor

ROUND = {"event": "round", "entries": {"0": {"wall_ms": [1.0, 2.0, 1.5]}, "1": {"wall_ms": [3.0, 3.0, 3.0]}}}


def _with_times(*times: Any) -> dict[str, Any]:
    return {"event": "round", "entries": {**ROUND["entries"], "0": {"wall_ms": list(times)}}}  # type: ignore[dict-item]


def _raw(answer: str) -> bytes:
    return f'{{"visit": 1, "command": NUMBER, "answer": {answer}}}'.encode()


ANSWERS: dict[str, Any] = {
    "negative": _with_times(1.0, -1.0, 1.0),
    "zero": _with_times(1.0, 0, 1.0),
    "huge": _with_times(1.0, 1e300, 1.0),
    "integer-of-a-thousand-digits": _with_times(1.0, 10**1000, 1.0),
    "text": _with_times(1.0, "1.0", 1.0),
    "boolean": _with_times(1.0, True, 1.0),
    "null": _with_times(1.0, None, 1.0),
    "list-in-list": _with_times(1.0, [1.0], 1.0),
    "too-few-times": _with_times(1.0, 1.0),
    "too-many-times": _with_times(*[1.0] * 4),
    "a-hundred-thousand-times": _with_times(*[1.0] * 100_000),
    "times-are-text": {"event": "round", "entries": {**ROUND["entries"], "0": {"wall_ms": "111"}}},  # type: ignore[dict-item]
    "times-are-missing": {"event": "round", "entries": {**ROUND["entries"], "0": {}}},  # type: ignore[dict-item]
    "more-than-times": {"event": "round", "entries": {**ROUND["entries"], "0": {"wall_ms": [1.0] * 3, "x": 1}}},  # type: ignore[dict-item]
    "entry-is-missing": {"event": "round", "entries": {"0": {"wall_ms": [1.0] * 3}}},
    "unknown-entry": {"event": "round", "entries": {**ROUND["entries"], "7": {"wall_ms": [1.0] * 3}}},  # type: ignore[dict-item]
    "entries-are-a-list": {"event": "round", "entries": [[1.0] * 3]},
    "empty-message": {"event": "round", "entries": {**ROUND["entries"], "0": {"message": ""}}},  # type: ignore[dict-item]
    "long-message": {"event": "failed", "message": "x" * 401},
    "message-of-control-characters": {"event": "failed", "message": "\x1b[2J"},
    "message-is-a-number": {"event": "failed", "message": 1},
    "another-event": {"event": "loaded", "warm_ms": 1.0, "session_ms": [1.0, 1.0]},
    "unknown-event": {**ROUND, "event": "acquired"},
    "event-is-missing": {"entries": ROUND["entries"]},
    "further-key": {**ROUND, "environment": {}},
    "empty": {},
    "no-mapping": [ROUND],
    "only-null": None,
    "nan": _raw('{"event": "round", "entries": {"0": {"wall_ms": [NaN, 1, 1]}, "1": {"wall_ms": [1, 1, 1]}}}'),
    "infinity": _raw('{"event": "round", "entries": {"0": {"wall_ms": [1e999, 1, 1]}, "1": {"wall_ms": [1, 1, 1]}}}'),
    "deep": _raw("[" * 100_000 + "]" * 100_000),
    "not-json": _raw("{"),
    "not-utf-8": b'{"visit": 1, "command": 1, "answer": "\xff"}',
    "too-large": _raw('"' + "x" * 2**20 + '"'),
}
"""Answers to a round of two entries with three runs each."""
UNREADABLE = ("nan", "deep", "not-json", "not-utf-8", "too-large")
"""Answers that are no JSON, or too large."""
REQUESTS: dict[str, tuple[str, Any, dict[str, str], int]] = {
    "replayed-command": ("/answer", {"visit": 1, "command": 1, "answer": ROUND}, {}, 409),
    "future-command": ("/answer", {"visit": 1, "command": 99, "answer": ROUND}, {}, 409),
    "fractional-command": ("/answer", {"visit": 1, "command": 2.0, "answer": ROUND}, {}, 400),
    "former-visit": ("/answer", {"visit": 7, "command": 2, "answer": ROUND}, {}, 410),
    "visit-0": ("/command", {"visit": 0}, {}, 400),
    "wrong-token": (
        "/answer",
        {"visit": 1, "command": 2, "answer": ROUND},
        {"Authorization": "Bearer " + "x" * 43},
        403,
    ),
    "no-token": ("/command", {"visit": 1}, {"Authorization": "None"}, 403),
    "another-site": ("/beat", {"visit": 1, "visible": True, "left": True}, {"Origin": "https://example.org"}, 403),
    "visible-is-a-number": ("/beat", {"visit": 1, "visible": 0, "left": False}, {}, 400),
    "unknown-path": ("/start", {}, {}, 404),
    "wrong-code": ("/join", {"device": DEVICE, "code": "AAAAAAAA"}, {}, 403),
    "long-code": ("/join", {"device": DEVICE, "code": "A" * 1000}, {}, 400),
    "no-cores": ("/join", {"device": DEVICE | {"cores": 0}, "code": ""}, {}, 400),
    "key-of-one-letter": ("/join", {"device": DEVICE | {"key": "a"}, "code": ""}, {}, 400),
    "device-is-missing": ("/join", {"code": ""}, {}, 400),
}
"""Path, body, headers and expected status of requests beside a round whose command is the second."""


def begin_round(server: BrowserServer, name: str) -> tuple[BrowserConnection, Visitor]:
    """A connection whose page has a round to answer, its second command."""
    board, visitor = server.board(name), Visitor(server.address)
    assert visitor.join(code=board.new_code()).status_code == 200
    connection = BrowserConnection(board, HardwareProfile(name, browser=True, provider="wasm"))
    connection.send({"do": "start", "threads": 1, "provider": "wasm", "trivial": "00"})
    assert visitor.answer(visitor.command()["command"], {"event": "ready", "version": "1.31.1"}).status_code == 200
    assert connection.receive(seconds=1)["event"] == "ready"
    connection._n_repeats = {"0": 1, "1": 1}
    connection.send({"do": "round", "order": [("0", 3), ("1", 3)]})
    assert visitor.command()["order"] == [["0", 3, 1], ["1", 3, 1]]
    return connection, visitor


def test_malformed_answers_are_refused_and_never_measurements(server: BrowserServer) -> None:
    for name, answer in ANSWERS.items():
        connection, visitor = begin_round(server, name)
        if isinstance(answer, bytes):
            response = visitor.post("/answer", answer.replace(b"NUMBER", b"2"))
        else:
            response = visitor.answer(2, answer)
        assert response.status_code == (413 if name == "too-large" else 400), name
        if name not in UNREADABLE:
            with pytest.raises(ConnectionLostError, match="malformed answer"):
                connection.receive(seconds=1)
        else:  # the round is still to be answered
            assert visitor.answer(2, ROUND).status_code == 200, name
            assert connection.receive(seconds=1)["event"] == "round"


def test_hostile_requests_are_refused_and_the_round_goes_on(server: BrowserServer) -> None:
    for name, (path, body, headers, status) in REQUESTS.items():
        connection, visitor = begin_round(server, name)
        assert visitor.post(path, body, **headers).status_code == status, name
        assert visitor.answer(2, ROUND).status_code == 200
        times = connection.receive(seconds=1)["entries"]["0"]
        assert times == {"wall_ms": [1.0, 2.0, 1.5], "cpu_ms": [1.0, 2.0, 1.5], "switches": [0, 1, 0]}
        assert visitor.answer(2, ROUND).status_code == 409  # replayed


@pytest.mark.parametrize(("length", "status"), [("99999999999", 413), ("-1", 411), ("1e3", 411), ("9" * 5000, 411)])
def test_a_request_is_refused_by_its_length(server: BrowserServer, length: str, status: int) -> None:
    connection = HTTPConnection(server.address.partition("//")[2])
    connection.putrequest("POST", "/join")
    connection.putheader("Content-Length", length)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()
