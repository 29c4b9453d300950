"""Commands about what a server stores, against the real application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.service.api.schemas import ExportRequest
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState, TaskStatus
from tests.nas.commands import Shell
from tests.nas.service.client.served import served
from tests.nas.service.made_runs import Jobs, searched
from tests.nas.service.sent_files import flowers, packed


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
