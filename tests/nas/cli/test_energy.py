"""Energy as a user asks for it: plans, searches and `nas profile`, of a counter that a process advances with CPU time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hardware_profiles.measuring import energy
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.networks.module_to_onnx import lower
from tests.hardware_profiles.energy_counters import counters
from tests.nas.commands import SMALL_JOB, Shell, assert_error

ENERGY_JOB = (
    SMALL_JOB.replace("objectives: [accuracy, latency_ms]", "objectives: [accuracy, energy_mj]")
    .replace("evaluations: 30, batch: 7", "evaluations: 2, batch: 2")
    .replace("epochs: 4", "epochs: 1")
)
BOTH = ENERGY_JOB.replace("[cpu-1-thread]", "[cpu-1-thread, cpu-1-thread-batch-16]").replace(
    "[accuracy, energy_mj]",
    "[accuracy, energy_mj@cpu-1-thread, energy_mj@cpu-1-thread-batch-16]",
)


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less time of each entry in a round: whether energies are exact is tested elsewhere."""
    monkeypatch.setattr(energy, "_MOST_BLOCK_MS", 60.0)


def test_a_machine_that_cannot_measure_it_is_told_before_anything_is_trained(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_POWERCAP", str(tmp_path / "none"))
    job = shell.job(ENERGY_JOB)
    message = "profile cpu-1-thread: energy_mj cannot be measured on this machine"
    assert_error(shell.nas("search", job, "--inline"), message, code="profile.no-energy")
    planned = shell.nas("plan", job, "--inline")
    assert (planned.code, planned.error) == (1, "profile.no-energy")
    assert message in planned.err
    assert "MACs" in planned.out
    assert shell.runs() == set()


@pytest.mark.slow
def test_a_plan_measures_the_energies_of_two_profiles(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = shell.job(BOTH)
    with counters(tmp_path / "powercap"):
        monkeypatch.setenv("NAS_POWERCAP", str(tmp_path / "powercap"))
        planned = shell.nas("plan", job, "--no-time")
    assert "energy on cpu-1-thread, mJ (measured)" in planned.out
    assert "energy on cpu-1-thread-batch-16, mJ (measured)" in planned.out


@pytest.mark.slow
def test_a_search_minimises_the_energies_of_two_profiles(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, names = shell.job(BOTH), ("energy_mj@cpu-1-thread", "energy_mj@cpu-1-thread-batch-16")
    with counters(tmp_path / "powercap"):
        monkeypatch.setenv("NAS_POWERCAP", str(tmp_path / "powercap"))
        searched = shell.nas("search", job, "--inline", "--json")
    assert searched.code == 0, searched.err
    assert searched.data["front"]
    for point in searched.data["front"]:
        assert min(point[key][name] for key in ("values", "errors") for name in names) > 0


@pytest.mark.slow
def test_a_model_is_profiled_with_its_energy(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    family = MobileCNNFamily(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=10)
    (shell.folder / "model.onnx").write_bytes(lower(family.template().eval(), family.example(2)))
    with counters(tmp_path / "powercap"):
        monkeypatch.setenv("NAS_POWERCAP", str(tmp_path / "powercap"))
        told = shell.nas("profile", "model.onnx", "--energy")
        made = shell.nas("profile", "model.onnx", "--compare", "onnxruntime", "--energy", "--json")
    assert told.code == 0, told.err
    assert "mJ a call, above the " in told.out
    assert "by the counters package-0" in told.out
    assert min(made.data[0]["energy_mj"], made.data[0]["energy_error_mj"]) > 0
    monkeypatch.setenv("NAS_POWERCAP", str(tmp_path / "none"))
    assert_error(shell.nas("profile", "model.onnx", "--energy"), "no energy counters", code="profile.no-energy")
