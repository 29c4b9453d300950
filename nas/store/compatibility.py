"""Refuses to put figures beside others that were taken under other conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.errors import NasError
from supernets.errors import CheckpointError

_ALWAYS: Mapping[str, Mapping[str, object]] = {"supernet": {"divergence": "kl", "keep": "last"}}
"""What runs of earlier versions did not record, and what it was in all of them; by section."""
_UNKNOWN: Mapping[str, tuple[str, ...]] = {
    "": ("family",),
    "supernet": ("distill", "teacher", "random_subnets", "micro_batches", "candidates", "pick"),
}
"""What runs of earlier versions did not record and nobody can tell now: it is not compared; by section."""


def check_compatibility(
    run: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], *, remedy: str = "put it back, or start a new run"
) -> None:
    """Lets pass what was made under conditions that have all of `ours`, as far as its version recorded them.

    Args:
        run: what the other figures are of, in words: ``run NAME``.
        remedy: what to do about it, in words.

    Raises:
        NasError: names the first condition that differs.
    """
    for name, now in _recorded(theirs, ours, section="").items():
        was = theirs.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            was = {**{key: value for key, value in _ALWAYS.get(name, {}).items() if key in now}, **was}
            now = _recorded(was, now, section=name)
        if was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            key = next(k for k in [*now, *was] if was.get(k) != now.get(k))
            detail = f", {key}{_told(was.get(key), now.get(key))}"
        else:
            detail = _told(was, now)
        raise NasError(f"{run} was made under other conditions: {name}{detail}; {remedy}")


def _recorded(was: Mapping[str, Any], now: Mapping[str, Any], *, section: str) -> dict[str, Any]:
    """What of a section of the conditions now can be compared with those that a run recorded."""
    unknown = _UNKNOWN.get(section, ())
    return {key: value for key, value in now.items() if key in was or key not in unknown}


def _told(was: object, now: object) -> str:
    """What a condition was and is; of lists, which are long, nothing."""
    return "" if isinstance(was, list) or isinstance(now, list) else f": was {was}, is {now}"


def check_teacher(run: str, was: str | None, now: str) -> None:
    """Refuses a teacher whose weights are not those that a training began to learn from."""
    if was is not None and was != now:
        raise CheckpointError(
            f"run {run}: it learns from a teacher of the weights {was}, and training.teacher now has {now}; put the "
            "teacher back, or start a new run"
        )


def check_weights(run: str, was: str | None, now: str) -> None:
    """Refuses weights that are not those that a run's figures were taken on."""
    if was is not None and was != now:
        raise CheckpointError(
            f"run {run}: its figures are of the weights {was}, but the checkpoint now holds {now}; put the checkpoint "
            "back, or start a new run"
        )
