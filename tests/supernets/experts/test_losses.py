"""Losses of routers by their formulas, and the routers that they change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from supernets.data import Part
from supernets.experts.losses import Routed, balance_loss, entropy_loss, record_routing, z_loss
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.sharing.base import Supernet, TrainingStrategy
from supernets.tasks import LanguageModelling
from supernets.training.checkpoint import make_supernet
from supernets.training.gradients import ALONE, CPU, StepGradients, StepOptions
from supernets.training.strategies.single_phase import LargestStrategy
from supernets.training.strategies.smoe_dropout import SMoEDropoutStrategy
from supernets.training.training_loop import Loop, TrainingSettings
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import EXPERTS, ONE_ROUTER, SIZES, texts
from tests.supernets.training.test_step_options import batch

RANDOM = DecoderFamily(replace(EXPERTS.spec, routers="random"), **SIZES)


class TestFormulas:
    def test_balanced_tokens_have_the_least_loss_and_one_expert_the_most(self) -> None:
        even = 50 * torch.eye(4).repeat(3, 1)
        torch.testing.assert_close(balance_loss([Routed(even, 1)]), torch.tensor(1.0))
        one = torch.tensor([[50.0, 0, 0, 0]]).expand(12, -1)
        torch.testing.assert_close(balance_loss([Routed(one, 1)]), torch.tensor(4.0))
        torch.testing.assert_close(balance_loss([Routed(one, 1), Routed(even, 1)]), torch.tensor(2.5))

    def test_by_hand(self) -> None:
        logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
        sent, probability = np.zeros(4), np.zeros(4)
        for row in logits.view(15, 4).double().numpy():
            sent[np.argsort(row)[-2:]] += 1 / 30
            probability += np.exp(row) / np.exp(row).sum() / 15
        assert balance_loss([Routed(logits, 2)]).item() == pytest.approx(4 * (sent * probability).sum(), rel=1e-5)
        z = np.log(np.exp(logits.double().numpy()).sum(-1)) ** 2
        assert z_loss([Routed(logits, 2)]).item() == pytest.approx(z.mean(), rel=1e-5)

    def test_null_experts_have_their_mean_share(self) -> None:
        logits = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
        sent, probability = np.zeros(6), np.zeros(6)
        for row in logits.view(15, 6).double().numpy():
            sent[np.argsort(row)[-2:]] += 1 / 30
            probability += np.exp(row) / np.exp(row).sum() / 15
        expected = sent[:4] @ probability[:4] + sent[4:].sum() / 2 * probability[4:].sum()
        assert balance_loss([Routed(logits, 2, nulls=2)]).item() == pytest.approx(6 * expected, rel=1e-5)

    def test_experts_past_top_p_have_no_tokens(self) -> None:
        logits = 2 * torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
        sent, shares = np.zeros(4), np.exp(logits.view(15, 4).double().numpy())
        shares /= shares.sum(1, keepdims=True)
        for row in shares:
            order = np.argsort(-row)
            sent[order[: 1 if row[order[0]] >= 0.6 else 2]] += 1
        assert 15 < sent.sum() < 30
        expected = 4 * (sent / sent.sum() * shares.mean(0)).sum()
        assert balance_loss([Routed(logits, 2, top_p=torch.tensor([0.6]))]).item() == pytest.approx(expected, rel=1e-5)
        entropy = -(shares * np.log(shares)).sum(1).mean()
        assert entropy_loss([Routed(logits, 2)]).item() == pytest.approx(entropy, rel=1e-5)


def router_gradients(supernet: Supernet, options: StepOptions) -> list[Tensor | None]:
    supernet.zero_grad()
    ids, labels = batch()
    own = StepGradients(supernet, options, teacher=None, device=CPU, workers=ALONE, task=LanguageModelling())
    own.backward(LargestStrategy(supernet.space).plan(0, np.random.default_rng(0), lambda a: 0.0), ids, labels, n=10)
    return [p.grad for name, p in supernet.sharing.named_parameters() if "router" in name]


def changed_by(supernet: Supernet, strategy: TrainingStrategy, settings: TrainingSettings) -> set[str]:
    """Names of the parameters that two epochs of a training change."""
    before = {name: tensor.clone() for name, tensor in supernet.sharing.named_parameters()}
    loop = Loop(supernet, Part.of(*batch(texts(24))), strategy, settings, task=LanguageModelling())
    for epoch in (1, 2):
        loop.run_epoch(epoch, lambda step, steps, loss: None)
    return {name for name, tensor in supernet.sharing.named_parameters() if not torch.equal(tensor, before[name])}


@pytest.fixture(params=[EXPERTS, ONE_ROUTER], ids=["routers", "one-router"])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return invariants.randomised(make_supernet(request.param)).train()


class TestTraining:
    def test_gradients_are_those_of_the_sum_of_all_losses(self, supernet: Supernet) -> None:
        plain = router_gradients(supernet, StepOptions(balance_loss=0, router_z_loss=0))
        options = StepOptions(balance_loss=0.5, router_z_loss=0.25, entropy_loss=0.125)
        both = router_gradients(supernet, options)
        supernet.zero_grad()
        live, found = supernet.subnet(supernet.space.largest), []
        record_routing(live, found)
        live(batch()[0])
        assert len(found) == 3
        (0.5 * balance_loss(found) + 0.25 * z_loss(found) + 0.125 * entropy_loss(found)).backward()
        own = [p.grad for name, p in supernet.sharing.named_parameters() if "router" in name]
        for a, b, c in zip(plain, both, own, strict=True):
            assert a is not None
            assert b is not None
            assert c is not None
            torch.testing.assert_close(b, a + c, rtol=1e-3, atol=1e-6)
            assert c.abs().max() > 0

    def test_routers_that_are_not_trained_have_no_losses(self, supernet: Supernet) -> None:
        for name, own in supernet.named_parameters():
            own.requires_grad_(".router." not in name)
        live, found = supernet.subnet(supernet.space.largest), []
        record_routing(live, found)
        live(batch()[0])
        assert not found

    def test_the_same_with_activation_checkpointing(self, supernet: Supernet) -> None:
        whole = router_gradients(supernet, StepOptions(balance_loss=0.5))
        again = router_gradients(supernet, StepOptions(balance_loss=0.5, activation_checkpointing=True))
        torch.testing.assert_close(again, whole)

    def test_random_routers_stay_while_active_experts_grow(self) -> None:
        supernet = make_supernet(RANDOM)
        changed = changed_by(supernet, SMoEDropoutStrategy(supernet.space), TrainingSettings(2, batch_size=4))
        assert not [name for name in changed if "router" in name]
        own = {name for name, _ in supernet.sharing.named_parameters() if ".mlp." in name and "router" not in name}
        assert own <= changed

    def test_routers_alone_are_trained(self, supernet: Supernet) -> None:
        settings = TrainingSettings(2, batch_size=4, parameters="routers")
        changed = changed_by(supernet, LargestStrategy(supernet.space), settings)
        assert changed == {name for name, _ in supernet.sharing.named_parameters() if ".router." in name}
        for key, own in {"parameters": settings, "entropy_loss": TrainingSettings(1, entropy_loss=0.1)}.items():
            with raises("training.no-experts", f"training.{key}", "learned routers"):
                changed_by(make_supernet(RANDOM), LargestStrategy(RANDOM.space), own)

    def test_those_of_attention_experts_are_among_them_and_have_no_losses(self) -> None:
        family = DecoderFamily(replace(RANDOM.spec, attention_experts=(1, 2)), **SIZES)
        own = TrainingSettings(2, batch_size=4, parameters="routers")
        changed = changed_by(supernet := make_supernet(family), LargestStrategy(family.space), own)
        names = {name for name, _ in supernet.sharing.named_parameters()}
        assert changed == {name for name in names if ".attention.router." in name}
        assert changed
        with raises("training.no-experts", "training.entropy_loss", "learned routers"):
            changed_by(supernet, LargestStrategy(family.space), TrainingSettings(1, entropy_loss=0.1))
