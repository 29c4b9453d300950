"""Files are put in place all or none, checked by their digests, and nowhere but in the folder."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from nas.errors import ServiceError
from nas.service.api.schemas import Export, ExportRequest, FileInfo
from tests.errors import raises
from tests.nas.service.client.answers import Script, Stream, gone, problem

CONTENT = {"model.onnx": b"\x08\x0aonnx" * 5000, "model.json": b"{}"}


def export(*files: FileInfo) -> Export:
    return Export(
        export="e1", run="small-1", status="finished", reason="", submitted=datetime(2025, 1, 1, tzinfo=UTC),
        request=ExportRequest(), files=files, result=None,
    )  # fmt: skip


def info(name: str, content: bytes | None = None) -> FileInfo:
    content = CONTENT[name] if content is None else content
    return FileInfo(name=name, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def serving(**other: httpx.Response) -> Script:
    answers = {name: [lambda c=content: httpx.Response(200, content=c)] for name, content in CONTENT.items()}
    return Script(**{**answers, **{name.replace("_", "."): [lambda r=r: r] for name, r in other.items()}})


def test_files_come_whole_with_their_progress(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    script = serving()
    paths = script.client().fetch(
        export(info("model.onnx"), info("model.json")), tmp_path / "new" / "folder",
        on_progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert paths == tuple(tmp_path / "new" / "folder" / name for name in CONTENT)
    assert {path.name: path.read_bytes() for path in paths} == CONTENT
    size = sum(map(len, CONTENT.values()))
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert script.asked[0].url.path == "/api/v1/runs/small-1/exports/e1/files/model.onnx"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, content=CONTENT["model.onnx"][:-1]),
        httpx.Response(200, content=CONTENT["model.onnx"] + b"x"),
        httpx.Response(200, content=CONTENT["model.onnx"][:-1] + b"y"),
        httpx.Response(200, stream=Stream(CONTENT["model.onnx"][:100], broken=True)),
        problem(404, "unknown file"),
    ],
    ids=["short", "long", "altered", "broken", "missing"],
)
def test_a_corrupt_download_keeps_the_files_of_an_earlier_export(tmp_path: Path, answer: httpx.Response) -> None:
    earlier = exported(tmp_path)
    with pytest.raises(ServiceError) as caught:
        serving(model_onnx=answer).client().fetch(export(info("model.json"), info("model.onnx")), tmp_path)
    assert caught.value.code in {"download.corrupt", "service.unreachable", "service.rejected"}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == earlier


def exported(folder: Path) -> dict[str, str]:
    """The files of an earlier export."""
    manifest = {"format": "subnet-nas/results/export", "files": {"model.onnx": {}}}
    content = {"model.json": json.dumps(manifest), "model.onnx": "earlier"}
    for name, text in content.items():
        (folder / name).write_text(text)
    return content


def test_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    exported(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    serving().client().fetch(export(info("model.json"), info("model.onnx")), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {**CONTENT, "notes.txt": b"mine"}


@pytest.mark.parametrize("own", ["model.onnx", "model.json"])
def test_files_that_no_export_wrote_are_kept(tmp_path: Path, own: str) -> None:
    (tmp_path / own).write_text("mine")
    script = serving()
    with raises("file.exists", own, "-o"):
        script.client().fetch(export(info("model.json"), info("model.onnx")), tmp_path)
    assert script.asked == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {own: "mine"}


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b", ".bashrc", "", "..", "a\\b", "a\nb", "a\0b"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    script = serving()
    with raises("download.corrupt", repr(name)):
        script.client().fetch(export(info("model.json"), info(name, b"")), tmp_path / "to")
    assert script.asked == []
    assert list(tmp_path.iterdir()) == []


def test_an_export_without_files_is_not_fetched(tmp_path: Path) -> None:
    with raises("export.not-finished"):
        serving().client().fetch(export(), tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with raises("file.not-writable", str(tmp_path / "file" / "folder")):
        serving().client().fetch(export(info("model.json")), tmp_path / "file" / "folder")


def test_a_server_that_is_gone(tmp_path: Path) -> None:
    with raises("service.unreachable"):
        Script(**{"model.json": [gone]}).client().fetch(export(info("model.json")), tmp_path)
    assert list(tmp_path.iterdir()) == []
