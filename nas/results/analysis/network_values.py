"""Networks with their values: one as a point, many as a table with a column per metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from nas.search.problem.objectives import Fidelity, Objective
from nas.search.problem.variants import PRECISION, RUNTIME
from supernets.space import Architecture, Option, SearchSpace

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """One architecture and its values.

    Attributes:
        space: Space of the architecture.
        values: Values by name of an objective or a constrained metric, in its unit and natural sign.
        errors: Errors by objective name: one standard error (metrics of a task), the noise floor (latency), 0 (exact), or,
            where `source` is ``predicted``, one predictive standard deviation.
        source: Origin; ``predicted`` points were never measured and are on no front.
        test: ``{"accuracy": share, "error": one standard error}`` on the test part, or another metric of the run's task by its
            name; None where it was not scored.
        fidelity: Protocol; ``final`` where a value comes from the longer protocol.
        committed: Time of its last measurement, in seconds since the epoch; 0 for a predicted one.
    """

    architecture: Architecture
    space: SearchSpace = field(repr=False)
    values: Mapping[str, float]
    errors: Mapping[str, float]
    source: Literal["measured", "predicted"] = "measured"
    test: Mapping[str, float] | None = None
    fidelity: Fidelity = Fidelity.SEARCH
    committed: float = 0.0

    @property
    def key(self) -> str:
        """The architecture's key."""
        return self.architecture.key

    @property
    def described(self) -> dict[str, Option]:
        """Option values by choice name; inactive choices are absent."""
        return self.space.values(self.architecture)

    @property
    def precision(self) -> str:
        """The precision in which it is deployed, where the run has several; else ""."""
        return self._last(PRECISION)

    @property
    def runtime(self) -> str:
        """The runtime in which it is deployed, where the run has several; else ""."""
        return self._last(RUNTIME)

    def _last(self, name: str) -> str:
        """The option of a choice of the variant, which are the last ones (see `Variants`); "" where there is none."""
        last = zip(self.space.choices[-2:], self.architecture.genes[-2:], strict=True)
        return next((str(choice.options[gene]) for choice, gene in last if choice.name == name), "")


@dataclass(frozen=True, eq=False)
class Points(Sequence[Point]):
    """Measured points of a space with values of the same metrics.

    A run may have tens of thousands: to make a `Point` of each would take longer than to read them.

    Attributes:
        keys: Keys of the architectures, (n,).
        names: Names of the metrics, (m,).
        values, errors: Values and errors as in `Point`, (n, m) each.
        committed: Time of the last measurement of each, in seconds since the epoch, (n,).
        final: Mask of the points that have a value by the longer protocol, (n,).
        tests: `Point.test` by position, of the points that were scored.
    """

    space: SearchSpace
    keys: Sequence[str]
    names: Sequence[str]
    values: Array
    errors: Array
    committed: Array
    final: NDArray[np.bool_]
    tests: Mapping[int, Mapping[str, float]]
    _point_by_index: dict[int, Point] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, place: int) -> Point: ...
    @overload
    def __getitem__(self, place: slice) -> Points: ...
    def __getitem__(self, place: int | slice) -> Point | Points:
        if isinstance(place, slice):
            return self.take(range(len(self))[place])
        i = range(len(self))[place]  # negative places count from the end; those beyond it raise
        if i not in self._point_by_index:
            self._point_by_index[i] = Point(
                Architecture.parse(self.keys[i]),
                self.space,
                dict(zip(self.names, self.values[i].tolist(), strict=True)),
                dict(zip(self.names, self.errors[i].tolist(), strict=True)),
                test=self.tests.get(i),
                fidelity=Fidelity.FINAL if self.final[i] else Fidelity.SEARCH,
                committed=float(self.committed[i]),
            )
        return self._point_by_index[i]

    def __iter__(self) -> Iterator[Point]:
        return (self[i] for i in range(len(self)))

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Positions by key."""
        return {key: place for place, key in enumerate(self.keys)}

    def take(self, places: Sequence[int] | NDArray[np.int64]) -> Points:
        """The points at some positions, in that order."""
        some = np.asarray(places, dtype=np.int64)
        return Points(
            self.space,
            [self.keys[i] for i in some.tolist()],
            self.names,
            self.values[some],
            self.errors[some],
            self.committed[some],
            self.final[some],
            {new: self.tests[old] for new, old in enumerate(some.tolist()) if old in self.tests} if self.tests else {},
        )


def values_of(points: Sequence[Point], name: str) -> Array:
    """The values of one metric of some points, (n,); NaN for a point without it."""
    if isinstance(points, Points):
        return points.values[:, points.names.index(name)]
    return np.array([point.values.get(name, np.nan) for point in points], dtype=np.float64)


def minimised_of(points: Sequence[Point], objectives: Sequence[Objective]) -> Array:
    """The values of some points in objectives, with signs such that less is better, (n, m)."""
    return np.stack([o.sign * values_of(points, o.name) for o in objectives], axis=1)


def errors_of(points: Sequence[Point], name: str) -> Array:
    """The errors of one metric of some points, (n,); NaN for a point without it."""
    if isinstance(points, Points):
        return points.errors[:, points.names.index(name)]
    return np.array([point.errors.get(name, np.nan) for point in points], dtype=np.float64)


def keys_of(points: Sequence[Point]) -> Sequence[str]:
    """The keys of some points' architectures, (n,)."""
    return points.keys if isinstance(points, Points) else [point.key for point in points]


def take_points(points: Sequence[Point], places: Sequence[int] | NDArray[np.int64]) -> Sequence[Point]:
    """The points at some positions, in that order."""
    if isinstance(points, Points):
        return points.take(places)
    return [points[i] for i in places]
