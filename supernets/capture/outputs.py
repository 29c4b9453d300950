"""The tensors among what a module's forward returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor


def tensors_of(outputs: object) -> Iterator[Tensor]:
    """The floating-point tensors of a module's outputs: alone, in a sequence, mapping or dataclass (nested ones too)."""
    if isinstance(outputs, Tensor) and outputs.is_floating_point():
        yield outputs
    for own in parts_of(outputs) or ():
        yield from tensors_of(own)


def parts_of(outputs: object) -> list[Any] | None:
    """The values of a sequence, mapping or dataclass; None for anything else."""
    if isinstance(outputs, Mapping):
        return list(outputs.values())
    if is_dataclass(outputs) and not isinstance(outputs, type):
        return [getattr(outputs, own.name) for own in fields(outputs)]
    return list(outputs) if isinstance(outputs, list | tuple) else None
