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
from supernets.distributed import check_room, train_on_workers
from supernets.errors import CheckpointError, TrainingError
from supernets.strategies.sandwich import SandwichStrategy
from supernets.trainer import Epoch, TrainingSettings, train
from tests.conftest import digits_family
from tests.ray_cluster import actors_of, kill, running_cluster

pytestmark = pytest.mark.ray

SETTINGS = TrainingSettings(epochs=3, batch_size=128, calibration_images=200, seed=3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(head_cpus=2) as made:
        yield made


def fresh(data: DataSet) -> Supernet:
    torch.manual_seed(0)
    return make_supernet(digits_family(data))


@pytest.mark.slow
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


@pytest.mark.slow
def test_errors_come_as_they_would_without_workers(cluster: Cluster, digits: DataSet, tmp_path: Path) -> None:
    supernet = fresh(digits)
    strategy = SandwichStrategy(supernet.space, 1)
    with pytest.raises(TrainingError, match=r"5 workers need CPUs: 5 \(1 each\), and the cluster has 2"):
        train_on_workers(supernet, digits, strategy, SETTINGS, tmp_path, workers=5)
    train(fresh(digits), digits, strategy, TrainingSettings(epochs=1, seed=1), tmp_path)
    with pytest.raises(CheckpointError, match="training settings"):
        train_on_workers(supernet, digits, strategy, SETTINGS, tmp_path, workers=2)


ONE = {"CPU": 1.0, "memory": 1e9}


@pytest.mark.parametrize(
    ("nodes", "workers", "each", "said"),
    [
        ([{"CPU": 4}], 4, {"CPU": 1}, None),
        ([{"CPU": 3}, {"CPU": 5}], 3, {"CPU": 2}, None),
        ([{"CPU": 2, "GPU": 1}, {"CPU": 2, "GPU": 1}], 2, {"CPU": 2, "GPU": 1}, None),
        ([ONE, ONE], 3, {"CPU": 1}, r"3 workers need CPUs: 3 \(1 each\), and the cluster has 2; ask for fewer"),
        ([{"CPU": 8}], 2, {"CPU": 1, "GPU": 1}, r"need GPUs: 2 \(1 each\), and the cluster has 0"),
        # Enough in all, and nowhere enough for one.
        ([ONE] * 4, 2, {"CPU": 2}, "2 workers need 2 CPU each, on one node, and the cluster's nodes have room for 0"),
        ([{"CPU": 8}, {"GPU": 2}], 2, {"CPU": 1, "GPU": 1}, "need 1 CPU and 1 GPU each, on one node, .* room for 0"),
        ([{"CPU": 3}, {"CPU": 3}], 3, {"CPU": 2}, "room for 2; ask for fewer, or join more nodes"),
    ],
)
def test_workers_have_room_on_the_nodes_or_it_is_told(
    nodes: list[dict[str, float]], workers: int, each: dict[str, int], said: str | None
) -> None:
    if said is None:
        check_room(nodes, workers, each)
    else:
        with pytest.raises(TrainingError, match=rf"^training\.workers: .*{said}"):
            check_room(nodes, workers, each)
