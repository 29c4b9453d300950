"""The page of stored things in Chromium: data sets are deleted, and tasks cancelled, by its buttons."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.service.api.schemas import ExportRequest, ProfileUpload
from tests.nas.service.made_runs import searched
from tests.nas.service.pages import axe
from tests.nas.service.pages.chromium import Chromium, running_chromium
from tests.nas.service.pages.running import Server, running_server
from tests.nas.service.sent_files import begun_capture, flowers, packed

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(RunsFolder(tmp_path / "runs")) as made:
        yield made


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with running_chromium(tmp_path_factory.mktemp("downloads")) as browser:
        yield browser


def test_what_is_stored_is_deleted_and_tasks_are_cancelled(chromium: Chromium, server: Server) -> None:
    service = server.service
    service.data_sets.add("flowers", io.BytesIO(packed(flowers())))
    service.models.add("net", io.BytesIO(begun_capture()))
    service.hardware.add(ProfileUpload(profile="{name: board, placement: {hw-none: 1}}"))
    export = service.exports.request(searched(server.runs).id, ExportRequest()).export
    chromium.open(f"{server.url}/storage")
    for width in (1280, 375):
        chromium.look(width=width)
        assert chromium.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth") == 0
        scrolled = "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
        assert chromium.run(scrolled) == 0  # the buttons are in sight
        assert not axe.found(chromium)["grave"]
    chromium.look()
    chromium.click("#data button[data-method=DELETE]")
    assert chromium.text("#ask-remove [data-name]") == "flowers"
    chromium.find("#ask-remove button[value='']").click()
    assert [found.name for found in service.data_sets.list()] == ["flowers"]
    for part in ("#data", "#models", "#profiles"):
        chromium.click(f"{part} button[data-method=DELETE]")
        chromium.find("#ask-remove button[value=yes]").click()
        chromium.until(lambda part=part: chromium.all(f"{part} .empty") and not chromium.all("dialog[open]"))
    assert service.data_sets.list() == ()
    assert service.models.list() == ()
    assert all(profile.shipped for profile in service.hardware.list())
    chromium.click("#tasks button[data-method=POST]")
    chromium.until(lambda: "is being cancelled" in chromium.text("#tasks"))
    (task,) = service.state.tasks()
    assert (task.task, task.cancelled) == (export, True)
    assert not chromium.complaints()
