"""Fair share: the order in which the runs of several people start, and when they are expected to, as pure functions."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nas.service.state import Submission

_UNKNOWN_S = 3600.0
"""What a run of unknown duration counts in the order: only the proportion to others matters."""


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run that has a driver.

    Attributes:
        elapsed_s: Since its driver started.
        expected_s: Its expected duration; None where that is not known.
    """

    run: str
    person: str
    elapsed_s: float
    expected_s: float | None = None

    @property
    def left_s(self) -> float:
        """The expected time until it ends, at least 0; infinite where that is not known."""
        return math.inf if self.expected_s is None else max(0.0, self.expected_s - self.elapsed_s)


@dataclass(frozen=True, slots=True)
class FairShare:
    """The rule by which runs start: fair-share scheduling (Kay and Lauder, 1988, Communications of the ACM 31(1)).

    The runs with a place come first. Of the others, those of a higher priority do. Among equals, the next run is one of the
    person who has used the least time of late; of one person's runs, the oldest is next. The time that running runs still need
    counts as used, and so does that of the runs that are ahead in the queue (the paper knows no durations): people with many
    runs take turns with those who have few, and short runs take more turns than long ones.

    Attributes:
        at_once: Number of runs that may have a driver at the same time.
        at_once_of_person: Number of them that may be of one person; None for no limit.
        used_s: Time of late, by person.
        active: The runs that have a driver.
    """

    at_once: int = 1
    at_once_of_person: int | None = None
    used_s: Mapping[str, float] = field(default_factory=dict)
    active: Sequence[ActiveRun] = ()

    def order(self, waiting: Iterable[Submission]) -> list[Submission]:
        """The runs in the order in which they start."""
        used = defaultdict(float, self.used_s)
        for run in self.active:
            used[run.person] += _UNKNOWN_S if math.isinf(run.left_s) else run.left_s
        left, ordered = sorted(waiting, key=lambda w: (w.submitted, w.run)), []
        while left:
            chosen = min(left, key=lambda w: _precedence(w, used[w.submitter]))
            left.remove(chosen)
            ordered.append(chosen)
            used[chosen.submitter] += _UNKNOWN_S if chosen.expected_s is None else chosen.expected_s
        return ordered

    def may_start(self, person: str, busy: Counter[str]) -> bool:
        """True if a run of this person may start beside those that are busy, counted by person."""
        limit = self.at_once_of_person
        return busy.total() < self.at_once and (limit is None or busy[person] < limit)

    def expected_starts(self, ordered: Sequence[Submission], now: float) -> dict[str, float]:
        """The times at which runs are expected to start; those that depend on an unknown duration are left out.

        Args:
            ordered: The runs in their order.
            now: in the unit and from the origin of the result, in seconds.
        """
        ends = [(now + run.left_s, run.person) for run in self.active]
        starts: dict[str, float] = {}
        left, time = list(ordered), now
        while left and math.isfinite(time):
            busy = Counter(person for _, person in ends)
            startable = next((w for w in left if self.may_start(w.submitter, busy)), None)
            if startable is not None:
                starts[startable.run] = time
                left.remove(startable)
                duration = math.inf if startable.expected_s is None else startable.expected_s
                ends.append((time + duration, startable.submitter))
            elif ends:
                ends.sort()
                time = max(time, ends.pop(0)[0])
            else:
                break
        return starts


def _precedence(run: Submission, used_s: float) -> tuple[float, int, float]:
    """The key by which runs are compared; equal ones keep the order of their submission."""
    if run.place is not None:
        return (run.place, 0, 0.0)
    return (math.inf, -run.priority.rank, used_s)
