"""What several rooms' tests share: a supernet that was really trained, once a run of the tests."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
import torch
import typer.main
from filelock import FileLock
from hypothesis import HealthCheck, settings

from hardware_profiles.measuring.speed_record import FOLDER
from supernets.data import DataSet, Part, head, load_data
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.sharing.base import Supernet
from supernets.training.checkpoint import make_supernet
from supernets.training.strategies.single_phase import SandwichStrategy
from supernets.training.trainer import train
from supernets.training.training_loop import TrainingSettings
from tests.nas.short_rounds import take_short_rounds, take_true_rounds
from tests.plugin_packages import PluginPackages
from tests.postgres_server import Server, binaries, running_server

torch.set_num_threads(1)
gc.disable()  # until all tests are imported, none of which becomes garbage
# Typer builds all commands anew for each call of one, which takes longer than most calls.
typer.main.get_command = cache(typer.main.get_command)
# How long an example takes, or to make it, says how busy the machine is.
settings.register_profile(
    "in its own time", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("in its own time")


_STATUS = pytest.StashKey[int]()
_ALL_SLOW = re.compile(r"^pytestmark = .*\bmark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Passes over files that have none of the tests that ``-m`` asks for: to import all takes each process a minute."""
    wanted: str = config.option.markexpr
    if not fnmatch(collection_path.name, "test_*.py") or not re.fullmatch(r"(not )?\w+( and (not )?\w+)*", wanted):
        return None
    text, parts = collection_path.read_text(encoding="utf-8"), wanted.split(" and ")
    lacks_one = any(f"mark.{part}" not in text for part in parts if " " not in part)
    return True if lacks_one or ("not slow" in parts and _ALL_SLOW.search(text)) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Excludes modules and tests from garbage collection, a pass over which takes half a second, twice in each export."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[_STATUS] = int(session.exitstatus)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Ends a process that has loaded Ray at once, after all reports: one has crashed at its end, with all tests passed.

    Ray ends its workers in this way, too. Processes of commands, whose ends are tested, end by themselves.
    """

    def end() -> None:
        if "ray" in sys.modules and _STATUS in config.stash and not hasattr(config, "workerinput"):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(config.stash[_STATUS])

    config.add_cleanup(end)  # the first to be added is the last to run


@dataclass(frozen=True)
class Trained:
    """A supernet trained on the digits, with its checkpoint."""

    supernet: Supernet
    data: DataSet
    checkpoint: Path
    settings: TrainingSettings
    digest: str

    @property
    def calibration(self) -> torch.Tensor:
        return head(self.data.train, 500).inputs


def digits_family(data: DataSet) -> MobileCNNFamily:
    return MobileCNNFamily(
        MOBILE_CNN["digits"], image_size=data.images.image_size, channels=data.images.channels, n_classes=data.n_classes
    )


def with_ink(data: DataSet) -> DataSet:
    """Images with the mean of their pixels in place of their class: numbers, for regression."""
    parts = (Part.of(part.inputs, part.inputs.flatten(1).mean(1)) for part in (data.train, data.validation, data.test))
    return DataSet(data.name, *parts, (), data.format, targets="numbers")


@pytest.fixture(autouse=True, scope="session")
def own_speeds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the speeds that tests see on a busy machine out of the user's own record."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(FOLDER, str(tmp_path_factory.mktemp("speeds")))
        yield


@pytest.fixture(autouse=True, scope="module")
def short_rounds() -> Iterator[None]:
    """Measures latencies in few short rounds.

    Tests look at what becomes of latencies, and share a machine with others.
    """
    with pytest.MonkeyPatch.context() as patched:
        take_short_rounds(patched)
        yield


@pytest.fixture
def true_rounds(short_rounds: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many rounds, and as long, as users get."""
    take_true_rounds(monkeypatch)


@pytest.fixture(scope="session")
def digits() -> DataSet:
    return load_data("digits")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of this run of the tests; what takes long is made there once, under a `FileLock`."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def trained(digits: DataSet, shared_folder: Path) -> Trained:
    """Six epochs of the digits: a few seconds, and every subnet is far better than chance."""
    torch.manual_seed(0)
    supernet = make_supernet(digits_family(digits))
    settings = TrainingSettings(epochs=6, batch_size=32, calibration_images=500, seed=0)
    folder = shared_folder / "trained" / "checkpoint"
    with FileLock(shared_folder / "trained.lock"):  # whoever comes later finds it trained
        digest = train(supernet, digits, SandwichStrategy(supernet.space), settings, folder)
    return Trained(supernet, digits, folder, settings, digest)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, where one is installed."""
    if binaries() is None:
        pytest.skip("no PostgreSQL server is installed (Debian's package postgresql)")
    with running_server() as server:
        yield server


@pytest.fixture
def plugin_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginPackages]:
    """Installs packages with plug-ins that this test alone sees."""
    (folder := tmp_path / "plug-in packages").mkdir()
    packages = PluginPackages(folder, monkeypatch)
    yield packages
    packages.forget()
