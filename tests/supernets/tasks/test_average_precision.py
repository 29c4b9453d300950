"""The average precision against scikit-learn's, and its jackknife against leaving out each example."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from supernets.tasks.multi_label import average_precision, jackknifed


def examples(seed: int, n: int, labels: int, *, tied: bool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    held = rng.random((n, labels)) < 0.3
    held[:2] = True
    outputs = (held + rng.normal(size=(n, labels))).astype(np.float32)
    return (np.round(2 * outputs) / 2 if tied else outputs), held  # as a quantised network's


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
def test_the_value_is_scikit_learns(tied: bool) -> None:
    outputs, held = examples(0, 80, 4, tied=tied)
    assert average_precision(outputs, held) == pytest.approx(average_precision_score(held, outputs, average="macro"))


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("n", [3, 40])
def test_pseudo_values_are_those_of_leaving_out_each_example(n: int, tied: bool) -> None:
    outputs, held = examples(n, n, 3, tied=tied)
    value = average_precision(outputs, held)
    without = [
        average_precision_score(np.delete(held, i, 0), np.delete(outputs, i, 0), average="macro") for i in range(n)
    ]
    np.testing.assert_allclose(jackknifed(outputs, held), n * value - (n - 1) * np.array(without), atol=1e-9)


def test_labels_that_no_example_has_are_left_out() -> None:
    outputs, held = examples(1, 30, 3, tied=False)
    held[:, 1] = False
    assert average_precision(outputs, held) == pytest.approx(average_precision(outputs[:, [0, 2]], held[:, [0, 2]]))
    assert np.isnan(average_precision(outputs, np.zeros_like(held)))


def test_a_label_of_one_example_keeps_its_value_without_it() -> None:
    outputs, held = examples(2, 20, 1, tied=False)
    held[:] = False
    held[5] = True
    value = average_precision(outputs, held)
    assert jackknifed(outputs, held)[5] == pytest.approx(value)
