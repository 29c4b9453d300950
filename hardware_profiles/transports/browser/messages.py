"""Checks of what a browser sends: everything is bounded, as it may be hostile. Pure; no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_BODY = 2**20
"""Bytes of a request; the answer to a round with 24 entries of 500 runs has half of this."""
MAX_TEXT = 400
MAX_MS = 1e7


class MessageError(ValueError):
    """A message of a browser is malformed; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a browser reports of itself and its machine.

    Attributes:
        key: Random identifier that the browser keeps for this page's address.
        agent: User agent.
        platform: Operating system and model, where the browser tells them.
        architecture: Architecture of the processor, likewise.
        cores: Number of logical processors, as the browser reports it.
        memory_gib: Memory, as the browser rounds it; 0 where it does not tell.
        isolated: True if the page has shared memory and a precise clock (``crossOriginIsolated``).
        webgpu: True if the browser has a GPU adapter.
    """

    key: str
    agent: str
    platform: str
    architecture: str
    cores: int
    memory_gib: float
    isolated: bool
    webgpu: bool


def parse(body: bytes) -> Any:
    """The value of a JSON text without NaN and infinities.

    Raises:
        MessageError: it is too large, or anything else.
    """
    if len(body) > MAX_BODY:
        raise MessageError(f"{len(body)} bytes; expected at most {MAX_BODY}")
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise MessageError("the message is not JSON") from None


def mapping(value: Any, keys: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """A mapping with exactly these keys, and possibly the optional ones."""
    if not isinstance(value, dict) or not set(keys) <= set(value) <= {*keys, *optional}:
        raise MessageError(f"expected a mapping with {', '.join(keys)}")
    return value


def text(value: Any, name: str, *, min_length: int = 0, max_length: int = MAX_TEXT) -> str:
    """Printable text of a bounded length."""
    if not isinstance(value, str) or not min_length <= len(value) <= max_length or not value.isprintable():
        raise MessageError(f"{name}: expected {min_length} to {max_length} printable characters")
    return value


def flag(value: Any, name: str) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise MessageError(f"{name}: expected true or false")
    return value


def integer(value: Any, name: str, low: int, high: int) -> int:
    """An integer of a range."""
    if type(value) is not int or not low <= value <= high:
        raise MessageError(f"{name}: expected an integer from {low} to {high}")
    return value


def number(value: Any, name: str, high: float = MAX_MS, *, zero: bool = False) -> float:
    """A finite number above 0, or with `zero` of 0 or more."""
    if type(value) not in (int, float) or not (0 <= value <= high) or (value == 0 and not zero):
        raise MessageError(f"{name}: expected a number above 0, at most {high:g}")
    return float(value)


def numbers(value: Any, name: str, n: int) -> list[float]:
    """Exactly `n` finite numbers above 0."""
    if not isinstance(value, list) or len(value) != n:
        raise MessageError(f"{name}: expected {n} numbers")
    return [number(item, name) for item in value]


def device(value: Any) -> Device:
    """What a browser reports of itself."""
    data = mapping(value, ("key", "agent", "platform", "architecture", "cores", "memory_gib", "isolated", "webgpu"))
    return Device(
        key=text(data["key"], "key", min_length=16, max_length=64),
        agent=text(data["agent"], "agent", min_length=1),
        platform=text(data["platform"], "platform", max_length=120),
        architecture=text(data["architecture"], "architecture", max_length=60),
        cores=integer(data["cores"], "cores", 1, 4096),
        memory_gib=number(data["memory_gib"], "memory_gib", 1e6, zero=True),
        isolated=flag(data["isolated"], "isolated"),
        webgpu=flag(data["webgpu"], "webgpu"),
    )


def _failure(data: Any) -> dict[str, Any] | None:
    """The answer of a command that failed; None of one that did not."""
    if isinstance(data, dict) and data.get("event") in ("failed", "died", "refused"):
        failed = mapping(data, ("event", "message"))
        return {"event": failed["event"], "message": text(failed["message"], "message", min_length=1)}
    return None


def started(data: Any) -> dict[str, Any]:
    """The answer to ``start``: the runtime's version."""
    if (failed := _failure(data)) is not None:
        return failed
    checked = mapping(data, ("event", "version"))
    return {
        "event": _event(checked, "ready"),
        "version": text(checked["version"], "version", min_length=1, max_length=40),
    }


def loaded(data: Any) -> dict[str, Any]:
    """The answer to ``load``: the times of creating a session, and of a warm run."""
    if (failed := _failure(data)) is not None:
        return failed
    checked = mapping(data, ("event", "warm_ms", "session_ms"))
    return {
        "event": _event(checked, "loaded"),
        "warm_ms": number(checked["warm_ms"], "warm_ms"),
        "session_ms": numbers(checked["session_ms"], "session_ms", 2),
    }


def round_times(data: Any, n_runs: Mapping[str, int]) -> dict[str, Any]:
    """The answer to ``round``: the wall times of each entry, or why it failed.

    Args:
        n_runs: Number of runs by entry.
    """
    if (failed := _failure(data)) is not None:
        return failed
    checked = mapping(data, ("event", "entries"))
    entries = mapping(checked["entries"], list(n_runs))
    times: dict[str, Any] = {}
    for entry, n in n_runs.items():
        value = entries[entry]
        if isinstance(value, dict) and "message" in value:
            times[entry] = {"message": text(mapping(value, ("message",))["message"], "message", min_length=1)}
        else:
            times[entry] = {"wall_ms": numbers(mapping(value, ("wall_ms",))["wall_ms"], f"entry {entry}", n)}
    return {"event": _event(checked, "round"), "entries": times}


def released(data: Any) -> dict[str, Any]:
    """The answer to ``release``: charge of the battery, where the browser tells it."""
    checked = mapping(data, ("event", "battery", "charging"))
    level, charging = checked["battery"], checked["charging"]
    return {
        "event": _event(checked, "released"),
        "battery": None if level is None else number(level, "battery", 1.0, zero=True),
        "charging": None if charging is None else flag(charging, "charging"),
    }


def _event(data: Mapping[str, Any], expected: str) -> str:
    if data["event"] != expected:
        raise MessageError(f"event: expected {expected}")
    return expected


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
