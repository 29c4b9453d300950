"""An elastic encoder of sentences: its forward by hand, padding, lengths, blocks, and what makes no network."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hardware_profiles.runtime import run_model
from supernets.families.encoder.encoder_family import EncoderFamily
from supernets.families.encoder.encoder_spec import ENCODER, EncoderSpec, space_within
from supernets.families.shared.transformer_family import kept_layers
from supernets.networks.module_to_onnx import lower, to_onnx
from supernets.networks.network import BlockInput, network_of
from supernets.networks.onnx_graph.ir import INPUT, LENGTH
from supernets.networks.tokens import padding_mask
from supernets.sharing.base import Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.space import Option
from supernets.training.checkpoint import family_from_json, make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families import by_hand

PADDING, TOKENS_EACH = 3, 9
SPEC = EncoderSpec(head_size=4, depth=(1, 2, 3), width=(12, 16, 20), heads=(1, 2, 3), hidden=(10, 16, 28))
SIZES: dict[str, Any] = {"vocabulary": 40, "positions": 12, "padding": PADDING, "tokens": TOKENS_EACH, "n_classes": 5}
FAMILY = EncoderFamily(SPEC, **SIZES)
SPREAD = EncoderFamily(replace(SPEC, kept="spread"), **SIZES)
"""Of its three layers, a depth of two keeps the first and the last."""
EXPERTS = EncoderFamily(replace(SPEC, experts=(2, 4), active_experts=(1, 3), gates="equal"), **SIZES)


def sentences(n: int = 16, seed: int = 0) -> Tensor:
    """Random ids; every other sentence is padded, the second to a single token."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(PADDING + 1, 40, (n, TOKENS_EACH), generator=generator)
    for i in range(1, n, 2):
        ids[i, 1 + i % (TOKENS_EACH - 1) - (i == 1) :] = PADDING
    return ids


@pytest.fixture(scope="module", params=[FAMILY, SPREAD], ids=["first", "spread"])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return invariants.randomised(make_supernet(request.param))


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return sentences()


def handwritten(weights: Mapping[str, Tensor], values: Mapping[str, Option], ids: Tensor) -> Tensor:
    """The family's forward by products of matrices alone, sentence by sentence without its padding."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        x = x - x.mean(dim=-1, keepdim=True)
        x = x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attention(x: Tensor, name: str, heads: int) -> Tensor:
        found = []
        for h in range(heads):
            query, key, value = (linear(x, f"{name}.qkv")[:, (part * heads + h) * 4 :][:, :4] for part in range(3))
            found.append(torch.softmax(query @ key.T / 4**0.5, dim=1) @ value)
        return linear(torch.cat(found, dim=-1), f"{name}.project")

    out = []
    for sentence in ids:
        own = sentence[sentence != PADDING]
        x = weights["embedding.words.weight"][own] + weights["embedding.positions"][: len(own)]
        x = norm(x, "embedding.norm")
        numbers = [i for i in range(3) if f"layer{i}.heads" in values]
        assert len(numbers) == values["depth"]
        for i in numbers:
            x = norm(x + attention(x, f"layers.{i}.attention", int(values[f"layer{i}.heads"])), f"layers.{i}.norm1")
            if f"layers.{i}.mlp.router.weight" in weights:
                k = int(values[f"layer{i}.active_experts"])
                y = by_hand.experts(weights, f"layers.{i}.mlp", x, k, by_hand.gelu, "equal")
            else:
                y = linear(by_hand.gelu(linear(x, f"layers.{i}.mlp.0")), f"layers.{i}.mlp.2")
            x = norm(x + y, f"layers.{i}.norm2")
        out.append(linear(torch.tanh(linear(x[0], "head.pool")), "head.classifier"))
    return torch.stack(out)


@torch.no_grad()
def test_padding_changes_nothing(supernet: Supernet, ids: Tensor) -> None:
    network = supernet.extract(supernet.space.largest)
    padded = torch.cat([ids, torch.full((16, 3), PADDING)], dim=1)
    assert invariants.relative(network(padded), network(ids)) <= invariants.RELATIVE


def test_they_are_of_a_sentence_of_the_length_that_was_given() -> None:
    short, long = (make_supernet(EncoderFamily(SPEC, **{**SIZES, "tokens": n})) for n in (5, 10))
    few, many = (net.cost(net.space.largest) for net in (short, long))
    width, channels = 20, 3 * 4
    head = width * width + 5 * width
    a_token = 3 * (4 * width * channels + 2 * width * 28)
    assert (few.macs, many.macs) == tuple(head + n * a_token + 3 * 2 * n * n * channels for n in (5, 10))
    assert few.parameters == many.parameters


class TestOnnx:
    @torch.no_grad()
    def test_batch_and_length_are_free_and_ids_are_whole_numbers(self, supernet: Supernet) -> None:
        network = supernet.extract(supernet.space.largest)
        model = lower(network, sentences())
        onnx.checker.check_model(model, full_check=True)
        (declared,) = onnx.load_from_string(model).graph.input
        tensor = declared.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.INT64
        assert [dim.dim_param for dim in tensor.shape.dim] == ["batch", "tokens"]
        for n, tokens in ((1, 1), (3, 4), (16, 9), (2, 12)):
            own = sentences()[:, :tokens] if tokens <= 9 else torch.cat([sentences(), sentences(16, 1)[:, :3]], dim=1)
            own = own[:n]
            (came,) = run_model(model, {INPUT: own.numpy()})
            assert (torch.from_numpy(came) - network(own)).abs().max() <= 1e-4 * network(sentences()).std()

    @torch.no_grad()
    def test_torchs_exporter_agrees_on_other_lengths(self, supernet: Supernet, ids: Tensor) -> None:
        network = supernet.extract(supernet.space.smallest)
        model = to_onnx(network, ids[:2])
        (came,) = run_model(model, {INPUT: ids[:5, :6].numpy()})
        assert invariants.relative(torch.from_numpy(came), network(ids[:5, :6])) <= invariants.RELATIVE_ONNX

    def test_a_sentence_beyond_the_positions_is_refused(self, supernet: Supernet) -> None:
        with pytest.raises(IndexError, match="13 tokens, and the network has 12 positions"):
            supernet.extract(supernet.space.smallest)(torch.full((1, 13), 5))


class TestDescription:
    def test_one_of_before_layers_could_be_spread_keeps_the_first(self) -> None:
        data = FAMILY.to_json()
        del data["spec"]["kept"]
        assert family_from_json(data).to_json() == FAMILY.to_json()

    def test_a_depth_keeps_layers_in_the_order_of_the_spec(self) -> None:
        with raises("space.invalid-dimension", "kept: ", "'last'"):
            replace(SPEC, kept="last")
        for depth, first, spread in ((1, (0,), (0,)), (2, (0, 1), (0, 5)), (3, (0, 1, 2), (0, 3, 5))):
            assert kept_layers(6, depth, spread=False) == first
            assert kept_layers(6, depth, spread=True) == spread
        assert kept_layers(6, 5, spread=True) == (0, 1, 2, 3, 5)
        assert kept_layers(12, 6, spread=True) == (0, 3, 5, 7, 9, 11)

    @given(total=st.integers(1, 24), spread=st.booleans())
    def test_the_layers_of_a_smaller_depth_are_among_those_of_a_larger(self, total: int, spread: bool) -> None:
        kept = [kept_layers(total, depth, spread=spread) for depth in range(1, total + 1)]
        assert [len(numbers) for numbers in kept] == list(range(1, total + 1))
        assert all(set(fewer) < set(more) for fewer, more in itertools.pairwise(kept))
        assert all(list(numbers) == sorted(numbers) for numbers in kept)
        if spread:
            assert all(numbers[-1] == total - 1 for numbers in kept[1:])

    @pytest.mark.parametrize("key", ["spec", "vocabulary", "padding", "epsilon"])
    def test_a_description_that_lacks_something_is_refused(self, key: str) -> None:
        data = FAMILY.to_json()
        del data[key]
        with raises("checkpoint.invalid"):
            family_from_json(data)

    @pytest.mark.parametrize(
        ("sizes", "error"),
        [
            ({"padding": 40}, "space.invalid | padding | 0 to 39 | 40"),
            ({"tokens": 13}, "space.invalid | 13 tokens | 12 positions"),
            ({"n_classes": 0}, "space.invalid-dimension | n_classes | 1"),
        ],
    )
    def test_sizes_that_make_no_network_are_refused(self, sizes: dict[str, int], error: str) -> None:
        with raises(*error.split(" | ")):
            EncoderFamily(SPEC, **{**SIZES, **sizes})

    def test_options_that_make_no_space_are_refused(self) -> None:
        with raises("space.invalid-dimension", "heads: "):
            EncoderSpec(head_size=4, depth=(1,), width=(8,), heads=(2, 1), hidden=(8,))


class TestPresets:
    def test_the_space_within_bert_base_is_the_papers(self) -> None:
        assert space_within(head_size=64, depth=12, width=768, heads=12, hidden=3072) == ENCODER["instatune"]
        assert space_within(head_size=32, depth=6, width=384, heads=12, hidden=1536) == ENCODER["minilm-l6"]

    def test_the_smallest_layers_are_still_layers(self) -> None:
        spec = space_within(head_size=4, depth=1, width=4, heads=1, hidden=2)
        assert (spec.depth, spec.heads, spec.hidden) == ((1,), (1,), (1, 2))

    def test_the_tiny_space_spans_ten_times_in_macs(self) -> None:
        family = EncoderFamily(ENCODER["tiny"], vocabulary=1000, positions=32, padding=0, tokens=20, n_classes=2)
        costs = make_supernet(family).costs([family.space.smallest, family.space.largest]).macs.sum(axis=1)
        assert costs[1] > 10 * costs[0]
        assert family.space.size > 1e5
        assert np.all(costs > 0)


class TestBlocks:
    """The keys and models that lookup tables of latencies are made of."""

    def test_the_blocks_chained_under_the_mask_are_the_network(self, supernet: Supernet, ids: Tensor) -> None:
        mask = padding_mask(ids, PADDING).numpy()
        space, rng = supernet.space, np.random.default_rng(0)
        for architecture in (space.smallest, space.largest, space.sample(rng)):
            network, values = supernet.extract(architecture), space.values(architecture)
            first, *layers, last = network_of(network, ids, supernet.family.blocks).block_models()
            assert [block.name for block in layers] == [f"layers.{i}" for i in range(3) if f"layer{i}.heads" in values]
            assert first.inputs == (BlockInput(INPUT, (LENGTH,), integer=True),)
            (x,) = run_model(first.model, {INPUT: ids.numpy()})
            for block in layers:
                onnx.checker.check_model(block.model, full_check=True)
                taken, masks = block.inputs
                assert (taken.shape, masks.shape) == ((LENGTH, x.shape[2]), (1, 1, LENGTH))
                (x,) = run_model(block.model, {taken.name: x, masks.name: mask})
            (logits,) = run_model(last.model, {INPUT: x})
            assert np.abs(logits - network(ids).detach().numpy()).max() <= 1e-4 * np.abs(logits).max()

    def test_keys_and_models_are_those_of_each_network_by_itself(self, supernet: Supernet, ids: Tensor) -> None:
        rng = np.random.default_rng(1)
        space, names = supernet.space, supernet.family.blocks
        chosen = [space.smallest, space.largest, *(space.sample(rng) for _ in range(12))]
        blocks = BlockKeys(supernet)
        keys = blocks.of(chosen)
        for architecture, row in zip(chosen, keys.tolist(), strict=True):
            own = network_of(supernet.extract(architecture), ids, names).block_keys()
            assert row == [own.get(name, "") for name in names]
        for key in {*keys.ravel().tolist()} - {""}:
            assert blocks.model(key).key == key
        # The key of a layer depends on its sizes only, not on its place.
        assert len({*keys[:, 1:-1].ravel().tolist()} - {""}) <= 3 * 3 * 3
