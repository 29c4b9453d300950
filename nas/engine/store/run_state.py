"""The state of a run: what its driver updates while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self, TypedDict

from hardware_profiles.waiting import time_of_day
from nas.search.problem.budget import Budget, Stop
from supernets.space import Architecture

MAX_TRIES = 150
"""Drivers that a server starts for a run whose machine is away, within about a day."""
_PAUSES_S = (60.0, 120.0, 240.0, 480.0, 600.0)
"""Pauses before the first of them; the last one is repeated."""


@dataclass(frozen=True, slots=True)
class Away:
    """A machine that ended a driver of a run, since it was away.

    Attributes:
        subject: Name of the machine's profile.
        since: When it was first away, in seconds since the epoch.
        tries: Number of drivers that a server has started since.
        next_try: When it starts the next one, in seconds since the epoch.
    """

    subject: str
    since: float
    tries: int
    next_try: float

    def __str__(self) -> str:
        since, next_try = time_of_day(self.since), time_of_day(self.next_try)
        return f"waits for {self.subject} since {since}; try {self.tries + 1} of {MAX_TRIES} at {next_try}"

    @property
    def given_up(self) -> str:
        """Reason of a run that failed after the last try."""
        since = time_of_day(self.since)
        return f"{self.subject} is away since {since}, also after {self.tries} tries; resume the run when it is back"

    def next(self, now: float) -> Away:
        """The state as one more driver is started."""
        return Away(self.subject, self.since, self.tries + 1, now + _PAUSES_S[min(self.tries + 1, len(_PAUSES_S) - 1)])

    @classmethod
    def first(cls, subject: str, since: float, now: float) -> Self:
        """The state after the driver that waited for it in vain."""
        return cls(subject, since, 0, now + _PAUSES_S[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The state of a run; a new run has the defaults.

    Attributes:
        epoch: the last one that is trained and checkpointed.
        best_epoch: the epoch whose weights are kept; None where the last one's are.
        step, steps: training steps done and to do, as they were a few seconds ago; 0 before the first.
        expected_end: when the present phase (training, search, or the finalists' measurements) ends at its pace, in seconds
            since the epoch; None where that is not known.
        weights: digest of the trained supernet's weights.
        teacher: digest of the weights that the training learns from.
        budget: Budget of a search; extended by `nas resume --evaluations` and ``--minutes``.
        extension: id of the last extension of the budget that was applied.
        stop: why the search ended; None while it has not.
        searched_seconds: time that the search has taken, over all drivers.
        reference: the reference point of the hypervolume, by objective in its natural sign.
        finalists: the candidates measured again with the longer protocol, by key.
        retry_failures: True if the driver measures again what failed before.
        waiting: Reason for which its driver waits; "" while it works.
        waiting_since: when the last wait began, in seconds since the epoch; 0 in runs of earlier versions.
        away: The machine that ended its last driver, since it was away; None while a driver works, and after any other end.
        environments: the environment of the accuracies and of each profile's measurements; see
            `nas.jobs.evaluation.environments`.
    """

    epoch: int = 0
    best_epoch: int | None = None
    step: int = 0
    steps: int = 0
    expected_end: float | None = None
    weights: str | None = None
    teacher: str | None = None
    budget: Budget | None = None
    extension: str | None = None
    stop: Stop | None = None
    searched_seconds: float = 0.0
    reference: tuple[float | None, ...] | None = None
    finalists: tuple[Architecture, ...] = ()
    retry_failures: bool = False
    waiting: str = ""
    waiting_since: float = 0.0
    away: Away | None = None
    environments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The state of the values stored by this version or an earlier one, the defaults where there are none."""
        stop, reference, away = data.get("stopped"), data.get("reference"), data.get("away")
        return cls(
            **{key: data[key] for key in _UNCHANGED if data.get(key) is not None},
            budget=Budget.from_json(data) if data.get("evaluations") is not None else None,
            stop=Stop.from_json(stop) if stop else None,
            reference=None if reference is None else tuple(reference),
            away=Away(**away) if away else None,
            finalists=tuple(map(Architecture.parse, data.get("final") or ())),
            environments=data.get("machines") or {},
        )


_RENAMED = {"stop": "stopped", "finalists": "final", "environments": "machines"}
"""Stored keys of the fields that have another one."""
_UNCHANGED = tuple(f.name for f in fields(RunState) if f.name not in (*_RENAMED, "budget", "reference", "away"))
"""Fields stored under their own name, as they are."""
STATE_KEYS = (*_UNCHANGED, *_RENAMED.values(), "reference", "away", *(f.name for f in fields(Budget)))
"""Every stored key of a state."""


class StateUpdate(TypedDict, total=False):
    """New values of some fields of a `RunState`."""

    epoch: int
    best_epoch: int | None
    step: int
    steps: int
    expected_end: float | None
    weights: str | None
    teacher: str | None
    budget: Budget
    extension: str | None
    stop: Stop | None
    searched_seconds: float
    reference: tuple[float | None, ...] | None
    finalists: tuple[Architecture, ...]
    retry_failures: bool
    waiting: str
    waiting_since: float
    away: Away | None
    environments: Mapping[str, Mapping[str, Any]]


def stored_values(update: StateUpdate) -> dict[str, Any]:
    """The values of an update by stored key, to be written together."""
    values: dict[str, Any] = {key: value for key, value in update.items() if key in (*_UNCHANGED, "reference")}
    if "budget" in update:
        values |= update["budget"].to_json()
    if "stop" in update:
        values["stopped"] = None if update["stop"] is None else update["stop"].to_json()
    if "finalists" in update:
        values["final"] = [architecture.key for architecture in update["finalists"]]
    if "away" in update:
        values["away"] = None if update["away"] is None else asdict(update["away"])
    if "environments" in update:
        values["machines"] = update["environments"]
    return values
