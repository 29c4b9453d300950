"""Base of a family's spec: its dimensions say what values they take, which gives checks, JSON and job-file keys (no torch)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from types import NoneType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from supernets.errors import DimensionError, SpaceError

MAX_STAGES = 16


class Kind(ABC):
    """The values that a dimension takes.

    Attributes:
        expected: completes "expected ..." in the errors of a job file.
    """

    expected: str

    @abstractmethod
    def checked(self, name: str, value: Any) -> Any:
        """The value in its one form, e.g. ratios as floats; raises `DimensionError` for any other value."""


@dataclass(frozen=True)
class Number(Kind):
    """A fixed size: a whole number from `minimum` to `maximum`."""

    maximum: int
    expected: str = "a whole number"
    minimum: int = 1

    def checked(self, name: str, value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool) or not self.minimum <= value <= self.maximum:
            raise DimensionError(name, f"expected a whole number from {self.minimum} to {self.maximum}, got {value!r}")
        return value


@dataclass(frozen=True)
class Options(Kind):
    """An elastic dimension: whole numbers from `minimum` to `maximum`, one or more, in strictly ascending order."""

    maximum: int
    expected: str = "a list of whole numbers in ascending order, e.g. [8, 16, 24]"
    minimum: int = 1

    def checked(self, name: str, value: Any) -> Any:
        if not value:
            raise DimensionError(name, "expected at least one option, got none")
        options = tuple(self.option(name, option) for option in value)
        if any(low >= high for low, high in pairwise(options)):
            raise DimensionError(name, f"expected options in ascending order, each once; got {list(options)}")
        return options

    def option(self, name: str, value: Any) -> float:
        """One of the options in its one form; raises `DimensionError` for any other value."""
        return int(Number(self.maximum, minimum=self.minimum).checked(name, value))


@dataclass(frozen=True)
class Ratios(Options):
    """An elastic dimension: numbers above 0, at most `maximum`, one or more, in strictly ascending order; kept as floats."""

    expected: str = "a list of numbers in ascending order, e.g. [0.2, 0.25, 0.5]"

    def option(self, name: str, value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not 0 < value <= self.maximum:
            raise DimensionError(name, f"expected a number above 0, at most {self.maximum}, got {value!r}")
        return float(value)


@dataclass(frozen=True)
class Vocabularies(Options):
    """An elastic number of tokens: shares (at most 1) of a pretrained network's, or numbers of them; one or more, sorted.

    A family has numbers alone: shares become numbers once the tokenizer is known.
    """

    expected: str = "a share of the tokens, a number of them, or a list of these, e.g. 0.5 or [0.25, 0.5, 1.0]"

    def checked(self, name: str, value: Any) -> Any:
        values = value if isinstance(value, list | tuple) else (value,)
        return super().checked(name, sorted(self.option(name, option) for option in values))

    def option(self, name: str, value: Any) -> float:
        if isinstance(value, float) and value > 1 and value.is_integer():
            value = int(value)
        if isinstance(value, int) and value != 1:
            return int(Number(self.maximum, minimum=2).checked(name, value))
        return float(Ratios(1).option(name, value))


@dataclass(frozen=True)
class Order(Kind):
    """An order of the whole numbers from 0, each once; not an elastic dimension."""

    expected: str = "a list of the numbers from 0, each once, e.g. [2, 0, 1]"

    def checked(self, name: str, value: Any) -> Any:
        order = tuple(value)
        if not all(isinstance(i, int) and not isinstance(i, bool) for i in order) or sorted(order) != [
            *range(len(order))
        ]:
            raise DimensionError(name, f"expected {self.expected}; got {list(order)}")
        return order


@dataclass(frozen=True)
class Flag(Kind):
    """True or false."""

    expected: str = "true or false"

    def checked(self, name: str, value: Any) -> Any:
        if not isinstance(value, bool):
            raise DimensionError(name, f"expected true or false, got {value!r}")
        return value


@dataclass(frozen=True)
class Word(Kind):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:  # type: ignore[override]  # an attribute of the others
        return " or ".join(self.words)

    def checked(self, name: str, value: Any) -> Any:
        if value not in self.words:
            raise DimensionError(name, f"expected {self.expected}, got {value!r}")
        return value


@dataclass(frozen=True)
class Stages(Kind):
    """1 to `MAX_STAGES` stages, each with its own spec."""

    spec: type[Spec]

    @property
    def expected(self) -> str:  # type: ignore[override]  # an attribute of the others
        return f"a list of stages, each with {', '.join(d.name for d in dimensions(self.spec) if d.required)}"

    def checked(self, name: str, value: Any) -> Any:
        if not 1 <= len(value) <= MAX_STAGES:
            raise DimensionError(name, f"expected 1 to {MAX_STAGES} stages, got {len(value)}")
        return value


@dataclass(frozen=True)
class Dimension:
    """A field of a spec, as its annotation describes it.

    Attributes:
        name: Name of the field, which is a key of a job file.
        kind: The values that it takes.
        optional: Whether the networks may be without it; its value is then None.
        default: Its default value; `dataclasses.MISSING` if it has none.
    """

    name: str
    kind: Kind
    optional: bool
    default: Any

    @property
    def required(self) -> bool:
        """True if a spec cannot be made without the dimension."""
        return self.default is MISSING


@dataclass(frozen=True)
class Spec:
    """Dimensions of a family's space, or of a stage of it; subclasses are frozen dataclasses.

    A field's annotation says what values it takes: `Annotated` with a `Kind`, a `Literal` of words, `bool`, or a tuple of the
    specs of stages; each perhaps ``| None``.

    Raises:
        DimensionError: a value makes no network.
    """

    def __post_init__(self) -> None:
        for dimension in dimensions(type(self)):
            value = getattr(self, dimension.name)
            if value is not None or not dimension.optional:
                object.__setattr__(self, dimension.name, dimension.kind.checked(dimension.name, value))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """The spec of these values by dimension, defaults in place of those that are not there.

        Args:
            values: Value of each dimension by its name, the name of a field: a number, a tuple of options in ascending order,
                a word, ... Other names raise `TypeError`.

        Raises:
            DimensionError: a dimension without a default is missing, or a value makes no network.
        """
        for dimension in dimensions(cls):
            if dimension.required and dimension.name not in values:
                raise DimensionError(
                    dimension.name, "is missing; give it, or a preset to take it from", code="space.missing-dimension"
                )
        return cls(**values)

    @property
    def single(self) -> bool:
        """True if the space holds one network."""
        field_values = [getattr(self, d.name) for d in dimensions(type(self)) if not isinstance(d.kind, Order)]
        values = [value for value in field_values if isinstance(value, tuple)]
        return all(item.single if isinstance(item, Spec) else len(value) == 1 for value in values for item in value)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads (after a trip through JSON too), for checkpoints.

        What is at its default is left out, so that a space keeps its digest when a version brings new dimensions.
        """
        values = {d.name: getattr(self, d.name) for d in dimensions(type(self)) if getattr(self, d.name) != d.default}
        stages = {
            name: value for name, value in values.items() if isinstance(value, tuple) and isinstance(value[0], Spec)
        }
        return values | {name: tuple(stage.to_json() for stage in value) for name, value in stages.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The spec that `to_json` wrote.

        Raises:
            SpaceError: the data describe no such spec.
        """
        try:
            values = {d.name: data[d.name] for d in dimensions(cls) if d.required or data.get(d.name) is not None}
            for d in dimensions(cls):
                if isinstance(d.kind, Stages) and d.name in values:
                    values[d.name] = tuple(map(d.kind.spec.from_json, values[d.name]))
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise SpaceError(f"the description of a {cls.__name__} is malformed: {error!r}") from None


_DIMENSIONS: dict[type[Spec], tuple[Dimension, ...]] = {}


def dimensions(spec: type[Spec]) -> tuple[Dimension, ...]:
    """The dimensions of a type of specs, in the order of its fields, those that are keywords last."""
    if spec not in _DIMENSIONS:
        hints, ordered = (
            get_type_hints(spec, include_extras=True),
            sorted(fields(spec), key=lambda field: field.kw_only is True),
        )
        _DIMENSIONS[spec] = tuple(_dimension(field.name, hints[field.name], field.default) for field in ordered)
    return _DIMENSIONS[spec]


def _dimension(name: str, hint: Any, default: Any) -> Dimension:
    optional = NoneType in get_args(hint)
    return Dimension(name, _kind(get_args(hint)[0] if optional else hint), optional, default)


def _kind(hint: Any) -> Kind:
    marked = next((mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Kind)), None)
    if marked is not None:
        return marked
    if hint is bool:
        return Flag()
    if get_origin(hint) is Literal:
        return Word(get_args(hint))
    item = get_args(hint)[0] if get_origin(hint) is tuple else None
    if isinstance(item, type) and issubclass(item, Spec):
        return Stages(item)
    raise TypeError(f"a dimension cannot be {hint!r}; annotate it with a Kind")


def check_distinct(name: str, ratios: Sequence[float], width: int, channels: Callable[[float], int]) -> None:
    """Raises `DimensionError` if two neighbouring ratios of a width give the same number of channels."""
    for low, high in pairwise(ratios):
        if channels(low) == channels(high):
            raise DimensionError(
                name,
                f"{low} and {high} of a width of {width} both give {channels(low)} channels, so equal networks would count "
                "as two; move the ratios apart, or raise the width",
            )
