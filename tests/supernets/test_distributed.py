"""Training by several workers: the steps of one worker on the whole batch, gone on with when a worker dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ray.cluster_utils import Cluster

from supernets.base import Supernet
from supernets.checkpoint import load_checkpoint, make_supernet
from supernets.data import DataSet
from supernets.distributed import train_on_workers
from supernets.errors import CheckpointError, TrainingError
from supernets.strategies.sandwich import SandwichStrategy
from supernets.trainer import Epoch, TrainingSettings, train
from tests.conftest import digits_family
from tests.ray_cluster import actors_of, kill, running_cluster

pytestmark = pytest.mark.slow
SETTINGS = TrainingSettings(epochs=3, batch_size=128, calibration_images=200, seed=3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(head_cpus=2) as made:
        yield made


def fresh(data: DataSet) -> Supernet:
    torch.manual_seed(0)
    return make_supernet(digits_family(data))


def test_two_workers_train_and_go_on_when_one_dies(cluster: Cluster, digits: DataSet, tmp_path: Path) -> None:
    supernet, epochs, steps = fresh(digits), [], []

    def kill_a_worker(epoch: Epoch) -> None:
        epochs.append(epoch)
        if len(epochs) == 1:
            kill(actors_of(cluster.head_node, name=b"ray::RayTrainWorker")[:1])

    digest = train_on_workers(
        supernet, digits, SandwichStrategy(supernet.space, 1), SETTINGS, tmp_path, workers=2,
        on_step=lambda step, n, loss: steps.append((step, n)), on_epoch=kill_a_worker,
    )  # fmt: skip
    done = load_checkpoint(tmp_path)  # sent home, from folders that the workers have removed
    assert done.finished
    assert done.weights_digest == digest
    assert sorted({e.epoch for e in epochs}) == [1, 2, 3]
    assert epochs[-1].largest > 0.6  # chance is 0.1
    assert steps[-1][0] == steps[-1][1]
    for name, tensor in supernet.sharing.state_dict().items():
        assert torch.equal(tensor, done.supernet.sharing.state_dict()[name])


def test_errors_come_as_they_would_without_workers(cluster: Cluster, digits: DataSet, tmp_path: Path) -> None:
    supernet = fresh(digits)
    strategy = SandwichStrategy(supernet.space, 1)
    with pytest.raises(TrainingError, match=r"5 workers need CPUs: 5 \(1 each\), and the cluster has 2"):
        train_on_workers(supernet, digits, strategy, SETTINGS, tmp_path, workers=5)
    train(fresh(digits), digits, strategy, TrainingSettings(epochs=1, seed=1), tmp_path)
    with pytest.raises(CheckpointError, match="training settings"):
        train_on_workers(supernet, digits, strategy, SETTINGS, tmp_path, workers=2)
