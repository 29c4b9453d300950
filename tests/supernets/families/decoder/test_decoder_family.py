"""An elastic decoder of texts in both layouts: its forward by hand, its descriptions, and what makes no network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.sharing.base import Supernet
from supernets.space import Option
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families import by_hand

VOCABULARY, TOKENS_EACH = 40, 9
SPEC = DecoderSpec(
    head_size=4, depth=(1, 2, 3), width=(12, 16, 20), heads=(1, 2, 3), queries=(1, 2), hidden=(10, 16, 28)
)
SIZES: dict[str, Any] = {"vocabulary": VOCABULARY, "positions": 12, "tokens": TOKENS_EACH}
LLAMA = DecoderFamily(SPEC, **SIZES)
GPT2 = DecoderFamily(replace(SPEC, layout="gpt2", queries=(1,)), **SIZES)
ORDERED = DecoderFamily(
    replace(SPEC, order=(1, 2, 0), tied=False, qkv_bias=True, activation="gelu"), **SIZES, embedding_scale=3.0
)
"""Its depth of two keeps the first and the last layer; with a head and biases of its own."""


SCALED = DecoderFamily(SPEC, **SIZES, scaling=(4.0, 1.0, 4.0, 8.0))
"""With frequencies as Llama 3 scales them."""
GEMMA = DecoderFamily(
    replace(SPEC, norms="both", qk_norm="head"), **SIZES, windows=(3, 0, 3), local_theta=100.0, unturned=(1,),
    attention_cap=2.0, logit_cap=3.0,
)  # fmt: skip
"""With norms before and after attention and MLPs, windows in some layers, and bounds, as in Gemma 2 and 3."""
OLMO = DecoderFamily(replace(SPEC, norms="after", qk_norm="whole", hidden=(0, 16, 28)), **SIZES, rotary_channels=2)
"""With norms after attention and MLPs, and of whole queries and keys, as in OLMo 2; positions turn a part, as in Phi-3."""
ATTENTION_EXPERTS = DecoderFamily(replace(SPEC, attention_experts=(1, 2, 3)), **SIZES)
"""With queries and projections as in BAM."""
SKIPS = DecoderFamily(replace(SPEC, heads=(0, 2, 3), hidden=(0, 16, 28), order=(0, 2, 1)), **SIZES)
"""Without attention or MLP in some layers; all networks have the layer 1."""
GPT2_SKIPS = DecoderFamily(
    replace(SPEC, heads=(0, 3), hidden=(0, 28), queries=(1,), layout="gpt2", attention_experts=(1, 2)), **SIZES
)
EXPERTS = DecoderFamily(
    replace(SPEC, experts=(2, 3, 5), active_experts=(1, 2, 5), gates="softmax-all", shared_hidden=6, shared_gate=True),
    **SIZES,
)
"""With experts as in Qwen2-MoE."""
LOW_RANK = DecoderFamily(replace(EXPERTS.spec, expert_rank=(3, 9)), **SIZES)
"""Whose experts read tokens through a common base, as in MoLAE."""
ONE_ROUTER = DecoderFamily(replace(EXPERTS.spec, routers="shared"), **SIZES)
"""Whose layers send tokens to experts by one router, as in Read-ME."""
GPT2_EXPERTS = DecoderFamily(
    replace(GPT2.spec, experts=(1, 4), active_experts=(1, 2), gates="sigmoid", hidden=(5, 8), attention_experts=(1, 3)),
    **SIZES,
)
"""In place of MLPs and of attention, with biases."""


def texts(n: int = 16, tokens: int = TOKENS_EACH, seed: int = 0) -> Tensor:
    """Random ids."""
    return torch.randint(VOCABULARY, (n, tokens), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(
    scope="module",
    params=[LLAMA, GPT2, ORDERED, ATTENTION_EXPERTS],
    ids=["llama", "gpt2", "ordered", "attention-experts"],
)
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return invariants.randomised(make_supernet(request.param))


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return texts()


def handwritten(weights: Mapping[str, Tensor], values: Mapping[str, Option], ids: Tensor) -> Tensor:
    """The family's forward by products of matrices alone, text by text and head by head; settings follow from the tensors."""
    plain, scale = "embedding.positions" in weights, 3.0 if "head.words.weight" in weights else 1.0
    olmo = any("post_norm1" in name for name in weights) and not any(".norm1" in name for name in weights)
    gemma = any("post_norm1" in name for name in weights) and not olmo

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", torch.zeros(()))

    def norm(x: Tensor, name: str) -> Tensor:
        if f"{name}.weight" not in weights:
            return x
        x = x - x.mean(dim=-1, keepdim=True) if plain else x
        x = x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + 1e-5) * weights[f"{name}.weight"]
        return x + weights[f"{name}.bias"] if plain else x

    def turned(x: Tensor, i: int) -> Tensor:
        if plain or (gemma and i == 1):
            return x
        if olmo:
            pairs = torch.complex(x[:, 0], x[:, 1]) * torch.exp(1j * torch.arange(len(x)))
            return torch.stack([pairs.real, pairs.imag, x[:, 2], x[:, 3]], dim=1)
        angles = torch.arange(len(x))[:, None] / (100 if gemma else 10000) ** torch.tensor([0.0, 0.5])
        pairs = torch.complex(x[:, :2], x[:, 2:]) * torch.exp(1j * angles)
        return torch.cat([pairs.real, pairs.imag], dim=1)

    def attention(x: Tensor, name: str, groups: int, queries: int) -> Tensor:
        found = []
        later, i = torch.ones(len(x), len(x)).triu(1), int(name.split(".")[1])
        later = (later + torch.ones(len(x), len(x)).tril(-3) if gemma and i != 1 else later) * -math.inf
        all_queries = (
            norm(linear(x, f"{name}.query"), f"{name}.query_norm") if not gemma else linear(x, f"{name}.query")
        )
        all_keys = norm(linear(x, f"{name}.key"), f"{name}.key_norm") if not gemma else linear(x, f"{name}.key")
        scores = torch.exp(x @ weights.get(f"{name}.router.weight", torch.zeros(1, x.shape[1])).T)
        experts = scores.shape[1]
        for head in range(groups * experts * queries):
            query = all_queries[:, head * 4 : head * 4 + 4]
            group = slice(head // queries // experts * 4, head // queries // experts * 4 + 4)
            key, value = all_keys[:, group], linear(x, f"{name}.value")[:, group]
            if gemma:
                query, key = norm(query, f"{name}.query_norm"), norm(key, f"{name}.key_norm")
            found_scores = turned(query, i) @ turned(key, i).T / 2
            found_scores = 2 * torch.tanh(found_scores / 2) if gemma else found_scores
            own = torch.softmax(found_scores + later.nan_to_num(neginf=-1e9), dim=1) @ value
            expert = head // queries % experts
            found.append(own * scores[:, [expert]] / scores.sum(1, keepdim=True))
        return linear(torch.cat(found, dim=-1), f"{name}.project")

    def mlp(x: Tensor, name: str, k: int, top_p: float = 1, common: Tensor | None = None) -> Tensor:
        if f"{name}.active" in weights:
            gates = "sigmoid" if plain else "softmax-all"
            found = by_hand.experts(weights, name, x, k, active, gates, top_p=top_p, common=common)
            if plain:
                return found
            gate = weights[f"{name}.shared_gate.weight"]
            return found + mlp(x, f"{name}.shared", 0) / (1 + torch.exp(-(x @ gate.T)))
        inner = linear(x, f"{name}.up")
        inner = active(inner) if plain else active(linear(x, f"{name}.gate")) * inner
        return linear(inner, f"{name}.down")

    def active(x: Tensor) -> Tensor:
        if plain:
            return x * (1 + torch.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2
        return x * (1 + torch.erf(x / 2**0.5)) / 2 if scale == 3.0 else x / (1 + torch.exp(-x))

    out = []
    for text in ids:
        x = weights["embedding.words.weight"][text] * scale
        x = x + weights["embedding.positions"][: len(text)] if plain else x
        common = linear(norm(x, "router.0"), "router.1") if "router.1.weight" in weights else None
        numbers = [i for i in range(3) if f"layer{i}.heads" in values]
        assert len(numbers) == values["depth"]
        for i in numbers:
            if heads := int(values[f"layer{i}.heads"]):
                queries = int(values[f"layer{i}.queries"])
                attended = attention(norm(x, f"layers.{i}.norm1"), f"layers.{i}.attention", heads, queries)
                x = x + norm(attended, f"layers.{i}.post_norm1")
            k, top_p = int(values.get(f"layer{i}.active_experts", 0)), float(values.get(f"layer{i}.top_p", 1))
            if values[f"layer{i}.hidden"]:
                added = mlp(norm(x, f"layers.{i}.norm2"), f"layers.{i}.mlp", k, top_p, common)
                x = x + norm(added, f"layers.{i}.post_norm2")
        words = weights.get("head.words.weight", weights["embedding.words.weight"])
        logits = norm(x, "head.norm") @ words.T
        out.append(3 * torch.tanh(logits / 3) if gemma else logits)
    return torch.stack(out)


@torch.no_grad()
def test_what_follows_a_token_changes_nothing_before_it(supernet: Supernet, ids: Tensor) -> None:
    network = supernet.extract(supernet.space.largest)
    longer = torch.cat([ids, texts(16, 3, seed=1)], dim=1)
    assert invariants.relative(network(longer)[:, :TOKENS_EACH], network(ids)) <= invariants.RELATIVE


@pytest.mark.slow
@torch.no_grad()
def test_torchs_exporter_agrees(ids: Tensor) -> None:
    family = DecoderFamily(replace(SPEC, depth=(1, 2)), **SIZES)
    invariants.check_exporter(invariants.randomised(make_supernet(family)), ids, ids)


class TestDescription:
    def test_depths_drop_layers_in_their_order(self) -> None:
        numbers = {
            len(layers): layers
            for layers in map(ORDERED.layer_numbers, invariants.architectures(make_supernet(ORDERED), 6))
        }
        assert numbers == {1: (0,), 2: (0, 2), 3: (0, 1, 2)}

    def test_the_first_layer_of_all_networks_has_attention(self) -> None:
        options = {choice.name: choice.options for choice in SKIPS.space.choices}
        assert [options[f"layer{i}.heads"] for i in range(3)] == [(0, 2, 3), (2, 3), (0, 2, 3)]
        levels = [0 if c.kind == "heads" else len(c.options) - 1 for c in SKIPS.space.choices]
        values = SKIPS.space.values(SKIPS.space.canonical(levels))
        assert [values.get(f"layer{i}.queries") for i in range(3)] == [None, 2, None]

    def test_a_layer_without_both_parts_is_none(self) -> None:
        space, skipped = SKIPS.space, ("layer2.heads", "layer2.hidden", "layer0.hidden")
        network = space.canonical([0 if c.name in skipped else len(c.options) - 1 for c in space.choices])
        assert SKIPS.dropped(network) == {"layers.2", *(f"layers.0.{name}" for name in ("norm2", "mlp", "post_norm2"))}
        assert SKIPS.layer_numbers(network) == (0, 1)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [({"heads": (0,)}, "no attention"), ({"hidden": (0,)}, "no MLP"), ({"hidden": (0, 5)}, "experts")],
    )
    def test_parts_that_no_layer_has_are_rejected(self, changes: dict[str, tuple[int, ...]], words: str) -> None:
        with raises("space.invalid-dimension", f"{next(iter(changes))}: ", words):
            replace(EXPERTS.spec if words == "experts" else SPEC, **changes)

    def test_one_attention_is_none_of_several(self) -> None:
        with raises("space.invalid-dimension", "attention_experts: ", "[1]"):
            replace(SPEC, attention_experts=(1,))

    @pytest.mark.parametrize("order", [(0, 1), (0, 1, 1), (1, 2, 3)])
    def test_an_order_of_other_layers_is_rejected(self, order: tuple[int, ...]) -> None:
        with raises("space.invalid-dimension", "order: ", str(list(order))):
            replace(SPEC, order=order)

    def test_one_network_with_an_order_is_no_space(self) -> None:
        one = replace(SPEC, depth=(3,), width=(20,), heads=(3,), queries=(2,), hidden=(28,), order=(1, 2, 0))
        assert one.single
        assert not replace(one, depth=(2, 3)).single

    def test_rotary_positions_need_pairs_of_channels(self) -> None:
        with raises("space.invalid-dimension", "head_size: ", "even number", "5"):
            replace(SPEC, head_size=5)

    def test_texts_longer_than_the_positions_are_rejected(self) -> None:
        with raises("space.invalid", "13 tokens", "12 positions"):
            DecoderFamily(SPEC, **{**SIZES, "tokens": 13})
        network = GPT2.template()
        with pytest.raises(IndexError):
            network(texts(1, 13))


def test_what_fresh_layers_add_to_tokens_does_not_hide_their_embeddings() -> None:
    """Else the logits, products with the same embeddings, cannot tell tokens apart for the first hundreds of steps."""
    family = DecoderFamily(
        DecoderSpec(head_size=32, depth=(4,), width=(192,), heads=(4,), hidden=(576,)), **{**SIZES, "vocabulary": 1000}
    )
    torch.manual_seed(0)
    network = family.template()
    ids = torch.randint(1000, (4, TOKENS_EACH))
    seen = list[Tensor]()
    network.head.norm.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        own = network.embedding(ids)
        network(ids)
    added = seen[0] - own
    assert float(added.std()) < 6 * float(own.std())
