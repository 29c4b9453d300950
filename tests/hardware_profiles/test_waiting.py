"""Waits: how long, what is shown, and what is raised at their end."""

from __future__ import annotations

import time

import pytest

from hardware_profiles.waiting import Patience, time_of_day


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.pauses = time.time(), list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


def away(error: Exception) -> str:
    return str(error) if isinstance(error, ConnectionError) else ""


def test_an_attempt_is_repeated_until_it_succeeds() -> None:
    clock, texts, ends, errors = Clock(), list[str](), list[int](), [ConnectionError("no power")] * 6

    def attempt() -> str:
        if errors:
            raise errors.pop()
        return "measured"

    began = clock.now
    patience = Patience(
        "pi6", 10, on_wait=texts.append, on_wait_end=lambda: ends.append(len(texts)), clock=clock, sleep=clock.sleep
    )
    assert patience.repeat(attempt, away) == "measured"
    assert clock.pauses == [1, 2, 4, 8, 8, 8]
    assert texts == [f"waits for pi6 since {time_of_day(began)}, until {time_of_day(began + 600)} (no power)"]
    assert ends == [1]
    assert patience.repeat(attempt, away) == "measured"
    assert ends == [1]


def test_the_last_attempt_is_at_the_end_of_the_wait_and_its_error_has_the_wait() -> None:
    clock, ends = Clock(), list[str]()
    began = clock.now

    def fail() -> None:
        raise ConnectionError(f"after {clock.now - began:.0f} s")

    patience = Patience("pi6", 0.2, on_wait_end=lambda: ends.append("end"), clock=clock, sleep=clock.sleep)
    with pytest.raises(ConnectionError, match="after 12 s") as caught:
        patience.repeat(fail, away)
    assert clock.pauses == pytest.approx([1, 2, 4, 5])
    wait = caught.value.wait  # type: ignore[attr-defined]
    assert (wait.subject, wait.since, wait.until, wait.reason) == ("pi6", began, began + 12, "after 0 s")
    assert ends == ["end"]


@pytest.mark.parametrize(("minutes", "error"), [(0, ConnectionError("no power")), (10, ValueError("no python"))])
def test_an_error_is_raised_at_once_without_patience_and_where_waiting_does_not_mend_it(
    minutes: float, error: Exception
) -> None:
    clock, texts = Clock(), list[str]()

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        Patience("pi6", minutes, on_wait=texts.append, clock=clock, sleep=clock.sleep).repeat(fail, away)
    assert (clock.pauses, texts) == ([], [])


def test_a_time_of_another_day_has_its_date() -> None:
    now = time.time()
    assert time_of_day(now) == time.strftime("%H:%M", time.localtime(now))
    assert time_of_day(now - 3 * 86400) == time.strftime("%b %d %H:%M", time.localtime(now - 3 * 86400))
