import numpy as np
import pytest

from supernets.data.labelled_examples import Examples, Source
from supernets.data.splitting import split
from supernets.data.targets import NUMBERS, number_groups, set_groups, sets_in_cells, sets_in_columns
from tests.errors import raises


def names(n: int) -> list[str]:
    return [f"line {i + 2}" for i in range(n)]


def test_sets_are_read_from_one_cell_or_from_a_column_each() -> None:
    cells = ["a b", "b;c", "", "a|c", "c, a", "b"]
    found = sets_in_cells(cells, names(6), "t.csv")
    assert found.names == ("a", "b", "c")
    rows = [
        ["110"[j] for j in range(3)],
        ["0", "yes", "true"],
        ["0", "0", "no"],
        ["1", "", "1"],
        ["1", "0", "1"],
        ["0", "1", "0"],
    ]
    np.testing.assert_array_equal(sets_in_columns(rows, ["a", "b", "c"], names(6), "t.csv").values, found.values)


def test_a_cell_that_is_neither_0_nor_1_is_an_error() -> None:
    with raises("data.malformed-table", "t.csv", "line 3", "'2'", "'b'", "1 or 0"):
        sets_in_columns([["1", "0"], ["0", "2"]], ["a", "b"], names(2), "t.csv")


def test_groups_of_numbers_are_tenths_by_size_of_at_least_30() -> None:
    numbers = np.random.default_rng(0).normal(size=605)
    groups = number_groups(numbers)
    assert np.bincount(groups).min() >= 60
    assert len(set(groups.tolist())) == 10
    assert all(numbers[groups == g].max() < numbers[groups == g + 1].min() for g in range(9))
    assert set(number_groups(numbers[:59]).tolist()) == {0}


def test_the_group_of_a_set_is_its_rarest_label() -> None:
    values = np.zeros((200, 3), dtype=np.float32)
    values[:150, 0] = 1  # frequent
    values[100:180, 1] = 1
    values[:5, 2] = 1  # too rare for a group of its own
    groups = set_groups(values)
    assert len(set(groups[5:100].tolist())) == 1
    assert groups[120] != groups[50]
    assert set(groups[:5].tolist()) == set(groups[190:].tolist())


@pytest.mark.parametrize("seed", [0, 1])
def test_every_part_has_numbers_of_all_sizes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.gamma(1.0, size=600).astype(np.float32)
    inputs = rng.integers(256, size=(600, 1, 4, 4), dtype=np.uint8)
    source = Source("t.csv", (), Examples(inputs, numbers, (), number_groups(numbers)), targets=NUMBERS)
    parts = split(source, validation=0.2, test=100, seed=0)
    assert [len(part) for part in parts] == [380, 120, 100]
    for part in parts:
        for share in (0.1, 0.5, 0.9):
            near = np.mean(part.labels <= np.quantile(numbers, share))
            assert near == pytest.approx(share, abs=0.02)
