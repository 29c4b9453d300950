"""Files and folders that clients send: packed without clutter, and reported while they are sent."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from nas.service.client.uploads import opened_upload
from supernets.networks.formats.pretrained import is_of_pretrained
from tests.errors import raises


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 1000)


def test_a_folder_is_packed_without_what_systems_add(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write(folder, "cat/1.png", "dog/2.png", "labels.csv", ".git/config", "cat/.DS_Store", "Thumbs.db", "__MACOSX/x")
    phases: list[tuple[str, int, int]] = []
    with opened_upload(folder, on_progress=lambda *progress: phases.append(progress)) as (name, content):
        archive = zipfile.ZipFile(io.BytesIO(content.read()))
    assert name == "photos.zip"
    assert archive.namelist() == ["cat/1.png", "dog/2.png", "labels.csv"]
    assert archive.read("cat/1.png") == b"cat/1.png" * 1000
    methods = {info.filename: info.compress_type for info in archive.infolist()}
    assert (methods["cat/1.png"], methods["labels.csv"]) == (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    packing = [done for phase, done, _ in phases if phase == "packing"]
    assert packing == [9000, 18000, 28000]
    assert phases[-1][:2] == ("uploading", phases[-1][2])


def test_of_a_pretrained_network_only_what_is_read_is_packed(tmp_path: Path) -> None:
    write(tmp_path, "config.json", "model.safetensors", "pytorch_model.bin", "README.md", "onnx/model.onnx")
    with opened_upload(tmp_path, chooses=is_of_pretrained) as (_, content):
        assert zipfile.ZipFile(io.BytesIO(content.read())).namelist() == ["config.json", "model.safetensors"]


def test_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, "t.csv")
    done = []
    with opened_upload(tmp_path / "t.csv", on_progress=lambda phase, n, total: done.append((n, total))) as (
        name,
        content,
    ):
        assert (name, content.read(10), content.read()) == ("t.csv", b"t.csvt.csv", b"t.csv" * 998)
    assert done[0] == (10, 5000)
    assert done[-1] == (5000, 5000)


def test_what_cannot_be_sent_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("nothing.csv", "empty", "pipe"):
        with raises("service.unavailable", name), opened_upload(tmp_path / name):
            pytest.fail("it was opened")
