import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import mean_absolute_error, r2_score

from supernets.data import DataSet, Part
from supernets.data.preprocessing import ImageFormat
from supernets.tasks import Regression
from tests.errors import raises

FORMAT = ImageFormat((0.5,), (0.5,), image_size=2, channels=1)


def data_of(*parts: list[float]) -> DataSet:
    made = [Part.of(torch.zeros(len(numbers), 1, 2, 2), torch.tensor(numbers)) for numbers in parts]
    return DataSet("ages", *made, (), FORMAT, targets="numbers")


def examples(n: int = 200) -> tuple[Regression, NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    targets = rng.gamma(2.0, 10.0, size=n).astype(np.float32)
    task = Regression(20.0, 14.0)
    outputs = (targets - task.mean) / task.std + 0.5 * rng.normal(size=n)
    return task, outputs[:, None].astype(np.float32), targets


def test_numbers_are_standardised_by_the_training_part() -> None:
    task = Regression().for_data(data_of([1, 3, 5, 7], [2, 4], [1, 9]))
    assert (task.mean, task.std) == (4.0, pytest.approx(5**0.5))
    outputs = torch.tensor([[0.0], [1.0]])
    torch.testing.assert_close(task.losses(outputs, torch.tensor([4.0, 4.0])), torch.tensor([0.0, 1.0]))
    np.testing.assert_allclose(task.numbers(outputs.numpy()), [4.0, 4 + 5**0.5])


def test_the_metrics_are_scikit_learns_in_the_numbers_own_unit() -> None:
    task, outputs, targets = examples()
    numbers = task.numbers(outputs)
    assert task.score("mae", outputs, targets).value == pytest.approx(mean_absolute_error(targets, numbers))
    assert task.score("r2", outputs, targets).value == pytest.approx(r2_score(targets, numbers))


@pytest.mark.parametrize("metric", ["mae", "r2"])
def test_standard_errors_are_those_of_the_bootstrap(metric: str) -> None:
    task, outputs, targets = examples()
    rng = np.random.default_rng(1)
    other = (outputs + 0.3 * rng.normal(size=outputs.shape)).astype(np.float32)
    one, two = (task.score(metric, found, targets) for found in (outputs, other))
    drawn = [rng.integers(len(targets), size=len(targets)) for _ in range(1000)]
    values = np.array([[task.score(metric, found[i], targets[i]).value for found in (outputs, other)] for i in drawn])
    # A standard error of 1,000 draws is known within about 2 %, and the linear one of R² is smaller by 1/n terms.
    assert one.error == pytest.approx(values[:, 0].std(), rel=0.15)
    paired = np.std(one.examples - two.examples, ddof=1) / len(targets) ** 0.5
    assert paired == pytest.approx((values[:, 0] - values[:, 1]).std(), rel=0.15)
    assert paired < 0.8 * np.hypot(one.error, two.error)


def test_the_scores_of_single_examples_average_to_the_value() -> None:
    task, outputs, targets = examples()
    for metric in ("mae", "r2"):
        score = task.score(metric, outputs, targets)
        assert score.examples.mean() == pytest.approx(score.value)


def test_one_number_for_all_is_an_error() -> None:
    with raises("data.unsplittable", "ages", "train", "are 3", "different numbers"):
        Regression().for_data(data_of([3, 3, 3], [1, 2], [1, 2]))


def test_numbers_that_are_not_finite_are_an_error() -> None:
    with raises("data.invalid", "validation", "finite"):
        Regression().for_data(data_of([1, 2, 3], [1, float("nan")], [1, 2]))
