"""The section ``search`` of a job file: the algorithm and its budget."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from nas.jobs.schema.errors import conflict, problem
from nas.jobs.schema.section import Flag, Section, Settings, plugin_name, positive, settings, whole_number
from nas.plugins import Kind
from nas.search.algorithms import ALGORITHMS, predictor_fault
from predictors.registry import PREDICTORS


class PlateauConfig(Section):
    """A search ends when this number of evaluations raised the hypervolume by at most this share of it."""

    evaluations: int = whole_number(1, 10**6, default=40)
    """The number of latest evaluations that are looked at."""
    gain: Annotated[float, Field(strict=True, ge=0, lt=1, description="a share from 0 to below 1, e.g. 0.001")] = 0.001
    """The largest relative gain of the hypervolume at which the search ends."""


class SearchConfig(Section):
    """The search algorithm and its budget: evaluations, and limits that end it earlier."""

    former_keys: ClassVar[frozenset[str]] = frozenset({"tune_seconds", "screen_images"})

    algorithm: plugin_name(Kind.SEARCH, ALGORITHMS) = "guided"  # type: ignore[valid-type]  # made from the registry
    """The algorithm that proposes networks: guided fits models of accuracy and latency as it runs."""
    predictor: plugin_name(Kind.PREDICTORS, PREDICTORS) | None = Field(  # type: ignore[valid-type]  # as algorithms
        default=None, description=f"{', '.join(PREDICTORS)}, the name of an installed plug-in, or module:Class"
    )
    """The predictor on whose values nsga2 breeds; it then measures the best predicted networks of each step. None: nsga2
    breeds on measured values alone."""
    settings: Settings = settings()
    """Settings of an algorithm that a plug-in provides."""
    start: Literal["spread", "solved"] = Field(default="spread", description="spread or solved")
    """The first networks: spread over the space, or solved: up to half of the evaluations measure the largest network with one
    choice reduced, and the next ones are solved from these for limits from the lowest to the highest cost."""
    evaluations: int = whole_number(2, 10**6, default=100)
    """The networks to measure, the smallest and the largest among them."""
    minutes: float | None = positive(10**6, default=None, of="minutes")
    """Ends the search after this time, even if evaluations are left."""
    plateau: PlateauConfig | None = None
    """Ends the search when the hypervolume of its front hardly rises any more."""
    batch: int = whole_number(1, 10**6, default=8)
    """Networks that are asked for and measured together, between two fits of the models."""
    synchronous: Flag = False
    """True asks for batches in all searches. Else one that times nothing asks for one more network as soon as a Ray worker is
    free."""
    workers: int | None = whole_number(1, 1024, default=None)
    """Processes that score accuracy; None: one a core."""
    time_limit_s: float | None = positive(10**6, default=None, of="seconds")
    """The time limit of each network that a Ray worker scores; None: 20 times the longest so far, at least 60."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.settings and self.algorithm in ALGORITHMS:
            raise conflict(
                "settings", f"are those of a plug-in, and {self.algorithm} is a shipped algorithm; remove them"
            )
        if self.predictor is not None and (fault := predictor_fault(self.algorithm)):
            raise conflict("predictor", fault)
        if self.plateau is not None and self.plateau.evaluations >= self.evaluations:
            expected = f"expected fewer than the {self.evaluations} evaluations of the search"
            raise problem("plateau.evaluations", f"{expected}, or it ends nothing; got {self.plateau.evaluations}")
        return self
