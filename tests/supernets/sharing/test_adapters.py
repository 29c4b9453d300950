"""Adapters: what is trained, what a subnet has of them, and what a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from supernets.data import DataSet, DocumentOptions, load_data
from supernets.experts.losses import Routed, record_routing
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.networks.live_subnets import clone_tree, place
from supernets.sharing.base import Supernet, TrainingStrategy
from supernets.sharing.sorting import importance, orders, taylor_importance
from supernets.sharing.spec import MixtureSpec, SharingSpec
from supernets.space.axes import slice_tensor
from supernets.tasks import LanguageModelling
from supernets.training.checkpoint import load_checkpoint, make_supernet
from supernets.training.strategies.instatune import InstaTuneStrategy
from supernets.training.strategies.single_phase import SandwichStrategy
from supernets.training.trainer import Epoch, train
from supernets.training.training_loop import TrainingSettings
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.data.test_documents import BLOCK, document
from tests.supernets.families.decoder.test_decoder_family import LLAMA, SIZES, SPEC, texts

RANK, SPACE = 2, LLAMA.space
SETTINGS = TrainingSettings(epochs=2, batch_size=16, learning_rate=0.01, keep="best")


def adapted(supernet: Supernet, name: str, sizes: Mapping[str, int]) -> Tensor:
    """A subnet's weight by its definition: slices of the stored weight and of the whole product."""
    stored, key = supernet.sharing.state_dict(), name.replace(".", "/")
    whole = stored[f"stored.{name}"]
    if f"adapters.up.{key}" in stored:
        whole = whole + stored[f"adapters.up.{key}"] @ stored[f"adapters.down.{key}"]
    return slice_tensor(whole, supernet.family.dims()[name], supernet.family.axes, sizes)


@torch.no_grad()
def test_subnets_have_the_slices_of_the_sum_folded_in() -> None:
    net = invariants.randomised(make_supernet(LLAMA, SharingSpec(adapter_rank=RANK))).double()
    for architecture in invariants.architectures(net):
        module, sizes = net.extract(architecture).double(), LLAMA.sizes(architecture)
        for name, tensor in module.state_dict().items():
            torch.testing.assert_close(tensor, adapted(net, name, sizes), rtol=1e-6, atol=1e-6)  # extract is in float32
        live = net.weights(architecture)
        assert live.keys() == dict(module.named_parameters()).keys()
        assert all(torch.equal(live[name].float(), tensor.float()) for name, tensor in module.named_parameters())


def test_a_live_subnets_gradients_are_those_of_the_sum() -> None:
    """In training the adapters run beside the weights, for which no gradient is computed."""
    net, ids = invariants.randomised(make_supernet(LLAMA, SharingSpec(adapter_rank=RANK))).double(), texts(4)
    for architecture in invariants.architectures(net, 4):
        folded = place(clone_tree(net.sharing.template, LLAMA.dropped(architecture)), net.weights(architecture))
        outputs, found = [], []
        for subnet in (folded, net.subnet(architecture)):
            net.zero_grad()
            outputs.append(out := subnet(ids))
            out.square().sum().backward()
            found.append({n: p.grad.clone() for n, p in net.sharing.named_parameters() if p.grad is not None})
        torch.testing.assert_close(*outputs)
        assert found[0].keys() == found[1].keys()
        assert not found[0].keys() & net.sharing.fixed()
        for name, gradient in found[0].items():
            torch.testing.assert_close(found[1][name], gradient, msg=name)


@torch.no_grad()
def test_a_pretrained_network_is_unchanged_before_the_training() -> None:
    network = invariants.randomised(make_supernet(LLAMA)).extract(LLAMA.space.largest)
    net = make_supernet(LLAMA, SharingSpec(adapter_rank=RANK), pretrained=network.state_dict())
    assert torch.equal(net.extract(LLAMA.space.largest)(texts()), network(texts()))


@pytest.mark.parametrize("kind", ["learned", "random"])
def test_routers_are_trained_without_adapters_if_at_all(kind: Literal["learned", "random"]) -> None:
    spec = replace(SPEC, experts=(2, 3), active_experts=(1, 2), routers=kind, attention_experts=(1, 2))
    net = make_supernet(DecoderFamily(spec, **SIZES), SharingSpec(adapter_rank=RANK))
    names = {name for name in net.sharing.state_dict() if "router" in name}
    assert names
    assert not any(name.startswith("adapters.") for name in names)
    fixed = set() if kind == "learned" else {name for name in names if ".mlp." in name}
    assert fixed < names
    assert names & net.sharing.fixed() == fixed
    found: list[Routed] = []
    subnet = net.subnet(net.space.largest)
    record_routing(subnet, found)
    subnet(texts(2))
    assert len(found) == (0 if kind == "random" else spec.depth[-1])  # of the losses that keep experts in balance


def test_they_are_sorted_with_the_weights() -> None:
    net = invariants.randomised(make_supernet(LLAMA, SharingSpec(adapter_rank=RANK))).double()
    largest, ids = LLAMA.space.largest, texts(4)
    labels = torch.stack([ids[:, 1:]] * 3, dim=2)
    expected = net(ids, largest)
    for values in (importance(net), taylor_importance(net, [(ids, labels)], LanguageModelling().loss)):
        net.sort(orders(values))
        torch.testing.assert_close(net(ids, largest), expected)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n\n".join(map(document, range(40))), encoding="utf-8")
    return load_data("text", path=path, options=DocumentOptions(block=BLOCK, vocabulary=300))


def fresh(data: DataSet) -> Supernet:
    torch.manual_seed(0)
    family = DecoderFamily(SPEC, vocabulary=data.blocks.vocabulary, positions=BLOCK, tokens=BLOCK)
    return make_supernet(family, SharingSpec(adapter_rank=RANK))


def run(data: DataSet, folder: Path, *, stop_after: int | None = None) -> tuple[Supernet, str]:
    net = fresh(data)

    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == stop_after:
            raise InterruptedError

    task = LanguageModelling().for_data(data)
    return net, train(net, data, SandwichStrategy(net.space, 1), SETTINGS, folder, task=task, on_epoch=on_epoch)


def test_only_adapters_and_norms_are_trained_and_kept_for_resuming(data: DataSet, tmp_path: Path) -> None:
    net, digest = run(data, tmp_path / "whole")
    before, trained = fresh(data).sharing.state_dict(), []
    for name, tensor in net.sharing.state_dict().items():
        if torch.equal(tensor, before[name]):
            assert name in net.sharing.fixed()
        else:
            trained.append(name)
    assert sorted(trained) == sorted(n for n in before if n.startswith("adapters.") or "norm" in n)
    with pytest.raises(InterruptedError):
        run(data, tmp_path / "stopped", stop_after=1)
    stopped = load_checkpoint(tmp_path / "stopped")
    assert {name.partition(".")[2] for name in stopped.optimizer} == set(trained) == set(stopped.best)
    resumed, again = run(data, tmp_path / "stopped")
    assert again == digest
    assert load_checkpoint(tmp_path / "stopped").supernet.sharing.spec == SharingSpec(adapter_rank=RANK)
    rng = np.random.default_rng(0)
    for architecture in (net.space.smallest, net.space.sample(rng)):
        assert torch.equal(resumed.extract(architecture)(texts(2)), net.extract(architecture)(texts(2)))


@pytest.mark.parametrize(
    ("strategy", "epochs"),
    [(InstaTuneStrategy(SPACE, 1, sort=True), 1), (SandwichStrategy(SPACE, 0, largest_epochs=1), 2)],
    ids=["sorted before the training", "sorted in it"],
)
def test_the_weights_from_before_the_training_are_kept_in_the_order_of_the_others(
    data: DataSet, tmp_path: Path, strategy: TrainingStrategy, epochs: int
) -> None:
    net = invariants.randomised(fresh(data)).eval()
    with torch.no_grad():
        expected = net.double()(texts(2), net.space.largest)  # in double precision, since sums are in another order
    settings = replace(SETTINGS, epochs=epochs, learning_rate=10.0)
    train(net.float(), data, strategy, settings, tmp_path, task=LanguageModelling().for_data(data))
    assert load_checkpoint(tmp_path).progress["best"]["epoch"] == 0
    with torch.no_grad():
        torch.testing.assert_close(net.double()(texts(2), net.space.largest), expected)


def test_mixtures_have_none() -> None:
    with raises("sharing.invalid", "adapter_rank: ", "mixture"):
        SharingSpec(MixtureSpec(), adapter_rank=RANK)
    with raises("sharing.invalid", "adapter_rank: ", "1 to 1024", "0"):
        SharingSpec(adapter_rank=0)
