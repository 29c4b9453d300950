"""The file of a lookup table: it restores the table, and is rejected where it is not compatible."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from hardware_profiles.lookup_table import Entry
from hardware_profiles.lookup_table_file import load_lookup, profile_of, save_lookup
from hardware_profiles.measuring.protocol import PROTOCOL
from tests.errors import raises
from tests.hardware_profiles.test_lookup_table import ENVIRONMENT, PROFILE, table


def test_a_file_restores_the_table(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    save_lookup(replace(table(), complete=False), path)
    save_lookup(table(), path)  # over the one that is there
    assert load_lookup(path, profile=PROFILE, environment=ENVIRONMENT) == table()
    assert load_lookup(path, profile=replace(PROFILE, description="else", python="python3.9"), environment=None)
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]
    assert profile_of(path) == "board"
    assert json.loads(path.read_text())["format"] == "latency-lookup-table/v1"


def test_values_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    broken = replace(table(), entries={"fp32": {"a": Entry(float("nan"), 0.0, 1)}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_lookup(broken, tmp_path / "table.json")
    assert list(tmp_path.iterdir()) == []
    with raises("lookup-table.unwritable", "nowhere", "No such file or directory"):
        save_lookup(table(), tmp_path / "nowhere" / "table.json")


def test_an_unfinished_table_is_accepted_only_to_continue(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    save_lookup(replace(table(), complete=False), path)
    with raises("lookup-table.unfinished", "profile board", str(path)):
        load_lookup(path, profile=PROFILE, environment=ENVIRONMENT)
    assert not load_lookup(path, profile=PROFILE, environment=ENVIRONMENT, unfinished=True).complete


def entry(**change: Any) -> dict[str, Any]:
    """A file's `entries` with one entry, changed."""
    return {"entries": {"fp32": {"a": {"net_ms": 1.0, "error_ms": 0.0, "macs": 1, "n": 1, **change}}}}


DAMAGED = "lookup-table.damaged"


@pytest.mark.parametrize(
    ("change", "code", "mentions"),
    [
        (
            {"format": "latency-lookup-table/v9"}, "lookup-table.other-format",
            ["'latency-lookup-table/v1'", "'latency-lookup-table/v9'"],
        ),
        ({"protocol": "mean-of-ten/v1"}, "lookup-table.other-protocol", ["'mean-of-ten/v1'", f"'{PROTOCOL}'"]),
        ({"profile": {"name": "phone"}}, "lookup-table.other-profile", ["'phone'", "'board'"]),
        ({"profile": {**asdict(PROFILE), "threads": 1}}, "lookup-table.other-profile", ["threads: was 1, is 2"]),
        ({"environment": {**ENVIRONMENT, "cpu": "a slow one"}}, "lookup-table.other-machine", ["a slow one", "a fast one"]),
        (entry(net_ms=float("nan")), DAMAGED, ["net_ms of 'a' is nan"]),
        (entry(net_ms=True), DAMAGED, ["net_ms of 'a' is True"]),
        (entry(macs=-1), DAMAGED, ["macs of 'a' is -1"]),
        (entry(macs=1.5), DAMAGED, ["macs of 'a' is 1.5"]),
        (entry(n=-1), DAMAGED, ["n of 'a' is -1"]),
        ({"entries": {"fp32": {"a": {"net_ms": 1.0}}}}, DAMAGED, ["'error_ms'"]),
        ({"entries": {"fp32": 3}}, DAMAGED, ["int"]),
        ({"sentinel_ms": 0}, DAMAGED, ["sentinel_ms", "is 0"]),
        ({"subnets": {"fp32": {"0-1": {"latency_ms": 0.0, "error_ms": 0.0}}}}, DAMAGED, ["latency_ms of '0-1' is 0.0"]),
        ({"fits": {"fp32": {"scale": "1", "offset_ms": 0, "n": 3, "mape": 0}}}, DAMAGED, ["scale of 'fp32' is '1'"]),
        ({"complete": "yes"}, DAMAGED, ["complete is 'yes'"]),
    ],
)  # fmt: skip
def test_incompatible_and_damaged_files_are_rejected(
    tmp_path: Path, change: dict[str, Any], code: str, mentions: list[str]
) -> None:
    path = tmp_path / "table.json"
    save_lookup(table(), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with raises(code, *mentions) as raised:
        load_lookup(path, profile=PROFILE, environment=ENVIRONMENT)
    assert str(raised.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b'{"format": ', DAMAGED),
        (b"\xff\xfe", DAMAGED),
        (b"[]", "lookup-table.other-format"),
        (None, "lookup-table.unreadable"),
    ],
)
def test_files_that_are_not_tables_are_rejected(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "table.json"
    if content is not None:
        path.write_bytes(content)
    with raises(code, str(path)):
        load_lookup(path, profile=PROFILE, environment=None)
