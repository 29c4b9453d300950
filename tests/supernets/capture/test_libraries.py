"""Models of torchvision, timm and transformers, different in kind, become supernets that pass all checks of the benchmark."""

from __future__ import annotations

import pytest

from tests.benchmarks.any_model import check, verdict
from tests.benchmarks.any_model_zoo import Entry

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of the libraries

TORCHVISION = {
    "resnet18": "residual",
    "mobilenet_v3_small": "depthwise, squeeze and excitation",
    "shufflenet_v2_x0_5": "channel shuffle",
    "squeezenet1_1": "concatenations",
    "googlenet": "inception",
    "regnet_y_400mf": "grouped",
}
TIMM = {
    "test_convnext": "layer norm, layer scale",
    "test_efficientnet": "inverted bottlenecks",
    "test_mambaout": "gated",
    "test_byobnet": "mixed stages",
    "cs3darknet_s": "cross-stage partial",
    "ese_vovnet19b_slim": "dense",
    "fasternet_t0": "partial convolutions",
    "ghostnet_050": "ghost",
    "poolformer_s12": "pooling in place of attention",
    "edgenext_xx_small": "hybrid, attention over channels",
    "mobilevit_xxs": "hybrid, unfolded patches",
    "levit_128s": "hybrid, attention biases",
    "maxvit_rmlp_pico_rw_256": "hybrid, windows and grids",
    "mixer_s32_224": "mixer",
}
TRANSFORMERS = {
    "bert": "encoder",
    "gpt2": "decoder",
    "llama": "grouped queries, rotary positions",
    "modernbert": "packed queries, keys and values",
    "t5-encoder": "relative positions",
    "clip-vision": "vision transformer",
    "swin": "shifted windows",
    "convnextv2": "global response normalisation",
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
