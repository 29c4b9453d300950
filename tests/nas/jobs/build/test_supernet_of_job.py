"""`nas.jobs.build.built_job`: the teacher, and the sharing of a trained supernet."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import BuiltJob, build_job, find_device
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.preparation import check_trainable
from nas.jobs.schema import parse_job
from nas.jobs.schema.training import TrainingConfig
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.sharing.base import Distillation, Family, LabelLoss, Supernet
from supernets.sharing.spec import MixtureSpec, SharingSpec
from supernets.training.checkpoint import make_supernet, save_checkpoint
from supernets.training.recalibration import recalibrate
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.jobs.build.jobs import prepared


def test_a_trained_supernet_keeps_its_sharing(tmp_path: Path) -> None:
    shared = "family: mobile-cnn\n  sharing: {mixture: {}}"
    job = parse_job(SMALL_JOB.replace("family: mobile-cnn", shared), source="job.yaml")
    trained = build_job(ResolvedJob(job, RunsFolder(tmp_path), source="job.yaml"))
    progress = {"epoch": 1, "epochs": 1, "data": {"name": "digits", "digest": trained.data.dataset.train.digest}}
    save_checkpoint(tmp_path / "trained", trained.untrained(), progress=progress, optimizer={})
    start = SMALL_JOB.replace("family: mobile-cnn", f"from: {tmp_path / 'trained'}")
    taken = build_job(ResolvedJob(parse_job(start, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml"))
    assert taken.sharing == taken.untrained().sharing.spec == SharingSpec(MixtureSpec())
    other = start.replace("  from:", "  sharing: slice\n  from:")
    with raises("checkpoint.other-supernet", "supernet.from"):
        build_job(ResolvedJob(parse_job(other, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml"))


class TestTeacher:
    """A frozen network to learn from: the largest of another trained supernet."""

    def prepared(self, folder: Path) -> BuiltJob:
        taught = f"training: {{teacher: {folder / 'trained'}, epochs: 1}}\n"
        text = re.sub(r"training: .*\n", taught, SMALL_JOB)
        return build_job(ResolvedJob(parse_job(text, source="job.yaml"), RunsFolder(folder), source="job.yaml"))

    def save(self, folder: Path, family: Family, digest: str, *, epochs: int = 1) -> Supernet:
        supernet = make_supernet(family)
        progress = {"epoch": 1, "epochs": epochs, "data": {"name": "digits", "digest": digest}}
        save_checkpoint(folder / "trained", supernet, progress=progress, optimizer={})
        return supernet

    def test_it_is_the_largest_as_extracted_and_teaches(self, tmp_path: Path) -> None:
        untaught = prepared(tmp_path, "")
        assert untaught.teacher is None
        supernet = self.save(tmp_path, untaught.family, untaught.data.dataset.train.digest)
        ours, images = self.prepared(tmp_path), untaught.data.dataset.validation.inputs[:8]
        expected = recalibrate(supernet.extract(supernet.space.largest), ours.data.calibration.split(250))
        teacher = ours.teacher
        assert teacher is not None
        torch.testing.assert_close(teacher.network(images), expected(images))
        (first, *_) = ours.strategy().plan(0, np.random.default_rng(0), lambda a: 0.0)
        assert first.terms == (LabelLoss(), Distillation(teacher=None))

    def test_another_number_of_classes_is_rejected(self, tmp_path: Path) -> None:
        other = MobileCNNFamily(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=7)
        self.save(tmp_path, other, prepared(tmp_path, "").data.dataset.train.digest)
        with raises("checkpoint.other-data", "training.teacher: ", "8 x 8 images of 7 classes", "of 10 classes"):
            check_trainable(self.prepared(tmp_path))

    def test_other_images_and_an_unfinished_training_are_rejected(self, tmp_path: Path) -> None:
        untaught = prepared(tmp_path, "")
        self.save(tmp_path, untaught.family, "0" * 16)
        with raises("checkpoint.other-data", "training.teacher: ", "0" * 16, untaught.data.dataset.train.digest):
            check_trainable(self.prepared(tmp_path))
        self.save(tmp_path, untaught.family, untaught.data.dataset.train.digest, epochs=2)
        with raises("checkpoint.unfinished", "1 of 2"):
            check_trainable(self.prepared(tmp_path))
        text = re.sub(r"training: .*\n", "training: {teacher: gone-1}\n", SMALL_JOB)
        untrainable = build_job(
            ResolvedJob(parse_job(text, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml")
        )
        with raises("run.unknown", "job.yaml: training.teacher: ", "gone-1"):
            check_trainable(untrainable)


def test_bfloat16_needs_a_cpu_with_instructions_for_it(tmp_path: Path) -> None:
    training = TrainingConfig(precision="bfloat16", device="cpu")
    known = tmp_path / "cpuinfo"
    for flags in ("flags: avx2 avx512f avx512_bf16", "flags: amx_bf16 amx_tile", "Features: asimd bf16"):
        known.write_text(flags)
        assert find_device(training, source="job.yaml", cpu_information=known).type == "cpu"
    known.write_text("flags: avx2 avx512f")
    for path in (known, tmp_path / "none"):
        with raises("job.no-bfloat16", "job.yaml: training.precision: ", "AVX512-BF16", "use auto"):
            find_device(training, source="job.yaml", cpu_information=path)
        assert find_device(training.model_copy(update={"precision": "auto"}), source="x", cpu_information=path)
