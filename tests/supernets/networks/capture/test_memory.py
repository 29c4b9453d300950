"""Examples that do not fit into memory are refused before they are made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from supernets.networks.capture import memory
from supernets.networks.capture.memory import available_bytes, check_example, check_values
from supernets.networks.capture.tracing import capture
from supernets.networks.capture.user_model import TokenInputs, UserModel
from tests.errors import raises


def test_the_smaller_of_the_machine_and_the_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_bytes() is not None
    machine, limit, used = tmp_path / "meminfo", tmp_path / "max", tmp_path / "current"
    machine.write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", machine)
    monkeypatch.setattr(memory, "_GROUPS", ((limit, used),))
    assert available_bytes() == 50 * 1024
    limit.write_text("max\n")
    used.write_text("10\n")
    assert available_bytes() == 50 * 1024
    limit.write_text("3000\n")
    assert available_bytes() == 2990
    machine.unlink()
    limit.unlink()
    assert available_bytes() is None


def test_an_example_beyond_memory_is_refused() -> None:
    check_example((2, 3, 8, 8), name="a")
    with raises("capture.too-large", "2 x 3 x 1000000 x 1000000", "GiB", "smaller"):
        UserModel("a", nn.Flatten()).example((3, 10**6, 10**6))
    with raises("capture.too-large"):
        UserModel("a", nn.Flatten(), tokens=TokenInputs(9)).example((10**13,))


def test_results_beyond_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Linear(4, 1000), nn.ReLU(), nn.Flatten(), nn.Linear(1000, 2))
    program = capture(module, [torch.randn(2, 4)]).program
    at_once = 3 * 4 * (1000 + 1000)  # before the last layer, whose input is a view
    monkeypatch.setattr(memory, "available_bytes", lambda: at_once)
    check_values(program, batch=3)
    with raises("capture.too-large", "linear in 0", "proof"):
        check_values(program, batch=3, double=True)
    monkeypatch.setattr(memory, "available_bytes", lambda: at_once - 1)
    with raises("capture.too-large"):
        check_values(program, batch=3)


def test_a_value_counts_until_the_last_call_that_reads_a_view_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 100), nn.Linear(100, 10), nn.Linear(10, 100)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen = self.first(x).flatten(1)
            out: torch.Tensor = self.last(self.second(seen)) * seen
            return out

    program = capture(Late(), [torch.randn(2, 4)]).program
    at_once = 2 * 4 * (100 + 100 + 100)  # of the last layer, of the first one, and their product
    monkeypatch.setattr(memory, "available_bytes", lambda: at_once)
    check_values(program, batch=2)
    monkeypatch.setattr(memory, "available_bytes", lambda: at_once - 1)
    with raises("capture.too-large"):
        check_values(program, batch=2)
