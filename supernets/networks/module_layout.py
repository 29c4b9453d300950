"""The layout of a module: what a program of its forward follows from, apart from the values of its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

Layout = list[object]
"""Module by module: its type, its attributes' names and values, its tensors' names and shapes, and its children's names; of one
that was before, its number."""
_IMMUTABLE = frozenset((type(None), bool, int, float, complex, str, bytes, type, torch.dtype, torch.device, torch.Size))
_BOOKKEEPING = frozenset(vars(nn.Module()))
_MAX_DEPTH = 4
"""The depth of objects within attributes whose own attributes are read."""


def layout_of(module: nn.Module, *ignored: str) -> Layout:
    """The layout of a module; two are equal only if the module is unchanged, or changed in the values of its tensors alone.

    Modules with equal layouts compute the same if their tensors are equal. The reverse need not hold: an attribute of a type
    that cannot be compared, a function say, is equal to itself alone.

    Args:
        ignored: names of attributes that no forward reads.
    """
    layout: Layout = []
    add = layout.append
    # Not by `named_modules`, which leaves out the second place of a module, where another one may be put.
    pending, numbers = [module], dict[int, int]()
    while pending:
        submodule = pending.pop()
        if id(submodule) in numbers:
            add(numbers[id(submodule)])
            continue
        numbers[id(submodule)] = len(numbers)
        attributes = vars(submodule)
        names = _names_of_attributes(tuple(attributes), ignored)
        layout += (type(submodule), names)
        for key in names:
            value = attributes[key]
            add(value if type(value) in _IMMUTABLE else _snapshot(value, 0))
        for box in (attributes["_parameters"], attributes["_buffers"]):
            for key, tensor in box.items():
                add(key)
                add(None if tensor is None else tensor.shape)
        for name, child in attributes["_modules"].items():
            if child is not None:
                add(name)
                pending.append(child)
    return layout


@lru_cache(maxsize=1024)
def _names_of_attributes(names: tuple[str, ...], ignored: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names of a module's attributes that torch does not have for itself, in alphabetical order."""
    return tuple(sorted(set(names).difference(_BOOKKEEPING, ignored)))


@dataclass(frozen=True, slots=True, eq=False)
class _Identity:
    """Equal to another one of the same object only."""

    value: object

    def __eq__(self, compared: object) -> bool:
        return isinstance(compared, _Identity) and self.value is compared.value

    def __hash__(self) -> int:
        return id(self.value)


def _snapshot(value: Any, depth: int) -> object:
    """A value that stays as it is when an attribute is changed in place, and is equal to that of an unchanged one."""
    kind = type(value)
    if kind in _IMMUTABLE or (kind is tuple and _IMMUTABLE.issuperset(map(type, value))):
        return value
    if isinstance(value, Tensor):
        return _Identity(value), 0 if value.is_inference() else value._version
    if depth >= _MAX_DEPTH or isinstance(value, nn.Module) or callable(value):
        return _Identity(value)
    if isinstance(value, list | tuple):
        return kind, tuple(_snapshot(part, depth + 1) for part in value)
    if isinstance(value, dict):
        parts = tuple((_snapshot(key, depth + 1), _snapshot(part, depth + 1)) for key, part in value.items())
        return kind, parts
    if isinstance(value, set | frozenset):
        return kind, frozenset(value)
    if (attributes := getattr(value, "__dict__", None)) is not None:
        return kind, _snapshot(attributes, depth + 1)
    return _Identity(value)
