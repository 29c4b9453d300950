"""Checks of the numbers that a family's space is written with (no torch)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from supernets.errors import SpaceError


def check_number(name: str, value: object, limit: int) -> None:
    """Raises `SpaceError` unless the value is a whole number from 1 to the limit."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
        raise SpaceError(f"{name}: expected a whole number from 1 to {limit}, got {value!r}")


def check_options(name: str, options: Sequence[int], limit: int) -> None:
    """Raises `SpaceError` unless the options are whole numbers to the limit, at least one, in strictly ascending order."""
    _check_any(name, options)
    for option in options:
        check_number(name, option, limit)
    _check_ascending(name, options)


def check_ratios(name: str, options: Sequence[float], limit: int) -> None:
    """Raises `SpaceError` unless the options are numbers above 0 to the limit, at least one, in strictly ascending order."""
    _check_any(name, options)
    for option in options:
        number = isinstance(option, int | float) and not isinstance(option, bool) and math.isfinite(option)
        if not number or not 0 < option <= limit:
            raise SpaceError(f"{name}: expected a number above 0, at most {limit}, got {option!r}")
    _check_ascending(name, options)


def _check_any(name: str, options: Sequence[object]) -> None:
    if not options:
        raise SpaceError(f"{name}: expected at least one option, got none")


def _check_ascending(name: str, options: Sequence[float]) -> None:
    if any(low >= high for low, high in pairwise(options)):
        raise SpaceError(f"{name}: expected options in ascending order, each once; got {list(options)}")
