"""Training: seeded, resumable to the last bit, and refusing what is not its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from supernets.base import LabelLoss, Pass
from supernets.checkpoint import INDEX, load_checkpoint, make_supernet, weights_digest
from supernets.data import DataSet, head
from supernets.errors import CheckpointError, TrainingError
from supernets.recalibration import recalibrate
from supernets.scoring import correct_predictions
from supernets.strategies.sandwich import SandwichStrategy
from supernets.strategies.single_path import SinglePathStrategy
from supernets.trainer import Epoch, TrainingSettings, train
from tests.conftest import Trained, digits_family

SETTINGS = TrainingSettings(epochs=2, batch_size=128, calibration_images=300, seed=5, shift=1, flip=True)


class Stop(Exception):
    """Raised from a callback to end a training in the middle."""


def run(data: DataSet, folder: Path, settings: TrainingSettings = SETTINGS, stop_after: int | None = None) -> str:
    torch.manual_seed(settings.seed)
    supernet = make_supernet(digits_family(data))

    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == stop_after:
            raise Stop

    return train(supernet, data, SandwichStrategy(supernet.space, 1), settings, folder, on_epoch=on_epoch)


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(digits: DataSet, tmp_path: Path) -> None:
    whole = run(digits, tmp_path / "whole")
    with pytest.raises(Stop):
        run(digits, tmp_path / "stopped", stop_after=1)
    assert not load_checkpoint(tmp_path / "stopped").finished
    assert run(digits, tmp_path / "stopped") == whole
    checkpoint = load_checkpoint(tmp_path / "stopped")
    assert checkpoint.finished
    assert checkpoint.weights_digest == whole == weights_digest(checkpoint.supernet.sharing.state_dict())
    assert [e["epoch"] for e in checkpoint.progress["history"]] == [1, 2]


def test_every_subnet_learns(trained: Trained) -> None:
    rng = np.random.default_rng(0)
    space, test = trained.supernet.space, trained.data.test
    for architecture in [space.smallest, space.largest, *(space.sample(rng) for _ in range(3))]:
        module = recalibrate(trained.supernet.extract(architecture), [trained.calibration])
        assert correct_predictions(module, test.images, test.labels).float().mean() > 0.7  # chance is 0.1


def test_the_sandwich_holds_the_ends_and_teaches_from_the_largest(trained: Trained) -> None:
    space = trained.supernet.space
    passes = SandwichStrategy(space, 2).plan(0, np.random.default_rng(0), lambda a: 0.0)
    assert [p.architecture for p in passes[:2]] == [space.largest, space.smallest]
    assert len(passes) == 4
    assert passes[0].terms == (LabelLoss(),)
    assert all(term.teacher == 0 for p in passes[1:] for term in p.terms)  # type: ignore[union-attr]
    (single,) = SinglePathStrategy(space).plan(0, np.random.default_rng(0), lambda a: 0.0)
    assert isinstance(single, Pass)


def test_another_trainings_checkpoint_is_refused(trained: Trained, digits: DataSet, tmp_path: Path) -> None:
    shutil.copytree(trained.checkpoint, tmp_path / "c")
    with pytest.raises(CheckpointError, match="training settings"):
        run(digits, tmp_path / "c", replace(trained.settings, seed=9))


def test_a_loss_that_is_not_finite_is_an_error(digits: DataSet, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="learning_rate"):
        run(digits, tmp_path / "c", replace(SETTINGS, learning_rate=1e20))


class TestDamagedCheckpoints:
    @pytest.fixture
    def folder(self, trained: Trained, tmp_path: Path) -> Path:
        return Path(shutil.copytree(trained.checkpoint, tmp_path / "checkpoint"))

    def test_none_there(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no checkpoint here"):
            load_checkpoint(tmp_path)

    def test_truncated_weights(self, folder: Path) -> None:
        (weights,) = folder.glob("weights-*")
        weights.write_bytes(weights.read_bytes()[:-1000])
        with pytest.raises(CheckpointError, match="truncated"):
            load_checkpoint(folder)

    def test_missing_weights(self, folder: Path) -> None:
        (weights,) = folder.glob("weights-*")
        weights.unlink()
        with pytest.raises(CheckpointError, match="missing"):
            load_checkpoint(folder)

    def test_index_that_is_no_json(self, folder: Path) -> None:
        (folder / INDEX).write_text("{")
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_checkpoint(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": "other"}, "not a checkpoint of this project"),
            ({"version": 99}, "version 99"),
            ({"files": {}}, "damaged"),
            ({"sharing": "magic"}, "unknown sharing"),
            ({"space": []}, "another version"),
            ({"weights_digest": "0" * 16}, "not those that the index names"),
        ],
    )
    def test_index_that_says_something_else(self, folder: Path, change: dict[str, object], message: str) -> None:
        index = json.loads((folder / INDEX).read_text())
        (folder / INDEX).write_text(json.dumps({**index, **change}))
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(folder)

    def test_of_a_version_that_knew_plain_sharing_alone(self, folder: Path, trained: Trained) -> None:
        index = json.loads((folder / INDEX).read_text())
        (folder / INDEX).write_text(json.dumps({**index, "sharing": "slice"}))
        assert load_checkpoint(folder).supernet.sharing.spec == trained.supernet.sharing.spec

    def test_weights_of_another_space(self, folder: Path, trained: Trained) -> None:
        index = json.loads((folder / INDEX).read_text())
        index["family"]["spec"]["head"] = 32
        (folder / INDEX).write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match="another space"):
            load_checkpoint(folder)


def test_the_head_of_the_training_part_is_the_same_for_every_subnet(digits: DataSet) -> None:
    assert torch.equal(head(digits.train, 10).images, digits.train.images[:10])
