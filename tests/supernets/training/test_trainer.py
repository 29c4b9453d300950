"""Training: seeded, resumable bit for bit, and protected against checkpoints of other trainings."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from supernets.data import DataSet, head
from supernets.sharing.base import BatchLoss, Distillation, Family, LabelLoss, Pass, Phase, Supernet, TrainingStrategy
from supernets.sharing.spec import PLAIN, MixtureSpec, SharingSpec
from supernets.space.axes import slice_tensor
from supernets.training.checkpoint import INDEX, has_checkpoint, load_checkpoint, make_supernet, weights_digest
from supernets.training.recalibration import recalibrate
from supernets.training.strategies.instatune import InstaTuneStrategy
from supernets.training.strategies.single_phase import SandwichStrategy, SinglePathStrategy, SortedStrategy
from supernets.training.trainer import Epoch, outputs_of, time_training, train
from supernets.training.training_loop import Loop, TrainingSettings
from tests.conftest import Trained, digits_family
from tests.errors import raises

SETTINGS = TrainingSettings(epochs=2, batch_size=128, calibration_images=300, seed=5, shift=1, flip=True)


@pytest.fixture(scope="module")
def small_digits(digits: DataSet) -> DataSet:
    """The digits with a training part of four steps an epoch."""
    return replace(digits, train=head(digits.train, 4 * SETTINGS.batch_size))


class Stop(Exception):
    """Raised from a callback to end a training in the middle."""


def run(
    data: DataSet,
    folder: Path,
    settings: TrainingSettings = SETTINGS,
    stop_after: int | None = None,
    sharing: SharingSpec = PLAIN,
    largest_epochs: int = 0,
) -> str:
    torch.manual_seed(settings.seed)
    supernet = make_supernet(digits_family(data), sharing)

    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == stop_after:
            raise Stop

    strategy = SandwichStrategy(supernet.space, 1, largest_epochs=largest_epochs)
    return train(supernet, data, strategy, settings, folder, on_epoch=on_epoch)


@pytest.mark.parametrize(
    ("sharing", "largest_epochs"),
    [(PLAIN, 1), (SharingSpec(MixtureSpec(routing="neuron"), "transform"), 0)],
    ids=["slice, the largest first", "mixture and transform"],
)
def test_a_resumed_training_ends_with_the_same_weights(
    small_digits: DataSet, tmp_path: Path, sharing: SharingSpec, largest_epochs: int
) -> None:
    trained = partial(run, small_digits, sharing=sharing, largest_epochs=largest_epochs)
    whole = trained(tmp_path / "whole")
    with pytest.raises(Stop):
        trained(tmp_path / "stopped", stop_after=1)
    assert not load_checkpoint(tmp_path / "stopped").finished
    assert trained(tmp_path / "stopped") == whole
    checkpoint = load_checkpoint(tmp_path / "stopped")
    assert checkpoint.finished
    assert checkpoint.weights_digest == whole == weights_digest(checkpoint.supernet.sharing.state_dict())
    assert [e["epoch"] for e in checkpoint.progress["history"]] == [1, 2]


def test_each_epoch_has_the_accuracy_and_the_loss_of_both_ends(small_digits: DataSet, tmp_path: Path) -> None:
    run(small_digits, tmp_path / "whole", replace(SETTINGS, epochs=1))
    checkpoint = load_checkpoint(tmp_path / "whole")
    [epoch], supernet = checkpoint.progress["history"], checkpoint.supernet
    images, validation = head(small_digits.train, SETTINGS.calibration_images), small_digits.validation
    for end in ("largest", "smallest"):
        network = recalibrate(supernet.extract(getattr(supernet.space, end)), images.split(250)).eval()
        with torch.no_grad():
            logits = network(validation.inputs)
        loss = functional.cross_entropy(logits, validation.labels).item()
        assert epoch[f"{end}_loss"] == pytest.approx(loss, rel=1e-4)  # in other batches, so with other roundings
        assert epoch[end] == pytest.approx((logits.argmax(1) == validation.labels).float().mean().item())


def test_every_subnet_learns(trained: Trained) -> None:
    rng = np.random.default_rng(0)
    space, test = trained.supernet.space, trained.data.test
    for architecture in [space.smallest, space.largest, *(space.sample(rng) for _ in range(3))]:
        module = recalibrate(trained.supernet.extract(architecture), [trained.calibration])
        assert (outputs_of(module, test).argmax(1) == test.labels).float().mean() > 0.5  # chance is 0.1


def test_the_checkpoint_of_another_training_is_rejected(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.checkpoint, tmp_path / "c")
    with raises("checkpoint.other-training", "seed", str(trained.settings.seed), "has 9"):
        run(trained.data, tmp_path / "c", replace(trained.settings, seed=9))
    with raises("checkpoint.other-training", "another sharing"):
        run(trained.data, tmp_path / "c", trained.settings, sharing=SharingSpec(MixtureSpec()))


def test_a_loss_that_is_not_finite_is_reported_with_its_step_and_architecture(
    small_digits: DataSet, tmp_path: Path
) -> None:
    with raises("training.not-finite", "epoch 1, step ", "training.learning_rate") as caught:
        run(small_digits, tmp_path / "c", replace(SETTINGS, learning_rate=1e20))
    assert re.search(r"(nan|inf) in .*architecture [0-9x]+(-[0-9x]+)+;", str(caught.value))


def test_the_last_good_checkpoint_is_kept_when_a_loss_is_not_finite(small_digits: DataSet, tmp_path: Path) -> None:
    class Poisoned(SandwichStrategy):
        """Ordinary in the first phase; the second begins with a NaN weight."""

        def phases(self, epochs: int) -> list[Phase]:
            return [Phase("good", 1), Phase("bad", 1, before=poison)]

    def poison(supernet: Supernet) -> None:
        with torch.no_grad():
            next(iter(supernet.sharing.parameters())).fill_(float("nan"))

    supernet = make_supernet(digits_family(small_digits))
    with raises("training.not-finite", "loss is nan", "epoch 2, step 1", "checkpoint of epoch 1"):
        train(supernet, small_digits, Poisoned(supernet.space, 1), SETTINGS, tmp_path)
    kept = load_checkpoint(tmp_path)
    assert kept.progress["epoch"] == 1
    assert all(tensor.isfinite().all() for tensor in kept.supernet.state_dict().values())


def test_weights_that_are_not_finite_after_the_last_step_are_not_saved(small_digits: DataSet, tmp_path: Path) -> None:
    """One step per epoch: its loss is finite, its gradient is not."""
    supernet = make_supernet(digits_family(small_digits))
    name, parameter = next(iter(supernet.sharing.named_parameters()))
    parameter.register_hook(lambda gradient: gradient * float("nan"))
    with raises("training.not-finite", name, "epoch 1", "no checkpoint"):
        train(
            supernet, small_digits, SandwichStrategy(supernet.space, 0),
            replace(SETTINGS, batch_size=len(small_digits.train)), tmp_path,
        )  # fmt: skip
    assert not has_checkpoint(tmp_path)


def test_too_few_images_for_a_step_are_rejected(small_digits: DataSet, tmp_path: Path) -> None:
    few = replace(small_digits, train=head(small_digits.train, 7))
    supernet = make_supernet(digits_family(small_digits))
    strategy = SortedStrategy(supernet.space, micro_batches=4)
    with raises("training.too-few-images", "7 "):
        train(supernet, few, strategy, SETTINGS, tmp_path)
    with raises("training.too-few-images", "7 "):
        time_training(supernet, few, strategy, SETTINGS, n=3, limit_s=1)


def test_few_timed_steps_are_of_all_phases(small_digits: DataSet) -> None:
    seen = []

    class Recorded(SandwichStrategy):
        def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
            seen.append(phase)
            return super().plan(phase, rng, batch_loss)

    supernet, settings = make_supernet(digits_family(small_digits)), replace(SETTINGS, epochs=10)
    strategy = Recorded(supernet.space, 0, largest_epochs=5)
    seconds, _ = time_training(supernet, small_digits, strategy, settings, n=7, limit_s=60)
    assert len(seconds) == 7
    assert seen[::2] == seen[1::2] == [0, 1, 0, 1, 0, 0, 1]
    seen.clear()
    few = replace(small_digits, train=head(small_digits.train, settings.batch_size + 2))  # a second step of two images
    seconds, _ = time_training(supernet, few, strategy, settings, n=4, limit_s=60)
    assert len(seconds) == len(seen) == 4


def test_the_reported_loss_of_micro_batches_is_that_of_the_whole_batch(small_digits: DataSet) -> None:
    """An untrained network's loss is that of chance, for any number of micro-batches."""
    chance = float(np.log(small_digits.n_classes))
    for parts in (1, 4):
        torch.manual_seed(0)
        supernet = make_supernet(digits_family(small_digits))
        settings = replace(SETTINGS, learning_rate=1e-9)
        loop = Loop(supernet, head(small_digits.train, 256), SortedStrategy(supernet.space, parts), settings)
        assert loop.run_epoch(1, lambda step, steps, loss: None) == pytest.approx(chance, rel=0.2)


def test_a_training_of_a_version_with_fewer_settings_is_resumed(small_digits: DataSet, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(small_digits, tmp_path / "c", stop_after=1)
    index = json.loads((tmp_path / "c" / INDEX).read_text())
    del index["progress"]["settings"]["divergence"]
    (tmp_path / "c" / INDEX).write_text(json.dumps(index))
    with raises("checkpoint.other-training", "divergence: kl", "alpha"):
        run(small_digits, tmp_path / "c", replace(SETTINGS, divergence="alpha"))
    assert run(small_digits, tmp_path / "c") == run(small_digits, tmp_path / "d")


@dataclass(frozen=True)
class TwoPhases:
    """Trains the largest network, reorders it, then trains random networks that distil from it."""

    family: Family

    def phases(self, epochs: int) -> list[Phase]:
        return [Phase("largest", 1, teach=True), Phase("all", epochs - 1, learning_rate=0.5, before=self.reorder)]

    def reorder(self, supernet: Supernet) -> None:
        size = self.family.axes["stage1.width"].size
        supernet.sharing.permute("stage1.width", torch.arange(size).flip(0))

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> list[Pass]:
        if phase == 0:
            return [Pass(self.family.space.largest, (LabelLoss(),))]
        return [Pass(self.family.space.sample(rng), (LabelLoss(), Distillation(teacher=None)))]


def test_a_training_in_phases_resumes_to_the_same_weights_after_any_epoch(
    small_digits: DataSet, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, epochs=3)

    def run_phases(folder: Path, stop_after: int | None = None) -> str:
        torch.manual_seed(0)
        supernet = make_supernet(digits_family(small_digits))

        def on_epoch(epoch: Epoch) -> None:
            if epoch.epoch == stop_after:
                raise Stop

        return train(supernet, small_digits, TwoPhases(supernet.family), settings, folder, on_epoch=on_epoch)

    whole = run_phases(tmp_path / "whole")
    for stop in (1, 2):
        folder = tmp_path / f"stopped after {stop}"
        with pytest.raises(Stop):
            run_phases(folder, stop)
        assert load_checkpoint(folder).teacher
        assert run_phases(folder) == whole
    assert not load_checkpoint(tmp_path / "whole").teacher


def test_a_phase_begins_with_a_new_optimiser(small_digits: DataSet) -> None:
    """After a reordering, the moments do not match the weights."""
    supernet = make_supernet(digits_family(small_digits))
    part, settings = head(small_digits.train, 128), replace(SETTINGS, epochs=2)  # one step an epoch
    loop = Loop(supernet, part, TwoPhases(supernet.family), settings)
    for epoch in (1, 2):
        loop.run_epoch(epoch, lambda step, steps, loss: None)
    counts = {int(t) for name, t in loop.optimizer_tensors().items() if name.startswith("step.")}
    assert counts == {1}


def test_forwards_run_in_bfloat16_on_an_accelerator(small_digits: DataSet) -> None:
    """``cpu:0`` stands for an accelerator: losses are close to those of single precision, and weights stay in it."""
    losses: list[list[float]] = []
    for device in (torch.device("cpu", 0), torch.device("cpu")):
        torch.manual_seed(0)
        supernet = make_supernet(digits_family(small_digits), SharingSpec(MixtureSpec(routing="neuron")))
        settings = replace(SETTINGS, batch_size=16, divergence="alpha")
        strategy, part = SandwichStrategy(supernet.space, 1), head(small_digits.train, 32)
        loop, own = Loop(supernet, part, strategy, settings, device=device), list[float]()
        loop.run_epoch(1, lambda step, steps, loss, own=own: own.append(loss))  # type: ignore[misc]
        losses.append(own)
        assert {parameter.dtype for parameter in supernet.parameters()} == {torch.float32}
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


def test_the_teacher_of_a_phase_replaces_a_given_one(small_digits: DataSet) -> None:
    part, settings = head(small_digits.train, 32), replace(SETTINGS, epochs=2, batch_size=32)
    supernet = make_supernet(digits_family(small_digits))
    teacher, seen = supernet.extract(supernet.space.largest), list[int]()
    teacher.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    loop = Loop(supernet, part, TwoPhases(supernet.family), settings, teacher=teacher)
    for epoch in (1, 2):
        loop.run_epoch(epoch, lambda step, steps, loss: None)
    assert seen == []


def test_the_learning_rate_rises_for_a_tenth_of_a_phase_and_decays_as_a_cosine(
    small_digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two phases of one and three epochs with ten steps each, the second with half the rate."""
    rates: list[float] = []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: rates.append(self.param_groups[1]["lr"]))
    settings = replace(SETTINGS, epochs=4, batch_size=8, learning_rate=0.1)
    supernet = make_supernet(digits_family(small_digits))
    loop = Loop(supernet, head(small_digits.train, 80), TwoPhases(supernet.family), settings)
    for epoch in range(1, 5):
        loop.run_epoch(epoch, lambda step, steps, loss: None)
    falls = [[0.5 * (1 + np.cos(np.pi * i / n)) for i in range(n)] for n in (9, 27)]
    expected = [0.1, *(0.1 * f for f in falls[0]), *(0.05 * r / 3 for r in (1, 2, 3)), *(0.05 * f for f in falls[1])]
    assert rates == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("kind", "n_parts"), [("sandwich", 1), ("sorted", 2)])
def test_a_frozen_teacher_sees_each_image_once_per_step(small_digits: DataSet, kind: str, n_parts: int) -> None:
    supernet = make_supernet(digits_family(small_digits))
    teacher, seen = supernet.extract(supernet.space.largest), list[int]()
    teacher.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    space, part = supernet.space, head(small_digits.train, 16)
    strategy = SandwichStrategy(space, 1, "frozen") if kind == "sandwich" else SortedStrategy(space, 2, "frozen")
    loop = Loop(supernet, part, strategy, replace(SETTINGS, batch_size=16), teacher=teacher)
    loop.run_epoch(1, lambda step, steps, loss: None)
    assert seen == [16 // n_parts] * n_parts


@pytest.mark.parametrize("classes", [1, 7])
def test_a_frozen_teacher_of_other_classes_is_rejected(small_digits: DataSet, classes: int) -> None:
    """Including one class, whose outputs would broadcast."""
    supernet = make_supernet(digits_family(small_digits))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    strategy, settings = SinglePathStrategy(supernet.space, "frozen"), replace(SETTINGS, batch_size=16)
    loop = Loop(supernet, head(small_digits.train, 16), strategy, settings, teacher=teacher)
    with raises("training.teacher-mismatch", f"(16, {classes})", "(16, 10)", "training.teacher"):
        loop.run_epoch(1, lambda step, steps, loss: None)


def test_a_missing_frozen_teacher_is_reported(small_digits: DataSet, tmp_path: Path) -> None:
    supernet = make_supernet(digits_family(small_digits))
    with raises("training.no-teacher", "training.teacher"):
        train(supernet, small_digits, SinglePathStrategy(supernet.space, "frozen"), SETTINGS, tmp_path)


@pytest.mark.parametrize("kind", ["sandwich", "sorted", "instatune"])
def test_a_steps_gradient_is_the_sum_over_its_passes(small_digits: DataSet, kind: str) -> None:
    """Compared with plain modules of each network, without sharing, in float64."""
    supernet = make_supernet(digits_family(small_digits)).double().train()
    space, n = supernet.space, 16
    images, labels = small_digits.train.inputs[:n].double(), small_digits.train.labels[:n]
    strategies: dict[str, TrainingStrategy] = {
        "sandwich": SandwichStrategy(space, 1),
        "sorted": SortedStrategy(space, 2),
        "instatune": InstaTuneStrategy(space, 1, label_weight=0.3, temperature=2.0),
    }
    strategy = strategies[kind]
    part = replace(small_digits.train, inputs=images, labels=labels)
    loop = Loop(
        supernet, part, strategy, replace(SETTINGS, batch_size=n, epochs=1, learning_rate=0.0, shift=0, flip=False)
    )
    passes: list[Pass] = []
    planned = strategy.plan

    def keep(*args: Any) -> Any:
        passes.extend(planned(*args))
        return passes

    object.__setattr__(strategy, "plan", keep)
    loop.run_epoch(1, lambda step, steps, loss: None)
    expected = {name: torch.zeros_like(p) for name, p in supernet.sharing.named_parameters()}
    order = torch.randperm(n, generator=shuffler(SETTINGS.seed, 1))
    logits_of_largest = None
    for p in passes:
        module = supernet.extract(p.architecture).double().train()
        module.load_state_dict(supernet.weights(p.architecture))
        i, parts = p.part
        x, y = images[order].tensor_split(parts)[i], labels[order].tensor_split(parts)[i]
        logits = module(x)
        if kind == "sorted":
            loss = functional.cross_entropy(logits, y) / 2
        elif logits_of_largest is None:
            loss, logits_of_largest = functional.cross_entropy(logits, y), logits.detach()
            loss = 0.3 * loss if kind == "instatune" else loss
        elif kind == "instatune":
            soft, hard = (logits_of_largest / 2).softmax(1), (logits / 2).log_softmax(1)
            loss = 0.3 * functional.cross_entropy(logits, y) + 0.7 * 4 * (soft * (soft.log() - hard)).sum(1).mean()
        else:
            soft, hard = logits_of_largest.softmax(1), logits.log_softmax(1)
            loss = (soft * (soft.log() - hard)).sum(1).mean()
        loss.backward()
        sizes = supernet.family.sizes(p.architecture)
        for name, own in module.named_parameters():
            full = expected[f"stored.{name}"]
            slice_tensor(full, supernet.family.dims()[name], supernet.family.axes, sizes).add_(own.grad)
    for name, parameter in supernet.sharing.named_parameters():
        came = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(came, expected[name], rtol=1e-9, atol=1e-12)


def shuffler(seed: int, epoch: int) -> torch.Generator:
    """The generator with which the loop shuffles an epoch's images."""
    return torch.Generator().manual_seed(int(np.random.default_rng([seed, epoch]).integers(2**63)))


class TestDamagedCheckpoints:
    @pytest.fixture
    def folder(self, trained: Trained, tmp_path: Path) -> Path:
        return Path(shutil.copytree(trained.checkpoint, tmp_path / "checkpoint"))

    def test_missing(self, tmp_path: Path) -> None:
        with raises("checkpoint.missing", str(tmp_path), INDEX):
            load_checkpoint(tmp_path)

    def test_truncated_weights(self, folder: Path) -> None:
        (weights,) = folder.glob("weights-*")
        weights.write_bytes(weights.read_bytes()[:-1000])
        with raises("checkpoint.damaged", str(weights), "sha256"):
            load_checkpoint(folder)

    def test_missing_weights(self, folder: Path) -> None:
        (weights,) = folder.glob("weights-*")
        weights.unlink()
        with raises("checkpoint.damaged", str(weights), "missing"):
            load_checkpoint(folder)

    def test_index_that_is_not_json(self, folder: Path) -> None:
        (folder / INDEX).write_text("{")
        with raises("checkpoint.damaged", str(folder / INDEX)):
            load_checkpoint(folder)

    @pytest.mark.parametrize(
        ("change", "code", "mention"),
        [
            ({"format": "other"}, "checkpoint.unsupported", "'other'"),
            ({"version": 99}, "checkpoint.unsupported", "version 99"),
            ({"family": {"family": "perceptron"}}, "checkpoint.unsupported", "'perceptron'"),
            ({"files": {}}, "checkpoint.damaged", "weights"),
            ({"sharing": "magic"}, "checkpoint.damaged", "magic"),
            ({"space": []}, "checkpoint.unsupported", "space"),
            ({"weights_digest": "0" * 16}, "checkpoint.damaged", "0" * 16),
        ],
    )
    def test_index_with_other_content(self, folder: Path, change: dict[str, object], code: str, mention: str) -> None:
        index = json.loads((folder / INDEX).read_text())
        (folder / INDEX).write_text(json.dumps({**index, **change}))
        with raises(code, str(folder) if "family" not in change else "", mention):
            load_checkpoint(folder)

    def test_index_of_a_version_with_plain_sharing_only(self, folder: Path, trained: Trained) -> None:
        index = json.loads((folder / INDEX).read_text())
        (folder / INDEX).write_text(json.dumps({**index, "sharing": "slice"}))
        assert load_checkpoint(folder).supernet.sharing.spec == trained.supernet.sharing.spec

    def test_weights_of_another_space(self, folder: Path, trained: Trained) -> None:
        index = json.loads((folder / INDEX).read_text())
        index["family"]["spec"]["head"] = 32
        (folder / INDEX).write_text(json.dumps(index))
        with raises("checkpoint.damaged", str(folder), "size mismatch"):
            load_checkpoint(folder)


def test_the_head_of_the_training_part_is_the_same_for_every_subnet(small_digits: DataSet) -> None:
    assert torch.equal(head(small_digits.train, 10).inputs, small_digits.train.inputs[:10])
