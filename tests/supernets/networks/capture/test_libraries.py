"""Models of torchvision, timm and transformers become supernets that pass all checks of the benchmark.

One of each kind that the networks of `tests.supernets.networks.capture.networks` are not; the benchmark has hundreds.
"""

from __future__ import annotations

import pytest

from tests.benchmarks.any_model import check, verdict
from tests.benchmarks.any_model_zoo import Entry

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of the libraries

TORCHVISION = {
    "shufflenet_v2_x0_5": "channel shuffle",
}
TIMM = {
    "test_convnext": "layer norm, layer scale",
    "test_mambaout": "gated",
    "test_byobnet": "mixed stages",
    "fasternet_t0": "partial convolutions",
    "ghostnet_050": "ghost",
    "mobilevit_xxs": "hybrid, unfolded patches",
    "levit_128s": "hybrid, attention biases",
    "mixer_s32_224": "mixer",
}
TRANSFORMERS = {
    "llama": "grouped queries, rotary positions",
    "modernbert": "packed queries, keys and values",
    "t5-encoder": "relative positions",
    "swin": "shifted windows",
    "whisper-encoder": "spectrograms",
    "wav2vec2": "waveforms",
}


def counts(collection: str, name: str) -> None:
    row = check(Entry(collection, name), subnets=2, seconds=2, exporter=False)
    assert not (why := verdict(row)), f"{name}: {why}; {row}"


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_model_of_torchvision_counts(name: str) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed (the extra download)")
    counts("classification", name)


@pytest.mark.parametrize("name", TIMM)
def test_a_model_of_timm_counts(name: str) -> None:
    pytest.importorskip("timm", reason="timm is not installed (the extra dev)")
    counts("timm", name)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_model_type_of_transformers_counts(name: str) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (the extra dev)")
    counts("transformers", name)
