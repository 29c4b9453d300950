"""`nas.jobs.build.built_job`: what is wrong with a job is reported before a run is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.engine.store.compatibility import check_compatibility
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import build_job
from nas.jobs.build.compatibility_facts import compatibility_facts
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from supernets.training.checkpoint import save_checkpoint
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.jobs.build.jobs import prepared


def test_an_unknown_run_is_reported_with_the_key_that_names_it(tmp_path: Path) -> None:
    job = parse_job(SMALL_JOB.replace("family: mobile-cnn", "from: other-1"), source="job.yaml")
    with raises("run.unknown", "job.yaml: supernet.from: ", "other-1"):
        build_job(ResolvedJob(job, RunsFolder(tmp_path), source="job.yaml"))


def test_images_cannot_be_shifted_out_of_sight(tmp_path: Path) -> None:
    shifted = SMALL_JOB.replace("epochs: 4,", "epochs: 4, augment: {shift: %d},")
    build_job(ResolvedJob(parse_job(shifted % 7, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml"))
    with raises("job.unfit-data", "job.yaml: training.augment.shift: 8", "8 pixels"):
        build_job(ResolvedJob(parse_job(shifted % 8, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml"))


@pytest.mark.parametrize(
    ("space", "mentions"),
    [
        ("{family: vit, preset: digits, space: {patch: 3}}", ["patches of 3", "images of 8"]),
        ("{preset: mobile}", ["images of 8 pixels"]),
    ],
)
def test_a_space_that_does_not_fit_the_images_is_rejected(tmp_path: Path, space: str, mentions: list[str]) -> None:
    job = parse_job(f"name: a\ndata: {{name: digits}}\nsupernet: {space}", source="job.yaml")
    with raises("job.unfit-data", "job.yaml: supernet: ", *mentions):
        build_job(ResolvedJob(job, RunsFolder(tmp_path), source="job.yaml"))


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
def test_networks_of_another_kind_of_data_are_rejected(
    tmp_path: Path, family: str, preset: str, taken: str, given: str
) -> None:
    of_text = f"{{name: text-classification, path: {reviews(tmp_path)}}}"
    data, name = (of_text, "text-classification") if given == "sentences" else ("{name: digits}", "digits")
    text = f"name: a\ndata: {data}\nsupernet: {{family: {family}, preset: {preset}}}"
    mentions = f"{family} takes {taken}", f"data.name: {name} is a data set of {given}", f"data of {taken}"
    with raises("job.unfit-data", "job.yaml: supernet.family: ", *mentions):
        build_job(ResolvedJob(parse_job(text, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml"))


@pytest.mark.parametrize(
    ("sharing", "mention"),
    [
        ("{mixture: {layers: [blocks.*]}}", "mixture.layers: 'blocks.*'"),
        ("{kernels: transform}", "kernels: "),
    ],
)
def test_a_sharing_that_the_space_has_nothing_for_is_rejected(tmp_path: Path, sharing: str, mention: str) -> None:
    text = SMALL_JOB.replace("family: mobile-cnn", f"family: mobile-cnn\n  sharing: {sharing}")
    job = parse_job(text.replace("kernel: [3, 5]", "kernel: [3]"), source="job.yaml")
    with raises("job.invalid-value", f"job.yaml: supernet.sharing.{mention}"):
        build_job(ResolvedJob(job, RunsFolder(tmp_path), source="job.yaml"))


@pytest.mark.parametrize(
    ("key", "mentions"),
    [
        ("nested: true", ["supernet.nested: "]),
        ("family: vit", ["supernet.family: ", "mobile-cnn, not vit"]),
        ("preset: digits", ["supernet.from: ", "space"]),
    ],
)
def test_a_trained_supernet_of_another_kind_is_rejected(tmp_path: Path, key: str, mentions: list[str]) -> None:
    trained = prepared(tmp_path, "")
    progress = {"epoch": 1, "epochs": 1, "data": {"name": "digits", "digest": trained.data.dataset.train.digest}}
    save_checkpoint(tmp_path / "trained", trained.untrained(), progress=progress, optimizer={})
    start = f"name: a\ndata: {{name: digits, validation: 0.25, test: 0.25}}\nsupernet: {{from: {tmp_path / 'trained'}"
    build_job(ResolvedJob(parse_job(f"{start}}}", source="job.yaml"), RunsFolder(tmp_path), source="job.yaml"))
    with raises("checkpoint.other-supernet", *mentions):
        build_job(
            ResolvedJob(parse_job(f"{start}, {key}}}", source="job.yaml"), RunsFolder(tmp_path), source="job.yaml")
        )


def test_another_sharing_is_not_comparable(tmp_path: Path) -> None:
    ways = ["slice", "{mixture: {}}", "{mixture: {routing: neuron}}"]
    jobs = [SMALL_JOB.replace("family: mobile-cnn", f"family: mobile-cnn\n  sharing: {way}") for way in ways]
    plain, layer, neuron = (
        compatibility_facts(
            build_job(ResolvedJob(parse_job(text, source="job.yaml"), RunsFolder(tmp_path))), measured=False
        )
        for text in jobs
    )
    assert plain == compatibility_facts(prepared(tmp_path, ""), measured=False)
    with raises("run.incompatible", "supernet, sharing: was None, is ", "layer"):
        check_compatibility("run a", plain, layer)
    with raises("run.incompatible", "supernet, sharing: was ", "layer", "neuron"):
        check_compatibility("run a", layer, neuron)
