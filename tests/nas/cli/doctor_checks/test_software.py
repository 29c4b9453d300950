"""Missing and outdated packages are named with the command that installs them."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

from nas.cli.doctor_checks import software
from nas.cli.doctor_checks.finding import State

REQUIRES = [
    "numpy>=2.0",
    "torch>=2.6",
    "colorama>=1; sys_platform == 'win32'",
    "psycopg[binary]>=3.2; extra == 'postgres'",
    'torchvision>=0.21; extra == "download"',
    "pytest>=8; extra == 'dev'",
]


def installed(**versions: str) -> Callable[[str], str]:
    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    return version


def test_required_packages_are_installed() -> None:
    (found,) = software.packages(REQUIRES, installed(numpy="2.3.1", torch="2.6.0+cpu"))
    assert (found.check, found.state) == ("packages", State.OK)
    assert found.observation.endswith("with 2 required packages")


def test_missing_and_outdated_packages_are_named_with_the_command() -> None:
    (found,) = software.packages(REQUIRES, installed(numpy="1.26.4", pytest="1.0"))
    assert found.state is State.WRONG
    assert found.observation == "numpy 1.26.4 is not >=2.0, torch is missing"
    assert found.remedy == "pip install --upgrade 'numpy>=2.0' 'torch>=2.6'"


def test_an_extra_that_is_installed_is_checked() -> None:
    _, found = software.packages(REQUIRES, installed(numpy="2.0", torch="2.6", psycopg="3.1"))
    assert (found.check, found.state, found.observation) == ("extra postgres", State.WRONG, "psycopg 3.1 is not >=3.2")


def test_an_extra_of_which_other_packages_bring_a_part_is_not_installed() -> None:
    requires = [
        *REQUIRES,
        "jinja2>=3; extra == 'service'",
        "fastapi; extra == 'service'",
        "subnet-nas[ray]; extra == 'all'",
    ]
    (found,) = software.packages(
        requires, installed(**{"numpy": "2.0", "torch": "2.6", "jinja2": "3.1", "subnet-nas": "1"})
    )
    assert found.state is State.OK


def test_this_installation_is_complete() -> None:
    assert {f.state for f in software.packages()} == {State.OK}
    assert software.packages()[0].observation.startswith(f"subnet-nas {version('subnet-nas')}")


def test_a_folder_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "DISTRIBUTION", "no-such-distribution")
    (found,) = software.packages()
    assert found.state is State.WARNING


@pytest.mark.parametrize(
    ("given", "system", "state"),
    [((3, 11), "Linux", State.OK), ((3, 10), "Linux", State.WRONG), ((3, 12), "Darwin", State.WARNING)],
)
def test_python(given: tuple[int, int], system: str, state: State) -> None:
    assert software.python(given, system).state is state


class TestRay:
    REQUIRES = (
        "click",
        "aiohttp>=3; extra == 'default'",
        "virtualenv!=20; extra == 'default'",
        "gym; extra == 'rllib'",
    )

    def test_with_the_job_server(self) -> None:
        there = installed(ray="2.60.0", aiohttp="3.1", virtualenv="21.0")
        found = software.ray_parts(lambda _: list(self.REQUIRES), there)
        assert (found.state, found.observation) == (State.OK, "ray 2.60.0 with its job server")

    def test_without_the_job_server(self) -> None:
        found = software.ray_parts(lambda _: list(self.REQUIRES), installed(ray="2.60.0", aiohttp="3.1"))
        assert (found.state, found.remedy) == (State.WRONG, "pip install --upgrade 'ray[default]'")
        assert "(virtualenv)" in found.observation

    def test_without_ray(self) -> None:
        def requires(name: str) -> list[str]:
            raise PackageNotFoundError(name)

        found = software.ray_parts(requires, installed())
        assert found.state is State.OK
        assert "pip install 'subnet-nas[ray]'" in found.observation

    def test_as_installed(self) -> None:
        assert software.ray_parts().observation.startswith(f"ray {version('ray')} ")


def test_a_torch_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def broken(name: str, *rest: Any) -> Any:
        if name == "torch":
            raise OSError("libcudart.so.13: cannot open shared object file\nmore")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(builtins, "__import__", broken)
    found = software.torch()
    assert (found.state, found.observation) == (
        State.WRONG, "cannot be loaded: libcudart.so.13: cannot open shared object file",
    )  # fmt: skip


def test_torch_as_installed() -> None:
    assert software.torch().observation.startswith(f"torch {version('torch')}")
