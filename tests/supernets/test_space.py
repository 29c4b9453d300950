"""`supernets.space`: size, canonical genes, keys and encodings against brute force, and every error."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernets.errors import SpaceError
from supernets.space import INACTIVE, Architecture, Choice, SearchSpace

NESTED = SearchSpace(
    [
        Choice("depth", (1, 2, 3)),
        Choice("block2", ("a", "b"), requires=("depth", 1)),
        Choice("block3", ("a", "b"), requires=("depth", 2)),
        Choice("kernel3", (3, 5, 7), requires=("block3", 1)),
        Choice("width", (8.0, 16.5)),
    ]
)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Small spaces with any tree of requirements."""
    choices: list[Choice] = []
    for i in range(draw(st.integers(1, 6))):
        requires = None
        parent = draw(st.integers(-1, i - 1))
        if parent >= 0:
            requires = (choices[parent].name, draw(st.integers(0, len(choices[parent].options) - 1)))
        choices.append(Choice(f"c{i}", tuple(range(10, 10 + draw(st.integers(1, 4)))), requires))
    return SearchSpace(choices)


def brute_force(space: SearchSpace) -> set[tuple[int, ...]]:
    """All canonical genes, by blanking every combination of levels from the definition of `requires`."""
    index = {choice.name: i for i, choice in enumerate(space.choices)}

    def active(i: int, genes: Sequence[int]) -> bool:
        requires = space.choices[i].requires
        return requires is None or (active(index[requires[0]], genes) and genes[index[requires[0]]] >= requires[1])

    combinations = itertools.product(*(range(len(choice.options)) for choice in space.choices))
    return {tuple(gene if active(i, genes) else INACTIVE for i, gene in enumerate(genes)) for genes in combinations}


class TestSizeAndEnumeration:
    @given(spaces())
    def test_equal_brute_force(self, space: SearchSpace) -> None:
        expected = brute_force(space)
        assert space.size == len(expected)
        assert [a.genes for a in space.enumerate()] == sorted(expected)

    def test_by_hand(self) -> None:
        # Depth 1: 1; depth 2: 2; depth 3: 2 x (1 + 3) = 8; each with 2 widths.
        assert NESTED.size == 2 * (1 + 2 + 8)
        assert len(NESTED) == 5

    def test_is_exact_beyond_64_bits(self) -> None:
        assert SearchSpace([Choice(f"c{i}", (1, 2, 3)) for i in range(100)]).size == 3**100


class TestCanonical:
    @given(spaces(), st.integers(0, 2**32 - 1))
    def test_blanks_what_is_inactive_whatever_its_gene(self, space: SearchSpace, seed: int) -> None:
        genes = np.random.default_rng(seed).integers(0, space.levels).tolist()
        made = space.canonical(genes)
        assert made.genes in brute_force(space)
        assert all(m in (g, INACTIVE) for m, g in zip(made.genes, genes, strict=True))
        scrambled = [99 if m == INACTIVE else m for m in made.genes]
        assert space.canonical(scrambled) == space.canonical(made.genes) == made
        space.check(made)

    def test_a_dropped_parent_drops_its_children_too(self) -> None:
        assert NESTED.canonical([1, 1, 1, 2, 0]).genes == (1, 1, INACTIVE, INACTIVE, 0)
        assert NESTED.canonical(np.array([2, 1, 1, 2, 0])).genes == (2, 1, 1, 2, 0)

    @pytest.mark.parametrize(
        ("genes", "message"),
        [
            ([0, 0, 0, 0], "an architecture of this space has 5 genes, got 4"),
            ([3, 0, 0, 0, 0], "gene 0 (depth) is 3; expected 0 to 2"),
            ([0, 0, 0, 0, -1], "gene 4 (width) is -1; expected 0 to 1"),
        ],
    )
    def test_refuses_genes_of_no_network(self, genes: list[int], message: str) -> None:
        with pytest.raises(SpaceError, match=re.escape(message)):
            NESTED.canonical(genes)

    @pytest.mark.parametrize(
        ("genes", "message"),
        [
            ((0, 1, INACTIVE, INACTIVE, 0), "architecture 0-1-x-x-0 is not canonical in this space"),
            ((INACTIVE, INACTIVE, INACTIVE, INACTIVE, 0), "architecture x-x-x-x-0 is not canonical"),
            ((0, INACTIVE, INACTIVE, INACTIVE, 2), "gene 4 (width) is 2"),
            ((0, INACTIVE), "has 5 genes, got 2"),
        ],
    )
    def test_check_refuses_what_is_not_canonical(self, genes: tuple[int, ...], message: str) -> None:
        with pytest.raises(SpaceError, match=re.escape(message)):
            NESTED.check(Architecture(genes))

    def test_smallest_and_largest(self) -> None:
        assert NESTED.smallest.genes == (0, INACTIVE, INACTIVE, INACTIVE, 0)
        assert NESTED.largest.genes == (2, 1, 1, 2, 1)


class TestKey:
    @given(spaces())
    def test_tells_architectures_apart_and_is_read_back(self, space: SearchSpace) -> None:
        architectures = space.enumerate()
        keys = [a.key for a in architectures]
        assert len(set(keys)) == len(keys)
        assert [Architecture.parse(key) for key in keys] == architectures

    def test_equal_in_another_process(self) -> None:
        code = (
            "import json, sys; from supernets.space import SearchSpace\n"
            "print(json.dumps([a.key for a in SearchSpace.from_json(json.load(sys.stdin)).enumerate()]))"
        )
        out = subprocess.run(
            [sys.executable, "-c", code], input=json.dumps(NESTED.to_json()), capture_output=True, text=True, check=True
        )
        assert json.loads(out.stdout) == [a.key for a in NESTED.enumerate()]
        assert "2-0-1-0-1" in json.loads(out.stdout)

    @pytest.mark.parametrize("text", ["", "a", "1--2", "-1", "1-", "1 -2", "+1", "1_0", "01", "1.0", "X", "٣", "1\n"])
    def test_other_texts_are_refused(self, text: str) -> None:
        with pytest.raises(SpaceError, match="is no architecture key; expected levels joined by '-', as in '2-0-1-x'"):
            Architecture.parse(text)


class TestSample:
    def test_covers_the_space_and_is_the_generators(self) -> None:
        rng = np.random.default_rng(0)
        drawn = [NESTED.sample(rng) for _ in range(500)]
        assert set(drawn) == set(NESTED.enumerate())
        again = np.random.default_rng(0)
        assert [NESTED.sample(again) for _ in range(500)] == drawn

    def test_genes_are_uniform_over_their_levels(self) -> None:
        rng = np.random.default_rng(1)
        depths = np.bincount([NESTED.sample(rng).genes[0] for _ in range(3000)])
        # 1,000 each with a standard deviation of 26; five of them.
        assert np.abs(depths - 1000).max() < 130


def test_values_are_those_of_active_choices() -> None:
    assert NESTED.values(NESTED.canonical([2, 0, 1, 1, 1])) == {
        "depth": 3, "block2": "a", "block3": "b", "kernel3": 5, "width": 16.5,
    }  # fmt: skip
    assert NESTED.values(NESTED.smallest) == {"depth": 1, "width": 8.0}


class TestUniformScalings:
    @given(spaces())
    def test_are_all_that_a_fine_grid_finds_and_each_once(self, space: SearchSpace) -> None:
        found = space.uniform_scalings()
        # 1/24 of the grid is the least distance of two cuts of up to 4 levels; 4,800 steps hit every cut and between.
        on_grid = dict.fromkeys(space.scaled(step / 4800) for step in range(4801))
        assert len(set(found)) == len(found)
        assert found == list(on_grid)

    def test_of_many_levels(self) -> None:
        space = SearchSpace([Choice(f"c{n}", tuple(range(n))) for n in (1, 2, 3, 5, 8, 13)])
        found = space.uniform_scalings()
        assert set(found) >= {space.scaled(step / 9973) for step in range(9974)}
        assert (found[0], found[-1]) == (space.smallest, space.largest)
        genes = np.array([a.genes for a in found])
        assert (np.diff(genes, axis=0) >= 0).all()  # smallest first, in every gene

    @pytest.mark.parametrize("t", [-0.01, 1.01, float("nan")])
    def test_scales_between_the_smallest_and_the_largest_only(self, t: float) -> None:
        with pytest.raises(SpaceError, match=r"cannot scale a network to t=.*; expected 0 "):
            NESTED.scaled(t)


class TestEncode:
    def test_by_hand(self) -> None:
        encoded = NESTED.encode([NESTED.canonical([1, 1, 0, 0, 0]), NESTED.largest])
        assert encoded.shape == (2, 12 + 5)
        expected = [
            # depth, block2, block3, kernel3, width; then one ordinal each
            [*(0, 1, 0), *(0, 1), *(0, 0), *(0, 0, 0), *(1, 0), 2 / 3, 1, 0, 0, 1 / 2],
            [*(0, 0, 1), *(0, 1), *(0, 1), *(0, 0, 1), *(0, 1), 1, 1, 1, 1, 1],
        ]
        np.testing.assert_array_equal(encoded, expected)

    @given(spaces())
    def test_gives_each_architecture_a_row_of_its_own(self, space: SearchSpace) -> None:
        architectures = space.enumerate()
        encoded = space.encode(architectures)
        assert encoded.shape == (len(architectures), int(space.levels.sum()) + len(space))
        assert len(np.unique(encoded, axis=0)) == len(architectures)
        active = np.array([[gene != INACTIVE for gene in a.genes] for a in architectures])
        groups = np.split(encoded, np.cumsum(space.levels), axis=1)
        for i, group in enumerate(groups[:-1]):
            np.testing.assert_array_equal(group.sum(axis=1), active[:, i])
        np.testing.assert_array_equal(groups[-1] > 0, active)

    def test_of_nothing_has_no_rows(self) -> None:
        assert NESTED.encode([]).shape == (0, 17)

    @pytest.mark.parametrize(
        ("genes", "message"),
        [
            ((0, 0), "an architecture of this space has 5 genes, got 2 to encode"),
            ((3, 0, 0, 0, 0), "architecture (3, 0, 0, 0, 0) has a level that its choice lacks"),
            ((0, 0, 0, 0, -2), "architecture (0, 0, 0, 0, -2) has a level that its choice lacks"),
        ],
    )
    def test_refuses_architectures_of_another_space(self, genes: tuple[int, ...], message: str) -> None:
        with pytest.raises(SpaceError, match=re.escape(message)):
            NESTED.encode([NESTED.largest, Architecture(genes)])


class TestJson:
    @given(spaces())
    def test_round_trip(self, space: SearchSpace) -> None:
        read = SearchSpace.from_json(json.loads(json.dumps(space.to_json())))
        assert read == space
        assert hash(read) == hash(space)

    def test_options_keep_their_types(self) -> None:
        read = SearchSpace.from_json(json.loads(json.dumps(NESTED.to_json())))
        assert [[type(o) for o in c.options] for c in read.choices] == [
            [type(o) for o in c.options] for c in NESTED.choices
        ]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ([{"name": "a", "options": [1]}], "a choice lacks 'requires'"),
            ([{"options": [1], "requires": None}], "a choice lacks 'name'"),
            ([{"name": 3, "options": [1], "requires": None}], "a choice is named 3; expected a text"),
            ([{"name": "a", "options": "abc", "requires": None}], "'a' has the options 'abc'; expected a list"),
            ([{"name": "a", "options": [[1]], "requires": None}], "'a' has the options [[1]]; expected a list"),
            ([{"name": "a", "options": [1], "requires": "ab"}], "'a' requires 'ab'; expected [name, level] or null"),
            (
                [{"name": "a", "options": [1], "requires": ["b", 0.5]}],
                "'a' requires ['b', 0.5]; expected [name, level]",
            ),
            (["a"], "not the description of a search space"),
            (None, "not the description of a search space"),
            ([], "the space has no choices; give at least one"),
        ],
    )
    def test_refuses_other_data(self, data: list[dict[str, object]], message: str) -> None:
        with pytest.raises(SpaceError, match=re.escape(message)):
            SearchSpace.from_json(data)


class TestDeclaration:
    def test_a_choice_needs_different_options(self) -> None:
        with pytest.raises(SpaceError, match="choice 'a' has no options; give at least one"):
            Choice("a", ())
        with pytest.raises(SpaceError, match=r"choice 'a' lists an option twice: \[1, 2, 1\]"):
            Choice("a", (1, 2, 1))

    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            ([], "the space has no choices"),
            ([Choice("a", (1,)), Choice("b", (1,)), Choice("a", (2,))], "two choices of the space share the name 'a'"),
            (
                [Choice("a", (1,), ("b", 0)), Choice("b", (1,))],
                "choice 'a' requires 'b', which does not come before it",
            ),
            ([Choice("a", (1,), ("a", 0))], "choice 'a' requires 'a', which does not come before it"),
            ([Choice("a", (1,), ("z", 0))], "choice 'a' requires 'z', which does not come before it"),
            (
                [Choice("a", (1,)), Choice("b", (1,), ("a", 1))],
                "choice 'b' requires level 1 of 'a', which it does not have",
            ),
            ([Choice("a", (1,)), Choice("b", (1,), ("a", -1))], "choice 'b' requires level -1 of 'a'"),
        ],
    )
    def test_a_space_that_makes_no_sense_is_refused(self, choices: list[Choice], message: str) -> None:
        with pytest.raises(SpaceError, match=message):
            SearchSpace(choices)

    def test_spaces_are_equal_by_their_choices(self) -> None:
        assert SearchSpace(NESTED.choices) == NESTED
        assert SearchSpace(NESTED.choices[:2]) != NESTED
        assert NESTED.choices != NESTED
