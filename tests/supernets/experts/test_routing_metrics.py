"""Routings that are observed in networks of experts, and the metrics of them."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernets.errors import SpaceError
from supernets.experts.routing_metrics import (
    ROUTING_METRICS,
    ExpertCache,
    LayerRouting,
    mean_macs,
    observed_routings,
    routing_metric,
)
from supernets.experts.routing_statistics import segment_routing, simulate_cache
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.sharing.base import Supernet
from supernets.training.checkpoint import make_supernet

TEXTS, TOKENS, WORDS = 20, 24, 50


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    spec = DecoderSpec(
        head_size=8, depth=(1, 2), width=(16,), heads=(2,), hidden=(8, 16), experts=(4, 6), active_experts=(1, 2)
    )
    torch.manual_seed(0)
    return make_supernet(DecoderFamily(spec, vocabulary=WORDS, positions=TOKENS, tokens=TOKENS)).eval()


@pytest.fixture(scope="module")
def texts() -> Tensor:
    return torch.randint(WORDS, (TEXTS, TOKENS), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def layers(supernet: Supernet, texts: Tensor) -> list[LayerRouting]:
    return observed_routings(supernet.extract(supernet.space.largest), texts)


def test_the_routing_is_that_of_the_routers(supernet: Supernet, texts: Tensor, layers: list[LayerRouting]) -> None:
    network = supernet.extract(supernet.space.largest)
    routers = [module for name, module in network.named_modules() if name.endswith("router")]
    logits: list[Tensor] = []
    for router in routers:
        router.register_forward_hook(lambda _, __, output: logits.append(output))
    with torch.no_grad():
        network(texts)
    assert len(layers) == len(logits) == 2
    for layer, own in zip(layers, logits, strict=True):
        assert layer.routing.shape == (TEXTS, TOKENS, 2)
        np.testing.assert_array_equal(layer.routing, own.topk(2).indices.view(TEXTS, TOKENS, 2))
        assert (layer.experts, layer.expert_bytes) == (6, 3 * 16 * 16 * 4)


def test_smaller_networks_have_fewer_experts(supernet: Supernet, texts: Tensor) -> None:
    (layer,) = observed_routings(supernet.extract(supernet.space.smallest), texts)
    assert layer.routing.shape == (TEXTS, TOKENS, 1)
    assert (layer.experts, layer.expert_bytes) == (4, 3 * 8 * 16 * 4)
    assert layer.routing.max() < 4


def test_metrics_are_those_of_all_layers_together(layers: list[LayerRouting]) -> None:
    cache = ExpertCache(experts=3)
    found = {name: routing_metric(name, layers, cache, texts=TEXTS) for name in ROUTING_METRICS}
    assert all(own.shape == (TEXTS,) for own in found.values())
    first, second = (simulate_cache(own.routing, 6, 3) for own in layers)
    both = first + second
    assert found["cache_hit_rate"].mean() == pytest.approx(both.hits.sum() / both.requests.sum())
    loads = sum((use.requests - use.hits).sum() / use.tokens.sum() for use in (first, second))
    assert found["expert_loads_per_token"].mean() == pytest.approx(loads)
    assert found["segment_cache_hit_rate"].mean() > found["cache_hit_rate"].mean()
    f1 = [segment_routing(own.routing, 6, 16).performance for own in layers]
    assert found["segment_routing_f1"].mean() == pytest.approx(np.mean(f1))


def test_a_memory_holds_more_of_smaller_experts(supernet: Supernet, texts: Tensor, layers: list[LayerRouting]) -> None:
    own = 3 * 16 * 16 * 4
    cache = ExpertCache(mib=2 * 3.5 * own / 2**20)
    by_number = routing_metric("cache_hit_rate", layers, ExpertCache(experts=3), texts=TEXTS)
    np.testing.assert_array_equal(routing_metric("cache_hit_rate", layers, cache, texts=TEXTS), by_number)
    assert cache.sizes([own // 2, own]) == [7, 3]
    with pytest.raises(SpaceError, match="no room for an expert"):
        routing_metric("cache_hit_rate", layers, ExpertCache(mib=own / 2**20), texts=TEXTS)


def test_means_are_of_the_experts_that_compute(supernet: Supernet, texts: Tensor, layers: list[LayerRouting]) -> None:
    largest = supernet.space.largest
    macs = supernet.cost(largest).macs
    np.testing.assert_array_equal(mean_macs(supernet.extract(largest), texts, layers), macs)
    family = DecoderFamily(
        replace(cast(Any, supernet.family).spec, null_experts=(1, 4)), vocabulary=WORDS, positions=TOKENS, tokens=TOKENS
    )
    torch.manual_seed(0)
    other = make_supernet(family).eval()
    network = other.extract(other.space.largest)
    found = observed_routings(network, texts)
    experts = routing_metric("active_experts_mean", found, ExpertCache(1), texts=TEXTS)
    assert 0.8 < experts.mean() < 1.8, "two of ten, of which six compute"
    # Both layers' experts have three matrices of 16 x 16.
    expected = other.cost(other.space.largest).macs - 2 * TOKENS * (2 - experts) * 3 * 16 * 16
    np.testing.assert_allclose(mean_macs(network, texts, found), expected)
    np.testing.assert_allclose(mean_macs(network, texts[5:], observed_routings(network, texts[5:])), expected[5:])


def test_tokens_have_no_more_experts_than_sum_to_p(supernet: Supernet, texts: Tensor) -> None:
    spec = replace(cast(Any, supernet.family).spec, active_experts=(2, 4), top_p=(0.4, 0.9))
    other = make_supernet(DecoderFamily(spec, vocabulary=WORDS, positions=TOKENS, tokens=TOKENS)).eval()
    with torch.no_grad():
        for name, own in other.sharing.named_parameters():
            own *= 3 if "router" in name else 1
    means = []
    for p in (0, 1):
        genes = [p if choice.kind == "top_p" else len(choice.options) - 1 for choice in other.space.choices]
        network, cost = other.extract(other.space.canonical(genes)), other.cost(other.space.canonical(genes))
        found = observed_routings(network, texts)
        numbers = np.stack([(own.routing >= 0).sum(axis=2) for own in found])
        assert numbers.min() >= 1
        assert numbers.max() <= 4
        means.append(numbers.mean())
        experts = routing_metric("active_experts_mean", found, ExpertCache(1), texts=TEXTS)
        np.testing.assert_allclose(experts, numbers.mean(axis=(0, 2)))
        np.testing.assert_allclose(
            mean_macs(network, texts, found), cost.macs - 2 * TOKENS * (4 - experts) * 3 * 16 * 16
        )
    assert means[0] < means[1] < 4


def test_a_network_without_experts_loads_none(texts: Tensor) -> None:
    assert observed_routings(nn.Embedding(WORDS, 4), texts) == []
    found = [routing_metric(name, [], ExpertCache(1), texts=3).tolist() for name in ROUTING_METRICS]
    assert found == [[1] * 3, [0] * 3, [1] * 3, [1] * 3, [0] * 3]
    nulls = [LayerRouting(np.full((3, 20, 2), -1), 4, 8, 8)]  # of null experts alone
    found = [routing_metric(name, nulls, ExpertCache(1), texts=3).tolist() for name in ROUTING_METRICS]
    assert found == [[1] * 3, [0] * 3, [1] * 3, [0] * 3, [0] * 3]
