"""What every store refuses, whatever it keeps its rows in."""

from __future__ import annotations

from typing import Any

from nas.store.json_values import plain


def check_step(step: int, following: int) -> None:
    """Raises `ValueError` unless `step` is the one after the last recorded ask: asks are read back by position."""
    if step != following:
        raise ValueError(f"the next ask of this run is step {following}, got step {step}")


def checked_fact(name: str, value: Any) -> Any:
    """The value of a fact as it is kept.

    Raises:
        ValueError: the name is that of the last status's reason.
        TypeError: the value is not JSON-able.
    """
    if name == "reason":
        raise ValueError("'reason' is the reason of the last status; set it with set_status")
    return plain(value, where=name)
