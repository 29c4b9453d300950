"""Layers of experts in place of MLPs: numbers of experts that depend on the tokens, sizes at their ends, and errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from hardware_profiles.quantize import convert
from hardware_profiles.runtime import run_model
from supernets.experts.layer import ExpertLayer
from supernets.experts.mixing import Gates, routed
from supernets.experts.routing_metrics import observed_routings
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.decoder_serving import Served
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.base import Family, Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.sharing.sorting import sort_by_importance
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families.decoder import test_decoder_family as test_decoder
from tests.supernets.families.vision_transformer import test_vit_family as test_vit

FAMILIES: dict[str, tuple[Family, invariants.ByHand, Tensor]] = {
    "decoder": (test_decoder.EXPERTS, test_decoder.handwritten, test_decoder.texts()),
    "vit": (
        test_vit.EXPERTS,
        test_vit.handwritten,
        torch.randn(16, 2, 12, 12, generator=torch.Generator().manual_seed(0)),
    ),
}
Case = tuple[Supernet, invariants.ByHand, Tensor]
NULLS: dict[str, Any] = {"null_experts": (0, 3)}
TOP_P: dict[str, Any] = {"active_experts": (2, 4), "experts": (2, 4), "top_p": (0.3, 0.6, 1)}


@pytest.fixture(
    scope="module",
    params=[("decoder", NULLS), ("vit", NULLS), ("decoder", TOP_P), ("vit", NULLS | TOP_P)],
    ids=["decoder-nulls", "vit-nulls", "decoder-top-p", "vit-top-p-nulls"],
)
def varying(request: pytest.FixtureRequest) -> Case:
    """Networks whose tokens have different numbers of experts, so that their costs depend on the tokens."""
    family, by_hand, inputs = FAMILIES[request.param[0]]
    return invariants.randomised(make_supernet(family_with(family, **request.param[1]))), by_hand, inputs


def family_with(family: Any, **changes: Any) -> Family:
    sizes = {name: getattr(family, name) for name in family.numbers}
    made: Family = type(family)(replace(family.spec, depth=(1, 2), **changes), **sizes)
    return made


class TestVaryingNumbers:
    def test_extracted_live_and_handwritten_agree(self, varying: Case) -> None:
        supernet, by_hand, inputs = varying
        invariants.check_extracted_live_and_handwritten_agree(supernet, inputs, inputs, by_hand)
        invariants.check_same_modules(supernet)
        invariants.check_permutations(supernet, inputs, inputs)

    def test_onnx(self, varying: Case) -> None:
        supernet, _, inputs = varying
        invariants.check_onnx(supernet, inputs, inputs)


class TestNullExperts:
    @pytest.mark.parametrize("gates", ["softmax", "softmax-all"])
    def test_tokens_that_choose_null_experts_alone_have_no_output(self, gates: Gates) -> None:
        own, x = layer(gates, nulls=2), torch.randn(2, 3, 8)
        with torch.no_grad():
            own.router.weight.zero_()[4:, 0] = 9.0
        x[..., 0] = torch.tensor([1.0, -1.0, 1.0])
        found = own(x)
        assert found[:, ::2].abs().max() == 0
        assert found[:, 1].abs().min() > 0
        found.square().sum().backward()
        for parameter in own.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()

    def test_experts_that_no_token_has_chosen_have_gradients_of_zero(self) -> None:
        own, x = layer("softmax", nulls=2), torch.ones(2, 3, 8)
        with torch.no_grad():
            own.router.weight.zero_()[4:, 0] = 9.0
        own(x).sum().backward()
        for weight in (own.up, own.down):
            assert weight.grad is not None
            assert not weight.grad.any()


class TestTopP:
    @pytest.mark.parametrize("gates", ["softmax", "softmax-all"])
    def test_a_token_has_the_fewest_experts_whose_probabilities_sum_to_p(self, gates: Gates) -> None:
        logits = np.random.default_rng(0).normal(size=(300, 8), scale=1.5)
        chosen, factors = routed(torch.from_numpy(logits), 5, gates, 8, torch.tensor([0.2, 0.8]))
        numbers = set()
        for row, own, gate in zip(logits, chosen.numpy(), factors.numpy(), strict=True):
            order = np.argsort(-row)
            shares = np.exp(row)[order] / np.exp(row).sum()
            fewest = next(n for n in range(1, 9) if n == 5 or shares[:n].sum() >= 0.8)
            assert own.tolist() == [*order[:fewest], *[8] * (5 - fewest)]
            whole = shares[:fewest].sum() if gates == "softmax" else 1.0
            np.testing.assert_allclose(gate[:fewest], shares[:fewest] / whole)
            numbers.add(fewest)
        assert numbers == {1, 2, 3, 4, 5}

    @pytest.mark.parametrize(("experts", "top_p", "fewest"), [(3, 1 / 3, 1), (6, 0.5, 3), (8, 0.25, 2), (10, 0.3, 3)])
    def test_equal_probabilities_that_sum_to_p_exactly(self, experts: int, top_p: float, fewest: int) -> None:
        own, x = layer("softmax-all", experts=experts, active=experts, top_p=(top_p,)), torch.randn(20, 8)
        torch.nn.init.zeros_(own.router.weight)
        chosen, _ = routed(own.router(x), experts, "softmax-all", experts, own.top_p)
        assert {int((row < experts).sum()) for row in chosen} == {fewest}

    @pytest.mark.parametrize("active", [2, 4])
    def test_a_p_of_one_is_that_of_all_active_experts(self, active: int) -> None:
        own, plain = layer(active=active, top_p=(0.5, 1 - 1e-9)), layer(active=active)
        plain.load_state_dict({name: tensor for name, tensor in own.state_dict().items() if name != "top_p"})
        x = 100 * torch.randn(2, 3, 8)  # the first expert has nearly all of the probability
        torch.testing.assert_close(own(x), plain(x))

    def test_without_renormalised_gates_routers_learn_though_tokens_have_one_expert(self) -> None:
        own = layer("softmax-all", top_p=(0.01,))
        own(torch.randn(2, 3, 8)).square().sum().backward()
        assert own.router.weight.grad is not None
        assert own.router.weight.grad.abs().max() > 0


ONE: dict[str, Any] = {"routers": "shared"}


class TestOneRouter:
    @torch.no_grad()
    def test_all_layers_have_the_same_experts_for_a_token_wherever_it_is(self) -> None:
        supernet, ids = invariants.randomised(make_supernet(test_decoder.ONE_ROUTER)), test_decoder.texts()
        genes = [0 if c.kind == "active_experts" else len(c.options) - 1 for c in supernet.space.choices]
        first, *others = observed_routings(supernet.extract(supernet.space.canonical(genes)), ids)
        assert len(others) == 2
        for other in others:
            np.testing.assert_array_equal(other.routing, first.routing)
        by_token = {
            (token, expert) for token, expert in zip(ids.flatten().tolist(), first.routing.flatten(), strict=True)
        }
        assert len(by_token) == len(ids.unique())
        assert len(np.unique(first.routing)) > 1

    @torch.no_grad()
    def test_served_with_a_cache(self) -> None:
        supernet, ids = invariants.randomised(make_supernet(test_decoder.ONE_ROUTER)), test_decoder.texts(2, 6)
        network, padding = supernet.extract(supernet.space.largest), torch.zeros(2, dtype=torch.int64)
        assert isinstance(network, Decoder)
        _, *cache = Served(network)(ids[:, :5], padding)
        logits, *_ = Served(network)(ids[:, 5:], padding, *cache)
        assert invariants.relative(logits, network(ids)[:, 5]) <= invariants.RELATIVE

    def test_where_layers_must_have_their_own(self) -> None:
        with raises("space.invalid-dimension", "null_experts: ", "routers: shared", "learned"):
            replace(test_decoder.ONE_ROUTER.spec, null_experts=(0, 2))
        with raises("space.invalid-dimension", "routers: ", "learned or random", "'shared'"):
            replace(test_vit.EXPERTS.spec, **ONE)


@torch.no_grad()
def test_a_batch_of_one_token() -> None:
    """Most experts then have no token."""
    network = invariants.randomised(make_supernet(test_decoder.EXPERTS)).extract(
        test_decoder.EXPERTS.space.canonical([1] * len(test_decoder.EXPERTS.space))
    )
    model = lower(network, test_decoder.texts())
    onnx.checker.check_model(model, full_check=True)
    one = test_decoder.texts(1, 1)
    (came,) = run_model(model, {INPUT: one.numpy()})
    assert (torch.from_numpy(came) - network(one)).abs().max() <= 1e-4 * network(test_decoder.texts()).std()


def layer(gates: Gates = "softmax", *, active: int = 2, **options: Any) -> ExpertLayer:
    settings: dict[str, Any] = {"experts": 4, "gated": True, "activation": "silu", "bias": False}
    return ExpertLayer(8, 6, active=active, gates=gates, **(settings | options))


class TestExpertLayer:
    def test_a_router_that_returns_nan_is_named(self) -> None:
        own = layer()
        torch.nn.init.constant_(own.router.weight, torch.nan)
        with raises("training.not-finite", "router", "learning_rate"):
            own(torch.randn(2, 3, 8))

    @pytest.mark.parametrize("gates", ["softmax", "softmax-all", "sigmoid", "equal"])
    def test_routers_learn(self, gates: Gates) -> None:
        own = layer(gates)
        own(torch.randn(2, 3, 8)).square().sum().backward()
        assert own.router.weight.grad is not None
        assert own.router.weight.grad.abs().max() > 0

    @torch.no_grad()
    def test_equal_gates_add_up_to_one_mlp(self) -> None:
        own, x = layer("equal", active=4), torch.randn(2, 3, 8)
        assert own.gate is not None
        up, gate = own.up.flatten(0, 1), own.gate.flatten(0, 1)
        whole = (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ own.down.transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(own(x), whole)


class TestSpace:
    def test_a_layer_that_keeps_fewer_experts_sends_tokens_to_all_of_them(self) -> None:
        space = test_decoder.EXPERTS.space
        values = space.values(
            space.canonical([0 if c.kind == "experts" else len(c.options) - 1 for c in space.choices])
        )
        assert (values["layer0.experts"], values["layer0.active_experts"]) == (2, 2)
        tall = space.values(space.largest)
        assert (tall["layer0.experts"], tall["layer0.active_experts"]) == (5, 5)

    def test_blocks_with_other_numbers_of_active_experts_have_other_keys(self) -> None:
        supernet = make_supernet(test_decoder.EXPERTS)
        space = supernet.space
        at = [c.name for c in space.choices].index("layer0.active_experts")
        genes = [list(space.largest.genes) for _ in range(2)]
        genes[1][at] = 0
        first, second = BlockKeys(supernet).of([space.canonical(own) for own in genes])
        assert [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b] == [1]

    def test_experts_are_sorted_by_importance_without_a_change_of_the_largest(self) -> None:
        supernet = invariants.randomised(make_supernet(test_decoder.EXPERTS))
        ids, largest = test_decoder.texts(), supernet.space.largest
        with torch.no_grad():
            supernet.weights(largest)["layers.0.mlp.down"][3] *= 5
            last = supernet.weights(largest)["layers.0.mlp.router.weight"][3].clone()
            before = supernet(ids, largest)
            sort_by_importance(supernet)
            assert invariants.relative(supernet(ids, largest), before) <= invariants.RELATIVE
            assert torch.equal(supernet.weights(largest)["layers.0.mlp.router.weight"][0].sort()[0], last.sort()[0])

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"active_experts": None}, "active_experts: is missing"),
            ({"active_experts": (1, 6)}, "active_experts: | 6 experts of a layer that has at most 5"),
            ({"active_experts": (3, 5)}, "active_experts: | 3 experts of a layer that has at least 2"),
            ({"experts": None}, "active_experts: | experts is not given"),
            ({"experts": None, "active_experts": None}, "gates: | experts is not given"),
            ({"shared_hidden": None}, "shared_gate: | shared_hidden"),
            ({"expert_rank": (8, 4)}, "expert_rank: | ascending order"),
            ({"null_experts": (0, 2), "gates": "sigmoid"}, "null_experts: | softmax | got sigmoid"),
            ({"null_experts": (0, 2), "routers": "random"}, "null_experts: | learn | got routers: random"),
            ({"null_experts": (0,)}, "null_experts: | is none"),
            ({"null_experts": (-1, 2)}, "null_experts: | from 0 to 512"),
            ({**TOP_P, "top_p": (0.5, 1.5)}, "top_p: | above 0, at most 1 | got 1.5"),
            ({**TOP_P, "top_p": (0, 1)}, "top_p: | above 0, at most 1 | got 0"),
            ({**TOP_P, "top_p": (1,)}, "top_p: | drops no expert | smaller number"),
            ({**TOP_P, "active_experts": (1, 2)}, "top_p: | begin active_experts with 2"),
            ({**TOP_P, "gates": "equal"}, "top_p: | softmax | got equal"),
            ({**TOP_P, "routers": "random"}, "top_p: | learn | got routers: random"),
            ({"experts": (0, 2)}, "experts: | from 1 to 512"),
        ],
    )
    def test_numbers_that_make_no_layer(self, changes: dict[str, Any], error: str) -> None:
        code = "space.missing-dimension" if "missing" in error else "space.invalid-dimension"
        with raises(code, *error.split(" | ")):
            replace(test_decoder.EXPERTS.spec, **changes)


@pytest.mark.parametrize("precision", ["int8", "fp16", "int4"])
@torch.no_grad()
def test_other_precisions(precision: str) -> None:
    """Also where an expert has no tokens in the calibration, and where tokens have different numbers of experts."""
    supernet = invariants.randomised(
        make_supernet(family_with(test_vit.EXPERTS, **NULLS, **TOP_P | {"top_p": (0.3, 0.8)}))
    )
    network = supernet.extract(supernet.space.largest)
    images = FAMILIES["vit"][2]
    for name, parameter in network.named_parameters():
        if name.endswith("router.weight"):
            parameter[0] = -10 * parameter[1:].mean(0)  # the first expert is chosen rarely
    model = lower(network, images)
    (came,) = run_model(convert(model, precision, [{INPUT: images.numpy()}]), {INPUT: images.numpy()})
    assert invariants.relative(torch.from_numpy(came), network(images)) <= 1.0
