"""The server's log: what is throttled, and what is not."""

from __future__ import annotations

import logging

from nas.service.http.logs import JsonLines, Throttle
from tests.nas.service.http.test_access import Clock


def record(level: int, *, line: int = 1, text: str = "no more files") -> logging.LogRecord:
    return logging.LogRecord("asyncio", level, "/asyncio.py", line, text, (), None)


def test_warnings_of_one_place_are_limited_and_the_omitted_ones_counted() -> None:
    clock = Clock()
    throttle = Throttle(max_per_minute=3, clock=clock)
    kept = [throttle.filter(record(logging.ERROR, text=f"client {i}")) for i in range(100)]
    assert kept == [True] * 3 + [False] * 97
    assert throttle.filter(record(logging.ERROR, line=2))
    clock.now += 60
    first, second = record(logging.ERROR), record(logging.ERROR)
    assert throttle.filter(first)
    assert throttle.filter(second)
    assert '"omitted": 97' in JsonLines().format(first)
    assert "omitted" not in JsonLines().format(second)


def test_requests_are_all_logged() -> None:
    throttle = Throttle(max_per_minute=3, clock=Clock())
    assert all(throttle.filter(record(logging.INFO)) for _ in range(100))
