"""Importance of a decoder's parts on activations, beside computations by hand: hooks, cosines and least squares over
removals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from supernets.families.decoder.activations import (
    RIDGE,
    activation_importance,
    block_influence,
    elimination,
    head_units,
    measure_activations,
)
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder, Layer
from supernets.sharing.base import Supernet
from supernets.sharing.sorting import orders
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import GEMMA, GPT2, LLAMA, OLMO, ORDERED, texts


@pytest.fixture(params=[LLAMA, GPT2, ORDERED, GEMMA, OLMO], ids=["llama", "gpt2", "untied", "gemma", "olmo"])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return invariants.randomised(make_supernet(request.param))


def largest(supernet: Supernet) -> Decoder:
    return cast(Decoder, supernet.extract(supernet.space.largest))


@contextmanager
def observed(network: Decoder, *names: str) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Inputs and outputs of modules in the next forward, by name, (tokens, channels) each."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def kept(name: str) -> Any:
        return lambda _, inputs, output: found.__setitem__(name, (inputs[0].flatten(0, 1), output.flatten(0, 1)))

    handles = [network.get_submodule(name).register_forward_hook(kept(name)) for name in names]
    yield found
    for handle in handles:
        handle.remove()


@torch.no_grad()
def test_block_influence_is_one_minus_the_mean_cosine(supernet: Supernet) -> None:
    network, ids = largest(supernet), texts(40)
    found = block_influence(network, [ids[:7], ids[7:]])
    with observed(network, *(f"layers.{i}" for i in range(3))) as seen:
        network(ids)
    for i, value in enumerate(found):
        before, after = seen[f"layers.{i}"]
        cosines = (before * after).sum(1) / (before.norm(dim=1) * after.norm(dim=1))
        assert value == pytest.approx(1 - cosines.mean().item(), rel=1e-4)


@torch.no_grad()
def test_second_moments_are_those_of_a_forward(supernet: Supernet) -> None:
    network, ids = largest(supernet), texts(40)
    found = measure_activations(network, [ids[:20], ids[20:]])
    names = [f"layers.1.{name}" for name in ("attention.project", "mlp.down", "norm1", "norm2")]
    with observed(network, "layers.1", *names, "head.norm") as seen:
        network(ids)
    weights = 1 / seen["layers.1"][1].square().mean(1)
    for own, name in ((found.layers[1].heads, names[0]), (found.layers[1].neurons, names[1])):
        inputs, outputs = seen[name]
        if "post_norm1" in "".join(network.state_dict()):  # a norm follows
            inputs = inputs / (outputs.square().mean(1, keepdim=True) + 1e-5).sqrt()
        assert torch.allclose(
            own, torch.einsum("t,ti,tj->ij", weights, inputs, inputs) / len(inputs), rtol=1e-3, atol=1e-6
        )
    squares = torch.stack([seen[name][1].square().mean(0) for name in names[2:]])
    assert torch.allclose(found.layers[1].normalised, squares, rtol=1e-4)
    assert torch.allclose(found.head, seen["head.norm"][1].square().mean(0), rtol=1e-4)


def test_only_the_first_tokens_are_read() -> None:
    network, ids = largest(invariants.randomised(make_supernet(LLAMA))), texts(40)
    few = block_influence(network, [ids[:6], ids[6:]], max_tokens=90)
    assert few == pytest.approx(block_influence(network, [ids[:10]]), rel=1e-5)


def by_hand(inputs: Tensor, weight: Tensor, units: Tensor) -> list[float]:
    """Errors of greedy removals, each by least squares over the inputs that are left."""
    gone: list[int] = []
    errors = [0.0] * len(units)

    def error(left: list[int]) -> float:
        if not left:
            return (inputs @ weight.T).square().sum().item() / n
        own = inputs[:, units[left].flatten()]
        return (own @ torch.linalg.lstsq(own, inputs @ weight.T).solution - inputs @ weight.T).square().sum().item() / n

    n = len(inputs) - inputs.shape[1]  # without the rows of the ridge
    while len(gone) < len(units):
        rest = [unit for unit in range(len(units)) if unit not in gone]
        costs = {unit: error([other for other in rest if other != unit]) for unit in rest}
        least = min(costs, key=costs.__getitem__)
        gone.append(least)
        errors[least] = costs[least]
    return errors


def test_elimination_uses_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three units of 192 inputs, SmolLM2's groups, with two threads: the solver of torch's MKL would not return."""
    threads: list[int] = []
    solve = torch.linalg.solve

    def recorded(*arguments: Tensor) -> Tensor:
        threads.append(torch.get_num_threads())
        return solve(*arguments)

    monkeypatch.setattr(torch.linalg, "solve", recorded)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.isfinite(elimination(torch.eye(576), torch.ones(4, 576), torch.arange(576).view(3, 192))).all()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}


@pytest.mark.parametrize("k", [1, 2])
def test_elimination_is_that_of_least_squares_over_all_removals(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    mixing, weight = (torch.randn(*shape, generator=generator).double() for shape in ((6, 6), (3, 6)))
    inputs = torch.randn(50, 6, generator=generator).double() @ mixing
    moments = inputs.T @ inputs / 50
    ridge = (50 * (RIDGE * moments.diagonal().mean() + 1e-12)).sqrt() * torch.eye(6)
    units = torch.randperm(6, generator=generator).view(-1, k)
    expected = by_hand(torch.cat([inputs, ridge.double()]), weight, units)
    assert elimination(moments, weight, units).tolist() == pytest.approx(expected, rel=1e-6)


def test_several_units_at_once_are_ordered_alike() -> None:
    """With inputs that do not depend on each other, no removal changes the cost of another."""
    sizes = torch.randperm(200, generator=torch.Generator().manual_seed(0)).float() + 1
    found = elimination(torch.eye(200), sizes[None], torch.arange(200)[:, None], steps=8)
    assert torch.equal(found.argsort(), sizes.argsort())
    assert found.max().item() == pytest.approx((1 + RIDGE) * sizes.square().sum().item(), rel=1e-6)


def test_units_of_heads_are_the_inputs_of_each_group_and_of_each_query() -> None:
    layer = cast(Layer, largest(make_supernet(LLAMA)).layers["0"])  # three groups of two queries, of four channels
    units = head_units(layer.attention)
    assert units["heads"].tolist() == [[*range(8)], [*range(8, 16)], [*range(16, 24)]]
    assert units["queries"].tolist() == [
        [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19],
        [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23],
    ]


@torch.no_grad()
def test_channels_of_the_stream_are_read_by_all_linear_layers(supernet: Supernet) -> None:
    network, ids = largest(supernet), texts(40)
    found = activation_importance(network, measure_activations(network, [ids]))["width"]
    readers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and "project" not in name and "down" not in name
    ]
    expected = torch.zeros(len(found))
    with observed(network, *readers, "head.norm") as seen:
        network(ids)
    tables = {name: cast(nn.Linear, network.get_submodule(name)).weight for name in readers}
    if network.table is not None:
        tables["tied"], seen["tied"] = network.table, seen["head.norm"][::-1]
    for name, weight in tables.items():
        effect = torch.stack([(seen[name][0][:, c, None] * weight[:, c]).square().sum() for c in range(len(found))])
        expected += effect / effect.sum()
    assert torch.allclose(found, expected, rtol=1e-3)


@torch.no_grad()
def test_sorting_keeps_the_largest_network_and_puts_the_important_first(supernet: Supernet) -> None:
    ids = texts(40)
    before = largest(supernet)(ids)
    invariants.assert_varies(before)
    assert isinstance(supernet.family, DecoderFamily)
    found = activation_importance(network := largest(supernet), measure_activations(network, [ids]))
    assert found.keys() == supernet.family.axes.keys()
    smallest = supernet.extract(supernet.space.smallest)(ids)
    supernet.sort(orders(found))
    assert invariants.relative(largest(supernet)(ids), before) <= invariants.RELATIVE
    assert invariants.relative(supernet.extract(supernet.space.smallest)(ids), smallest) > 1000 * invariants.RELATIVE
    again = activation_importance(network := largest(supernet), measure_activations(network, [ids]))
    for name, values in found.items():
        assert torch.allclose(again[name], values[orders(found)[name]], rtol=1e-2)
