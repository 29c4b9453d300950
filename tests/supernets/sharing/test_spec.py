"""Ways of sharing as values: they come back from JSON equal, and what makes no sharing is refused by its key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supernets.errors import SpaceError
from supernets.sharing.spec import PLAIN, MixtureSpec, SharingSpec

SPECS = [
    PLAIN,
    SharingSpec(kernels="transform"),
    SharingSpec(MixtureSpec()),
    SharingSpec(MixtureSpec(3, "neuron", 16, True, ("stages.*", "head.conv")), "transform"),
]


@pytest.mark.parametrize("spec", SPECS)
def test_comes_back_from_json_equal(spec: SharingSpec) -> None:
    assert SharingSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert SharingSpec.from_json(spec.to_json()) == spec


def test_the_word_of_job_files_and_older_checkpoints_means_plain_sharing() -> None:
    assert SharingSpec.from_json("slice") == PLAIN == SharingSpec.from_json({})


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"experts": 1}, "experts: expected a whole number from 2 to 64, got 1"),
        ({"experts": True}, "experts: expected a whole number"),
        ({"hidden": 0}, "hidden: expected a whole number from 1 to 4096, got 0"),
        ({"routing": "token"}, "routing: expected layer or neuron, got 'token'"),
        ({"constant_input": 1}, "constant_input: expected true or false, got 1"),
        ({"layers": "stages.*"}, "layers: expected patterns of module names"),
        ({"layers": [""]}, "layers: expected patterns of module names"),
        ({"expert": 2}, "malformed"),
    ],
)
def test_what_makes_no_mixture(mixture: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SharingSpec.from_json({"mixture": mixture})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("magic", "unknown sharing 'magic'; expected slice, or a mapping"),
        ({"kernels": "corner"}, "kernels: expected centre or transform, got 'corner'"),
        ({"mixture": 3}, "malformed"),
        ({"mixtures": {}}, "malformed"),
    ],
)
def test_what_makes_no_sharing(data: object, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SharingSpec.from_json(data)
