"""Descriptions of sharing: JSON round trips, and invalid values rejected with their key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supernets.sharing.spec import PLAIN, MixtureSpec, SharingSpec
from tests.errors import raises

SPECS = [
    PLAIN,
    SharingSpec(kernels="transform"),
    SharingSpec(MixtureSpec()),
    SharingSpec(adapter_rank=4),
    SharingSpec(experts="merged"),
    SharingSpec(MixtureSpec(3, "neuron", 16, True, ("stages.*", "head.conv")), "transform"),
]


@pytest.mark.parametrize("spec", SPECS)
def test_json_round_trip(spec: SharingSpec) -> None:
    assert SharingSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert SharingSpec.from_json(spec.to_json()) == spec


def test_slice_in_job_files_and_old_checkpoints_means_plain_sharing() -> None:
    assert SharingSpec.from_json("slice") == PLAIN == SharingSpec.from_json({})


@pytest.mark.parametrize(
    ("mixture", "mentions"),
    [
        ({"experts": 1}, ["experts:", "2 to 64", "got 1"]),
        ({"experts": True}, ["experts:", "got True"]),
        ({"hidden": 0}, ["hidden:", "1 to 4096", "got 0"]),
        ({"routing": "token"}, ["routing:", "layer or neuron", "'token'"]),
        ({"constant_input": 1}, ["constant_input:", "got 1"]),
        ({"layers": "stages.*"}, ["layers:", "got stages.*"]),
        ({"layers": [""]}, ["layers:", "('',)"]),
        ({"expert": 2}, ["'expert'"]),
    ],
)
def test_invalid_mixtures_are_rejected(mixture: dict[str, Any], mentions: list[str]) -> None:
    with raises("sharing.invalid", *mentions):
        SharingSpec.from_json({"mixture": mixture})


@pytest.mark.parametrize(
    ("data", "mentions"),
    [
        ("magic", ["'magic'", "slice"]),
        ({"kernels": "corner"}, ["kernels:", "centre or transform", "'corner'"]),
        ({"mixture": 3}, ["'int'"]),
        ({"experts": "pruned"}, ["experts:", "merged", "'pruned'"]),
        ({"experts": "merged", "mixture": {}}, ["experts:", "remove them, or mixture"]),
        ({"experts": "merged", "adapter_rank": 2}, ["adapter_rank:", "experts"]),
        ({"mixtures": {}}, ["'mixtures'"]),
    ],
)
def test_invalid_sharings_are_rejected(data: object, mentions: list[str]) -> None:
    with raises("sharing.invalid", *mentions):
        SharingSpec.from_json(data)
