"""The two graphs of a served decoder: prompts and steps with a cache give what the whole forward gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hardware_profiles.runtime import run_model
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder, Layer
from supernets.families.decoder.decoder_serving import (
    FILLED,
    IDS,
    PADDING,
    PORTABLE_STEP,
    PREFILL,
    STEP,
    Served,
    ServedInPlace,
    ServedModels,
    cache_names,
    cache_shapes,
    is_in_place_step,
    lower_prefill,
    lower_step,
    lower_step_in_place,
)
from supernets.networks import module_layout
from supernets.networks import network as supernet_networks
from supernets.sharing.base import Supernet
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import (
    ATTENTION_EXPERTS,
    GEMMA,
    GPT2,
    GPT2_SKIPS,
    LLAMA,
    OLMO,
    ORDERED,
    SCALED,
    SKIPS,
    texts,
)

LENGTHS = {1: (5,), 3: (2, 5, 1)}
"""Tokens of the prompts of a batch."""
STEPS = 4
Call = Callable[[Tensor, Tensor, list[Tensor]], list[Tensor]]


@pytest.fixture(
    scope="module",
    params=[LLAMA, GPT2, ORDERED, SCALED, ATTENTION_EXPERTS, SKIPS, GEMMA, OLMO],
    ids=["llama", "gpt2", "ordered", "scaled", "attention-experts", "skips", "gemma", "olmo"],
)
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return invariants.randomised(make_supernet(request.param))


def networks(supernet: Supernet) -> Iterator[Decoder]:
    for architecture in invariants.architectures(supernet, 2):
        network = supernet.extract(architecture)
        assert isinstance(network, Decoder)
        yield network


def of_eight(family: DecoderFamily) -> DecoderFamily:
    """A family with heads of eight channels, as ONNX Runtime's attention takes them."""
    data = family.to_json()
    return DecoderFamily.from_json({**data, "spec": {**data["spec"], "head_size": 8}})


def by_torch(network: Decoder) -> Call:
    served = Served(network)
    return lambda ids, padding, past: list(served(ids, padding, *past))


def by_runtime(network: Decoder) -> Call:
    models = {False: lower_prefill(network), True: lower_step(network)}
    for model in models.values():
        onnx.checker.check_model(model, full_check=True)
    names = cache_names(len(cache_shapes(network)), "past")

    def call(ids: Tensor, padding: Tensor, past: list[Tensor]) -> list[Tensor]:
        cache = {name: own.numpy() for name, own in zip(names, past, strict=bool(past))}
        given: dict[str, NDArray[np.generic]] = {IDS: ids.numpy(), PADDING: padding.numpy(), **cache}
        return [torch.from_numpy(own) for own in run_model(models[bool(past)], given)]

    return call


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("made", [by_torch, by_runtime])
@torch.no_grad()
def test_steps_equal_the_whole_forward(supernet: Supernet, n: int, made: Callable[[Decoder], Call]) -> None:
    lengths, ids = LENGTHS[n], texts(n, max(LENGTHS[n]) + STEPS)
    for network in networks(supernet):
        call, longest = made(network), max(lengths)
        padding = torch.tensor([longest - own for own in lengths])
        prompts = torch.stack(
            [torch.cat([torch.full((longest - k,), 7), row[:k]]) for k, row in zip(lengths, ids, strict=True)]
        )
        found, *cache = call(prompts, padding, [])
        tolerance = invariants.RELATIVE_ONNX * network(ids).std()
        for step in range(STEPS + 1):
            whole = torch.stack([network(row[None, : k + step])[0, -1] for k, row in zip(lengths, ids, strict=True)])
            assert found.shape == whole.shape
            assert (found - whole).abs().max() <= tolerance
            shapes = [
                (n, groups, longest + step, size) for groups, size in cache_shapes(network) for _ in ("key", "value")
            ]
            assert [tuple(own.shape) for own in cache] == shapes
            if step < STEPS:
                new = torch.stack([row[k + step] for k, row in zip(lengths, ids, strict=True)])
                found, *cache = call(new[:, None], padding, cache)


@torch.no_grad()
def test_a_changed_network_is_served_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network = next(networks(invariants.randomised(make_supernet(LLAMA))))
    modules: list[nn.Module] = []

    def layout_of(module: nn.Module, *ignored: str) -> object:
        modules.append(module)
        return module_layout.layout_of(module, *ignored)

    monkeypatch.setattr(supernet_networks, "layout_of", layout_of)
    before, ids, padding = by_runtime(network), texts(3, 5), torch.zeros(3, dtype=torch.int64)
    assert modules == [network, network]  # once for each model
    first = before(ids, padding, [])[0]
    cast(Layer, network.layers["0"]).norm1.eps = 0.5  # type: ignore[assignment]
    changed = by_runtime(network)(ids, padding, [])[0]
    tolerance = invariants.RELATIVE_ONNX * first.std()
    assert (changed - Served(network)(ids, padding)[0]).abs().max() <= tolerance
    assert (changed - first).abs().max() > 10 * tolerance


def in_place_by_torch(network: Decoder) -> Call:
    served = ServedInPlace(network)
    return lambda ids, padding, past: list(served(ids, padding, *past))


def in_place_by_runtime(network: Decoder) -> Call:
    model = lower_step_in_place(network)
    onnx.checker.check_model(model, full_check=True)
    names = [FILLED, *cache_names(len(cache_shapes(network)), "past")]

    def call(ids: Tensor, padding: Tensor, past: list[Tensor]) -> list[Tensor]:
        cache = {name: own.numpy() for name, own in zip(names, past, strict=True)}
        return [
            torch.from_numpy(own) for own in run_model(model, {IDS: ids.numpy(), PADDING: padding.numpy(), **cache})
        ]

    return call


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("made", [in_place_by_torch, in_place_by_runtime])
@pytest.mark.parametrize(
    "family",
    [LLAMA, GPT2, ORDERED, ATTENTION_EXPERTS, GPT2_SKIPS, GEMMA],
    ids=["llama", "gpt2", "ordered", "attention-experts", "gpt2-skips", "gemma"],
)
@torch.no_grad()
def test_steps_in_place_equal_the_whole_forward(family: DecoderFamily, n: int, made: Callable[[Decoder], Call]) -> None:
    """The room after the tokens may hold anything."""
    supernet = invariants.randomised(make_supernet(of_eight(family)))
    lengths, ids = LENGTHS[n], texts(n, max(LENGTHS[n]) + STEPS)
    for network in networks(supernet):
        call, longest = made(network), max(lengths)
        padding = torch.tensor([longest - own for own in lengths])
        prompts = torch.stack(
            [torch.cat([torch.full((longest - k,), 7), row[:k]]) for k, row in zip(lengths, ids, strict=True)]
        )
        _, *cache = Served(network)(prompts, padding)
        cache = [functional.pad(own, (0, 0, 0, STEPS + 2), value=1e3) for own in cache]
        for step in range(STEPS):
            new = torch.stack([row[k + step] for k, row in zip(lengths, ids, strict=True)])[:, None]
            before = [own.clone() for own in cache]
            found, *cache = call(new, padding, [torch.tensor([longest + step]), *cache])
            whole = torch.stack(
                [network(row[None, : k + step + 1])[0, -1] for k, row in zip(lengths, ids, strict=True)]
            )
            assert (found - whole).abs().max() <= invariants.RELATIVE_ONNX * network(ids).std()
            for own, old in zip(cache, before, strict=True):
                changed = (own != old).flatten(0, 1).any(0).any(1).nonzero().flatten()
                assert changed.tolist() == [longest + step]


@torch.no_grad()
def test_a_step_may_read_several_tokens(supernet: Supernet) -> None:
    ids, padding = texts(2, 9), torch.tensor([0, 2])
    for network in networks(supernet):
        served = Served(network)
        _, *cache = served(ids[:, :4], padding)
        found, *_ = served(ids[:, 4:], padding, *cache)
        assert (found - served(ids, padding)[0]).abs().max() <= invariants.RELATIVE * found.std()


def test_a_runtime_need_not_transpose_weights(supernet: Supernet) -> None:
    """Each weight is stored once, as products read it."""
    network = next(networks(supernet))
    graph = onnx.load_from_string(lower_step(network)).graph
    stored = {own.name: tuple(own.dims) for own in graph.initializer}
    assert not [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in stored]
    shapes = {f"network.{name}": tuple(own.shape) for name, own in network.state_dict().items()}
    own = {name: shape for name, shape in stored.items() if name in shapes}
    assert own.keys() == shapes.keys()
    for name, shape in own.items():
        looked_up = name.startswith(("network.embedding.", "network.head."))  # also the input of a Gemm
        assert shape == (shapes[name] if looked_up else shapes[name][::-1])


def test_the_models_declare_what_they_read_and_return() -> None:
    network = next(networks(invariants.randomised(make_supernet(LLAMA))))
    prefill, step = (onnx.load_from_string(lower(network)).graph for lower in (lower_prefill, lower_step))

    def declared(values: list[onnx.ValueInfoProto]) -> dict[str, list[str | int]]:
        dims = {value.name: value.type.tensor_type.shape.dim for value in values}
        return {name: [dim.dim_param or dim.dim_value for dim in own] for name, own in dims.items()}

    present = {f"present.0.{kind}": ["batch", 1, "context", 4] for kind in ("key", "value")}
    past = {f"past.0.{kind}": ["batch", 1, "past", 4] for kind in ("key", "value")}
    assert declared(list(prefill.input)) == {"ids": ["batch", "tokens"], "padding": ["batch"]}
    assert declared(list(step.input)) == {"ids": ["batch", 1], "padding": ["batch"], **past}
    assert declared(list(step.output)) == {"logits": ["batch", 40], **present}
    assert declared(list(prefill.output))["present.0.key"] == ["batch", 1, "tokens", 4]
    models = ServedModels(network)
    assert (list(models), len(models)) == ([PREFILL, STEP, PORTABLE_STEP], 3)
    assert (models[PREFILL], models[PORTABLE_STEP]) == (lower_prefill(network), lower_step(network))
    assert models[STEP] == models[PORTABLE_STEP]  # heads of four channels
    assert not is_in_place_step(models[STEP])
    of_heads = ServedModels(next(networks(invariants.randomised(make_supernet(of_eight(LLAMA))))))
    assert is_in_place_step(of_heads[STEP])
    graph = onnx.load_from_string(of_heads[STEP]).graph
    room = {f"past.0.{kind}": ["batch", 1, "room", 8] for kind in ("key", "value")}
    assert declared(list(graph.input)) == {"ids": ["batch", 1], "padding": ["batch"], "filled": [1], **room}
    assert declared(list(graph.output))["present.0.key"] == ["batch", 1, "room", 8]
