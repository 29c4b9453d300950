"""Checks that every store makes."""

from __future__ import annotations


def check_step(step: int, following: int) -> None:
    """Raises `ValueError` unless `step` is the one after the last recorded ask: asks are read back by position."""
    if step != following:
        raise ValueError(f"the next ask of this run is step {following}, got step {step}")
