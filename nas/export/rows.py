"""What a run's stored rows say was measured, measured again, tested and predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nas.objectives import Fidelity, Measurement, Objective, Status
from nas.precisions import Precisions
from nas.store.base import Fit, RunStore
from supernets.space import Architecture

_Slot = tuple[str, str | None, Fidelity]
"""A measurement of a candidate: metric, profile and fidelity."""
_TEST: _Slot = ("accuracy", None, Fidelity.TEST)


@dataclass(frozen=True, slots=True)
class Guidance:
    """What a search asked for at each step and what its models then knew, read once for all that tells of it."""

    asks: Sequence[Sequence[Architecture]]
    fits: Sequence[Fit]

    @classmethod
    def of(cls, store: RunStore) -> Guidance:
        return cls(store.asks(), store.fits())


class MeasuredRun:
    """The measurements of a run, read once, by architecture.

    Attributes:
        figures: of the run: its objectives, and what its constraints alone are on.
        told: architectures that every figure has a measurement of, failed and left ones included, in the order told: the
            smallest and the largest, then what was asked, then any other in the order committed.
        complete: those of `told` in which nothing failed or was left, in the same order.
    """

    def __init__(
        self,
        store: RunStore,
        figures: Sequence[Objective],
        info: Mapping[str, Any],
        asks: Sequence[Sequence[Architecture]],
    ) -> None:
        self.figures = tuple(figures)
        precisions = Precisions.of_run(info)
        self._slots = {o: (_slot(o, Fidelity.SEARCH), _slot(o, Fidelity.FINAL)) for o in figures}
        self._measurements: dict[Architecture, dict[_Slot, Measurement]] = {}
        self._again: set[Architecture] = set()  # what the longer protocol was tried on: few of many
        for m in store.measurements():
            r = m.request
            if r.precision in precisions.names:
                candidate = precisions.candidate(r)
                self._measurements.setdefault(candidate, {})[r.metric, r.profile, r.fidelity] = m
                if r.fidelity is Fidelity.FINAL:
                    self._again.add(candidate)
        self._final_keys: Sequence[str] = info.get("final") or ()
        anchors = [Architecture.parse(info[name]) for name in ("smallest", "largest") if info.get(name)]
        asked = [architecture for step in asks for architecture in step]
        seen = dict.fromkeys([*anchors, *asked, *self._measurements])
        self.told: dict[Architecture, None] = {a: None for a in seen if self._measured(a)}
        self.complete: dict[Architecture, None] = {a: None for a in self.told if not self._failures(a)}

    def _measured(self, architecture: Architecture) -> bool:
        found = self._measurements.get(architecture, {})
        return all(search in found for search, _ in self._slots.values())

    def _failures(self, architecture: Architecture) -> list[Measurement]:
        found = self._measurements[architecture]
        return [found[search] for search, _ in self._slots.values() if found[search].value is None]

    def failures(self) -> dict[str, str]:
        """Why, by key of each told architecture of which a figure could not be taken."""
        return self._reasons(Status.FAILED)

    def screened_out(self) -> dict[str, str]:
        """Why, by key of each told architecture that was not worth all of its figures."""
        failed = self.failures()
        return {key: why for key, why in self._reasons(Status.SKIPPED).items() if key not in failed}

    def _reasons(self, status: Status) -> dict[str, str]:
        lacking = {a: self._failures(a) for a in self.told if a not in self.complete}
        found = {a.key: [m.message for m in ms if m.status is status] for a, ms in lacking.items()}
        return {key: messages[0] for key, messages in found.items() if messages}

    def candidates(self) -> list[Architecture]:
        """What the front is chosen from: the finalists among the complete architectures, or all while the search goes on."""
        chosen = [Architecture.parse(key) for key in self._final_keys]
        return [a for a in chosen if a in self.usable] or list(self.usable)

    @cached_property
    def usable(self) -> dict[Architecture, None]:
        """The complete architectures but for those that failed when they were measured again (unless all did)."""
        return {a: None for a in self.complete if not self._failed_again(a)} or self.complete

    def _failed_again(self, architecture: Architecture) -> bool:
        """Whether the longer protocol has no figure of it: what is shown on a front was measured again."""
        if architecture not in self._again:
            return False
        found = self._measurements[architecture]
        return any(final in found and found[final].value is None for _, final in self._slots.values())

    def measured_again(self, architecture: Architecture) -> bool:
        """Whether the longer protocol gave a figure of a complete architecture."""
        if architecture not in self._again:
            return False
        found = self._measurements[architecture]
        return any(final in found and found[final].value is not None for _, final in self._slots.values())

    def figure(self, architecture: Architecture, objective: Objective, *, final: bool) -> Measurement:
        """The measurement of a complete architecture; with `final`, the longer protocol's where it gave a figure."""
        found, (search_slot, final_slot) = self._measurements[architecture], self._slots[objective]
        again = found.get(final_slot) if final else None
        return found[search_slot] if again is None or again.value is None else again

    def searched(self, architecture: Architecture) -> dict[str, Measurement]:
        """The search's measurements of a told architecture, failed ones included, by the figure's name."""
        found = self._measurements[architecture]
        return {o.name: found[search] for o, (search, _) in self._slots.items()}

    def exact(self, architecture: Architecture, objective: Objective) -> float | None:
        """A computed figure of an architecture that need not be complete; None where it is not stored."""
        found = self._measurements.get(architecture, {}).get(self._slots[objective][0])
        return None if found is None else found.value

    def test_score(self, architecture: Architecture) -> dict[str, float] | None:
        """Accuracy on the test part with its standard error; None where it was not scored, or that failed."""
        found = self._measurements.get(architecture, {}).get(_TEST)
        if found is None or found.value is None:
            return None
        return {"accuracy": found.value, "error": found.error or 0.0}


def _slot(objective: Objective, fidelity: Fidelity) -> _Slot:
    return objective.metric, objective.profile, fidelity


def predictor_history(fits: Sequence[Fit], objective: Objective) -> dict[int, Mapping[str, Any]]:
    """Quality of every recorded fit of an objective's predictor, by step in ascending order."""
    own = [fit for fit in fits if fit.objective == objective.name]
    return {fit.step: fit.quality["quality"] for fit in sorted(own, key=lambda fit: fit.step)}


def predicted_figures(fits: Sequence[Fit]) -> dict[Architecture, dict[str, tuple[float, float]]]:
    """Means and standard deviations by architecture and objective name, as the last step's models predicted them.

    Earlier steps are left out: their models knew less.
    """
    last = max((fit.step for fit in fits), default=0)
    found: dict[Architecture, dict[str, tuple[float, float]]] = {}
    for fit in fits:
        if fit.step != last:
            continue
        for key, (mean, std) in fit.quality["predictions"].items():
            if mean is None or std is None:  # a store keeps None for what was not finite
                continue
            found.setdefault(Architecture.parse(key), {})[fit.objective] = (float(mean), float(std))
    return found
