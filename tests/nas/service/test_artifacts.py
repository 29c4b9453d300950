"""Artifacts of runs (plots, cascades, lookup tables) and fine-tuning: requested, made by tasks, and downloaded."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from nas.engine.store.folder import RunsFolder, write_all
from nas.errors import JobError, RunHeldError, RunStateError, SelectionError
from nas.service.api.schemas import CalibrationRequest, CascadeRequest, FinetuningRequest, PlotsRequest
from nas.service.jobs.driver_jobs import new_log
from nas.service.service import Service
from nas.service.state import TaskStatus
from tests.nas.commands import SMALL_JOB
from tests.nas.service.made_runs import queued, searched, trained

API = "/api/v1"


def finish(service: Service, artifact: str, files: dict[str, bytes], result: dict[str, Any]) -> None:
    """Ends a task as its command would: with files, and a result that names them by their paths."""
    [task] = [task for task in service.state.tasks() if task.task == artifact]
    folder = Path(task.request["result"]).parent
    for name, content in {**files, "result.json": b"{}"}.items():
        (folder / name).write_bytes(content)
    paths = [str(folder / name) for name in files]
    service.state.change_task(artifact, TaskStatus.FINISHED, result={**result, "paths": paths, "path": paths[0]})


def argv_of(service: Service, artifact: str) -> list[str]:
    [task] = [task for task in service.state.tasks() if task.task == artifact]
    argv = list(task.request["argv"])
    return argv[argv.index("nas.cli") + 1 :]


def test_plots_are_drawn_by_a_task_and_downloaded(client: TestClient, service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    answer = client.post(f"{API}/runs/{run}/artifacts", json={"kind": "plots", "select": "latency_ms<=0.5"})
    assert answer.status_code == 202
    made = answer.json()
    path = f"{API}/runs/{run}/artifacts/{made['artifact']}"
    assert (made["status"], made["files"], made["request"]["select"]) == ("queued", [], "latency_ms<=0.5")
    assert client.get(f"{path}/archive").json()["type"] == "/problems#export.no-files"
    assert client.get(f"{path}/files/front.png").status_code == 404
    argv = argv_of(service, made["artifact"])
    assert argv[:3] == ["plot", run, "-o"]
    assert Path(argv[3]).is_relative_to(runs.get(run).path)
    assert {"--select=latency_ms<=0.5", "--json"} <= set(argv)
    assert client.delete(path).json()["type"] == "/problems#task.open"

    files = {"front.png": b"picture", "front.html": b"page"}
    finish(service, made["artifact"], files, {})
    done = client.get(path).json()
    assert (done["status"], done["result"]["paths"]) == ("finished", ["front.png", "front.html"])
    assert client.get(f"{path}/files/front.png").content == b"picture"
    assert client.get(f"{path}/files/result.json").status_code == 404
    with zipfile.ZipFile(io.BytesIO(client.get(f"{path}/archive").content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
    assert [one["artifact"] for one in client.get(f"{API}/runs/{run}/artifacts").json()] == [made["artifact"]]
    assert client.delete(path).status_code == 204
    assert client.get(path).json()["type"] == "/problems#artifact.unknown"


def test_artifacts_that_cannot_be_made_are_rejected_at_once(service: Service, runs: RunsFolder) -> None:
    unfinished, training = searched(runs, name="open", final=False).id, trained(runs).id
    with pytest.raises(RunStateError, match="is running"):
        service.artifacts.request(unfinished, CascadeRequest(kind="cascade"))
    with pytest.raises(RunStateError):
        service.artifacts.request(training, PlotsRequest(kind="plots"))
    finished = searched(runs).id
    with pytest.raises(SelectionError):
        service.artifacts.request(finished, PlotsRequest(kind="plots", select="latency"))
    with pytest.raises(Exception, match="number as row"):
        service.artifacts.request(finished, CascadeRequest(kind="cascade", test=True))
    with pytest.raises(JobError, match="no such table"):
        service.artifacts.request(
            finished, CalibrationRequest(kind="calibration", profile="cpu-1-thread", tables=("calibrations/../x",))
        )
    assert service.state.tasks() == []
    assert not list(runs.root.glob("*/artifacts/*"))


def test_a_row_of_the_cascades_is_exported_and_tested(service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    table = service.artifacts.request(run, CascadeRequest(kind="cascade"))
    assert "-o" not in argv_of(service, table.artifact)
    made = service.artifacts.request(run, CascadeRequest(kind="cascade", row=3, test=True))
    argv = argv_of(service, made.artifact)
    assert {"--row=3", "--test", "-o"} <= set(argv)
    with pytest.raises(RunHeldError, match="delete the run afterwards"):
        service.submissions.delete(run)


def test_a_table_of_latencies_is_named_by_jobs_and_stays_while_they_need_it(
    client: TestClient, service: Service, runs: RunsFolder
) -> None:
    run = searched(runs).id
    made = service.artifacts.request(run, CalibrationRequest(kind="calibration", profile="cpu-1-thread"))
    argv = argv_of(service, made.artifact)
    assert argv[:4] == ["calibrate", "cpu-1-thread", "--job", str(runs.get(run).job_file.absolute())]
    job = SMALL_JOB + f"lookup_tables: [calibrations/{made.artifact}]\n"
    check = client.post(f"{API}/jobs/check", json={"job": job}).json()
    assert [error["field"] for error in check["errors"]] == ["lookup_tables[0]"]  # it is not finished
    finish(service, made.artifact, {"cpu-1-thread.lookup.json": b"{}"}, {"fits": {}})
    assert service.artifacts.get(run, made.artifact).table == f"calibrations/{made.artifact}"
    submitted = client.post(f"{API}/runs", json={"job": job}).json()["run"]
    stored = yaml.safe_load(runs.get(submitted).job_file.read_text())
    assert stored["lookup_tables"] == [
        str(runs.get(run).path.absolute() / "artifacts" / made.artifact / "cpu-1-thread.lookup.json")
    ]
    assert f"calibrations/{made.artifact}" in client.get(f"{API}/runs/{submitted}").json()["job"]
    for path in (f"{API}/runs/{run}/artifacts/{made.artifact}", f"{API}/runs/{run}"):
        answer = client.delete(path)
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems#run.needed")
        assert submitted in answer.json()["detail"]
    client.post(f"{API}/runs/{submitted}/cancel")
    assert client.delete(f"{API}/runs/{run}").status_code == 204


def test_a_network_is_fine_tuned_as_a_new_run(client: TestClient, service: Service, runs: RunsFolder) -> None:
    run = searched(runs).id
    key = service.results.pick(run, "latency_ms<=0.5").key
    body = {"select": "latency_ms<=0.5", "epochs": 2, "learning_rate": 0.01}
    answer = client.post(f"{API}/runs/{run}/finetunings", json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["status"], made["epochs"]) == ("queued", 2)
    job = yaml.safe_load(client.get(f"{API}/runs/{made['run']}").json()["job"])
    assert (job["supernet"]["from"], job["supernet"]["network"]) == (run, key)
    assert (job["training"]["learning_rate"], job["training"]["teacher"]) == (0.01, run)
    [finetuned] = service.runs.finetuned(run, service.results.report(run))
    assert (finetuned.run.run, finetuned.network, finetuned.after) == (made["run"], key, None)


def test_fine_tuning_needs_a_search_and_one_network(service: Service, runs: RunsFolder) -> None:
    run, training = searched(runs).id, trained(runs).id
    with pytest.raises(SelectionError, match="fine-tune a network of a search"):
        service.submissions.finetune(training, FinetuningRequest(select="macs<=2e6"))
    with pytest.raises(SelectionError, match="got both"):
        service.submissions.finetune(run, FinetuningRequest(select="latency_ms<=0.5", index=0))
    # The data of a run that a command started may lie where clients may not read.
    job = yaml.safe_load(runs.get(run).job_file.read_text())
    runs.get(run).job_file.write_text(yaml.safe_dump({**job, "data": {"name": "image-folder", "path": "/etc"}}))
    with pytest.raises(JobError, match="not allowed"):
        service.submissions.finetune(run, FinetuningRequest())


def test_a_run_is_downloaded_as_one_archive(client: TestClient, service: Service, runs: RunsFolder) -> None:
    folder = searched(runs)
    made = service.artifacts.request(folder.id, PlotsRequest(kind="plots"))
    finish(service, made.artifact, {"front.png": b"picture"}, {})
    write_all(folder.plots, {"front.svg": b"<svg/>"})
    new_log(folder, "first").write_text("one line\n")
    answer = client.get(f"{API}/runs/{folder.id}/archive")
    assert answer.headers["content-disposition"] == 'attachment; filename="made-1.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        contents = {name.removeprefix("made-1/"): archive.read(name) for name in archive.namelist()}
    assert contents.keys() == {
        "job.yaml", "run.json", "log.txt", "training.json", "front.csv", "evaluations.csv", "plots/front.svg",
        f"artifacts/{made.artifact}/front.png",
    }  # fmt: skip
    assert contents["job.yaml"] == folder.job_file.read_bytes()
    assert contents["log.txt"] == b"one line\n"
    assert contents["front.csv"] == client.get(f"{API}/runs/{folder.id}/front.csv").content
    assert contents["evaluations.csv"].count(b"\n") == 41
    assert client.get(f"{API}/runs/none-1/archive").status_code == 404


def test_texts_of_plots_and_artifacts_in_an_archive_have_no_paths_of_the_server(
    client: TestClient, service: Service, runs: RunsFolder
) -> None:
    folder = searched(runs)
    made = service.artifacts.request(folder.id, PlotsRequest(kind="plots"))
    text = f"{folder.path.absolute()}/x.onnx".encode()
    finish(service, made.artifact, {"front.csv": text, "front.png": text}, {})
    write_all(folder.plots, {"front.html": text})
    answer = client.get(f"{API}/runs/{folder.id}/archive")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        texts = [archive.read(f"made-1/artifacts/{made.artifact}/front.csv"), archive.read("made-1/plots/front.html")]
        picture = archive.read(f"made-1/artifacts/{made.artifact}/front.png")
    assert texts == [b"made-1/x.onnx"] * 2
    assert picture == text


def test_the_archive_of_a_training_or_of_a_run_that_waits_has_what_there_is(
    client: TestClient, runs: RunsFolder
) -> None:
    for run in (trained(runs).id, queued(runs)):
        with zipfile.ZipFile(io.BytesIO(client.get(f"{API}/runs/{run}/archive").content)) as archive:
            assert {f"{run}/job.yaml", f"{run}/run.json"} <= set(archive.namelist())
            assert f"{run}/front.csv" not in archive.namelist()


def test_a_log_is_continued_where_it_was_left(client: TestClient, runs: RunsFolder) -> None:
    folder = trained(runs)
    path = f"{API}/runs/{folder.id}/logs"
    first, second = new_log(folder, "first"), new_log(folder, "second")
    first.write_text("earlier driver\n")
    second.write_bytes("1 ± ".encode() + "µ".encode()[:1])  # the rest of the letter is not written yet
    whole = client.get(path)
    assert whole.text == "earlier driver\n1 ± "
    position = whole.headers["log-bytes"]
    second.write_bytes("1 ± µs\n".encode())
    new = client.get(path, params={"after": position})
    assert new.text == "µs\n"
    nothing = client.get(path, params={"after": new.headers["log-bytes"]})
    assert (nothing.text, nothing.headers["log-bytes"]) == ("", new.headers["log-bytes"])
    assert client.get(path, params={"after": 10**6}).text == "earlier driver\n1 ± µs\n"  # of another log
