"""Without the optional packages, a search ends with a front, and each missing part is named before work is paid for."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from nas.plugins.parts import PARTS, has, install, missing_part, require
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.without_parts import python, run

ROOT = Path(__file__).parents[3]
OPTIONAL = (
    "hardware_profiles.transports.ray_node",
    "nas.engine.evaluation.actors",
    "nas.jobs.evaluation.ray_pool",
    "nas.results.export.optuna_study",
    "nas.results.export.scripts.sentences",
    "nas.results.export.scripts.texts",
    "nas.results.export.scripts.texts_in_transformers",
    "nas.results.plots.matplotlib_charts",
    "nas.results.plots.picture_files",
    "nas.results.plots.plot_files",
    "nas.search.optuna",
    "nas.service.",
    "supernets.families.decoder.modeling_heterogeneous",
)
"""The modules that import optional packages; they are imported where their feature is used."""
IMPORTS = """
import importlib, pkgutil
from tests.without_parts import is_optional, reject
reject()
for package in ("hardware_profiles", "nas", "predictors", "supernets"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.", onerror=lambda name: None):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if not is_optional(error.name):
                    raise
                print(module.name)
"""


def test_every_part_is_an_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(PARTS) <= set(extras)
    (everything,) = extras["all"]
    assert set(everything.partition("[")[2].rstrip("]").split(",")) == set(extras) - {"all", "dev", "docs"}


def test_a_part_that_is_there() -> None:
    assert has("plots")
    require("plots", "this")


def test_a_part_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "plots", ("json", "gone_1", "gone_2"))  # type: ignore[arg-type]  # a dictionary
    assert not has("plots")
    with raises("part.missing", "nas plot", "gone_1 and gone_2", "pip install 'subnet-nas[plots]'"):
        require("plots", "nas plot")


def test_a_failed_import_names_its_part() -> None:
    error = missing_part(ModuleNotFoundError("No module named 'ray.train'", name="ray.train"))
    assert install("ray") in str(error)
    assert missing_part(ModuleNotFoundError("No module named 'mine'", name="mine")) is None


@pytest.mark.slow
def test_only_modules_of_optional_features_import_optional_packages(tmp_path: Path) -> None:
    found = python("-c", IMPORTS, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout
    assert [name for name in found.stdout.split() if not name.startswith(OPTIONAL)] == []


JOBS = {
    "optuna.yaml": SMALL_JOB.replace("algorithm: guided", "algorithm: optuna-tpe"),
    "text.yaml": "name: a\ndata: {name: text-classification, path: .}\nsupernet: {family: encoder, preset: tiny}\n",
    "workers.yaml": SMALL_JOB.replace("algorithm: guided", "workers: 2"),
    "train.yaml": SMALL_JOB.replace("epochs: 4", "epochs: 4, workers: 2"),
    "job.yaml": SMALL_JOB,
}


MISSING = {
    "plan optuna.yaml": "optuna", "search optuna.yaml --inline": "optuna",
    "plan text.yaml": "text", "search workers.yaml": "ray", "train train.yaml": "ray",
    "search job.yaml --address 127.0.0.1:1": "ray", "plot gone-1": "plots", "export-study gone-1": "optuna",
    "profile --sweep job.yaml": "plots", "serve": "service", "search job.yaml --log-to tensorboard:logs": "tensorboard",
    "search job.yaml --log-to mlflow:uri": "mlflow", "bench search table.yaml --plot front.png": "plots",
    "bench search TABLE --maximize accuracy --minimize latency_ms --algorithms random,optuna-tpe": "optuna",
}  # fmt: skip
"""The part that each command lacks."""
COMMANDS = """
import contextlib, io, json, sys
from tests.without_parts import reject
reject()
from nas.cli import main
ends = []
for arguments in json.loads(sys.argv[1]):
    sys.argv, told, code = ["nas", *arguments], io.StringIO(), 0
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    ends.append((code, told.getvalue()))
print(json.dumps(ends))
"""


def test_a_missing_part_is_named_at_once(tmp_path: Path) -> None:
    for name, text in JOBS.items():
        (tmp_path / name).write_text(text)
    table = str(ROOT / "tests/data/digits_cnn.yaml")
    commands = [[table if word == "TABLE" else word for word in command.split()] for command in MISSING]
    made = python("-c", COMMANDS, json.dumps(commands), cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    for (command, part), (code, told) in zip(MISSING.items(), json.loads(made.stdout), strict=True):
        assert code == 1, (command, told)
        (line,) = told.splitlines()
        assert line.startswith("error: "), command
        assert line.endswith(f"; install it with: pip install 'subnet-nas[{part}]'"), command
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


@pytest.mark.slow
def test_a_search_ends_with_a_front_and_says_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        SMALL_JOB.replace("epochs: 4", "epochs: 2").replace("evaluations: 30", "evaluations: 9")
    )
    made = run("search", "job.yaml", "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert found["front"]
    assert found["plots"] == []
    for part in ("ray", "plots"):
        assert install(part) in made.stderr
    assert run("show", found["run"], cwd=tmp_path).returncode == 0
    assert run("export", found["run"], cwd=tmp_path).returncode == 0
    assert list(tmp_path.glob("*.onnx"))
