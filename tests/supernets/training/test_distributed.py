"""Data-parallel training by several workers, which resumes after a worker dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ray.cluster_utils import Cluster

from supernets.data import DataSet
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.sharing.base import Supernet
from supernets.tasks import Regression
from supernets.training.checkpoint import load_checkpoint, make_supernet
from supernets.training.distributed import check_capacity, train_on_workers
from supernets.training.strategies.single_phase import SandwichStrategy
from supernets.training.trainer import Epoch, train
from supernets.training.training_loop import TrainingSettings
from tests.conftest import digits_family, with_ink
from tests.errors import raises
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
def test_two_workers_train_for_a_task_and_resume_after_one_dies(
    cluster: Cluster, digits: DataSet, tmp_path: Path
) -> None:
    data, epochs, steps = with_ink(digits), [], []
    torch.manual_seed(0)
    supernet = make_supernet(MobileCNNFamily(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=1))

    def kill_a_worker(epoch: Epoch) -> None:
        epochs.append(epoch)
        if len(epochs) == 1:
            kill(actors_of(cluster.head_node, name=b"ray::RayTrainWorker")[:1])

    digest = train_on_workers(
        supernet, data, SandwichStrategy(supernet.space, 1), SETTINGS, tmp_path, workers=2, task=Regression().for_data(data),
        on_step=lambda step, n, loss: steps.append((step, n)), on_epoch=kill_a_worker,
    )  # fmt: skip
    done = load_checkpoint(tmp_path)  # sent to the driver; the workers have removed their folders
    assert done.finished
    assert done.weights_digest == digest
    assert sorted({e.epoch for e in epochs}) == [1, 2, 3]
    truth = data.validation.labels
    constant = (truth - data.train.labels.mean()).abs().mean().item()  # the error of one answer for all
    assert epochs[-1].largest < 0.5 * constant
    assert steps[-1][0] == steps[-1][1]
    for name, tensor in supernet.sharing.state_dict().items():
        assert torch.equal(tensor, done.supernet.sharing.state_dict()[name])


@pytest.mark.slow
def test_errors_are_those_of_training_without_workers(cluster: Cluster, digits: DataSet, tmp_path: Path) -> None:
    supernet = fresh(digits)
    strategy = SandwichStrategy(supernet.space, 1)
    with raises("training.workers-unavailable", "5 workers", "1 CPU each", "2 CPU in total"):
        train_on_workers(supernet, digits, strategy, SETTINGS, tmp_path, workers=5)
    train(fresh(digits), digits, strategy, TrainingSettings(epochs=1, seed=1), tmp_path)
    with raises("checkpoint.other-training", "epochs: 1", "has 3"):
        train_on_workers(supernet, digits, strategy, SETTINGS, tmp_path, workers=2)


ONE = {"CPU": 1.0, "memory": 1e9}


@pytest.mark.parametrize(
    ("nodes", "workers", "each", "mentions"),
    [
        ([{"CPU": 4}], 4, {"CPU": 1}, None),
        ([{"CPU": 3}, {"CPU": 5}], 3, {"CPU": 2}, None),
        ([{"CPU": 2, "GPU": 1}, {"CPU": 2, "GPU": 1}], 2, {"CPU": 2, "GPU": 1}, None),
        ([ONE, ONE], 3, {"CPU": 1}, ["3 workers", "1 CPU each", "2 CPU in total", "for 2;"]),
        (
            [{"CPU": 8}],
            2,
            {"CPU": 1, "GPU": 1},
            ["2 workers", "1 CPU and 1 GPU each", "8 CPU and 0 GPU in total", "for 0;"],
        ),
        # Enough in total, but no node has enough for one worker.
        ([ONE] * 4, 2, {"CPU": 2}, ["2 workers", "2 CPU each", "4 CPU in total", "for 0;"]),
        (
            [{"CPU": 8}, {"GPU": 2}],
            2,
            {"CPU": 1, "GPU": 1},
            ["1 CPU and 1 GPU each", "8 CPU and 2 GPU in total", "for 0;"],
        ),
        ([{"CPU": 3}, {"CPU": 3}], 3, {"CPU": 2}, ["3 workers", "2 CPU each", "6 CPU in total", "for 2;"]),
    ],
)
def test_check_capacity_compares_workers_with_the_nodes_resources(
    nodes: list[dict[str, float]], workers: int, each: dict[str, int], mentions: list[str] | None
) -> None:
    if mentions is None:
        check_capacity(nodes, workers, each)
    else:
        with raises("training.workers-unavailable", "training.workers", *mentions):
            check_capacity(nodes, workers, each)
