"""The names that the packages export: complete, typed, loaded when first used, and shown in their READMEs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, read

PACKAGES = ["nas", "supernets", "predictors", "hardware_profiles"]
LIBRARIES = PACKAGES[1:]
ROOMS = sorted(
    ".".join(path.relative_to(ROOT).parts[:-1]) for name in PACKAGES for path in (ROOT / name).rglob("*.pyi")
)
"""All packages whose names are imported when they are first used."""


def tree_of(package: str) -> ast.Module:
    return ast.parse(Path(ROOT, package, "__init__.py").read_text())


@pytest.mark.parametrize("package", ROOMS)
def test_every_name_is_typed_listed_and_found(package: str) -> None:
    module = import_module(package)
    stub = ast.parse(Path(ROOT, *package.split("."), "__init__.pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(stub.body)
    typed = [(f"{package}.{node.module}", alias.name) for node in imports for alias in node.names]
    assert sorted(module.__all__) == sorted(name for _, name in typed)
    assert dir(module) == sorted(module.__all__)
    for home, name in typed:
        assert getattr(module, name) is getattr(import_module(home), name)
        # Another module of this name would take the name's place; lazy_loader guards a name from its own module.
        assert home == f"{package}.{name}" or f"{package}.{name}" not in sys.modules
    with pytest.raises(AttributeError, match="absent"):
        _ = module.absent


@pytest.mark.parametrize("package", LIBRARIES)
def test_the_docstring_has_the_first_example_of_the_readme(package: str) -> None:
    first = next(block for block in read(ROOT / package / "README.md").blocks if block.language == "python")
    documented = ast.get_docstring(tree_of(package)) or ""
    example = documented.split("\n", 2)[2].strip()
    assert first.text.startswith(example)
    assert len([line for line in example.splitlines() if line]) <= 11


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import supernets; supernets.SearchSpace, supernets.MOBILE_CNN, supernets.SharingSpec", ["torch", "onnx"]),
        (
            "import predictors; predictors.FeatureLayout, predictors.Prediction",
            ["sklearn", "lightgbm", "scipy", "torch"],
        ),
        ("import hardware_profiles; hardware_profiles.load_profile", ["onnx", "onnxruntime", "torch", "ray"]),
        (
            "import nas; nas.SearchSpace, nas.Objective, nas.SearchAlgorithm, nas.RayWorkers",
            ["torch", "ray", "sqlalchemy"],
        ),
        ("import nas.engine as e; e.StoredRun, e.run_rows, e.is_held, e.ConsoleProgress", ["torch", "ray"]),
        ("import nas.jobs as j; j.check_references, j.fill_recipe, j.parse_mapping, j.stored_job", ["torch", "ray"]),
        ("import nas.results as r; r.show_json, r.choose, r.insight_json", ["torch", "matplotlib"]),
        ("import nas.service as s; s.NasClient", ["torch", "sqlalchemy", "fastapi", "ray"]),
    ],
)
def test_what_is_light_loads_nothing_heavy(code: str, absent: list[str]) -> None:
    program = f"import sys; {code}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
