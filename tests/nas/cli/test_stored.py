"""Commands about what a server stores, against the real application."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from nas.engine.store.folder import RunsFolder
from nas.service.api.schemas import ExportRequest
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState, TaskStatus
from tests.nas.commands import Shell
from tests.nas.service.client.served import served
from tests.nas.service.made_runs import Jobs, searched, trained
from tests.nas.service.sent_files import begun_capture, flowers, packed


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    runs = RunsFolder(tmp_path / "runs")
    runs.check_writable()
    settings = ServiceSettings(runs)
    state = ServiceState.open(settings.database)
    yield Service(settings, state, Jobs())
    state.close()


@pytest.fixture(autouse=True)
def server(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with served(service) as url:
        monkeypatch.setenv("NAS_SERVER", url)
        yield


def test_data_sets_are_added_listed_and_deleted(shell: Shell, tmp_path: Path) -> None:
    assert "no data sets" in shell.nas("data", "list").out
    (tmp_path / "flowers.zip").write_bytes(packed(flowers()))
    made = shell.nas("data", "add", "flowers", tmp_path / "flowers.zip").out
    assert "6 images of 2 classes" in made
    assert "path: uploads/flowers}" in made
    assert "uploads/flowers" in shell.nas("data", "list").out
    (listed,) = shell.nas("data", "list", "--json").data
    assert (listed["name"], listed["images"]) == ("flowers", 6)
    assert shell.nas("data", "delete", "flowers", "--json").data == {"deleted": "flowers"}
    assert shell.nas("data", "list", "--json").data == []
    assert shell.nas("data", "delete", "flowers").code == 1


def test_tables_and_folders_are_named_after_their_files(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "my numbers.csv").write_text("a,price\n" + "".join(f"{i},{i}.5\n" for i in range(40)))
    found = shell.nas("data", "add", "my numbers.csv")
    assert (found.code, found.error) == (1, "data.layout")
    made = shell.nas("data", "add", "my numbers.csv", "--option", "label_column=price")
    assert "40 rows (all 40 rows were read)" in made.out
    assert "data: {name: number-table, path: uploads/my-numbers/my numbers.csv, label_column: price}" in made.out
    assert "task: regression" in made.out
    for name, content in flowers().items():
        (tmp_path / "garden" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "garden" / name).write_bytes(content)
    assert shell.nas("data", "add", "garden", "--json").data["path"] == "uploads/garden"
    taken = shell.nas("data", "add", "garden")
    assert (taken.code, taken.error) == (1, "name.taken")
    assert taken.err.endswith("next: the same command with --name NAME\n")
    assert shell.nas("data", "add", "garden", "--name", "other", "--json").data["name"] == "other"
    listed = shell.nas("data", "list").out
    assert "number-table" in listed
    assert "6 images" in listed
    for wrong in (("a", "b", "c"), ("garden", "garden", "--name", "x"), ("garden", "--option", "label")):
        assert shell.nas("data", "add", *wrong).code == 2


def test_models_are_named_after_their_files(shell: Shell, tmp_path: Path) -> None:
    assert "no models" in shell.nas("models", "list").out
    (tmp_path / "net.capture").write_bytes(begun_capture())
    assert "supernet: {model: models/net}" in shell.nas("models", "add", "net.capture").out
    assert "supernet: {model: models/two}" in shell.nas("models", "add", "two", "net.capture").out
    assert "captured" in shell.nas("models", "list").out
    (tmp_path / "m").mkdir()
    assert shell.nas("models", "add", "m").code == 1


def test_profiles_are_added_listed_and_deleted(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "board.yaml"
    file.write_text("{name: board, placement: {hw-none: 1}}")
    assert "not available now" in shell.nas("profiles", "add", file).out
    listed = {one["name"]: one for one in shell.nas("profiles", "list", "--json").data}
    assert "hw-none" in listed["board"]["unavailable"]
    assert "cpu-1-thread" in listed
    assert "board" in shell.nas("profiles", "list").out
    assert "board" not in shell.nas("profiles").out  # of the catalog
    assert shell.nas("profiles", "delete", "board").out == "deleted board\n"
    file.write_text("{name: big, threads: 1024}")
    found = shell.nas("profiles", "add", file)
    assert (found.code, found.error) == (1, "profile.too-few-cpus")


def test_tasks_are_listed_and_cancelled_and_exports_deleted(shell: Shell, service: Service) -> None:
    run = searched(service.settings.runs).id
    assert "wait or run" in shell.nas("tasks", "list").out
    export = service.exports.request(run, ExportRequest()).export
    assert export in shell.nas("tasks", "list").out
    assert shell.nas("tasks", "cancel", export).out == f"{export}: is being cancelled\n"
    assert shell.nas("exports", "delete", run, export).error == "task.open"
    service.state.change_task(export, TaskStatus.CANCELLED)
    assert shell.nas("tasks", "list", "--json").data == []
    (listed,) = shell.nas("tasks", "list", "--all", "--json").data
    assert (listed["task"], listed["status"], listed["of"]) == (export, "cancelled", run)
    assert export in shell.nas("exports", "list", run).out
    assert shell.nas("exports", "delete", run, export).out == f"deleted {export}\n"
    assert shell.nas("exports", "list", run, "--json").data == []


def test_runs_are_deleted_after_a_question(shell: Shell, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = service.settings.runs
    searched(runs)
    trained(runs)
    unasked = shell.nas("delete", "made-1")
    assert unasked.code == 2
    assert "needs --yes" in unasked.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *arguments, **options: (_ for _ in ()).throw(typer.Abort()))
    assert shell.nas("delete", "made-1").code == 1
    assert runs.holds("made-1")
    found = shell.nas("delete", "made-1", "none-1", "--yes")
    assert (found.code, found.out, found.error) == (1, "deleted made-1\n", "run.not-deleted")
    assert "none-1" in found.err
    assert [folder.id for folder in runs.list()] == ["supernet-1"]
    assert shell.nas("delete", "none-1", "--yes").out == ""
    assert shell.nas("delete", "none-1", "--yes", "--json").data["deleted"] == []


def test_the_status_of_some_runs_is_listed(shell: Shell, service: Service) -> None:
    runs = service.settings.runs
    searched(runs)
    trained(runs)
    shell.nas("label", "made-1", "--add", "paper", "--server", os.environ["NAS_SERVER"])
    assert [row["run"] for row in shell.nas("status", "--tag", "paper", "--json").data] == ["made-1"]
    assert len(shell.nas("status", "--data", "digits", "--json").data) == 2
    assert "lists all" in shell.nas("status", "--by", "ada").out
    assert "select from all runs" in shell.nas("status", "made-1", "--tag", "paper").err


def test_a_run_is_fetched_as_one_archive(shell: Shell, service: Service) -> None:
    searched(service.settings.runs)
    assert shell.nas("fetch", "made-1", "--archive").out == "wrote made-1.zip\n"
    with zipfile.ZipFile(shell.folder / "made-1.zip") as archive:
        assert "made-1/front.csv" in archive.namelist()
    assert shell.nas("fetch", "made-1", "--archive").error == "file.exists"
    assert shell.nas("fetch", "made-1", "--archive", "-o", "b/run.zip", "--json").data["path"] == "b/run.zip"
    assert "--archive downloads what the server has" in shell.nas("fetch", "made-1", "--archive", "--index", "0").err
    assert not list(shell.folder.rglob("*.part"))
