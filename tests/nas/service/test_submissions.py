"""Jobs submitted to the service, and the paths that they may name, with a job runner that runs nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.errors import JobError, StoreError, TooManyError
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import load_job
from nas.results.export.folder_export import export_folder
from nas.runs.driver import drive
from nas.service.api.schemas import JobSubmission
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from nas.service.state import ServiceState
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.moods import JOB as MOODS
from tests.nas.moods import write_moods
from tests.nas.service.made_runs import Jobs, tree


def test_a_submitted_job_waits_in_the_queue(service: Service, runs: RunsFolder) -> None:
    first = service.submissions.submit(JobSubmission(job=SMALL_JOB), "ada")
    second = service.submissions.submit(JobSubmission(job=SMALL_JOB, kind="training"), "bob")
    assert (first.run, first.name, first.status, first.kind) == ("small-1", "small", "queued", "search")
    assert (first.submitter, first.queue_position, first.live) == ("ada", 1, False)
    assert (first.evaluations, first.evaluations_wanted, first.epoch, first.epochs) == (0, 30, 0, 4)
    assert (second.run, second.kind, second.queue_position, second.evaluations_wanted) == ("small-2", "training", 2, 0)
    assert second.reason == "waits behind 1 other"
    assert first.submitted is not None
    assert first.started is first.ended is None
    assert load_job(runs.get(first.run).job_file).search.evaluations == 30


def test_a_job_may_come_as_an_object_and_is_shown_as_it_was_sent(service: Service) -> None:
    job = {"name": "object", "data": {"name": "digits"}, "supernet": {"preset": "tiny"}}
    made = service.submissions.submit(JobSubmission(job=job))
    assert "preset: tiny" in service.runs.detail(made.run).job
    commented = service.submissions.submit(JobSubmission(job="# mine\n" + SMALL_JOB))
    assert service.runs.detail(commented.run).job.startswith("# mine\n")


def test_hardware_given_beside_the_job_replaces_its_own(service: Service, runs: RunsFolder) -> None:
    made = service.submissions.submit(JobSubmission(job=SMALL_JOB, hardware=("cpu-2-threads",)))
    assert load_job(runs.get(made.run).job_file).hardware == ("cpu-2-threads",)
    assert "cpu-2-threads" in service.runs.detail(made.run).job


def test_errors_of_a_job_are_listed_by_field_and_nothing_is_written(service: Service, runs: RunsFolder) -> None:
    before = set(tree(runs.root))
    wrong = JobSubmission(job=SMALL_JOB.replace("evaluations: 30", "evaluations: 1").replace("seed: 3", "sead: 3"))
    check = service.submissions.check(wrong)
    assert not check.ok
    assert {error.field for error in check.errors} == {"sead", "search.evaluations"}
    assert "did you mean 'seed'" in next(e.message for e in check.errors if e.field == "sead")
    with pytest.raises(JobError):
        service.submissions.submit(wrong)
    assert {name for name in tree(runs.root) if not name.startswith("service.db")} == {
        name for name in before if not name.startswith("service.db")
    }
    assert service.submissions.check(JobSubmission(job=SMALL_JOB)).ok
    assert service.runs.page().total == 0


@pytest.mark.parametrize("full", ["nas.engine.store.folder", "nas.service.submissions"])
def test_a_failed_submission_leaves_nothing(
    service: Service, runs: RunsFolder, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    def write(path: Path, content: bytes) -> None:
        raise StoreError(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr(f"{full}.write_atomically", write)
    with raises("store.unusable", "No space"):
        service.submissions.submit(JobSubmission(job=SMALL_JOB))
    assert [path.name for path in runs.root.iterdir() if not path.name.startswith("service.db")] == []


def test_the_queue_is_limited(runs: RunsFolder, jobs: Jobs) -> None:
    runs.check_writable()
    settings = ServiceSettings(runs, limits=Limits(queued=2))
    state = ServiceState.open(settings.database)
    service = Service(settings, state, jobs)
    service.submissions.submit(JobSubmission(job=SMALL_JOB))
    last = service.submissions.submit(JobSubmission(job=SMALL_JOB))
    with pytest.raises(TooManyError):
        service.submissions.submit(JobSubmission(job=SMALL_JOB))
    service.submissions.cancel(last.run)
    service.submissions.submit(JobSubmission(job=SMALL_JOB))
    state.close()


def test_paths_of_the_server_stay_out_of_jobs(service: Service, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "board.yaml").write_text("name: board")
    path = str(outside)
    wrong = {
        "data.path": SMALL_JOB.replace("name: digits,", f"name: image-folder, path: {path},"),
        "supernet.from": SMALL_JOB.replace("  family:", f"  from: {path}\n  family:"),
        "training.teacher": SMALL_JOB.replace("{epochs: 4,", f"{{epochs: 4, distill: teacher, teacher: {path}/x,"),
        "hardware[0]": SMALL_JOB.replace("[cpu-1-thread]", f"[{path}/board.yaml]"),
        "lookup_tables[0]": SMALL_JOB + f"lookup_tables: [{path}/table.json]\n",
        "warm_start[0]": SMALL_JOB + "warm_start: [other-1]\n",
    }
    for field, job in wrong.items():
        check = service.submissions.check(JobSubmission(job=job))
        assert [error.field for error in check.errors] == [field]
    check = service.submissions.check(JobSubmission(job=SMALL_JOB, hardware=(f"{path}/board.yaml",)))
    assert [error.field for error in check.errors] == ["hardware[0]"]
    check = service.submissions.check(JobSubmission(job=SMALL_JOB, hardware=("cpu-9-threads",)))
    assert [error.field for error in check.errors] == ["hardware[0]"]


def test_sentences_and_their_tokenizer_are_looked_for_where_jobs_may_look(
    service: Service, runs: RunsFolder, tmp_path: Path
) -> None:
    model = runs.root / ".service" / "uploads" / "data" / "reviews" / "model"
    model.mkdir(parents=True)
    (tmp_path / "tokenizer.json").write_text("{}")
    (model / "up").symlink_to(tmp_path)

    def job(path: str, tokenizer: str) -> JobSubmission:
        data = f"name: text-classification, path: {path}, tokenizer: {tokenizer},"
        return JobSubmission(job=SMALL_JOB.replace("name: digits,", data))

    run = service.submissions.submit(job("uploads/reviews", "uploads/reviews/model")).run
    data = load_job(runs.get(run).job_file).data
    assert (data.path, data.tokenizer) == (model.parent.resolve(), model.resolve())
    for outside in (
        tmp_path,
        "uploads/../../..",
        "uploads/reviews/model/up",
        "uploads/reviews/model/up/tokenizer.json",
    ):
        for wrong, field in (
            (job(str(outside), "uploads/reviews"), "path"),
            (job("uploads/reviews", str(outside)), "tokenizer"),
        ):
            assert [error.field for error in service.submissions.check(wrong).errors] == [f"data.{field}"]


def test_a_pretrained_network_is_looked_for_where_jobs_may_look(
    service: Service, runs: RunsFolder, tmp_path: Path
) -> None:
    model = runs.root / ".service" / "uploads" / "data" / "model"
    model.mkdir(parents=True)

    def job(folder: str) -> JobSubmission:
        data = "data: {name: text-classification, path: uploads/model}"
        return JobSubmission(job=f"name: a\n{data}\nsupernet: {{family: encoder, pretrained: {folder}}}\n")

    run = service.submissions.submit(job("uploads/model")).run
    assert load_job(runs.get(run).job_file).supernet.pretrained == str(model.resolve())
    for outside in (str(tmp_path), "uploads/../..", "../model"):
        assert [error.field for error in service.submissions.check(job(outside)).errors] == ["supernet.pretrained"]


def test_a_model_is_a_captured_file_where_jobs_may_look_and_never_code(service: Service, runs: RunsFolder) -> None:
    uploads = runs.root / ".service" / "uploads" / "data" / "model"
    uploads.mkdir(parents=True)
    (uploads / "own.capture").write_bytes(b"")

    def job(model: str) -> JobSubmission:
        return JobSubmission(job=f"name: a\ndata: {{name: digits}}\nsupernet: {{model: '{model}'}}\n")

    run = service.submissions.submit(job("uploads/model/own.capture")).run
    assert load_job(runs.get(run).job_file).supernet.model == str((uploads / "own.capture").resolve())
    for refused in (
        "os:getcwd",
        "torchvision:resnet18",
        "timm:resnet18",
        "transformers:uploads/model",
        "../own.capture",
    ):
        assert [error.field for error in service.submissions.check(job(refused)).errors] == ["supernet.model"]


@pytest.mark.slow
def test_a_run_does_without_the_uploaded_network_once_it_is_trained(
    service: Service, runs: RunsFolder, tmp_path: Path
) -> None:
    uploads = runs.root / ".service" / "uploads" / "data"
    (uploads / "moods").mkdir(parents=True)
    write_moods(uploads / "moods")
    data = MOODS["data"] | {"path": "uploads/moods/moods.csv"}
    job = MOODS | {"data": data, "supernet": {"family": "encoder", "pretrained": "uploads/moods/bert"}}
    run = service.submissions.submit(JobSubmission(job=job, kind="training")).run
    drive(run, RunOptions(runs, inline=True), kind="training")
    tokenizer = (uploads / "moods" / "bert" / "tokenizer.json").read_text()
    shutil.rmtree(uploads / "moods" / "bert")
    export_folder(runs, run, tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == tokenizer
