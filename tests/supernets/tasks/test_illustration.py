"""The examples that pictures show."""

from __future__ import annotations

import numpy as np

from supernets.tasks.illustration import varied_examples


def test_each_example_adds_most_classes_that_are_not_shown_yet() -> None:
    shows = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 1]], dtype=bool)
    assert varied_examples(shows, 1).tolist() == [3]
    assert varied_examples(shows, 2).tolist() == [2, 3]
    # Every class is shown: it begins anew with those that are left.
    assert varied_examples(shows, 3).tolist() == [1, 2, 3]
    assert varied_examples(shows, 4).tolist() == [1, 2, 3, 4]


def test_examples_without_a_class_come_last() -> None:
    shows = np.array([[0, 0], [0, 0], [1, 0]], dtype=bool)
    assert varied_examples(shows, 2).tolist() == [0, 2]
    assert varied_examples(shows, 9).tolist() == [0, 1, 2]
    assert varied_examples(np.zeros((0, 3), dtype=bool), 6).tolist() == []
