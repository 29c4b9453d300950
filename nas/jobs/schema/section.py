"""Base model of the sections of a job file, and fields for kinds of plain values (no torch)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A mapping of a job file: frozen, and without unknown keys.

    Every field of plain values has a description that completes "expected ..." in errors.

    Attributes:
        former_keys: of earlier versions. They are ignored in the job files of runs, and rejected in new ones.
    """

    former_keys: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Flag = Annotated[bool, Field(strict=True, description="true or false")]
OptionalPath = Annotated[str | None, Field(strict=True, min_length=1, pattern=r"^[^\x00]+$")]


def whole(least: int, most: int, *, default: int | None, of: str = "") -> Any:
    """A field of a whole number within bounds; `of` names what it counts."""
    return Field(default, strict=True, ge=least, le=most, description=f"a whole number{_of(of)} from {least} to {most}")


def number(least: float, most: float, *, default: float | None, of: str = "") -> Any:
    """A field of a number within bounds, inclusive; `of` names its unit."""
    return Field(default, strict=True, ge=least, le=most, description=f"a number{_of(of)} from {least:g} to {most:g}")


def positive(most: int, *, default: float | None, of: str = "") -> Any:
    """A field of a number above 0; `of` names its unit."""
    return Field(default, strict=True, gt=0, le=most, description=f"a number{_of(of)} greater than 0, at most {most}")


def _of(unit: str) -> str:
    return f" of {unit}" if unit else ""
