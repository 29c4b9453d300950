"""Rotary frequencies and their scalings, compared with those of the transformers library."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from supernets.networks.formats.model_folder import Settings
from supernets.networks.rotary import Scaling, frequencies, read_rotary, rotary_settings
from tests.errors import raises

LLAMA3: Scaling = (8.0, 1.0, 4.0, 8192.0)
"""Of Llama 3.1."""
_LLAMA3 = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
}  # fmt: skip


def read(**data: Any) -> tuple[float, Scaling]:
    return read_rotary(Settings(Path("config.json"), data))


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
@pytest.mark.parametrize("scaling", [(), (2.5,), LLAMA3, (32.0, 1.0, 4.0, 64.0)])
@pytest.mark.parametrize("head_size", [4, 64, 128])
def test_frequencies_are_those_of_the_library(head_size: int, scaling: Scaling) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(head_dim=head_size, max_position_embeddings=131072, **rotary_settings(500000.0, scaling))
    theirs = LlamaRotaryEmbedding(config).inv_freq
    assert torch.tensor(frequencies(head_size, 500000.0, scaling)).equal(theirs)


def test_a_scaling_of_llama_3_keeps_high_frequencies_and_divides_low_ones() -> None:
    plain, scaled = (torch.tensor(frequencies(64, 500000.0, own)) for own in ((), LLAMA3))
    divisors = plain / scaled
    assert divisors[0] == 1
    assert divisors[-1] == 8
    assert (divisors.diff() >= -1e-5).all()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, (1e4, ())),
        ({"rope_theta": 5e5, "rope_scaling": None}, (5e5, ())),
        ({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}}, (5e5, (4.0,))),
        ({"rope_scaling": {"rope_type": "llama3", **_LLAMA3}}, (1e4, LLAMA3)),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **_LLAMA3}}, (5e5, LLAMA3)),
        (
            {
                "max_position_embeddings": 8192,
                "rope_scaling": {k: v for k, v in _LLAMA3.items() if "original" not in k} | {"rope_type": "llama3"},
            },
            (1e4, LLAMA3),
        ),
    ],
)
def test_settings_of_all_versions_of_the_library_are_read(
    data: dict[str, Any], expected: tuple[float, Scaling]
) -> None:
    assert read(**data) == expected
    assert read(**rotary_settings(*expected)) == expected


@pytest.mark.parametrize(
    ("scaling", "error"),
    [
        ({"rope_type": "yarn", "factor": 4.0}, "'yarn' | 'default', 'linear', 'llama3'"),
        ({"type": "dynamic", "factor": 4.0}, "'dynamic'"),
        ({"type": "linear"}, "linear with factor 0 | positive"),
        ({"type": "linear", "factor": "4"}, "factor is '4'"),
        ({"rope_type": "llama3", **_LLAMA3, "low_freq_factor": 4.0}, "high_freq_factor above low_freq_factor"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "a part of each head (0.5)"),
    ],
)
def test_scalings_that_are_not_read_are_named(scaling: dict[str, Any], error: str) -> None:
    with raises("pretrained.unusable", "config.json", *error.split(" | ")):
        read(rope_scaling=scaling)
