"""Workers that share a batch make the same step as one worker with the whole batch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from supernets.data import DataSet, head
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import CNNSpec, StageSpec
from supernets.families.vision_transformer.vision_transformer_family import ViTFamily
from supernets.families.vision_transformer.vision_transformer_spec import VIT
from supernets.sharing.base import Supernet, TrainingStrategy
from supernets.training.checkpoint import make_supernet
from supernets.training.gradients import ALONE, Reduction
from supernets.training.strategies.attentive import AttentiveStrategy
from supernets.training.strategies.single_phase import SandwichStrategy, SortedStrategy
from supernets.training.training_loop import Loop, TrainingSettings

SETTINGS = TrainingSettings(epochs=1, batch_size=48)


class Thread(Reduction):
    """A worker that is a thread of this process."""

    def __init__(self, rank: int, given: list[Sequence[Tensor]], barrier: threading.Barrier) -> None:
        self.rank, self.size = rank, len(given)
        self._given, self._barrier = given, barrier

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        self._given[self.rank] = [tensor.clone() for tensor in tensors]
        self._barrier.wait(60)
        for i, tensor in enumerate(tensors):
            tensor.copy_(torch.stack([given[i] for given in self._given]).sum(0))
        self._barrier.wait(60)


def supernet(data: DataSet) -> Supernet:
    """A supernet in double precision without batch norms, which would use their worker's share only."""
    torch.manual_seed(0)
    family = ViTFamily(VIT["digits"], image_size=8, channels=1, n_classes=10)
    return make_supernet(family).double()


def strategy_of(kind: str, net: Supernet) -> TrainingStrategy:
    match kind:
        case "sandwich":
            return SandwichStrategy(net.space, 1)
        case "sorted":
            return SortedStrategy(net.space, 2)
        case _:
            return AttentiveStrategy(net.space, lambda a: net.costs(a).macs.sum(axis=1))


@pytest.mark.parametrize("kind", ["sandwich", "sorted", "attentive"])
def test_three_workers_make_the_steps_of_one(digits: DataSet, kind: str) -> None:
    n = 4 * SETTINGS.batch_size - 10  # three workers cannot share the last batch evenly
    part = replace(digits.train, inputs=digits.train.inputs[:n].double(), labels=digits.train.labels[:n])

    def run(workers: Reduction, net: Supernet, losses: list[float]) -> None:
        loop = Loop(net, part, strategy_of(kind, net), SETTINGS, workers=workers)
        loop.run_epoch(1, lambda step, steps, loss: losses.append(loss))

    one, losses = supernet(digits), [[] for _ in range(4)]  # type: list[list[float]]
    run(ALONE, one, losses[3])
    given, barrier = [[] for _ in range(3)], threading.Barrier(3)  # type: list[Sequence[Tensor]]
    nets = [supernet(digits) for _ in range(3)]
    threads = [
        threading.Thread(target=run, args=(Thread(rank, given, barrier), nets[rank], losses[rank])) for rank in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(losses[3]) == 4
    for rank in range(3):
        if kind != "sorted":  # whose parts of the batch depend on the number of workers
            assert losses[rank] == pytest.approx(losses[3], rel=1e-9)
            for name, tensor in nets[rank].state_dict().items():
                torch.testing.assert_close(tensor, one.state_dict()[name], rtol=1e-6, atol=1e-8)
        assert losses[rank] == losses[0]
        for name, tensor in nets[rank].state_dict().items():
            assert torch.equal(tensor, nets[0].state_dict()[name]), name


class SecondOfTwo:
    """The worker with the smaller share; the other one does not exist."""

    rank, size = 1, 2

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        pass


def test_a_share_of_one_image_is_skipped_before_losses_are_computed(digits: DataSet) -> None:
    """A batch norm rejects one image with one pixel."""
    stage = StageSpec(stride=2, depth=(1, 2), width=(4, 8), kernel=(3,), expand=(1,))
    family = MobileCNNFamily(CNNSpec(4, 2, (stage, stage), 8), image_size=8, channels=1, n_classes=10)
    net, losses = make_supernet(family), []
    part = head(digits.train, 8 + 3)  # the last batch's shares have two images and one
    settings = replace(SETTINGS, batch_size=8)
    loop = Loop(net, part, strategy_of("attentive", net), settings, workers=SecondOfTwo())
    loop.run_epoch(1, lambda step, steps, loss: losses.append(loss))
    assert len(losses) == 1
