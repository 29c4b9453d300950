"""A service over a runs folder with small runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from nas.store.folder import RunsFolder
from tests.nas.service.made_runs import Jobs


@pytest.fixture
def runs(tmp_path: Path) -> RunsFolder:
    return RunsFolder(tmp_path / "runs")


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def service(runs: RunsFolder, jobs: Jobs) -> Iterator[Service]:
    runs.check_writable()
    settings = ServiceSettings(runs)
    state = ServiceState.open(settings.database)
    yield Service(settings, state, jobs)
    state.close()
