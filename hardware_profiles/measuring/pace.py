"""The speed of a machine in each round of a session, measured by the sentinels. Pure; no I/O.

A machine whose physical cores others share has several speeds, each for a tenth of a second to minutes. Networks of 0.1 ms feel
them two to three times as much as those of a millisecond, and a call of nearly no work hardly at all: 10, 5 and 2 % between
sessions on one such machine. The sentinels of the same round feel them too. So a latency is given at the machine's usual speed:
each round of an entry is divided by what the round took longer than usual for the sentinels of its size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_RECENT = 40
"""Sessions of which the usual speed is taken, so that a lasting change becomes the usual speed."""
_QUIET = 0.1
"""Share of the CPUs' time that others may get in a session which tells the usual speed."""
_MIN_SESSIONS = 5
"""Number of sessions from which their scatter is known."""
_MEDIAN_90 = 2.06
"""Half of a 90 % interval of a median, in standard deviations of one value over the root of their number."""
_SPREAD_ERROR = 0.6
"""Error of one session, per share by which its rounds spread: speeds that last longer than it differ as those within it do."""


_KEYS = ("call_ms", "small_ms", "large_ms", "taken", "error")
"""Keys of a stored `Speed`, in the order of its fields."""


@dataclass(frozen=True, slots=True)
class Speed:
    """The sentinels in one session.

    Attributes:
        call_ms, small_ms, large_ms: medians over the rounds of their fastest runs, in milliseconds; positive.
        other_load: share of the time of all CPUs that other processes got, 0 to 1.
        error: half of the 90 % interval of how far it is from the machine's usual speed, relative.
    """

    call_ms: float
    small_ms: float
    large_ms: float
    other_load: float = 0.0
    error: float = 0.0

    @property
    def ms(self) -> tuple[float, float, float]:
        """The times, in the order of sizes."""
        return self.call_ms, self.small_ms, self.large_ms

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Reads the result of `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the data are anything else.
        """
        speed = cls(*(float(data[key]) for key in _KEYS))
        if not (
            all(0 < ms < math.inf for ms in speed.ms) and 0 <= speed.other_load <= 1 and 0 <= speed.error < math.inf
        ):
            raise ValueError(f"speed {speed}; expected positive times, a share and an error of 0 or more")
        return speed

    def to_json(self) -> dict[str, float]:
        """Plain numbers."""
        return dict(zip(_KEYS, astuple(self), strict=True))


def is_quiet(speed: Speed) -> bool:
    """Returns True if other processes got so little time that the speed is the machine's own."""
    return speed.other_load <= _QUIET


def better(usual: Speed | None, speed: Speed) -> bool:
    """Returns True if a session is the first quiet one, so that its speed replaces the present usual speed."""
    return usual is None or (is_quiet(speed) and not is_quiet(usual))


def usable_sessions(sessions: Sequence[Speed]) -> Sequence[Speed]:
    """The sessions that tell the usual speed: the most recent of the quiet ones, or of all if none was quiet.

    Args:
        sessions: Speeds of sessions in order of time.
    """
    return ([speed for speed in sessions if is_quiet(speed)] or sessions)[-_RECENT:]


def usual_speed(sessions: Sequence[Speed]) -> Speed | None:
    """The medians of the sessions that tell it; None of no session."""
    chosen = usable_sessions(sessions)
    if not chosen:
        return None
    values = np.array([(*speed.ms, speed.other_load, speed.error) for speed in chosen])
    call_ms, small_ms, large_ms, other_load, error = (float(value) for value in np.median(values, axis=0))
    if len(chosen) >= _MIN_SESSIONS:
        scatter = np.log(values[:, :3]).std(axis=0, ddof=1).mean()
        error = _MEDIAN_90 * float(scatter) / math.sqrt(len(chosen))
    return Speed(call_ms, small_ms, large_ms, other_load, error)


@dataclass(frozen=True, slots=True)
class Pace:
    """The slowdown of each round of a session, relative to the usual speed.

    Attributes:
        slower: Logarithms of the sentinels' times over their usual ones, in the order of sizes, (3, n_rounds).
        usual: the speed at which latencies are given.
        other_load: share of the time of all CPUs that other processes got, 0 to 1.
        spread: Excess of the median of the large sentinels' rounds over their fast ones, relative.
    """

    slower: Floats = field(repr=False)
    usual: Speed
    other_load: float = 0.0
    spread: float = 0.0

    def slowdown_at(self, ms: float) -> Floats:
        """Logarithms of how much slower each round was for an entry of this latency, (n_rounds,).

        Linear in the logarithm of the latency between two sentinels; beyond the outer ones, as for them.
        """
        at = np.interp(math.log(ms), np.maximum.accumulate(np.log(self.usual.ms)), np.arange(3.0))
        low = min(int(at), 1)
        slowdown: Floats = self.slower[low] + (at - low) * (self.slower[low + 1] - self.slower[low])
        return slowdown

    def shift(self, ms: float) -> float:
        """The relative change from the usual speed for an entry of this latency, in either direction; not negative."""
        return float(np.expm1(abs(np.median(self.slowdown_at(ms)))))


def pace_of(
    call: Floats, small: Floats, large: Floats, usual: Speed | None, *, other_load: float = 0.0
) -> tuple[Pace, Speed]:
    """The pace of a session, and its speed.

    Args:
        call, small: each round's fastest run of these sentinels in milliseconds, (n_rounds,).
        large: those of the two equal large ones, (2, n_rounds).
        usual: None if this session is the first: its own speed is the usual one.
    """
    times = np.stack([call, small, np.sqrt(large[0] * large[1])])
    fast, median = np.percentile(large, (10, 50))
    spread = float(median / fast - 1)
    call_ms, small_ms, large_ms = (float(ms) for ms in np.median(times, axis=1))
    speed = Speed(call_ms, small_ms, large_ms, other_load, _SPREAD_ERROR * spread)
    usual = usual or speed
    return Pace(np.log(times / np.array(usual.ms)[:, None]), usual, other_load, spread), speed
