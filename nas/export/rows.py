"""What a run's stored rows say was measured, measured again, tested and predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas.objectives import Fidelity, Measurement, Objective
from nas.precisions import Precisions
from nas.store.base import RunStore
from supernets.space import Architecture


class MeasuredRun:
    """The measurements of a run, read once, by architecture.

    Attributes:
        figures: of the run: its objectives, and what its constraints alone are on.
        told: architectures that every figure has a measurement of, failed ones included, in the order told: the
            smallest and the largest, then what was asked, then any other in the order committed.
        complete: those of `told` in which nothing failed, in the same order.
    """

    def __init__(self, store: RunStore, figures: Sequence[Objective], info: Mapping[str, Any]) -> None:
        self.figures = tuple(figures)
        self._precisions = precisions = Precisions.of_run(info)
        self._measurements = {m.request: m for m in store.measurements()}
        self._final_keys: Sequence[str] = info.get("final") or ()
        anchors = [Architecture.parse(info[name]) for name in ("smallest", "largest") if info.get(name)]
        asked = [architecture for step in store.asks() for architecture in step]
        seen = dict.fromkeys(
            [
                *anchors,
                *asked,
                *(precisions.candidate(r) for r in self._measurements if r.precision in precisions.names),
            ]
        )
        self.told: dict[Architecture, None] = {a: None for a in seen if self._measured(a)}
        self.complete: dict[Architecture, None] = {a: None for a in self.told if not self._failures(a)}

    def _measured(self, architecture: Architecture) -> bool:
        return all(self._precisions.request(architecture, o) in self._measurements for o in self.figures)

    def _failures(self, architecture: Architecture) -> list[Measurement]:
        found = [self._measurements[self._precisions.request(architecture, o)] for o in self.figures]
        return [m for m in found if m.value is None]

    def failures(self) -> dict[str, str]:
        """Why, by key of each told architecture that lacks a figure."""
        return {a.key: self._failures(a)[0].message for a in self.told if a not in self.complete}

    def candidates(self) -> list[Architecture]:
        """What the front is chosen from: the complete architectures measured again, or all while none were."""
        chosen = [Architecture.parse(key) for key in self._final_keys]
        usable = self.usable()
        return [a for a in chosen if a in usable] or list(usable)

    def usable(self) -> dict[Architecture, None]:
        """The complete architectures but for those that failed when they were measured again (unless all did)."""
        return {a: None for a in self.complete if not self._failed_again(a)} or self.complete

    def _failed_again(self, architecture: Architecture) -> bool:
        """Whether the longer protocol has no figure of it: what is shown on a front was measured again."""
        again = [
            self._measurements.get(self._precisions.request(architecture, o, Fidelity.FINAL)) for o in self.figures
        ]
        return any(m is not None and m.value is None for m in again)

    def figure(self, architecture: Architecture, objective: Objective, *, final: bool) -> Measurement:
        """The measurement of a complete architecture; with `final`, the longer protocol's where it gave a figure."""
        again = self._measurements.get(self._precisions.request(architecture, objective, Fidelity.FINAL))
        if final and again is not None and again.value is not None:
            return again
        return self._measurements[self._precisions.request(architecture, objective)]

    def exact(self, architecture: Architecture, objective: Objective) -> float | None:
        """A computed figure of an architecture that need not be complete; None where it is not stored."""
        found = self._measurements.get(self._precisions.request(architecture, objective))
        return None if found is None else found.value

    def test_score(self, architecture: Architecture) -> dict[str, float] | None:
        """Accuracy on the test part with its standard error; None where it was not scored, or that failed."""
        found = self._measurements.get(self._precisions.test_request(architecture))
        if found is None or found.value is None:
            return None
        return {"accuracy": found.value, "error": found.error or 0.0}


def predictor_history(store: RunStore, objective: Objective) -> dict[int, Mapping[str, Any]]:
    """Quality of every recorded fit of an objective's predictor, by step in ascending order."""
    fits = [fit for fit in store.fits() if fit.objective == objective.name]
    return {fit.step: fit.quality["quality"] for fit in sorted(fits, key=lambda fit: fit.step)}


def predicted_figures(store: RunStore) -> dict[Architecture, dict[str, tuple[float, float]]]:
    """Means and standard deviations by architecture and objective name, as the last step's models predicted them.

    Earlier steps are left out: their models knew less.
    """
    fits = store.fits()
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
