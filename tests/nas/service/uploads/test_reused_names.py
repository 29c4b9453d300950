"""Names of uploads that become free and are taken again, by requests at the same time."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from nas.errors import NotAllowedError, RunStateError, UnknownNameError
from nas.service.api.schemas import ProfileUpload
from nas.service.ownership import Thing, ThingKind
from nas.service.people import Caller, Role, acting_as
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import TaskStatus
from nas.service.uploads import captured_models
from tests.nas.service.sent_files import begun_capture, flowers, packed
from tests.nas.service.team import BOB, Team

MIA = Caller("mia", Role.MEMBER)
BOARD = ProfileUpload(profile="{name: board, placement: {hw-none: 1}}")


def test_a_data_set_is_uploaded_while_files_of_a_deleted_one_are_removed(
    team: Team, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, removed = shutil.rmtree, list[str]()

    def remove_slowly(path: Path, **options: Any) -> None:
        if path.parent == settings.trash:
            removed.append(path.name)
            with acting_as(MIA):
                team.service.data_sets.add("flowers", io.BytesIO(packed(flowers(4))))
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove_slowly)
    with acting_as(BOB):
        team.service.data_sets.delete("flowers")
    assert len(removed) == 1
    data_set = team.service.data_sets.get("flowers")
    assert (data_set.owner, data_set.examples, data_set.kind) == ("mia", 8, "image-folder")
    with acting_as(BOB), pytest.raises(NotAllowedError):  # a second request of his, which was checked before
        team.service.data_sets.delete("flowers")
    assert [data_set.name for data_set in team.service.data_sets.list()] == ["flowers"]


@pytest.mark.parametrize(
    ("kind", "name", "add", "delete"),
    [
        (
            ThingKind.MODEL,
            "net",
            lambda service: service.models.add("net", io.BytesIO(begun_capture())),
            lambda service: service.models.delete("net"),
        ),
        (
            ThingKind.PROFILE,
            "board",
            lambda service: service.hardware.add(BOARD),
            lambda service: service.hardware.delete("board"),
        ),
    ],
)
def test_an_upload_keeps_its_owner_while_another_of_its_name_is_deleted(
    team: Team,
    monkeypatch: pytest.MonkeyPatch,
    kind: ThingKind,
    name: str,
    add: Callable[[Service], object],
    delete: Callable[[Service], object],
) -> None:
    service = team.service
    service.state.change_task("measurement-0", TaskStatus.FINISHED)
    set_owner = service.state.set_owner

    def add_as_mia() -> None:
        with acting_as(MIA):
            add(service)

    upload = Thread(target=add_as_mia)

    def forget_late(kind: str, name: str, owner: str | None) -> None:
        if owner is None:
            upload.start()
            upload.join(0.3)  # it waits for the end of the deletion
        set_owner(kind, name, owner)

    monkeypatch.setattr(service.state, "set_owner", forget_late)
    with acting_as(BOB):
        delete(service)
    upload.join()
    assert service.owners.owner(Thing(kind, name)) == "mia"
    with acting_as(BOB), pytest.raises(NotAllowedError):
        delete(service)


def test_measurements_are_deleted_with_their_profile(team: Team) -> None:
    assert team.send("bob", "DELETE", "/profiles/board") == 409  # one waits
    team.service.state.change_task("measurement-0", TaskStatus.FINISHED, result={"latency": {}})
    assert team.send("bob", "DELETE", "/profiles/board") == 204
    with acting_as(MIA):
        team.service.hardware.add(BOARD)
    assert team.service.state.task("measurement-0") is None
    assert team.send("mia", "GET", "/profiles/board/measurements/measurement-0") == 404


def test_a_profile_that_is_deleted_while_a_model_is_stored_measures_nothing(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = team.service
    service.state.change_task("measurement-0", TaskStatus.FINISHED)

    def store(*_: object) -> Path:
        service.hardware.delete("board")
        return Path("model.onnx")

    monkeypatch.setattr("nas.service.hardware.keep_model", store)
    monkeypatch.setattr(service.hardware, "_nodes", lambda: None)
    with acting_as(BOB), pytest.raises(UnknownNameError):
        service.hardware.measure("board", io.BytesIO())
    assert service.state.tasks("board") == []


def test_captured_and_pretrained_models_share_their_names(
    service: Service, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*_: object) -> dict[str, object]:
        service.models.add("net", io.BytesIO(begun_capture()))
        return {"family": "vit", "parameters": 1}

    monkeypatch.setattr(captured_models, "check_content", check)
    folder = packed({"config.json": b"{}", "model.safetensors": b"weights"})
    with pytest.raises(RunStateError, match="there is a model 'net' already"):
        service.models.add("net", io.BytesIO(folder))
    assert [(model.name, model.kind) for model in service.models.list()] == [("net", "captured")]
    assert [path.name for path in settings.captured_models.iterdir()] == ["net.capture"]
