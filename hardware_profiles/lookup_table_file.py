"""The file of a latency lookup table: written atomically, and checked for compatibility when it is read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from hardware_profiles.base import HardwareProfile
from hardware_profiles.environment import differences
from hardware_profiles.errors import LookupTableError
from hardware_profiles.files import check_regular
from hardware_profiles.lookup_table import AffineFit, Entry, LookupTable, Subnet
from hardware_profiles.measuring.protocol import PROTOCOL

FORMAT = "latency-lookup-table/v1"
_NOT_COMPARED = ("description", "python")
"""Keys of a profile that do not affect latency by themselves (the interpreter's version is in the environment)."""
_MINIMA: Mapping[str, int | float] = {
    "macs": 0,
    "n": 0,
    "net_ms": -math.inf,
    "error_ms": 0.0,
    "latency_ms": 1e-9,
    "sentinel_ms": 1e-9,
    "scale": -math.inf,
    "offset_ms": -math.inf,
    "mape": 0.0,
}
"""The smallest valid value of each number in the file; a whole number means that the value is one."""
Record = TypeVar("Record", Entry, Subnet, AffineFit)


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
        raise _error(path, f"cannot write it: {error.strerror}", code="lookup-table.unwritable") from None
    finally:
        temporary.unlink(missing_ok=True)


def load_lookup(
    path: Path, *, profile: HardwareProfile, environment: Mapping[str, Any] | None, unfinished: bool = False
) -> LookupTable:
    """The table in a file, checked against the profile and the machine that it will be used for.

    Args:
        profile: The profile for which latencies are estimated.
        environment: Environment of the machine that will measure; None skips the comparison of machines.
        unfinished: accepts the table of an interrupted calibration.

    Raises:
        LookupTableError: the file is missing, damaged, unfinished, or of another format, protocol, profile or machine.
    """
    table = _read(path)
    if table.protocol != PROTOCOL:
        why = f"it was measured by protocol {table.protocol!r}, expected {PROTOCOL!r}; calibrate again"
        raise _error(path, why, code="lookup-table.other-protocol")
    _check_profile(path, table.profile, profile)
    if environment is not None and (changed := differences(table.environment, environment)):
        why = f"it was measured on another machine than that of profile {profile.name} ({'; '.join(changed)})"
        raise _error(path, f"{why}; calibrate again, into another file", code="lookup-table.other-machine")
    if not table.complete and not unfinished:
        why = f"its calibration was interrupted; calibrate profile {profile.name} again into this file, which continues it"
        raise _error(path, why, code="lookup-table.unfinished")
    return table


def load_of_other_machine(path: Path, *, source: str) -> LookupTable:
    """The finished and measured table in a file, for predictions on another machine.

    Args:
        source: digest of the space that it must be of.

    Raises:
        LookupTableError: the file is missing, damaged, unfinished, of another space, or predicted itself.
    """
    table = _read(path)
    if not table.complete:
        why = f"its calibration was interrupted; resume it on its machine, that of profile {table.profile.get('name')}"
        raise _error(path, why, code="lookup-table.unfinished")
    if table.source != source:
        why = f"it is of another space ({table.source}) than the job's ({source}); calibrate that machine with this job"
        raise _error(path, why, code="lookup-table.other-space")
    if table.predicted:
        why = "its blocks were predicted from other tables; give tables whose blocks were measured"
        raise _error(path, why, code="lookup-table.predicted")
    return table


def profile_of(path: Path) -> str:
    """The name of the profile that a file's table was measured on.

    Raises:
        LookupTableError: the file is missing, damaged or of another format.
    """
    return str(_read(path).profile.get("name"))


def _check_profile(path: Path, was: Mapping[str, Any], profile: HardwareProfile) -> None:
    if was.get("name") != profile.name:
        why = f"it is of profile {was.get('name')!r}, expected {profile.name!r}; calibrate that profile"
        raise _error(path, why, code="lookup-table.other-profile")
    compared = {key: value for key, value in profile.to_json().items() if key not in _NOT_COMPARED}
    changed = [f"{key}: was {was.get(key)!r}, is {now!r}" for key, now in compared.items() if was.get(key) != now]
    if changed:
        why = f"profile {profile.name} has changed since it was measured ({'; '.join(changed)})"
        raise _error(path, f"{why}; restore the profile, or calibrate again", code="lookup-table.other-profile")


def _read(path: Path) -> LookupTable:
    try:
        check_regular(path)
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and data.get("format") == FORMAT:
            return _parse(data)
    except OSError as error:
        raise _error(path, f"cannot read it: {error.strerror}", code="lookup-table.unreadable") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise _error(path, f"it is damaged: {why}; calibrate again", code="lookup-table.damaged") from None
    format_text = repr(data["format"]) if isinstance(data, dict) and "format" in data else "no format"
    why = f"expected the format {FORMAT!r}, got {format_text}; calibrate the profile"
    raise _error(path, why, code="lookup-table.other-format")


def _error(path: Path, why: str, *, code: str) -> LookupTableError:
    return LookupTableError(f"{path}: the lookup table cannot be used: {why}", code=code)


def _parse(data: dict[str, Any]) -> LookupTable:
    for key, kind in (("profile", dict), ("environment", dict), ("protocol", str), ("source", str), ("complete", bool)):
        if not isinstance(data[key], kind):
            raise TypeError(f"{key} is {data[key]!r}")
    return LookupTable(
        data["profile"],
        data["protocol"],
        data["environment"],
        data["source"],
        float(_number(data, "sentinel_ms", "the table")),
        entries={
            p: {key: _record(Entry, e, key) for key, e in by_key.items()} for p, by_key in data["entries"].items()
        },
        subnets={
            p: {key: _record(Subnet, s, key) for key, s in by_key.items()} for p, by_key in data["subnets"].items()
        },
        fits={precision: _record(AffineFit, f, precision) for precision, f in data["fits"].items()},
        complete=data["complete"],
    )


def _record(kind: type[Record], data: Mapping[str, Any], where: str) -> Record:
    return kind(**{field.name: _number(data, field.name, where) for field in fields(kind)})


def _number(data: Mapping[str, Any], key: str, where: str) -> Any:
    value, minimum = data[key], _MINIMA[key]
    kinds = (int,) if isinstance(minimum, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or value < minimum:
        raise ValueError(f"{key} of {where!r} is {value!r}")
    return value if isinstance(minimum, int) else float(value)
