"""The file of a lookup table: it gives the table back, and is refused where it is of something else."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from hardware_profiles.errors import LookupTableError
from hardware_profiles.lookup_table import Entry
from hardware_profiles.lookup_table_file import load_lookup, profile_of, save_lookup
from hardware_profiles.measuring.protocol import PROTOCOL
from tests.hardware_profiles.test_lookup_table import ENVIRONMENT, PROFILE, table


def test_a_file_gives_the_table_back(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    save_lookup(replace(table(), complete=False), path)
    save_lookup(table(), path)  # over the one that is there
    assert load_lookup(path, profile=PROFILE, environment=ENVIRONMENT) == table()
    assert load_lookup(path, profile=replace(PROFILE, description="else", python="python3.9"), environment=None)
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]
    assert profile_of(path) == "board"
    assert json.loads(path.read_text())["format"] == "latency-lookup-table/v1"


def test_figures_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    broken = replace(table(), entries={"fp32": {"a": Entry(float("nan"), 0.0, 1)}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_lookup(broken, tmp_path / "table.json")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LookupTableError, match="cannot be written: No such file or directory"):
        save_lookup(table(), tmp_path / "nowhere" / "table.json")


def test_an_unfinished_table_is_for_going_on_alone(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    save_lookup(replace(table(), complete=False), path)
    with pytest.raises(
        LookupTableError, match=r"interrupted; go on with: nas calibrate board --job JOB -o .*table\.json"
    ):
        load_lookup(path, profile=PROFILE, environment=ENVIRONMENT)
    assert not load_lookup(path, profile=PROFILE, environment=ENVIRONMENT, unfinished=True).complete


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"format": "latency-lookup-table/v9"},
            "expected a lookup table of the format 'latency-lookup-table/v1', got 'la",
        ),
        ({"protocol": "mean-of-ten/v1"}, f"by the protocol 'mean-of-ten/v1', figures are now taken by '{PROTOCOL}'"),
        ({"profile": {"name": "phone"}}, "of profile 'phone', expected one of 'board'"),
        ({"profile": {**asdict(PROFILE), "threads": 1}}, "threads: was 1, is 2"),
        ({"environment": {**ENVIRONMENT, "cpu": "a slow one"}}, r"on another machine .*a slow one.*a fast one"),
        (
            {"entries": {"fp32": {"a": {"net_ms": float("nan"), "error_ms": 0.0, "macs": 1, "n": 1}}}},
            "'a' has the figure nan",
        ),
        ({"entries": {"fp32": {"a": {"net_ms": True, "error_ms": 0.0, "macs": 1, "n": 1}}}}, "'a' has the figure True"),
        ({"entries": {"fp32": {"a": {"net_ms": 1.0, "error_ms": 0.0, "macs": -1, "n": 1}}}}, "'a' has the count -1"),
        ({"entries": {"fp32": {"a": {"net_ms": 1.0, "error_ms": 0.0, "macs": 1, "n": 0}}}}, "'a' has the count 0"),
        ({"sentinel_ms": 0}, "'sentinel_ms' has the figure 0"),
        ({"entries": {"fp32": {"a": {"net_ms": 1.0}}}}, "damaged: it lacks 'error_ms'"),
        ({"entries": {"fp32": 3}}, "damaged: 'int' object"),
        ({"subnets": {"fp32": {"0-1": {"latency_ms": 0.0, "error_ms": 0.0}}}}, "'0-1' has the figure 0.0"),
        ({"fits": {"fp32": {"scale": "1", "offset_ms": 0, "n": 3, "mape": 0}}}, "'fp32' has the figure '1'"),
        ({"complete": "yes"}, "complete is 'yes'"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = tmp_path / "table.json"
    save_lookup(table(), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(LookupTableError, match=told) as raised:
        load_lookup(path, profile=PROFILE, environment=ENVIRONMENT)
    assert str(raised.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"format": ', "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[]", "got no format"),
        (None, "cannot be read: No such"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "table.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LookupTableError, match=told):
        load_lookup(path, profile=PROFILE, environment=None)
