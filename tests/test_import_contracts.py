"""Each import contract of pyproject.toml fails when a forbidden import is planted; that all hold is checked by `make lint`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nas", "predictors", "supernets", "hardware_profiles")
CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
}

PLANTS = [
    # (contract, file that gets the import, the import)
    ("packages", "predictors/base.py", "import supernets.space"),
    ("packages", "supernets/space/search_space.py", "import hardware_profiles.base"),
    ("packages", "hardware_profiles/base.py", "import nas.errors"),
    ("nas-layers", "nas/jobs/schema/search_job.py", "import nas.runs.driver"),
    ("testing", "nas/search/genes.py", "import nas.plugins.testing.search"),
    ("room-layers", "nas/jobs/schema/metrics.py", "import nas.jobs.build.task"),
    ("config-layers", "nas/jobs/schema/section.py", "import nas.jobs.schema.training"),
    ("nas-layers", "nas/errors.py", "import nas.search.problem.objectives"),
    ("nas-layers", "nas/search/base.py", "import nas.engine.evaluation.base"),
    ("nas-layers", "nas/unlisted_package.py", ""),
    ("supernets-layers", "supernets/errors.py", "import supernets.space"),
    ("supernets-layers", "supernets/families/shared/spec.py", "import supernets.training.strategies"),
    ("families-and-data", "supernets/families/shared/spec.py", "import supernets.data.options"),
    ("hardware-layers", "hardware_profiles/errors.py", "import hardware_profiles.base"),
    ("hardware-layers", "hardware_profiles/measuring/session.py", "import hardware_profiles.profiler_factory"),
    ("torch", "supernets/space/search_space.py", "import torch"),
    ("torch", "nas/jobs/schema/search_job.py", "def late():\n    from torch import nn\n"),
    ("torch", "predictors/base.py", "import torch"),
    ("torch", "hardware_profiles/base.py", "import torch"),
    ("supernets-for-search", "nas/search/base.py", "import supernets.families.registry"),
    ("supernets-for-search", "nas/engine/store/base.py", "import hardware_profiles.base"),
    ("client", "nas/service/client/errors.py", "import fastapi"),
    ("client", "nas/service/api/schemas/common.py", "import nas.engine.store.folder"),
    ("search-layers", "nas/search/ranking.py", "import nas.search.guided.acquisition"),
    ("search-layers", "nas/search/random.py", "import nas.search.local"),
    ("pymoo", "nas/search/base.py", "import pymoo"),
    ("moocore", "nas/search/problem/objectives.py", "import moocore"),
    ("lightgbm", "predictors/base.py", "def late():\n    import lightgbm\n"),
    ("ray", "nas/search/base.py", "import ray"),
    ("tokenizers", "supernets/data/data_sets.py", "import tokenizers"),
    ("ray", "supernets/space/search_space.py", "from ray import train"),
    ("onnxruntime", "nas/jobs/schema/search_job.py", "import onnxruntime"),
    ("optuna", "predictors/base.py", "import optuna"),
    ("loggers", "nas/runs/driver.py", "def late():\n    import mlflow\n"),
    ("loggers", "supernets/training/trainer.py", "import tensorboardX"),
]


def copied(folder: Path) -> Path:
    """A copy of the packages and of the contracts, to plant imports in."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def lint(folder: Path) -> tuple[int, str]:
    """Exit code and output of import-linter in a folder, its lines unwrapped."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={"COLUMNS": "500"})
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each contract, by its identifier, with all imports planted: each is told by a chain of its own."""
    folder = copied(tmp_path_factory.mktemp("planted"))
    for _, file, line in PLANTS:
        with (folder / file).open("a", encoding="utf-8") as handle:
            handle.write(f"\n{line}\n")
    code, output = lint(folder)
    assert code != 0
    _, _, told = output.partition("Broken contracts\n")
    starts = {id_: told.find(f"\n{name}\n") for id_, name in CONTRACTS.items()}
    ends = [*sorted(starts.values()), len(told)]
    return {id_: told[start : ends[ends.index(start) + 1]] if start >= 0 else "" for id_, start in starts.items()}


@pytest.mark.parametrize(("contract", "file", "line"), PLANTS, ids=[f"{c}-{f}" for c, f, _ in PLANTS])
def test_a_planted_import_breaks_its_contract(planted: dict[str, str], contract: str, file: str, line: str) -> None:
    module, words = file.removesuffix(".py").replace("/", "."), line.replace("def late():", "").split()
    found = f"{module} -> {words[1]} (" if line else f"- {module}\n"
    assert found in planted[contract], planted[contract]


def test_every_contract_has_a_plant() -> None:
    assert {contract for contract, _, _ in PLANTS} == set(CONTRACTS)
