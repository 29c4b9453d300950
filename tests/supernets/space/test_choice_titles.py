"""Titles of choices: distinct, short, and true of what a choice changes."""

from __future__ import annotations

import pytest

from supernets.space import Choice, SearchSpace
from supernets.space.choice_titles import Group, title_of_name, title_of_place, titles_of_groups


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("stage0.block1.kernel", "stage 0, block 1 · kernel"),
        ("stage2.depth", "stage 2 · depth"),
        ("layer11.heads", "layer 11 · heads"),
        ("encoder.layer0.mlp_ratio", "encoder, layer 0 · mlp_ratio"),
        ("width", "width"),
        ("learning_rate", "learning_rate"),
        ("features.*.conv.*.out.24.width", "features.*.conv.*.out.24 · width"),
    ],
)
def test_the_title_of_a_name_has_the_place_and_what_changes_there(name: str, title: str) -> None:
    assert title_of_name(name) == title


def test_paths_of_modules_stay_as_they_are() -> None:
    assert [title_of_place(p) for p in ("layer1.0", "features.3", "stem", "stage0.block1")] == [
        "layer1.0",
        "features.3",
        "stem",
        "stage 0, block 1",
    ]


def titles_of(*groups: Group) -> list[str]:
    return list(titles_of_groups({str(i): group for i, group in enumerate(groups)}).values())


def test_groups_are_named_by_their_layers() -> None:
    assert titles_of(
        Group(("features.8", "features.10", "features.9"), "depth"),
        Group(("layer1.0.conv1", "layer1.1.conv1"), "channels"),
        Group(("layer2.0.conv1", "layer2.0.conv2", "layer2.1.conv1"), "channels"),
        Group(("conv1",), "channels"),
        Group(("features.5.squeeze", "features.7.squeeze"), "width"),
        Group(tuple(f"blocks.{i}.mlp" for i in (0, 2, 5, 9)), "width"),
    ) == [
        "features.8–10 · depth",
        "layer1.0–1 · channels",
        "layer2.0–1 · channels",
        "conv1 · channels",
        "features.5,7 · width",
        "blocks.0…9 · width",
    ]


def test_the_module_is_named_where_two_choices_change_one_layer() -> None:
    assert titles_of(
        Group(("features.3.conv.0.0", "features.4.conv.0.0"), "channels"),
        Group(("features.4.conv.2",), "channels"),
        Group(("features.4",), "depth"),
    ) == ["features.3–4 · conv.0.0 channels", "features.4 · conv.2 channels", "features.4 · depth"]


def test_layers_of_several_stages_are_listed_or_cut_and_never_more_than_they_are() -> None:
    two = ("layer1.0.conv3", *(f"layer3.{i}.conv1" for i in range(6)))
    three = (*two, "layer5.1.conv1")
    assert titles_of(Group(two, "channels")) == ["layer1.0, layer3.0–5 · channels"]
    assert titles_of(Group(three, "channels")) == ["layer1,3,5.* · channels"]
    assert titles_of(Group(("stem.0", "blocks.1.mlp.0"), "width")) == ["stem.0, blocks.1 · width"]
    assert titles_of(Group(("conv", "blocks.1.mlp", "head.0"), "width")) == ["* · width"]


def test_titles_are_distinct() -> None:
    equal = Group(("stage4.0.branch",), "channels", 12), Group(("stage4.0.branch",), "channels", 48)
    assert titles_of(*equal) == ["stage4.0 · branch channels of 12", "stage4.0 · branch channels of 48"]
    assert len(set(titles_of(*equal, *equal))) == 4


def test_spaces_that_differ_in_titles_alone_are_equal_and_keep_them_where_it_is_asked_for() -> None:
    titled = SearchSpace(
        [Choice("a.width", (1, 2), title="a · channels", members=("a.0.out", "a.1.out")), Choice("b", (1,))]
    )
    plain = SearchSpace([Choice("a.width", (1, 2)), Choice("b", (1,))])
    assert titled == plain
    assert hash(titled) == hash(plain)
    assert titled.to_json() == plain.to_json() == plain.to_json(has_titles=True)
    stored = SearchSpace.from_json(titled.to_json(has_titles=True))
    assert stored.titles == {"a.width": "a · channels", "b": "b"}
    assert stored.choices[0].members == ("a.0.out", "a.1.out")
