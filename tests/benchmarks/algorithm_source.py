"""What an algorithm's results depend on: the code that it is made of, and the versions of the libraries that it imports."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nas.search.shelf import ALGORITHMS

_OWN = ("nas.search", "predictors")
"""Packages whose modules decide what is asked."""
_SHELF = "nas.search.shelf"
"""It changes whenever an algorithm is added; of it, only the one function that makes the algorithm counts."""


@cache
def source_digest(algorithm: str) -> str:
    """Changes with the code of an algorithm and of all that it imports of this project, not with comments or docstrings.

    The versions of other libraries are part of it.

    Raises:
        KeyError: there is no such algorithm, or it is not made by a function of the shelf.
    """
    factory = ALGORITHMS[algorithm]
    trees = {"": _tree(_factory_source(factory))}
    names = {name for name in _imports(trees[""], "") if name != _SHELF}
    while new := [name for name in names if name.startswith(_OWN) and name not in trees and _file(name) is not None]:
        for name in new:
            trees[name] = _tree(str(_source(name)))
            names |= {found for found in _imports(trees[name], name) if found != _SHELF}
    parts = [f"{name}\n{ast.dump(tree)}" for name, tree in sorted(trees.items())]
    return hashlib.sha256("\n".join([algorithm, *parts, *_versions(names)]).encode()).hexdigest()[:16]


def _factory_source(factory: Callable[..., Any]) -> str:
    """The text of the shelf's function that makes the algorithm (or makes what does, and of what), and of those it calls."""
    tree = ast.parse(inspect.getsource(sys.modules[_SHELF]))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    wanted = [factory.__qualname__.partition(".")[0]]
    found: dict[str, str] = {"": repr([cell.cell_contents for cell in factory.__closure__ or ()])}
    while wanted:
        node = functions[wanted.pop()]
        found[node.name] = ast.unparse(node)
        called = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        wanted += [name for name in sorted(called) if name in functions and name not in found]
    return "\n".join(found[name] for name in sorted(found))


def _tree(source: str) -> ast.Module:
    """The syntax without docstrings; comments are not part of it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(tree: ast.Module, module: str) -> set[str]:
    """Names of the modules that are imported, wherever in the file; of ``from package import name`` both readings."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{module}: relative imports are not followed")
            base = node.module or ""
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names if base.startswith(_OWN)}
    return found


def _file(name: str) -> Path | None:
    """The file of a module; None where the name is no module, but something in one."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _source(name: str) -> str:
    file = _file(name)
    return "" if file is None else file.read_text(encoding="utf-8")


def _versions(names: set[str]) -> list[str]:
    """``numpy 2.1.0``, ... of the distributions that the imports come from."""
    tops = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    distributions = _distributions()
    own = {"nas", "predictors", "supernets", ""}
    return sorted(f"{d} {version(d)}" for top in tops - own for d in distributions.get(top, ()))


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: sorted(set(found)) for name, found in packages_distributions().items()}
