"""Which environments are comparable, and how their differences are reported."""

from __future__ import annotations

import pytest

from hardware_profiles.environment import DECISIVE, differences, machine_key
from hardware_profiles.measuring.protocol import PROTOCOL

HERE = {
    "cpu": "A", "machine": "x86_64", "flags": "12ab", "isa": ["avx2", "fma"], "max_khz": None, "governor": "performance",
    "quota_cpus": None, "onnxruntime": "1.32.0", "provider": "CPUExecutionProvider", "device": None, "threads": 1,
    "protocol": PROTOCOL, "load_1m": 0.5, "steal": 0.0, "host": "x", "kernel": "6.1", "python": "3.11", "numpy": "2.0",
    "pinned_cpus": [1],
}  # fmt: skip


@pytest.mark.parametrize("key", DECISIVE)
def test_each_decisive_value_makes_environments_incomparable(key: str) -> None:
    other = {**HERE, key: "another"}
    assert machine_key(other) != machine_key(HERE)
    (found,) = differences(HERE, other)
    assert found.endswith(", is another")


def test_values_that_vary_between_runs_are_ignored() -> None:
    later = {**HERE, "load_1m": 3.0, "steal": 0.2, "host": "y", "kernel": "6.2", "pinned_cpus": [0]}
    assert machine_key(later) == machine_key(HERE)
    assert differences(HERE, later) == []


def test_an_environment_without_a_protocol_has_the_current_one() -> None:
    bare = {key: value for key, value in HERE.items() if key != "protocol"}
    assert machine_key(bare) == machine_key(HERE)
    assert differences(bare, {**HERE, "protocol": "old/v0"}) == [f"measuring protocol: was {PROTOCOL}, is old/v0"]


def test_records_without_a_device_are_of_the_cpu() -> None:
    before = {key: value for key, value in HERE.items() if key != "device"}
    assert machine_key(before) == machine_key(HERE)
    assert differences(before, HERE) == differences(HERE, before) == []
    gpu = {**HERE, "device": "Tesla T4, driver 535.129.03"}
    assert differences(before, gpu) == ["device: was unknown, is Tesla T4, driver 535.129.03"]


def test_differences_have_labels() -> None:
    other = {**HERE, "cpu": "B", "governor": None, "flags": "34cd", "isa": ["avx2", "avx512f"]}
    assert differences(HERE, other) == [
        "cpu: was A, is B",
        "cpu flags: was 12ab, is 34cd",
        "frequency governor: was performance, is unknown",
        "instruction sets: now without fma and with avx512f",
    ]
