"""The scripts of exports are whole: they define or import all that they use, and nothing of this project."""

from __future__ import annotations

import ast
import builtins
import inspect

import pytest

from nas.results.export.export_scripts import standalone
from supernets.data import preprocessing


@pytest.mark.parametrize("name", ["images", "sentences", "rows", "texts", "texts_in_transformers"])
def test_a_script_defines_or_imports_all_that_it_uses(name: str) -> None:
    tree = ast.parse(standalone(f"nas.results.export.scripts.{name}"))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)} | {"__file__", "__doc__", "__name__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert not (getattr(node, "module", None) or node.names[0].name).startswith(("nas", "supernets"))
            bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    assert {node.id for node in names} - bound - set(dir(builtins)) == set()


def test_a_script_preprocesses_by_the_functions_of_the_training() -> None:
    text = standalone("nas.results.export.scripts.images")
    for function in (preprocessing.decode, preprocessing.square, preprocessing.centre, preprocessing.normalised):
        assert inspect.getsource(function).rstrip() in text
