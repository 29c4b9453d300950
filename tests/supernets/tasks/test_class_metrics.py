"""Metrics of classes against scikit-learn's, and their standard errors against leaving out each example."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score, top_k_accuracy_score

from supernets.tasks import CLASSIFICATION

_Value = Callable[[NDArray[np.float32], NDArray[np.int64]], float]
N_CLASSES = 7


def examples(seed: int, n: int, *, tied: bool = False) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits of imbalanced classes, the last of which no example has."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(N_CLASSES - 1, n, p=[0.35, 0.25, 0.2, 0.1, 0.06, 0.04])
    classes[: N_CLASSES - 1] = np.arange(N_CLASSES - 1)
    outputs = rng.normal(size=(n, N_CLASSES)).astype(np.float32)
    outputs[np.arange(n), classes] += rng.choice([0.2, 1.5], n)
    return (np.round(outputs) if tied else outputs), classes


def roc_auc(outputs: NDArray[np.float32], classes: NDArray[np.int64]) -> float:
    """The mean of scikit-learn's areas of the classes that examples have."""
    exponentials = np.exp(outputs.astype(np.float64))
    p = np.round(exponentials / exponentials.sum(axis=1, keepdims=True), 9)  # sums depend on their order
    return float(np.mean([roc_auc_score(classes == label, p[:, label]) for label in np.unique(classes)]))


REFERENCES: dict[str, _Value] = {
    "macro_f1": lambda outputs, classes: f1_score(
        classes, outputs.argmax(1), average="macro", labels=np.unique(classes), zero_division=0
    ),
    "balanced_accuracy": lambda outputs, classes: float(
        np.mean([(outputs.argmax(1) == label)[classes == label].mean() for label in np.unique(classes)])
    ),
    "auroc": roc_auc,
}


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("metric", REFERENCES)
def test_values_are_scikit_learns(metric: str, tied: bool) -> None:
    outputs, classes = examples(0, 300, tied=tied)
    assert CLASSIFICATION.score(metric, outputs, classes).value == pytest.approx(REFERENCES[metric](outputs, classes))


def test_values_of_shown_classes_are_scikit_learns() -> None:
    outputs, classes = examples(1, 200)
    outputs = outputs[:, : N_CLASSES - 1]
    assert CLASSIFICATION.score("balanced_accuracy", outputs, classes).value == pytest.approx(
        balanced_accuracy_score(classes, outputs.argmax(1))
    )
    top5 = CLASSIFICATION.score("top5_accuracy", outputs, classes)
    assert top5.value == pytest.approx(top_k_accuracy_score(classes, outputs, k=5))
    assert top5.examples.dtype == np.bool_


def test_of_equal_outputs_the_first_classes_are_on_top() -> None:
    outputs = np.zeros((7, 7), dtype=np.float32)
    assert CLASSIFICATION.score("top5_accuracy", outputs, np.arange(7)).examples.tolist() == [True] * 5 + [False] * 2


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("metric", REFERENCES)
def test_errors_are_those_of_leaving_out_each_example(metric: str, tied: bool) -> None:
    outputs, classes = examples(2, 400, tied=tied)
    score, n = CLASSIFICATION.score(metric, outputs, classes), len(classes)
    without = [CLASSIFICATION.score(metric, np.delete(outputs, i, 0), np.delete(classes, i)).value for i in range(n)]
    pseudo = n * score.value - (n - 1) * np.array(without)
    assert score.examples.mean() == pytest.approx(score.value)
    assert np.corrcoef(pseudo, score.examples)[0, 1] > 0.99
    assert score.error == pytest.approx(pseudo.std(ddof=1) / n**0.5, rel=0.05)


@pytest.mark.parametrize("metric", REFERENCES)
def test_errors_of_perfect_answers_are_not_zero(metric: str) -> None:
    classes = np.arange(20) % 4
    score = CLASSIFICATION.score(metric, np.eye(4, dtype=np.float32)[classes] * 80, classes)
    assert (score.value, score.error) == (1.0, pytest.approx(0.5 / 21))


def test_sure_answers_are_ordered_by_their_odds() -> None:
    """Probabilities of 1 - 1e-30 and 1 - 1e-40 are both rounded to 1, and are not the same."""
    outputs = np.array([[70, 0], [90, 0], [80, 0], [0, 50]], dtype=np.float32)
    classes = np.array([1, 0, 0, 1])
    assert CLASSIFICATION.score("auroc", outputs, classes).value == 1.0


def test_one_class_alone_has_no_area() -> None:
    assert np.isnan(CLASSIFICATION.score("auroc", np.zeros((3, 2), dtype=np.float32), np.zeros(3, dtype=int)).value)
