"""The example package, installed by pip into a folder: used from a job file, from Python and by a server; its own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import nas
from nas.engine.store.folder import RunsFolder
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import load_job
from nas.runs.driver import drive
from nas.service.http.app import create_app
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from tests.errors import raises
from tests.nas.commands import Shell
from tests.nas.service.made_runs import Jobs
from tests.plugin_packages import PluginPackages

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[2] / "examples" / "energy_objective"
API = "http://127.0.0.1:8700"
TARGETS = {
    "estimated-energy": "energy_objective.energy:EstimatedEnergy",
    "neighbours": "energy_objective.search:NeighbourSearch",
    "image-mlp": "energy_objective.mlp:MLPFamily",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as pip installs it."""
    folder = tmp_path_factory.mktemp("built")
    source, packages = folder / "source", folder / "packages"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))  # a build leaves files beside it
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", packages, source], check=True, capture_output=True)
    return packages


@pytest.fixture
def installed(built: Path, plugin_packages: PluginPackages) -> Path:
    """The folder that the package is installed in; this process imports from it."""
    shutil.copytree(built, plugin_packages.folder, dirs_exist_ok=True)
    return plugin_packages.folder


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


def test_a_job_file_names_its_classes_by_short_names(installed: Path, shell: Shell, tmp_path: Path) -> None:
    listed = {one["name"]: one for one in shell.nas("plugins", "--json").data}
    assert {name: one["target"] for name, one in listed.items()} == TARGETS
    assert {(one["package"], one["version"], one["error"]) for one in listed.values()} == {
        ("energy-objective", "0.1.0", "")
    }
    answer = shell.nas("search", EXAMPLE / "job.yaml", "--inline", "--json")
    assert answer.code == 0, answer.err
    run = nas.open_run("energy-1", tmp_path / "runs")
    assert [o.name for o in run.report.objectives] == ["accuracy", "energy_mj"]
    assert all(point.values["energy_mj"] > 0 for point in run.front)
    facts = run.facts
    assert facts is not None
    assert {ref.name: (ref.target, ref.package, ref.version) for ref in facts.plugins} == {
        name: (target, "energy-objective", "0.1.0") for name, target in TARGETS.items()
    }
    assert "mJ" in shell.nas("show", "energy-1").out
    exported = run.export(tmp_path / "energy.onnx")
    assert exported["agreement"] == 1.0
    assert (tmp_path / "energy.onnx").is_file()


def test_python_passes_its_classes(installed: Path, tmp_path: Path) -> None:
    from energy_objective.energy import EstimatedEnergy  # type: ignore[import-not-found]  # installed just now
    from energy_objective.search import NeighbourSearch  # type: ignore[import-not-found]

    job = load_job(EXAMPLE / "job.yaml")
    options = RunOptions(RunsFolder(tmp_path / "runs"), inline=True)
    run = nas.run(job, options, algorithm=NeighbourSearch, metrics={"energy_mj": EstimatedEnergy(dram_pj=0.0)})
    assert run.job.search.algorithm == TARGETS["neighbours"]
    assert all(point.values["energy_mj"] < 1e-3 for point in run.front)


def test_a_server_refuses_its_class_and_then_runs_it_where_it_is_allowed(installed: Path, tmp_path: Path) -> None:
    text = (EXAMPLE / "job.yaml").read_text().replace("algorithm: neighbours", f"algorithm: {TARGETS['neighbours']}")
    runs = RunsFolder(tmp_path / "runs")
    runs.check_writable()
    for allowed in ((), (TARGETS["neighbours"],)):
        settings = ServiceSettings(runs, allowed_plugins=allowed)
        state = ServiceState.open(settings.database)
        try:
            with TestClient(create_app(Service(settings, state, Jobs()), settings), base_url=API) as client:
                answer = client.post("/api/v1/runs", json={"job": text})
        finally:
            state.close()
        if not allowed:
            assert answer.status_code == 422
            assert answer.json()["type"].endswith("#plugin.refused")
    assert answer.status_code == 201, answer.text
    run = drive(answer.json()["run"], RunOptions(runs, inline=True))
    assert run.report.algorithm == TARGETS["neighbours"]
    assert run.front


def test_its_own_tests_pass(installed: Path) -> None:
    path = os.pathsep.join([str(installed), *sys.path])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "tests"]
    done = subprocess.run(command, cwd=EXAMPLE, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_an_export_compares_the_version_of_its_family(installed: Path, tmp_path: Path) -> None:
    run = nas.run(load_job(EXAMPLE / "job.yaml"), RunOptions(RunsFolder(tmp_path / "runs"), inline=True))
    info = installed / "energy_objective-0.1.0.dist-info"
    (info / "METADATA").write_text((info / "METADATA").read_text().replace("Version: 0.1.0", "Version: 0.2.0"))
    info.rename(installed / "energy_objective-0.2.0.dist-info")
    with raises("plugin.version", "energy-objective 0.1.0", "energy-objective 0.2.0"):
        run.export(tmp_path / "refused.onnx")
    assert not (tmp_path / "refused.onnx").exists()
    assert run.export(tmp_path / "accepted.onnx", accept_plugin_versions=True)["agreement"] == 1.0
