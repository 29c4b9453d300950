"""Statistics of routings, against the definitions by enumeration."""

from itertools import product

import numpy as np
import pytest

from supernets.errors import SpaceError
from supernets.experts.routing_statistics import Routing, load_entropy, segment_routing, usage


def drawn(texts: int, tokens: int, k: int, experts: int, seed: int = 0) -> Routing:
    rng = np.random.default_rng(seed)
    return np.stack([[rng.permutation(experts)[:k] for _ in range(tokens)] for _ in range(texts)])


def best_f1(routing: Routing, experts: int, segment: int) -> tuple[float, float]:
    """Over all choices of experts for each segment, by enumeration: the best F1, and its experts a token's expert."""
    segments = [text[i : i + segment] for text in routing for i in range(len(text) - segment + 1)]
    frequencies = [(own == expert).sum() for own in segments for expert in range(experts)]
    found = []
    for chosen in product((0, 1), repeat=len(frequencies)):
        right = sum(f for f, c in zip(frequencies, chosen, strict=True) if c)
        positive = segment * sum(chosen)
        found.append((2 * right / (positive + sum(frequencies)), positive / sum(frequencies)))
    return max(found)


@pytest.mark.parametrize("seed", range(3))
def test_segment_routing_is_the_best_of_all_choices(seed: int) -> None:
    routing = drawn(2, 3, 2, 3, seed)
    for segment in (2, 3):
        found = segment_routing(routing, 3, segment)
        performance, ratio = best_f1(routing, 3, segment)
        assert found.performance == pytest.approx(performance)
        assert found.size_ratio == pytest.approx(ratio)
        assert found.texts.mean() == pytest.approx(performance)


def test_one_token_segments_and_constant_routings_are_perfect() -> None:
    assert segment_routing(drawn(3, 10, 2, 6), 6, 1)[:2] == (1.0, 1.0)
    constant = np.broadcast_to(np.array([4, 1]), (3, 10, 2)).copy()
    assert segment_routing(constant, 6, 7)[:2] == (1.0, 1.0)


def test_consistent_routing_is_better_than_a_random_one() -> None:
    blocks = np.repeat(drawn(4, 8, 2, 8), 8, axis=1)  # changes every 8 tokens
    mixed = drawn(4, 64, 2, 8, seed=1)
    assert segment_routing(blocks, 8, 8).performance > segment_routing(mixed, 8, 8).performance + 0.2


def test_the_error_of_a_performance_is_that_over_texts() -> None:
    routing = np.concatenate([drawn(40, 24, 2, 6), np.repeat(drawn(40, 6, 2, 6, seed=1), 4, axis=1)])
    found = segment_routing(routing, 6, 4).texts
    rng = np.random.default_rng(0)
    again = [segment_routing(routing[rng.integers(80, size=80)], 6, 4).performance for _ in range(200)]
    assert found.std(ddof=1) / 80**0.5 == pytest.approx(np.std(again), rel=0.2)  # the bootstrap's


def test_usage_is_of_all_tokens() -> None:
    routing = np.array([[[0, 2], [2, -1], [-1, -1]]])
    np.testing.assert_array_equal(usage(routing, 4), [1 / 3, 0, 2 / 3, 0])
    np.testing.assert_array_equal(usage(np.full((1, 3, 1), -1), 2), [0, 0])
    assert segment_routing(np.full((1, 3, 1), -1), 2, 2)[:2] == (0, 0)


def test_entropy_is_1_for_equal_loads_and_0_for_one_expert() -> None:
    assert load_entropy(np.full(8, 0.25)) == pytest.approx(1)
    assert load_entropy(np.array([1.0, 0, 0])) == 0
    assert load_entropy(np.array([0.5, 0.5, 0, 0])) == pytest.approx(0.5)
    assert load_entropy(np.ones(1)) == 0


def test_numbers_of_other_experts_and_long_segments_are_rejected() -> None:
    with pytest.raises(SpaceError, match="asks the experts 0 to 3; expected 0 to 2"):
        usage(np.array([[[0, 3]]]), 3)
    with pytest.raises(SpaceError, match="segments of 5 tokens, and the texts have 4"):
        segment_routing(drawn(1, 4, 1, 2), 2, 5)
