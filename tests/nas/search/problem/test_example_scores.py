import math

import numpy as np
import pytest

from nas.search.problem.example_scores import decoded, encoded, standard_error


def test_answers_are_kept_as_one_bit_each() -> None:
    answers = np.array([True, False, True, True, False, True, True, True, False])
    samples, detail = encoded(answers)
    assert (len(samples), detail) == (2, {"images": 9})
    assert decoded(samples, detail).tolist() == answers.tolist()


def test_numbers_come_back_in_single_precision() -> None:
    scores = np.random.default_rng(0).normal(size=101).astype(np.float32)
    samples, detail = encoded(scores)
    assert detail == {"images": 101, "scores": "float32"}
    np.testing.assert_array_equal(decoded(samples, detail), scores)


@pytest.mark.parametrize(
    ("samples", "detail"),
    [(b"abc", {"images": 4}), (b"", {}), (b"abc", {"images": 4, "scores": "float32"})],
    ids=["too many bytes", "no examples", "no compressed numbers"],
)
def test_damaged_scores_are_an_error(samples: bytes, detail: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"images|read"):
        decoded(samples, detail)


def test_the_standard_error_of_a_mean() -> None:
    scores = np.array([0, 1, 1, 0, 1], dtype=np.uint8)
    assert standard_error(scores) == pytest.approx(math.sqrt(0.3) / math.sqrt(5))
    assert standard_error(scores[:1]) == math.inf
