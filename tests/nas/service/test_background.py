"""Rounds of work in a thread: woken, ended, and continued after failures."""

from __future__ import annotations

import logging
import threading

import pytest

from nas.errors import StoreError
from nas.service.background import BackgroundRounds


class Rounds(BackgroundRounds):
    """Rounds of which the third alone succeeds."""

    def __init__(self) -> None:
        super().__init__("counter", retry_s=0.01)
        self.n, self.enough = 0, threading.Event()

    def work(self) -> float:
        self.n += 1
        if self.n == 5:
            self.enough.set()
        if self.n == 3:
            return 0.01
        raise StoreError("no space left")


def test_rounds_that_fail_alike_are_logged_once_and_go_on(caplog: pytest.LogCaptureFixture) -> None:
    rounds = Rounds()
    with caplog.at_level(logging.ERROR):
        rounds.start()
        assert rounds.enough.wait(30)
        rounds.close()
    assert caplog.text.count("a round of the counter failed") == 2


def test_a_round_is_woken_and_none_begins_after_the_end() -> None:
    class Waiting(Rounds):
        def work(self) -> float:
            self.n += 1
            self.enough.set()
            return 3600.0

    rounds = Waiting()
    rounds.start()
    assert rounds.enough.wait(30)
    rounds.enough.clear()
    rounds.wake()
    assert rounds.enough.wait(30)
    rounds.close()
    rounds.close()
    rounds.wake()
    assert rounds.n == 2
