"""Conversion of measurements to rows of a database, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from nas.engine.store.base import Outcome
from nas.engine.store.json_values import plain
from nas.search.problem.objectives import Fidelity, Measurement, Request, Status, Variant, check_value
from supernets.space import Architecture

# Looked up, since calling an enumeration takes four times as long, and a report reads tens of thousands of rows.
_FIDELITIES = {str(fidelity): fidelity for fidelity in Fidelity}
_STATUSES = {str(status): status for status in Status}

_AttemptT = TypeVar("_AttemptT", Measurement, Outcome)

REQUEST_COLUMNS = ("architecture", "metric", "profile", "fidelity", "precision")
"""The columns that identify a request."""
OUTCOME_COLUMNS = (*REQUEST_COLUMNS, "attempt", "status", "value", "error", "seconds", "message", "time")
"""The columns that `outcome_of` takes, in this order."""
MEASUREMENT_COLUMNS = (*OUTCOME_COLUMNS, "weights", "data", "protocol", "environment", "detail")
"""The columns that `measurement_of` takes, in this order."""


def storable(measurement: Measurement) -> Measurement:
    """The measurement exactly as reading it back gives it, but for its samples.

    Raises:
        ValueError: a value that is not finite (a candidate without a value is FAILED).
        TypeError: its environment or detail is not JSON-able.
    """
    values = {"value": measurement.value, "error": measurement.error, "seconds": measurement.seconds}
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            request = measurement.request
            raise ValueError(
                f"the {name} of {request.metric} of {request.architecture.key} is {value}; expected a finite number "
                "(give a candidate without a value the status FAILED)"
            )
    return replace(
        measurement,
        value=None if measurement.value is None else float(measurement.value),
        error=None if measurement.error is None else float(measurement.error),
        seconds=float(measurement.seconds),
        environment=plain(measurement.environment, where="environment"),
        detail=plain(measurement.detail, where="detail"),
        # An error's text may quote a file name that is no UTF-8, which no database takes.
        message=measurement.message.encode(errors="backslashreplace").decode(),
    )


def check_step(step: int, following: int) -> None:
    """Raises `ValueError` unless `step` is the one after the last recorded ask: asks are read back by position."""
    if step != following:
        raise ValueError(f"the next ask of this run is step {following}, got step {step}")


def request_columns(request: Request) -> dict[str, str]:
    """A request by column name; the column of the precision holds the variant.

    No profile is "", not NULL: in SQL two NULLs differ, so no UNIQUE would hold.
    """
    return {
        "architecture": request.architecture.key,
        "metric": request.metric,
        "profile": request.profile or "",
        "fidelity": str(request.fidelity),
        "precision": str(request.variant),
    }


def measurement_columns(measurement: Measurement) -> dict[str, Any]:
    """A storable measurement by column name, without its samples."""
    names = ("attempt", "value", "error", "weights", "data", "protocol", "environment", "detail", "seconds", "message")
    columns: dict[str, Any] = {name: getattr(measurement, name) for name in names}
    return {**request_columns(measurement.request), **columns, "status": str(measurement.status)}


def measurement_of(row: Sequence[Any]) -> Measurement:
    """The measurement that a row of `MEASUREMENT_COLUMNS` holds, without samples; ValueError or SpaceError if damaged."""
    # By position: to look columns up by name takes as long as to read them from the database.
    key, metric, profile, fidelity, variant, attempt, status = row[:7]
    value, error, seconds, message, time, weights, data, protocol, environment, detail = row[7:]
    stored_fidelity = _FIDELITIES.get(fidelity) or Fidelity(fidelity)
    return Measurement(
        Request(Architecture.parse(key), metric, profile or None, stored_fidelity, *Variant.parse(variant)),
        _STATUSES.get(status) or Status(status),
        value,
        error,
        weights=weights,
        data=data,
        protocol=protocol,
        environment=environment,
        detail=detail,
        attempt=attempt,
        seconds=seconds,
        message=message,
        committed=time,
    )


def outcome_of(row: Sequence[Any]) -> Outcome:
    """The outcome that a row of `OUTCOME_COLUMNS` holds; ValueError or SpaceError if damaged."""
    key, metric, profile, fidelity, variant, attempt, status, value, error, seconds, message, time = row
    stored_status = _STATUSES.get(status) or Status(status)
    check_value(value, stored_status)
    return Outcome(
        Architecture.parse(key),
        metric,
        profile or None,
        _FIDELITIES.get(fidelity) or Fidelity(fidelity),
        *Variant.parse(variant),
        attempt,
        stored_status,
        value,
        error,
        seconds,
        message,
        time,
    )


def latest(attempts: Iterable[_AttemptT], request: Callable[[_AttemptT], Hashable]) -> list[_AttemptT]:
    """The highest attempt at each request, in the order given; `request` returns what identifies the request of an attempt."""
    ordered = list(attempts)
    if not any(a.attempt for a in ordered):
        return ordered
    requests = [request(a) for a in ordered]
    last: dict[Hashable, int] = {}
    for identity, a in zip(requests, ordered, strict=True):
        last[identity] = max(a.attempt, last.get(identity, 0))
    return [a for identity, a in zip(requests, ordered, strict=True) if a.attempt == last[identity]]
