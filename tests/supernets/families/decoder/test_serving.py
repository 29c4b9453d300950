"""The two graphs of a served decoder: prompts and steps with a cache give what the whole forward gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardware_profiles.runtime import run_model
from supernets.base import Supernet
from supernets.checkpoint import make_supernet
from supernets.families.decoder.network import Decoder, Served
from supernets.families.decoder.serving import IDS, PADDING, cache_names, cache_shapes, lower_prefill, lower_step
from tests.supernets import invariants
from tests.supernets.families.decoder.test_family import GPT2, LLAMA, ORDERED, SCALED, texts

LENGTHS = {1: (5,), 3: (2, 5, 1)}
"""Tokens of the prompts of a batch."""
STEPS = 4
Call = Callable[[Tensor, Tensor, list[Tensor]], list[Tensor]]


@pytest.fixture(scope="module", params=[LLAMA, GPT2, ORDERED, SCALED], ids=["llama", "gpt2", "ordered", "scaled"])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return invariants.randomised(make_supernet(request.param))


def networks(supernet: Supernet) -> Iterator[Decoder]:
    for architecture in invariants.architectures(supernet, 2):
        network = supernet.extract(architecture)
        assert isinstance(network, Decoder)
        yield network


def by_torch(network: Decoder) -> Call:
    served = Served(network)
    return lambda ids, padding, past: list(served(ids, padding, *past))


def by_runtime(network: Decoder) -> Call:
    models = {False: lower_prefill(network), True: lower_step(network)}
    for model in models.values():
        onnx.checker.check_model(model, full_check=True)
    names = cache_names(network, "past")

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
def test_a_step_may_read_several_tokens(supernet: Supernet) -> None:
    ids, padding = texts(2, 9), torch.tensor([0, 2])
    for network in networks(supernet):
        served = Served(network)
        _, *cache = served(ids[:, :4], padding)
        found, *_ = served(ids[:, 4:], padding, *cache)
        assert (found - served(ids, padding)[0]).abs().max() <= invariants.RELATIVE * found.std()


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
