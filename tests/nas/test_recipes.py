"""`nas.jobs.recipes`: what ships is a valid, commented job."""

from __future__ import annotations

import re

import pytest

from nas.errors import Remedy, UnknownNameError
from nas.jobs.recipes import Recipe, list_recipes, read_recipe
from nas.jobs.schema import parse_job
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.families.convolutional.resnet_spec import RESNET
from supernets.families.encoder.encoder_spec import ENCODER
from supernets.families.vision_transformer.vision_transformer_spec import VIT
from tests.errors import raises

NAMES = [recipe.name for recipe in list_recipes()]


def test_the_recipes_that_ship() -> None:
    shipped = {
        "digits-cnn",
        "efficientnet-lite",
        "fashion-mnist-cnn",
        "fashion-mnist-int8",
        "fashion-mnist-mobilenetv3",
        "fashion-mnist-resnet",
        "fashion-mnist-vit",
        "iso-dates",
        "minilm-text",
        "own-detector",
        "own-image-labels",
        "own-image-model",
        "own-images",
        "own-numbers",
        "own-segmenter",
        "own-sentences",
        "shakespeare-decoder",
        "shakespeare-experts",
        "smollm2-domain",
    }
    assert shipped <= set(NAMES)
    assert sorted(NAMES) == NAMES
    assert list_recipes()[0] == Recipe(
        "digits-cnn", "Small CNNs for handwritten digits: data embedded, a few minutes on two cores."
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_a_job_of_its_name(name: str) -> None:
    text = read_recipe(name)
    job = parse_job(text, source=name)
    assert job.name == name
    assert job.supernet.model is not None or job.supernet.spec(within=ENCODER["minilm-l6"]) is not None
    assert parse_job(job.to_yaml(), source="stored") == job
    assert all(len(line) <= 125 for line in text.splitlines())


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("digits-cnn", MOBILE_CNN["digits"]),
        ("fashion-mnist-resnet", RESNET["tiny"]),
        ("fashion-mnist-vit", VIT["tiny"]),
    ],
)
def test_what_a_recipe_spells_out_in_a_comment_is_its_preset(name: str, spec: object) -> None:
    text = read_recipe(name)
    block = re.search(r"^  # space:\n(  #  .*\n)+", text, re.MULTILINE)
    preset = re.search(r"^  preset: .*\n", text, re.MULTILINE)
    assert block is not None
    assert preset is not None
    spelled = re.sub("^  # ", "  ", block[0], flags=re.MULTILINE)
    job = parse_job(text.replace(block[0], spelled).replace(preset[0], ""), source=name)
    assert job.supernet.preset is None
    assert job.supernet.spec() == spec


def test_the_keys_that_mobilenetv3_shows_are_those_of_its_preset() -> None:
    text = read_recipe("fashion-mnist-mobilenetv3")
    spelled = re.sub("^  # (space:|    )", r"  \1", text, flags=re.MULTILINE).replace("  #   ", "    ")
    job = parse_job(spelled, source="fashion-mnist-mobilenetv3")
    assert job.supernet.space is not None
    assert job.supernet.spec() == MOBILE_CNN["tiny-v3"]


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with raises("recipe.unknown", "'digit-cnn'", "'digits-cnn'", remedy=Remedy("init")):
        read_recipe("digit-cnn")


@pytest.mark.parametrize("name", ["../config", "", "digits-cnn.yaml", "__init__"])
def test_a_recipe_is_never_looked_for_outside_the_folder(name: str) -> None:
    with pytest.raises(UnknownNameError):
        read_recipe(name)
