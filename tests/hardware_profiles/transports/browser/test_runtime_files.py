"""The files of ONNX Runtime Web: nothing but the expected archive is installed."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from hardware_profiles.errors import ProfileError
from hardware_profiles.transports.browser import runtime_files
from hardware_profiles.transports.browser.runtime_files import FILES, FOLDER, install, installed_folder


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive with the files of the runtime, whose contents are their names; its digest is the expected one."""
    path = tmp_path / "runtime.tgz"
    with tarfile.open(path, "w:gz") as files:
        for name in (*FILES, "ort.all.js"):
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            files.addfile(entry, io.BytesIO(name.encode()))
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(runtime_files, "_INTEGRITY", digest)
    monkeypatch.setenv(FOLDER, str(tmp_path / "files"))
    return path


def test_the_needed_files_of_the_expected_archive_are_installed(archive: Path) -> None:
    with pytest.raises(ProfileError, match=r"has no ort\.wasm\.min\.js"):
        installed_folder()
    folder = install(archive)
    assert {file.name: file.read_text() for file in folder.iterdir()} == {name: name for name in FILES}
    assert installed_folder() == folder


def test_another_archive_is_rejected(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(ProfileError, match="SHA-512") as caught:
        install(archive)
    assert caught.value.code == "profile.browser-download"
    assert not runtime_files.folder().exists()


def test_without_network_the_error_says_how_to_bring_the_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(runtime_files.shutil, "which", lambda _: None)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ProfileError, match=r"no route.*npm pack onnxruntime-web@"):
        install()
