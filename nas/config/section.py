"""What the sections of a job file are made of: their model, and kinds of plain values (no torch)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A mapping of a job file: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# Every field of plain values has a description that completes "expected ...": it is what errors say.
Positive = Annotated[int, Field(strict=True, ge=1, le=10**6, description="a whole number from 1 to 1000000")]
TwoOrMore = Annotated[int, Field(strict=True, ge=2, le=10**6, description="a whole number from 2 to 1000000")]
Flag = Annotated[bool, Field(strict=True, description="true or false")]
