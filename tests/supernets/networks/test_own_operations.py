"""Operations of the project's own networks: plain functions outside captures, and captures of several threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from supernets.errors import CaptureError
from supernets.families.registry import FAMILIES
from supernets.networks.family_program import Programs
from supernets.networks.own_operations import is_recording, recording
from supernets.sharing.base import Family
from supernets.training.checkpoint import make_supernet


@pytest.fixture
def family() -> Family:
    description = FAMILIES["decoder"]
    decoder: Family = description.load()(description.presets["tiny"], vocabulary=11, positions=16, tokens=8)
    return decoder


def test_torch_compile_reads_them_without_graph_breaks(family: Family) -> None:
    network = make_supernet(family).extract(family.space.smallest)
    ids = torch.arange(8).repeat(2, 1)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids), network(ids))


def test_threads_capture_one_after_another(family: Family) -> None:
    programs = [Programs(family) for _ in range(4)]
    with ThreadPoolExecutor(len(programs)) as threads:
        captured = list(threads.map(lambda own: own.of().elastic.program, programs))
    assert all(program.calls == captured[0].calls for program in captured)


def test_recording_ends_with_an_error() -> None:
    with pytest.raises(CaptureError), recording():
        raise CaptureError("a forward that cannot be captured", code="capture.failed")
    assert not is_recording()
