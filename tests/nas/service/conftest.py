"""A service over a runs folder with small runs, and a client of its application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from nas.engine.store.folder import RunsFolder
from nas.service.http.app import create_app
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from tests.nas.service.made_runs import Jobs
from tests.nas.service.team import Team, serving_a_team

HERE = "http://127.0.0.1:8700"


@pytest.fixture
def runs(tmp_path: Path) -> RunsFolder:
    return RunsFolder(tmp_path / "runs")


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def settings(runs: RunsFolder) -> ServiceSettings:
    return ServiceSettings(runs)


@pytest.fixture
def service(settings: ServiceSettings, jobs: Jobs) -> Iterator[Service]:
    settings.runs.check_writable()
    state = ServiceState.open(settings.database)
    yield Service(settings, state, jobs)
    state.close()


@pytest.fixture
def client(service: Service, settings: ServiceSettings) -> Iterator[TestClient]:
    """As a program on this machine asks: neither a browser, nor with a token."""
    with TestClient(create_app(service, settings), base_url=HERE, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def team(service: Service, settings: ServiceSettings) -> Iterator[Team]:
    """As people of each role ask, each with a token."""
    with serving_a_team(service, settings) as team:
        yield team
