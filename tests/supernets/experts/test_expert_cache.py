"""The simulated cache, against one written with a list, and against the clairvoyant bound."""

import numpy as np
import pytest

from supernets.errors import SpaceError
from supernets.experts.routing_statistics import CacheUse, Routing, cache_sizes, simulate_cache
from tests.supernets.experts.test_routing_statistics import drawn


def hits_by_hand(routing: Routing, size: int) -> list[int]:
    """Of a cache of the most recently asked experts, by text."""
    found = []
    for text in routing:
        held: list[int] = []
        hits = 0
        for token in text:
            hits += sum(expert in held for expert in token)
            # Among experts of one token, those of lower numbers are evicted last.
            held = [*(expert for expert in held if expert not in token), *sorted(token, reverse=True)][-size:]
        found.append(hits)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 20])
def test_hits_are_those_of_least_recently_used(size: int) -> None:
    routing = drawn(3, 40, 2, 8)
    found = simulate_cache(routing, 8, size)
    assert found.hits.tolist() == hits_by_hand(routing, size)
    assert found.requests.tolist() == [80, 80, 80]
    assert found.tokens.tolist() == [40, 40, 40]


def test_an_oracle_keeps_what_the_next_tokens_ask_most() -> None:
    # When 2 is loaded, 0 was asked least recently, but it is asked twice within the next three tokens.
    routing = np.array([[[0], [1], [2], [2], [0], [0]]])
    assert simulate_cache(routing, 3, 2).hits.tolist() == [2]
    assert simulate_cache(routing, 3, 2, look_ahead=1).hits.tolist() == [2], "the next token asks neither 0 nor 1"
    assert simulate_cache(routing, 3, 2, look_ahead=3).hits.tolist() == [3]


def hit_rate(use: CacheUse) -> float:
    return float(use.hits.sum() / use.requests.sum())


def test_hit_rates_grow_with_the_cache_and_are_best_with_the_oracle() -> None:
    rng = np.random.default_rng(0)
    routing = np.where(rng.random((6, 64, 1)) < 0.6, rng.integers(2, size=(6, 1, 1)), rng.integers(8, size=(6, 64, 1)))
    used = [hit_rate(simulate_cache(routing, 8, size)) for size in range(1, 9)]
    oracle = [hit_rate(simulate_cache(routing, 8, size, look_ahead=16)) for size in range(1, 9)]
    assert used == sorted(used)
    assert all(best >= lru for best, lru in zip(oracle, used, strict=True))
    assert oracle[2] > used[2] + 0.02
    # All experts fit: only the first request of each is a load.
    first = sum(len(set(text.flat)) for text in routing)
    assert used[-1] == oracle[-1] == pytest.approx(1 - first / routing.size)


def test_unused_places_are_no_requests() -> None:
    routing = np.array([[[0, 1], [0, -1], [-1, -1]]])
    found = simulate_cache(routing, 3, 2)
    assert (found.requests.tolist(), found.hits.tolist(), found.tokens.tolist()) == ([3], [1], [3])
    nothing = simulate_cache(np.full((1, 2, 1), -1), 3, 2)
    both = found + nothing
    assert (both.requests.tolist(), both.hits.tolist(), both.tokens.tolist()) == ([3], [1], [3])


def test_a_memory_is_divided_among_layers() -> None:
    assert cache_sizes(1, [2**18, 2**17, 2**16]) == [1, 2, 5]
    message = (
        "a cache of 0.5 MiB for 3 layers has no room for an expert of 0.25 MiB in each; expected at least 0.75 MiB"
    )
    with pytest.raises(SpaceError, match=message) as error:
        cache_sizes(0.5, [2**18, 2**17, 2**16])
    assert error.value.code == "experts.cache-too-small"
    with pytest.raises(SpaceError, match="a cache of 0 experts; expected at least 1"):
        simulate_cache(drawn(1, 2, 1, 2), 2, 0)
