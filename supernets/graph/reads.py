"""Hashable snapshots of the module attributes that a forward reads, for the cache of traces."""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from types import BuiltinFunctionType, FunctionType
from typing import cast

import torch
from torch import nn
from torch.fx.immutable_collections import immutable_dict, immutable_list

Read = tuple[tuple[str, ...], str]
"""The path of a module below the traced one, and the name of the attribute."""
Reads = tuple[Read, ...]

HOLE = object()
"""Stands in arguments for a value of the graph."""
_BY_IDENTITY = (type, FunctionType, BuiltinFunctionType, property, classmethod, staticmethod, Enum, torch.dtype)
"""Types whose instances are compared by identity, because they do not change."""


class HiddenStateError(Exception):
    """A value may change in a way that `frozen` cannot detect."""


def frozen(value: object) -> Hashable:
    """A hashable snapshot of a value, equal for values of the same type with equal parts.

    Raises:
        HiddenStateError: the value has a part that may change while it stays the same object.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return (kind, value)
    if kind is float or kind is complex:
        return (kind, repr(value))  # distinguishes 0.0 from -0.0, and nan equals itself
    if kind in (tuple, list, torch.Size, immutable_list):
        return (kind, tuple([frozen(part) for part in value]))  # type: ignore[attr-defined]
    if kind is dict or kind is immutable_dict:
        return (kind, tuple([(frozen(key), frozen(part)) for key, part in value.items()]))  # type: ignore[attr-defined]
    if kind is set or kind is frozenset:
        return (kind, frozenset(frozen(part) for part in value))  # type: ignore[attr-defined]
    if value is HOLE or isinstance(value, _BY_IDENTITY):
        return value
    raise HiddenStateError(kind.__name__)


def state(module: nn.Module, name: str) -> Hashable:
    """The snapshot of an attribute that a forward reads; of a tensor or child module its type only.

    Raises:
        HiddenStateError: as in `frozen`.
    """
    own = module.__dict__
    if name == "_modules":
        return tuple([(key, type(child)) for key, child in own[name].items()])
    if name in own:
        return frozen(own[name])
    for box in ("_modules", "_parameters", "_buffers"):
        if name in own[box]:
            return cast(Hashable, type(own[box][name]))
    for cls in type(module).__mro__:
        if name in cls.__dict__:
            return frozen(cls.__dict__[name])
    return None


def states(module: nn.Module, reads: Reads) -> tuple[Hashable, ...] | None:
    """The states of all reads; None if a module does not exist or a state is hidden."""
    there = []
    for path, name in reads:
        at: nn.Module | None = module
        for part in path:
            at = None if at is None else at._modules.get(part)
        if at is None:
            return None
        try:
            there.append(state(at, name))
        except HiddenStateError:
            return None
    return tuple(there)
