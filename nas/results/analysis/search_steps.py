"""The steps of a search: what was asked for and measured, how candidates were bred, and by which models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas.engine.formatting import counted
from nas.results.analysis.run_measurements import RecordedSteps
from predictors.folds import evenly_spaced
from supernets.space import Architecture

SHOWN_STEPS = 25
"""Steps in a table for people, at most, evenly spaced; JSON has all of them."""


@dataclass(frozen=True, slots=True)
class StepModel:
    """The model of one metric in one step.

    Attributes:
        weights: Weight by name of every model in the mean, the largest first; they sum to 1.
        kendall_tau: Cross-validated rank agreement; None where it is undefined.
    """

    weights: Mapping[str, float]
    kendall_tau: float | None

    @property
    def text(self) -> str:
        """``τ 0.93: 60 % ridge, 40 % LightGBM``; a single model without its weight."""
        names = [f"{100 * weight:.0f} % {name}" for name, weight in self.weights.items()]
        shown = ", ".join(names) if len(names) > 1 else ", ".join(self.weights)
        return shown if self.kendall_tau is None else f"τ {self.kendall_tau:.2f}: {shown}"


@dataclass(frozen=True, slots=True)
class SearchStep:
    """One ask of a search.

    Attributes:
        step: Number of the step; 0 is that of the smallest, the largest and the known networks.
        proposed: Number of networks that were asked for.
        measured: Number of these that have a value of every metric.
        generations: Number of generations of the inner evolution; None where networks were not chosen by models, 0 where all
            networks of a small space were candidates.
        bred: Number of networks of these generations; None likewise.
        candidates: Number of different candidates that were not known before; None likewise.
        models: Models by name of the metric; empty likewise.
    """

    step: int
    proposed: int
    measured: int
    generations: int | None
    bred: int | None
    candidates: int | None
    models: Mapping[str, StepModel]

    @property
    def text(self) -> str:
        """How the candidates of a step came about, in words."""
        if self.generations is None or self.bred is None or self.candidates is None:
            return "not by models"
        origin = f"{counted(self.bred, 'network')} bred in {counted(self.generations, 'generation')}"
        return f"{origin if self.generations else 'the whole space'}, {counted(self.candidates, 'new candidate')}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        models = {
            name: {"kendall_tau": model.kendall_tau, "weights": dict(model.weights)}
            for name, model in self.models.items()
        }
        names = ("step", "proposed", "measured", "generations", "bred", "candidates")
        return {name: getattr(self, name) for name in names} | {"models": models}


def search_steps(steps: RecordedSteps, measured: Collection[Architecture]) -> tuple[SearchStep, ...]:
    """The steps of a search in order; none where neither weights nor evolutions are recorded, as in runs of earlier versions.

    Args:
        measured: Architectures with a value of every metric; a set or a mapping.
    """
    fits_by_step: dict[int, dict[str, Mapping[str, Any]]] = {}
    for fit in steps.fits:
        if "weights" in fit.quality or "evolution" in fit.quality:
            fits_by_step.setdefault(fit.step, {})[fit.objective] = fit.quality
    if not fits_by_step:
        return ()
    return tuple(
        _step(number, proposed, sum(a in measured for a in proposed), fits_by_step.get(number, {}))
        for number, proposed in enumerate(steps.asks)
    )


def shown_steps(steps: Sequence[SearchStep]) -> list[SearchStep]:
    """At most `SHOWN_STEPS` of the steps, evenly spaced; the first and the last are among them."""
    return [steps[i] for i in evenly_spaced(len(steps), SHOWN_STEPS)] if steps else []


def _step(
    number: int, proposed: Sequence[Architecture], n_measured: int, fits: Mapping[str, Mapping[str, Any]]
) -> SearchStep:
    evolution: Mapping[str, int] = next((fit["evolution"] for fit in fits.values() if "evolution" in fit), {})
    models = {
        name: StepModel(
            dict(sorted((fit.get("weights") or {}).items(), key=lambda item: -item[1])),
            fit["quality"].get("kendall_tau"),
        )
        for name, fit in fits.items()
    }
    return SearchStep(
        number,
        len(proposed),
        n_measured,
        generations=evolution.get("generations"),
        bred=evolution.get("bred"),
        candidates=evolution.get("candidates"),
        models=models,
    )
