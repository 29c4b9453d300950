"""The protocol of a run's store, and the records it keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeVar, Unpack

from nas.engine.store.block_costs import BLOCK_COSTS, BlockCosts
from nas.engine.store.json_values import plain
from nas.engine.store.run_facts import RunFacts, SearchFacts
from nas.engine.store.run_state import STATE_KEYS, RunState, StateUpdate, stored_values
from nas.errors import NasError, StoreError
from nas.search.problem.evaluation_counts import EvaluationCounts
from nas.search.problem.objectives import ONNX_RUNTIME, Fidelity, Measurement, Request, Status
from supernets.errors import SpaceError
from supernets.space import Architecture

_ValueT = TypeVar("_ValueT")
OPTION_LOSSES = "option_losses"
"""The stored key of `RunStore.option_losses`."""


class RunStatus(StrEnum):
    """The status of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


INTERRUPTED, NEVER_STARTED = "interrupted", "never started"


def shown_status(status: str, *, live: bool) -> str:
    """A stored status in words: a running run without a driver was interrupted."""
    without_driver: dict[str, str] = {RunStatus.RUNNING: INTERRUPTED, RunStatus.QUEUED: NEVER_STARTED}
    return status if live else without_driver.get(status, status)


@dataclass(frozen=True, slots=True)
class Fit:
    """One predictor fit, as `SearchAlgorithm.fits` gives it: its ``quality`` and its ``predictions``."""

    step: int
    objective: str
    quality: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a retry, a warning, a replayed ask that differed, why the run stopped."""

    kind: str
    detail: Mapping[str, Any]
    time: float
    """Seconds since the epoch."""


class Outcome(NamedTuple):
    """The latest measurement of a request without its environment, detail and samples, which take longest to read."""

    architecture: Architecture
    metric: str
    profile: str | None
    fidelity: Fidelity
    precision: str
    runtime: str
    attempt: int
    status: Status
    value: float | None
    error: float | None
    seconds: float
    message: str
    committed: float
    """Seconds since the epoch."""

    @property
    def request(self) -> Request:
        """The request that was measured."""
        return Request(*self[:6])


class MeasuringSession(NamedTuple):
    """Measurements on one profile in one session of its profiler, which all have the same sentinel and noise."""

    profile: str
    level_ms: float
    """The sentinel's latency."""
    noise: float | None
    """The A/A difference of the session's two equal sentinels, as a share; None where it was not recorded."""
    time: float
    """When the first one was committed, in seconds since the epoch."""
    runtime: str = ONNX_RUNTIME


class RunStore(Protocol):
    """All rows of one run. Every write is committed when the call returns, and refused once the lease is lost.

    JSON-able values are read back as plain ones: tuples as lists, NaN and infinities as None. A new run is QUEUED.

    Raises:
        RunHeldError: from any write, when another driver has taken the lease.
        StoreError: the database is damaged or cannot be written, or its store was closed.
        TypeError: a value to keep is not JSON-able.
    """

    _name: str
    """The name of the store in errors."""

    def _values(self, *, only: Sequence[str] = (), without: Sequence[str] = ()) -> dict[str, Any]:
        """The stored values, all or those of some names; the caller's own."""

    def _set_values(self, values: Mapping[str, Any]) -> None:
        """Stores plain values in place of those of the same names, all or none."""

    def status(self) -> RunStatus: ...

    def set_status(self, status: RunStatus, *, reason: str = "") -> None:
        """Records the status and why (shown to the user)."""

    def statuses(self) -> list[tuple[RunStatus, float]]:
        """Every status that was set with when, in seconds since the epoch, the first one first."""

    def reason(self) -> str:
        """Why the run has its last status; "" where nothing was recorded."""

    def facts(self) -> RunFacts | None:
        """The facts of the run; None until `describe`."""
        return self._parsed(RunFacts.from_json, self._values(without=(*STATE_KEYS, BLOCK_COSTS, OPTION_LOSSES)))

    def search_facts(self) -> SearchFacts:
        """The facts of the search; `StoreError` where the run is a training, or was not described."""
        facts = self.facts()
        if facts is None or facts.search is None:
            raise StoreError(f"{self._name}: the run is not a search", code="run.not-a-search")
        return facts.search

    def state(self) -> RunState:
        """The state of the run."""
        return self._parsed(RunState.from_json, self._values(only=STATE_KEYS))

    def block_costs(self) -> BlockCosts:
        """The costs by block of the networks that were measured again; empty before, and in runs of earlier versions."""
        stored = self._values(only=(BLOCK_COSTS,))
        return self._parsed(BlockCosts.from_json, stored[BLOCK_COSTS]) if stored else BlockCosts()

    def record_block_costs(self, costs: BlockCosts) -> None:
        """Records the costs by block of some networks, beside those of others."""
        self._keep({BLOCK_COSTS: costs.with_earlier(self.block_costs()).to_json()})

    def option_losses(self) -> dict[str, list[float]]:
        """The losses that each option of each choice alone adds to the largest network's, by choice; empty where they were not
        measured."""
        return {
            str(choice): [float(loss) for loss in losses]
            for choice, losses in self._values(only=(OPTION_LOSSES,)).get(OPTION_LOSSES, {}).items()
        }

    def record_option_losses(self, losses: Mapping[str, Sequence[float]]) -> None:
        """Records the losses of options by choice."""
        self._keep({OPTION_LOSSES: {choice: list(values) for choice, values in losses.items()}})

    def describe(self, facts: RunFacts, **state: Unpack[StateUpdate]) -> None:
        """Records what the run is and the first values of its state, all or none; replaces an earlier description."""
        self._keep({**facts.to_json(), **stored_values(state)})

    def update_state(self, **changes: Unpack[StateUpdate]) -> None:
        """Records new values of the run's state, all or none."""
        self._keep(stored_values(changes))

    def _keep(self, values: Mapping[str, Any]) -> None:
        self._set_values({name: plain(value, where=name) for name, value in values.items()})

    def _parsed(self, from_json: Callable[[Mapping[str, Any]], _ValueT], stored: Mapping[str, Any]) -> _ValueT:
        """The object that stored values describe; `StoreError` where they are damaged, or of a later version."""
        try:
            return from_json(stored)
        except StoreError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, NasError, SpaceError) as error:
            text = f"{self._name}: its description cannot be read ({error!r}); restore a copy, or start a new run"
            raise StoreError(text, code="store.damaged") from error

    def record_ask(
        self, step: int, architectures: Sequence[Architecture], told: Sequence[Architecture] | None = None
    ) -> None:
        """Records the architectures asked for in a step; `ValueError` unless it is the one after the last, or 0.

        Args:
            told: The architectures whose evaluations the algorithm was told since the ask before, in this order, where others
                were pending; None where it was told of all.
        """

    def asks(self) -> list[list[Architecture]]:
        """The architectures that were asked for, by step."""

    def told(self) -> list[list[Architecture] | None]:
        """What each ask was recorded with, by step, see `record_ask`."""

    def add(self, *measurements: Measurement) -> None:
        """Commits finite measurements with their samples, all or none; a second one of a request and attempt is ignored."""

    def find(self, requests: Sequence[Request]) -> dict[Request, Measurement]:
        """The latest attempt at each request that has one, without samples."""
        return {request: attempts[-1] for request, attempts in self.attempts(requests).items()}

    def attempts(self, requests: Sequence[Request]) -> dict[Request, list[Measurement]]:
        """All attempts at each request that has one, the first one first, without samples."""

    def measurements(self, fidelity: Fidelity | None = None) -> list[Measurement]:
        """All of them in the order committed, without samples (latest attempts only)."""

    def outcomes(self) -> list[Outcome]:
        """The outcome of every measured request, in the order committed; quicker to read than measurements."""

    def sessions(self) -> list[MeasuringSession]:
        """The sessions that recorded their sentinel's level, by profile and then the oldest first; cheap, unlike
        reading their measurements."""

    def n_measurements(self) -> int:
        """How many there are, all attempts counted; cheap, unlike reading them."""

    def counts(self, n_metrics: int) -> EvaluationCounts:
        """Numbers of the networks (each in a variant) with at least `n_metrics` metrics of the search's fidelity, by the
        worst of these; cheap, too."""

    def failures(self) -> list[Measurement]:
        """Measurements whose latest attempt failed, of every fidelity, in the order committed, without samples."""

    def samples(self, request: Request) -> bytes | None:
        """The raw samples of the latest attempt at a request that has some."""

    def record_fit(self, fit: Fit) -> None:
        """Keeps one fit, in place of an earlier one of the same step and objective."""

    def fits(self) -> list[Fit]: ...

    def record_event(self, kind: str, detail: Mapping[str, Any]) -> None: ...

    def events(self) -> list[Event]: ...

    def close(self) -> None: ...
