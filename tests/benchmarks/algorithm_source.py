"""Digest of the source that an algorithm's results depend on: its definitions, and the versions of its libraries."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

from nas.search.algorithms import ALGORITHMS
from predictors.registry import PREDICTORS

_OWN = ("nas.search", "predictors")
"""Packages whose modules affect an algorithm's proposals."""


@cache
def source_digest(algorithm: str) -> str:
    """A digest of all definitions of this project that an algorithm uses, without comments, docstrings and other definitions.

    It includes the versions of the other libraries that they import. Of a plug-in, ``module:Class``, a digest of its module
    and of what its class method ``versions`` returns, if it has one.

    Raises:
        KeyError: the algorithm is unknown.
    """
    if ":" in algorithm:
        return _plugin_digest(algorithm)
    label, _, predictor = algorithm.partition("+")
    entry = ALGORITHMS[label] if not predictor else ALGORITHMS[label].predicted
    if entry is None:
        raise KeyError(algorithm)
    paths = [f"nas.search.{entry.path}", *([f"predictors.{PREDICTORS[predictor]}"] if predictor else [])]
    reached = [_reached(*path.split(":")) for path in paths]
    parts, libraries = [part for each, _ in reached for part in each], set().union(*(names for _, names in reached))
    settings = repr((algorithm, dict(entry.settings), entry.uses))
    return hashlib.sha256("\n".join([settings, *parts, *_versions(libraries)]).encode()).hexdigest()[:16]


def _plugin_digest(name: str) -> str:
    path, _, target = name.partition(":")
    module = import_module(path)
    further: list[str] = getattr(getattr(module, target), "versions", list)()
    return hashlib.sha256("\n".join([name, inspect.getsource(module), *further]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Module:
    """The top level of a file: definitions and imports by name, and the statements that run on import."""

    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, tuple[str, str]]  # by name: a module, and a name in it ("" for the module itself)
    statements: list[ast.stmt]


@cache
def _module(name: str) -> _Module:
    found = _Module({}, {}, [])
    for node in _tree(_file(name)).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.imports.update(_imported(node))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.definitions.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name):
                        found.definitions.setdefault(part.id, []).append(node)
        else:
            found.statements.append(node)
    return found


def _reached(module: str, name: str) -> tuple[list[str], set[str]]:
    """The syntax of all definitions that one depends on, and the modules of other libraries."""
    parts: dict[tuple[str, str], str] = {}
    libraries: set[str] = set()
    wanted = [(module, name)]
    while wanted:
        place = wanted.pop()
        if place in parts:
            continue
        source = _module(place[0])
        definitions = [place[1]] if place[1] else list(source.definitions)
        nodes = [*(node for d in definitions for node in source.definitions.get(d, [])), *source.statements]
        parts[place] = "\n".join(map(ast.dump, nodes))
        handed_on = {source.imports[place[1]]} if place[1] in source.imports else set()
        for found, what in handed_on.union(*(_references(place[0], node) for node in nodes)):
            if not found.startswith(_OWN):
                libraries.add(found.partition(".")[0])
            elif what and _is_module(f"{found}.{what}"):
                wanted.append((f"{found}.{what}", ""))
            else:
                wanted.append((found, what))
    return [f"{'.'.join(place)}\n{parts[place]}" for place in sorted(parts)], libraries


def _references(module: str, node: ast.stmt) -> set[tuple[str, str]]:
    """The definitions of the names in a statement, in this module or others, its own imports included."""
    source = _module(module)
    local: dict[str, tuple[str, str]] = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Import | ast.ImportFrom):
            local.update(_imported(part))
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    known = {**source.imports, **local}
    found = {known[name] for name in names if name in known} | set(local.values())
    return found | {(module, name) for name in names if name in source.definitions and name not in local}


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str]]:
    if isinstance(node, ast.Import):
        own = [alias.name for alias in node.names if alias.name.startswith(_OWN)]
        if own:
            raise ValueError(f"import {own[0]} is not followed; write from ... import ...")
        return {alias.asname or alias.name: (alias.name, "") for alias in node.names}
    if node.level or node.module is None:
        raise ValueError("relative imports are not followed")
    return {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}


def _tree(file: Path) -> ast.Module:
    """The syntax tree without docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _file(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(f"{name} has no file")
    return Path(spec.origin)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the part before the last dot is not a package
        return False


def _versions(libraries: set[str]) -> list[str]:
    """``numpy 2.1.0``, ... of the distributions that the libraries come from."""
    own = {"nas", "supernets"}
    found = {d for top in libraries - own - set(sys.stdlib_module_names) for d in _distributions().get(top, ())}
    return sorted(f"{distribution} {version(distribution)}" for distribution in found)


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: sorted(set(found)) for name, found in packages_distributions().items()}
