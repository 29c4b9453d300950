"""`nas submit --from RUN --set KEY=VALUE` against the real application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nas.engine.store.folder import RunsFolder
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from tests.nas.commands import SMALL_JOB, Shell
from tests.nas.service.client.served import served
from tests.nas.service.made_runs import Jobs, trained


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    settings = ServiceSettings(RunsFolder(tmp_path / "runs"))
    settings.runs.check_writable()
    state = ServiceState.open(settings.database)
    yield Service(settings, state, Jobs())
    state.close()


@pytest.fixture(autouse=True)
def server(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with served(service) as url:
        monkeypatch.setenv("NAS_SERVER", url)
        yield


def test_a_run_is_submitted_again_with_other_values(shell: Shell, service: Service) -> None:
    first = shell.nas("submit", shell.job("# mine\n" + SMALL_JOB), "--json").data["run"]
    sets = ("--set", "search.evaluations=8", "--set", "hardware=[cpu-1-thread, cpu-2-threads]", "--set", "seed=null")
    made = shell.nas("submit", "--from", first, *sets, "--json").data
    text = service.runs.detail(made["run"]).job
    assert text.startswith("# mine\n")
    job = yaml.safe_load(text)
    assert (job["search"]["evaluations"], job["hardware"]) == (8, ["cpu-1-thread", "cpu-2-threads"])
    assert "seed" not in job
    assert made["evaluations_wanted"] == 8
    unchanged = shell.nas("submit", "--from", first, "--json").data["run"]
    assert service.runs.detail(unchanged).job == service.runs.detail(first).job


def test_the_kind_is_that_of_the_run_unless_another_is_given(shell: Shell, service: Service) -> None:
    run = trained(service.settings.runs).id
    assert shell.nas("submit", "--from", run, "--json").data["kind"] == "training"
    assert shell.nas("submit", "--from", run, "--kind", "search", "--json").data["kind"] == "search"


def test_what_is_wrong_is_said(shell: Shell) -> None:
    job = shell.job()
    assert "either a job file, or a run" in shell.nas("submit").err
    assert "either a job file, or a run" in shell.nas("submit", job, "--from", "small-1").err
    assert "expected KEY=VALUE" in shell.nas("submit", job, "--set", "search.evaluations").err
    assert shell.nas("submit", "--from", "small-9").code == 1
    wrong = shell.nas("submit", job, "--set", "search.evaluations=many")
    assert wrong.code == 1
    assert "search.evaluations" in wrong.err
