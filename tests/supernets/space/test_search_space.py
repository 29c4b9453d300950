"""Search spaces: size, canonical genes, keys and encodings compared with brute force, and every error."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernets.space import INACTIVE, Architecture, Choice, SearchSpace, joint_levels
from tests.errors import raises

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
        requires, most, n = None, None, draw(st.integers(1, 4))
        parent = draw(st.integers(-1, i - 1))
        if parent >= 0:
            above = len(choices[parent].options)
            requires = (choices[parent].name, draw(st.integers(0, above - 1)))
            bounds = st.lists(st.integers(0, n - 1), min_size=above, max_size=above)
            most = draw(st.none() | bounds.map(tuple))
        choices.append(Choice(f"c{i}", tuple(range(10, 10 + n)), requires, most))
    return SearchSpace(choices)


def brute_force(space: SearchSpace) -> set[tuple[int, ...]]:
    """All canonical genes: every combination of levels that `most` admits, blanked by the definition of `requires`."""
    index = {choice.name: i for i, choice in enumerate(space.choices)}

    def active(i: int, genes: Sequence[int]) -> bool:
        requires = space.choices[i].requires
        return requires is None or (active(index[requires[0]], genes) and genes[index[requires[0]]] >= requires[1])

    def admitted(i: int, genes: Sequence[int]) -> bool:
        most, requires = space.choices[i].most, space.choices[i].requires
        return most is None or requires is None or not active(i, genes) or genes[i] <= most[genes[index[requires[0]]]]

    combinations = itertools.product(*(range(len(choice.options)) for choice in space.choices))
    return {
        tuple(gene if active(i, genes) else INACTIVE for i, gene in enumerate(genes))
        for genes in combinations
        if all(admitted(i, genes) for i in range(len(genes)))
    }


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


class TestRepair:
    @given(spaces(), st.integers(0, 2**32 - 1))
    def test_any_change_of_one_gene_becomes_an_architecture(self, space: SearchSpace, seed: int) -> None:
        rng = np.random.default_rng(seed)
        genes = list(space.sample(rng).genes)
        place = int(rng.integers(len(genes)))
        genes[place] = int(rng.integers(space.levels[place]))
        repaired = space.repair(genes, np.random.default_rng(seed))
        assert repaired.genes in brute_force(space)
        assert repaired == space.repair(genes, np.random.default_rng(seed))

    @given(spaces(), st.integers(0, 2**32 - 1))
    def test_an_architecture_stays_as_it_is(self, space: SearchSpace, seed: int) -> None:
        rng = np.random.default_rng(seed)
        architecture = space.sample(rng)
        assert space.repair(architecture.genes, rng) == architecture

    def test_every_level_of_a_choice_that_becomes_active_is_drawn(self) -> None:
        drawn = {NESTED.repair((2, 1, INACTIVE, INACTIVE, 0), np.random.default_rng(i)).genes[2:4] for i in range(200)}
        assert drawn == {(0, INACTIVE), (1, 0), (1, 1), (1, 2)}

    @pytest.mark.parametrize("genes", [[0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0], [0, 0, 0, 0, -2]])
    def test_rejects_what_no_change_of_levels_makes(self, genes: list[int]) -> None:
        with raises("architecture.invalid"):
            NESTED.repair(genes, np.random.default_rng(0))


class TestCanonical:
    @given(spaces(), st.integers(0, 2**32 - 1))
    def test_blanks_inactive_genes(self, space: SearchSpace, seed: int) -> None:
        genes = np.random.default_rng(seed).integers(0, space.levels).tolist()
        made = space.canonical(genes)
        assert made.genes in brute_force(space)
        bounded = [choice.most is not None for choice in space.choices]
        assert all(m in (g, INACTIVE) or (b and m < g) for m, g, b in zip(made.genes, genes, bounded, strict=True))
        scrambled = [99 if m == INACTIVE else m for m in made.genes]
        assert space.canonical(scrambled) == space.canonical(made.genes) == made
        space.check(made)

    def test_an_inactive_parent_deactivates_its_children(self) -> None:
        assert NESTED.canonical([1, 1, 1, 2, 0]).genes == (1, 1, INACTIVE, INACTIVE, 0)
        assert NESTED.canonical(np.array([2, 1, 1, 2, 0])).genes == (2, 1, 1, 2, 0)

    @pytest.mark.parametrize(
        ("genes", "mentions"),
        [
            ([0, 0, 0, 0], ["4 genes", "5"]),
            ([3, 0, 0, 0, 0], ["gene 0 (depth) is 3", "0 to 2"]),
            ([0, 0, 0, 0, -1], ["gene 4 (width) is -1", "0 to 1"]),
        ],
    )
    def test_rejects_invalid_genes(self, genes: list[int], mentions: list[str]) -> None:
        with raises("architecture.invalid", *mentions):
            NESTED.canonical(genes)

    @pytest.mark.parametrize(
        ("genes", "mentions"),
        [
            ((0, 1, INACTIVE, INACTIVE, 0), ["0-1-x-x-0", "not canonical"]),
            ((INACTIVE, INACTIVE, INACTIVE, INACTIVE, 0), ["x-x-x-x-0", "not canonical"]),
            ((0, INACTIVE, INACTIVE, INACTIVE, 2), ["gene 4 (width) is 2"]),
            ((0, INACTIVE), ["2 genes", "5"]),
        ],
    )
    def test_check_rejects_architectures_that_are_not_canonical(
        self, genes: tuple[int, ...], mentions: list[str]
    ) -> None:
        with raises("architecture.invalid", *mentions):
            NESTED.check(Architecture(genes))

    def test_smallest_and_largest(self) -> None:
        assert NESTED.smallest.genes == (0, INACTIVE, INACTIVE, INACTIVE, 0)
        assert NESTED.largest.genes == (2, 1, 1, 2, 1)


class TestKey:
    @given(spaces())
    def test_is_unique_and_parses_back(self, space: SearchSpace) -> None:
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
    def test_other_texts_are_rejected(self, text: str) -> None:
        with raises("architecture.invalid", repr(text), "'2-0-1-x'"):
            Architecture.parse(text)


class TestSample:
    def test_covers_the_space_and_depends_only_on_the_generator(self) -> None:
        rng = np.random.default_rng(0)
        sampled = [NESTED.sample(rng) for _ in range(500)]
        assert set(sampled) == set(NESTED.enumerate())
        again = np.random.default_rng(0)
        assert [NESTED.sample(again) for _ in range(500)] == sampled

    def test_genes_are_uniform_over_their_levels(self) -> None:
        rng = np.random.default_rng(1)
        depths = np.bincount([NESTED.sample(rng).genes[0] for _ in range(3000)])
        # 1,000 each with a standard deviation of 26; the tolerance is five of them.
        assert np.abs(depths - 1000).max() < 130


def test_values_are_the_options_of_active_choices() -> None:
    assert NESTED.values(NESTED.canonical([2, 0, 1, 1, 1])) == {
        "depth": 3, "block2": "a", "block3": "b", "kernel3": 5, "width": 16.5,
    }  # fmt: skip
    assert NESTED.values(NESTED.smallest) == {"depth": 1, "width": 8.0}


class TestJointLevels:
    @given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    def test_equal_those_of_a_fine_grid(self, n_levels: list[int]) -> None:
        # Two cuts of up to 4 levels are at least 1/24 apart; 4,800 steps hit every cut and between.
        on_grid = np.rint(np.outer(np.arange(4801) / 4800, np.array(n_levels) - 1)).astype(int).tolist()
        assert joint_levels(n_levels) == list(dict.fromkeys(map(tuple, on_grid)))

    def test_of_many_levels(self) -> None:
        n_levels = (1, 2, 3, 5, 8, 13)
        found = joint_levels(n_levels)
        on_grid = np.rint(np.outer(np.arange(9974) / 9973, np.array(n_levels) - 1)).astype(int).tolist()
        assert set(found) >= set(map(tuple, on_grid))
        assert (found[0], found[-1]) == ((0,) * 6, tuple(n - 1 for n in n_levels))
        assert (np.diff(np.array(found), axis=0) >= 0).all()  # smallest first, in every gene


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
    def test_is_different_for_different_architectures(self, space: SearchSpace) -> None:
        architectures = space.enumerate()
        encoded = space.encode(architectures)
        assert encoded.shape == (len(architectures), int(space.levels.sum()) + len(space))
        assert len(np.unique(encoded, axis=0)) == len(architectures)
        active = np.array([[gene != INACTIVE for gene in a.genes] for a in architectures])
        groups = np.split(encoded, np.cumsum(space.levels), axis=1)
        for i, group in enumerate(groups[:-1]):
            np.testing.assert_array_equal(group.sum(axis=1), active[:, i])
        np.testing.assert_array_equal(groups[-1] > 0, active)

    def test_of_no_architectures_has_no_rows(self) -> None:
        assert NESTED.encode([]).shape == (0, 17)

    @pytest.mark.parametrize(
        ("genes", "mentions"),
        [
            ((0, 0), ["2 genes", "5"]),
            ((3, 0, 0, 0, 0), ["(3, 0, 0, 0, 0)"]),
            ((0, 0, 0, 0, -2), ["(0, 0, 0, 0, -2)"]),
        ],
    )
    def test_rejects_architectures_of_another_space(self, genes: tuple[int, ...], mentions: list[str]) -> None:
        with raises("architecture.invalid", *mentions):
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
        ("data", "mentions"),
        [
            ([{"name": "a", "options": [1]}], ["'requires'"]),
            ([{"options": [1], "requires": None}], ["'name'"]),
            ([{"name": 3, "options": [1], "requires": None}], ["name 3"]),
            ([{"name": "a", "options": "abc", "requires": None}], ["'a'", "options 'abc'"]),
            ([{"name": "a", "options": [[1]], "requires": None}], ["'a'", "options [[1]]"]),
            ([{"name": "a", "options": [1], "requires": "ab"}], ["'a'", "requires 'ab'"]),
            ([{"name": "a", "options": [1], "requires": ["b", 0.5]}], ["'a'", "requires ['b', 0.5]"]),
            (["a"], ["malformed"]),
            (None, ["malformed"]),
            ([], ["no choices"]),
        ],
    )
    def test_rejects_other_data(self, data: list[dict[str, object]], mentions: list[str]) -> None:
        with raises("space.invalid", *mentions):
            SearchSpace.from_json(data)


class TestDeclaration:
    def test_a_choice_needs_different_options(self) -> None:
        with raises("space.invalid", "'a'", "no options"):
            Choice("a", ())
        with raises("space.invalid", "'a'", "[1, 2, 1]"):
            Choice("a", (1, 2, 1))
        with raises("space.invalid", "'a'", "NaN"):
            Choice("a", (1.0, float("nan")))

    @pytest.mark.parametrize(
        ("choices", "mention"),
        [
            ([], "no choices"),
            ([Choice("a", (1,)), Choice("b", (1,)), Choice("a", (2,))], "the name 'a'"),
            ([Choice("a", (1,), ("b", 0)), Choice("b", (1,))], "'a' requires 'b'"),
            ([Choice("a", (1,), ("a", 0))], "'a' requires 'a'"),
            ([Choice("a", (1,), ("z", 0))], "'a' requires 'z'"),
            ([Choice("a", (1,)), Choice("b", (1,), ("a", 1))], "'b' requires level 1 of 'a'"),
            ([Choice("a", (1,)), Choice("b", (1,), ("a", -1))], "'b' requires level -1 of 'a'"),
        ],
    )
    def test_invalid_spaces_are_rejected(self, choices: list[Choice], mention: str) -> None:
        with raises("space.invalid", mention):
            SearchSpace(choices)

    def test_spaces_are_equal_by_their_choices(self) -> None:
        assert SearchSpace(NESTED.choices) == NESTED
        assert SearchSpace(NESTED.choices[:2]) != NESTED
        assert NESTED.choices != NESTED
