"""Base model of the sections of a job file, and fields for kinds of plain values and names of plug-ins (no torch)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from nas.errors import UnknownNameError
from nas.jobs.schema.errors import problem, show
from nas.plugins import Kind, is_dotted, known_names

_STORED: ContextVar[bool] = ContextVar("stored", default=False)


class Section(BaseModel):
    """A mapping of a job file: frozen, and without unknown keys.

    Every field of plain values has a description that completes "expected ..." in errors.

    Attributes:
        former_keys: Keys of earlier versions. They are ignored in the job files of runs, and rejected in new ones.
    """

    former_keys: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Flag = Annotated[bool, Field(strict=True, description="true or false")]
OptionalPath = Annotated[str | None, Field(strict=True, min_length=1, pattern=r"^[^\x00]+$")]


def whole_number(minimum: int, maximum: int, *, default: int | None, of: str = "") -> Any:
    """A field of a whole number within bounds; `of` names what it counts."""
    return Field(
        default,
        strict=True,
        ge=minimum,
        le=maximum,
        description=f"a whole number{_unit_text(of)} from {minimum} to {maximum}",
    )


def number(minimum: float, maximum: float, *, default: float | None, of: str = "") -> Any:
    """A field of a number within bounds, inclusive; `of` names its unit."""
    return Field(
        default,
        strict=True,
        ge=minimum,
        le=maximum,
        description=f"a number{_unit_text(of)} from {minimum:g} to {maximum:g}",
    )


def positive(maximum: int, *, default: float | None, of: str = "") -> Any:
    """A field of a number above 0; `of` names its unit."""
    return Field(
        default,
        strict=True,
        gt=0,
        le=maximum,
        description=f"a number{_unit_text(of)} greater than 0, at most {maximum}",
    )


def _unit_text(unit: str) -> str:
    return f" of {unit}" if unit else ""


@contextmanager
def names_of_stored_jobs() -> Iterator[None]:
    """Accepts every name within the context: a run can be read where the packages of its plug-ins are not installed."""
    token = _STORED.set(True)
    try:
        yield
    finally:
        _STORED.reset(token)


def is_stored() -> bool:
    """True while the job of a run is read, which earlier versions accepted, and which must stay readable."""
    return _STORED.get()


def plugin_name(kind: Kind, shipped: Collection[str]) -> Any:
    """The type of a field whose value is a shipped name, a name that an installed package registers, or `module:Class`."""

    def check(value: str) -> str:
        if value in shipped or is_dotted(value) or _STORED.get():
            return value
        names = known_names(kind, shipped)
        if value not in names:
            raise problem("", str(UnknownNameError(kind.noun, value, names)), code="job.unknown-name")
        return value

    def extend(schema: dict[str, Any]) -> None:
        schema["enum"] = known_names(kind, shipped)  # `nas.jobs.schema.job_schema` adds the classes

    expected = ", ".join([*shipped, "the name of an installed plug-in"]) + ", or module:Class"
    field = Field(strict=True, min_length=1, max_length=500, description=expected, json_schema_extra=extend)
    return Annotated[str, field, AfterValidator(check)]


def _check_settings(value: object) -> object:
    """The settings, if they are plain values."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key.isidentifier() for key in value):
        raise problem("", f"expected a mapping from the plug-in's settings to values, got {show(value)}")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise problem("", f"expected plain values (numbers, texts, lists, mappings), got {show(value)}") from None
    return value


SETTINGS = "a mapping from the plug-in's settings to values, e.g. {length: 5}"
Settings = Annotated[dict[str, Any], BeforeValidator(_check_settings)]
"""The settings that the constructor of a plug-in gets; which keys it takes is known when it is loaded."""


def settings() -> Any:
    """A field of a plug-in's settings."""
    return Field(default_factory=dict, description=SETTINGS)
