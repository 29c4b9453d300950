"""Refuses to put figures beside others that were taken under other conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.errors import NasError
from supernets.errors import CheckpointError


def check_conditions(
    run: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], *, remedy: str = "put it back, or start a new run"
) -> None:
    """Lets pass what was made under conditions that have all of `ours`.

    Args:
        run: what the other figures are of, in words: ``run NAME``.
        remedy: what to do about it, in words.

    Raises:
        NasError: names the first condition that differs.
    """
    for name, now in ours.items():
        was = theirs.get(name)
        if was == now:
            continue
        detail = ""
        if isinstance(was, dict) and isinstance(now, dict):
            key = next(k for k in [*now, *was] if was.get(k) != now.get(k))
            detail = f", {key}: was {was.get(key)}, is {now.get(key)}"
        elif not isinstance(now, list):
            detail = f": was {was}, is {now}"
        raise NasError(f"{run} was made under other conditions: {name}{detail}; {remedy}")


def check_weights(run: str, was: str | None, now: str) -> None:
    """Refuses weights that are not those that a run's figures were taken on."""
    if was is not None and was != now:
        raise CheckpointError(
            f"run {run}: its figures are of the weights {was}, but the checkpoint now holds {now}; put the checkpoint "
            "back, or start a new run"
        )
