"""`nas.build.prepared_job` and `nas.build.checks`: what is wrong with a job is reported before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.build.checks import check_measurable, check_trainable
from nas.build.compatibility_facts import compatibility_facts
from nas.build.prepared_job import PreparedJob, prepare_job
from nas.build.search_objects import build_algorithm, exact_values
from nas.config import parse_job
from nas.errors import JobError, NasError
from nas.store.compatibility import check_compatibility
from nas.store.folder import RunsFolder
from supernets.base import Distillation, Family, LabelLoss, Supernet
from supernets.checkpoint import make_supernet, save_checkpoint
from supernets.errors import CheckpointError
from supernets.families.mobile_cnn.family import MobileCNNFamily
from supernets.families.mobile_cnn.presets import MOBILE_CNN
from supernets.recalibration import recalibrate
from supernets.sharing.spec import MixtureSpec, SharingSpec
from tests.errors import raises
from tests.nas.commands import SMALL_JOB


def prepared(tmp_path: Path, more: str) -> PreparedJob:
    return prepare_job(parse_job(SMALL_JOB + more, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml")


@pytest.mark.parametrize(
    ("metric", "bound", "key", "value"), [("macs", "max", 10, "10"), ("parameters", "min", "1.0e+9", "1e+09")]
)
def test_a_bound_outside_of_the_space_s_range_is_rejected_with_the_range(
    tmp_path: Path, metric: str, bound: str, key: object, value: str
) -> None:
    job = prepared(tmp_path, f"constraints: {{{metric}: {{{bound}: {key}}}}}\n")
    ends = exact_values(job.supernets.untrained(), job.job.precisions, metric, [job.space.smallest, job.space.largest])
    mentions = [f"job.yaml: constraints.{metric}.{bound}", value, *(f"{end:g}" for end in ends)]
    with raises("job.constraint-unsatisfiable", *mentions):
        check_measurable(job)


def test_an_unknown_run_is_reported_with_the_key_that_names_it(tmp_path: Path) -> None:
    job = parse_job(SMALL_JOB.replace("family: mobile-cnn", "from: other-1"), source="job.yaml")
    with raises("run.unknown", "job.yaml: supernet.from: ", "other-1"):
        prepare_job(job, RunsFolder(tmp_path), source="job.yaml")


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("{family: vit, preset: digits, space: {patch: 3}}", "patches of 3 x 3 pixels do not divide images of 8 x 8"),
        ("{preset: mobile}", "images of 8 pixels are too small"),
    ],
)
def test_a_space_that_is_not_for_the_images_is_told_at_once(tmp_path: Path, space: str, said: str) -> None:
    job = parse_job(f"name: a\ndata: {{name: digits}}\nsupernet: {space}", source="job.yaml")
    with pytest.raises(JobError, match=rf"^job\.yaml: supernet: {said}"):
        prepare_job(job, RunsFolder(tmp_path), source="job.yaml")


def reviews(tmp_path: Path) -> Path:
    """A table of 18 sentences in two classes."""
    table = tmp_path / "reviews.csv"
    table.write_text("text,label\n" + "".join(f"good {i},yes\nbad {i},no\n" for i in range(9)), encoding="utf-8")
    return table


@pytest.mark.parametrize(
    ("family", "preset", "taken", "given"),
    [
        ("mobile-cnn", "digits", "images", "sentences"),
        ("resnet", "digits", "images", "sentences"),
        ("vit", "digits", "images", "sentences"),
        ("vit-encoder", "digits", "images", "sentences"),
        ("encoder", "tiny", "sentences", "images"),
    ],
)
def test_networks_of_another_kind_of_data_are_refused(
    tmp_path: Path, family: str, preset: str, taken: str, given: str
) -> None:
    of_text = f"{{name: text-classification, path: {reviews(tmp_path)}}}"
    data, name = (of_text, "text-classification") if given == "sentences" else ("{name: digits}", "digits")
    text = f"name: a\ndata: {data}\nsupernet: {{family: {family}, preset: {preset}}}"
    said = (
        rf"^job\.yaml: supernet\.family: the networks of {family} take {taken}, and data\.name: {name} is a data set of "
        rf"{given}; take another family, or data of {taken}$"
    )
    with pytest.raises(JobError, match=said):
        prepare_job(parse_job(text, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml")


@pytest.mark.parametrize(
    ("sharing", "mention"),
    [
        ("{mixture: {layers: [blocks.*]}}", r"mixture\.layers: 'blocks\.\*'"),
        ("{kernels: transform}", "kernels: "),
    ],
)
def test_a_sharing_that_the_space_has_nothing_for_is_told_at_once(tmp_path: Path, sharing: str, mention: str) -> None:
    text = SMALL_JOB.replace("family: mobile-cnn", f"family: mobile-cnn\n  sharing: {sharing}")
    job = parse_job(text.replace("kernel: [3, 5]", "kernel: [3]"), source="job.yaml")
    with pytest.raises(JobError, match=rf"^job\.yaml: supernet\.sharing\.{mention}"):
        prepare_job(job, RunsFolder(tmp_path), source="job.yaml")


def test_a_trained_supernet_keeps_its_sharing(tmp_path: Path) -> None:
    shared = "family: mobile-cnn\n  sharing: {mixture: {}}"
    job = parse_job(SMALL_JOB.replace("family: mobile-cnn", shared), source="job.yaml")
    trained = prepare_job(job, RunsFolder(tmp_path), source="job.yaml")
    progress = {"epoch": 1, "epochs": 1, "data": {"name": "digits", "digest": trained.data.dataset.train.digest}}
    save_checkpoint(tmp_path / "trained", trained.supernets.untrained(), progress=progress, optimizer={})
    start = SMALL_JOB.replace("family: mobile-cnn", f"from: {tmp_path / 'trained'}")
    taken = prepare_job(parse_job(start, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml")
    assert taken.supernets.sharing == taken.supernets.untrained().sharing.spec == SharingSpec(MixtureSpec())
    other = start.replace("  from:", "  sharing: slice\n  from:")
    with raises("checkpoint.other-supernet", "supernet.from"):
        prepare_job(parse_job(other, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml")


class TestATeacher:
    """A frozen network to learn from: the largest of another trained supernet."""

    def prepared(self, folder: Path) -> PreparedJob:
        taught = f"training: {{teacher: {folder / 'trained'}, epochs: 1}}\n"
        text = re.sub(r"training: .*\n", taught, SMALL_JOB)
        return prepare_job(parse_job(text, source="job.yaml"), RunsFolder(folder), source="job.yaml")

    def save(self, folder: Path, family: Family, digest: str, *, epochs: int = 1) -> Supernet:
        supernet = make_supernet(family)
        progress = {"epoch": 1, "epochs": epochs, "data": {"name": "digits", "digest": digest}}
        save_checkpoint(folder / "trained", supernet, progress=progress, optimizer={})
        return supernet

    def test_it_is_the_largest_as_extracted_and_teaches(self, tmp_path: Path) -> None:
        untaught = prepared(tmp_path, "")
        assert untaught.supernets.teacher() is None
        supernet = self.save(tmp_path, untaught.supernets.family, untaught.data.dataset.train.digest)
        ours, images = self.prepared(tmp_path), untaught.data.dataset.validation.inputs[:8]
        expected = recalibrate(supernet.extract(supernet.space.largest), ours.data.calibration.split(250))
        teacher = ours.supernets.teacher()
        assert teacher is not None
        torch.testing.assert_close(teacher.network(images), expected(images))
        (first, *_) = ours.supernets.strategy().plan(0, np.random.default_rng(0), lambda a: 0.0)
        assert first.terms == (LabelLoss(), Distillation(teacher=None))

    def test_another_number_of_classes_is_rejected(self, tmp_path: Path) -> None:
        other = MobileCNNFamily(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=7)
        self.save(tmp_path, other, prepared(tmp_path, "").data.dataset.train.digest)
        with raises("checkpoint.other-data", "training.teacher: ", "8 x 8 images of 7 classes", "of 10 classes"):
            check_trainable(self.prepared(tmp_path).supernets)

    def test_other_images_and_an_unfinished_training_are_rejected(self, tmp_path: Path) -> None:
        untaught = prepared(tmp_path, "")
        self.save(tmp_path, untaught.supernets.family, "0" * 16)
        with raises("checkpoint.other-data", "training.teacher: ", "0" * 16, untaught.data.dataset.train.digest):
            check_trainable(self.prepared(tmp_path).supernets)
        self.save(tmp_path, untaught.supernets.family, untaught.data.dataset.train.digest, epochs=2)
        with raises("checkpoint.unfinished", "1 of 2"):
            check_trainable(self.prepared(tmp_path).supernets)
        text = re.sub(r"training: .*\n", "training: {teacher: gone-1}\n", SMALL_JOB)
        untrainable = prepare_job(parse_job(text, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml")
        with raises("run.unknown", "job.yaml: training.teacher: ", "gone-1"):
            check_trainable(untrainable.supernets)


def test_figures_of_weights_that_are_shared_otherwise_are_of_other_conditions(tmp_path: Path) -> None:
    ways = ["slice", "{mixture: {}}", "{mixture: {routing: neuron}}"]
    jobs = [SMALL_JOB.replace("family: mobile-cnn", f"family: mobile-cnn\n  sharing: {way}") for way in ways]
    plain, layer, neuron = (
        compatibility_facts(prepare_job(parse_job(text, source="job.yaml"), RunsFolder(tmp_path)), measured=False)
        for text in jobs
    )
    assert plain == compatibility_facts(prepared(tmp_path, ""), measured=False)
    with pytest.raises(NasError, match=r"made under other conditions: supernet, sharing: was None, is .*layer"):
        check_compatibility("run a", plain, layer)
    with pytest.raises(NasError, match=r"other conditions: supernet, sharing: was .*layer.*, is .*neuron"):
        check_compatibility("run a", layer, neuron)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("nested: true", r"supernet\.nested: the checkpoint's networks are not nested"),
        ("family: vit", r"supernet\.family: the checkpoint's networks are of the family mobile-cnn, not vit"),
    ],
)
def test_a_trained_supernet_is_not_taken_for_another(tmp_path: Path, key: str, said: str) -> None:
    trained = prepared(tmp_path, "")
    progress = {"epoch": 1, "epochs": 1, "data": {"name": "digits", "digest": trained.data.dataset.train.digest}}
    save_checkpoint(tmp_path / "trained", trained.supernets.untrained(), progress=progress, optimizer={})
    start = f"name: a\ndata: {{name: digits, validation: 0.25, test: 0.25}}\nsupernet: {{from: {tmp_path / 'trained'}"
    prepare_job(parse_job(f"{start}}}", source="job.yaml"), RunsFolder(tmp_path), source="job.yaml")
    with pytest.raises(CheckpointError, match=said):
        prepare_job(parse_job(f"{start}, {key}}}", source="job.yaml"), RunsFolder(tmp_path), source="job.yaml")


def test_precisions_count_in_the_range(tmp_path: Path) -> None:
    """Activations in int8 take a quarter of the bytes: a limit that only they keep is one that can be kept."""
    job = prepared(tmp_path, "precisions: [int8, fp32]\n")
    least = job.supernets.untrained().cost(job.supernets.family.space.smallest).activation_bytes
    limit = f"constraints: {{activation_bytes: {{max: {0.5 * least}}}}}\n"
    check_measurable(prepared(tmp_path, "precisions: [int8, fp32]\n" + limit))
    with raises("job.constraint-unsatisfiable", "constraints.activation_bytes.max"):
        check_measurable(prepared(tmp_path, limit))


@pytest.mark.parametrize("metric", ["macs", "parameters", "activation_bytes"])
def test_no_network_costs_less_than_the_smallest_or_more_than_the_largest(tmp_path: Path, metric: str) -> None:
    """What the range rests on, over the whole space."""
    job = prepared(tmp_path, "")
    table = job.supernets.untrained().costs(job.space.enumerate())
    costs = getattr(table, metric).sum(axis=1)
    ends = job.supernets.untrained().costs([job.space.smallest, job.space.largest])
    assert (costs.min(), costs.max()) == tuple(getattr(ends, metric).sum(axis=1))
    assert len(np.unique(costs)) > 10


def test_limited_figures_are_measured_and_known_to_the_search(tmp_path: Path) -> None:
    job = prepared(tmp_path, "constraints: {latency_ms: {max: 2}, parameters: {max: 1.0e+5}, peak_mib: {max: 9}}\n")
    assert [o.name for o in job.job.metrics] == [
        "accuracy", "latency_ms@cpu-1-thread", "parameters", "peak_mib@cpu-1-thread",
    ]  # fmt: skip
    build_algorithm(job, job.supernets.untrained())
