"""The file of a latency lookup table: written whole or not at all, and checked against what it is to be used for."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hardware_profiles.base import HardwareProfile
from hardware_profiles.environment import differences, machine_key
from hardware_profiles.errors import LookupTableError
from hardware_profiles.lookup_table import AffineFit, Entry, LookupTable, Subnet
from hardware_profiles.measuring.protocol import PROTOCOL

FORMAT = "latency-lookup-table/v1"
_NOT_COMPARED = ("description", "python")
"""Facts of a profile that change no figure by themselves (the interpreter's version is in the environment)."""
_LEAST_MS = 1e-9
"""Latencies below are no latencies."""


def save_lookup(table: LookupTable, path: Path) -> None:
    """Writes a table's file, whole or not at all.

    Raises:
        LookupTableError: the file cannot be written.
    """
    data = {"format": FORMAT, **asdict(table)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise LookupTableError(f"{path}: the lookup table cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def load_lookup(
    path: Path, *, profile: HardwareProfile, environment: Mapping[str, Any] | None, unfinished: bool = False
) -> LookupTable:
    """The table of a file, checked against what it is to be used for.

    Args:
        profile: that latencies are wanted for.
        environment: of the machine that they will be measured on; None where no machine is at hand to ask.
        unfinished: an interrupted calibration's table will do.

    Raises:
        LookupTableError: the file is missing, damaged, unfinished, or of another format, protocol, profile or machine.
    """
    table = _read(path)
    if table.protocol != PROTOCOL:
        raise LookupTableError(
            f"{path}: the lookup table was measured by the protocol {table.protocol!r}, figures are now taken by "
            f"{PROTOCOL!r}; calibrate again"
        )
    _check_profile(path, table.profile, profile)
    if environment is not None and machine_key(table.environment) != machine_key(environment):
        told = "; ".join(differences(table.environment, environment))
        raise LookupTableError(
            f"{path}: the lookup table was measured on another machine than profile {profile.name} is now measured on "
            f"({told}); calibrate there anew, into another file"
        )
    if not table.complete and not unfinished:
        raise LookupTableError(
            f"{path}: the calibration of this lookup table was interrupted; go on with: "
            f"nas calibrate {profile.name} --job JOB -o {path}"
        )
    return table


def profile_of(path: Path) -> str:
    """The name of the profile that a file's table is of.

    Raises:
        LookupTableError: the file is missing, damaged or of another format.
    """
    return str(_read(path).profile.get("name"))


def _check_profile(path: Path, was: Mapping[str, Any], profile: HardwareProfile) -> None:
    now = asdict(profile)
    if was.get("name") != profile.name:
        raise LookupTableError(
            f"{path}: the lookup table is of profile {was.get('name')!r}, expected one of {profile.name!r}; "
            f"make it with: nas calibrate {profile.name} --job JOB"
        )
    told = [
        f"{key}: was {was.get(key)!r}, is {value!r}"
        for key, value in now.items()
        if key not in _NOT_COMPARED and was.get(key) != value
    ]
    if told:
        raise LookupTableError(
            f"{path}: profile {profile.name} is not what the lookup table was measured on ({'; '.join(told)}); "
            "put it back, or calibrate again"
        )


def _read(path: Path) -> LookupTable:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LookupTableError(f"{path}: the lookup table cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON; or nested without end
        raise LookupTableError(f"{path}: the lookup table is damaged: {error}; calibrate again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        came = repr(data["format"]) if isinstance(data, dict) and "format" in data else "no format"
        raise LookupTableError(
            f"{path}: expected a lookup table of the format {FORMAT!r}, got {came}; make one with: "
            "nas calibrate PROFILE --job JOB"
        )
    try:
        return _parse(data)
    except KeyError as error:
        raise LookupTableError(f"{path}: the lookup table is damaged: it lacks {error}; calibrate again") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise LookupTableError(f"{path}: the lookup table is damaged: {error}; calibrate again") from None


def _parse(data: dict[str, Any]) -> LookupTable:
    for key, kind in (("profile", dict), ("environment", dict), ("protocol", str), ("source", str), ("complete", bool)):
        if not isinstance(data[key], kind):
            raise TypeError(f"{key} is {data[key]!r}")
    return LookupTable(
        data["profile"],
        data["protocol"],
        data["environment"],
        data["source"],
        _number(data["sentinel_ms"], "sentinel_ms", least=_LEAST_MS),
        entries={p: {key: _entry(e, key) for key, e in own.items()} for p, own in data["entries"].items()},
        subnets={p: {key: _subnet(s, key) for key, s in own.items()} for p, own in data["subnets"].items()},
        fits={precision: _fit(f, precision) for precision, f in data["fits"].items()},
        complete=data["complete"],
    )


def _entry(data: Mapping[str, Any], key: str) -> Entry:
    net_ms, error_ms = _number(data["net_ms"], key), _number(data["error_ms"], key, least=0.0)
    return Entry(net_ms, error_ms, _count(data["macs"], key), _count(data["n"], key, least=1))


def _subnet(data: Mapping[str, Any], key: str) -> Subnet:
    return Subnet(_number(data["latency_ms"], key, least=_LEAST_MS), _number(data["error_ms"], key, least=0.0))


def _fit(data: Mapping[str, Any], where: str) -> AffineFit:
    scale, offset_ms = _number(data["scale"], where), _number(data["offset_ms"], where)
    return AffineFit(scale, offset_ms, _count(data["n"], where), _number(data["mape"], where, least=0.0))


def _number(value: object, where: str, *, least: float = -math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise ValueError(f"{where!r} has the figure {value!r}")
    return float(value)


def _count(value: object, where: str, *, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{where!r} has the count {value!r}")
    return value
