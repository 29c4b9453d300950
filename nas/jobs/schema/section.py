"""Base model of the sections of a job file, and fields for kinds of plain values (no torch)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


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
