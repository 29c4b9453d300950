"""The scripts that are written beside exports: modules of this project, made to stand alone."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from typing import Any

from supernets.data.preprocessing import BlockFormat, Format, ImageFormat, RowFormat, TextFormat
from supernets.data.targets import BOXES, CLASSES, MASKS

_PROJECT = ("nas", "supernets")
_SCRIPTS = "nas.results.export.scripts"


def script_of(format: Format, targets: str = CLASSES, *, in_transformers: bool = False) -> bytes:
    """The script beside a network of inputs of a format.

    It finds the network's files by its own name: ``NAME.predict.py`` runs ``NAME.onnx``, or the cascade that ``NAME.json``
    describes, and ``predict.py`` runs the folder of the transformers library that it is in.

    Args:
        format: Format of the inputs.
        targets: Kind of the labels, see `supernets.data.targets`.
        in_transformers: True if the network is in a folder of the transformers library.
    """
    match format:
        case ImageFormat():
            name = {BOXES: "objects", MASKS: "class_maps"}.get(targets, "images")
        case TextFormat():
            name = "sentences"
        case RowFormat():
            name = "rows"
        case BlockFormat():
            name = "texts_in_transformers" if in_transformers else "texts"
    return standalone(f"{_SCRIPTS}.{name}").encode()


def standalone(name: str) -> str:
    """The source of a module, in which what it imports from this project stands in place of these imports."""
    imports: dict[str, set[str]] = {"__future__": {"annotations"}}
    definitions = _definitions(name, None, imports)
    lines = [
        f"from {module} import {', '.join(sorted(names))}" if names else f"import {module}"
        for module, names in sorted(imports.items(), key=lambda entry: (bool(entry[1]), entry[0]))
    ]
    lines.sort(key=lambda line: "__future__" not in line)  # which Python expects first
    docstring = ast.get_docstring(ast.parse(_source_of(name)))
    return "\n\n\n".join([f'"""{docstring}\n"""\n\n' + "\n".join(lines), *dict.fromkeys(definitions)]) + "\n"


def _definitions(module: str, names: set[str] | None, imports: dict[str, set[str]]) -> list[str]:
    """The sources of some definitions of a module (None: all), after those that they need from modules of this project.

    Args:
        imports: Gets the names that the definitions need from other packages, by module; no names for a module itself.
    """
    source = _source_of(module)
    body = ast.parse(source).body[1:]  # without the docstring
    imported = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    defined = [node for node in body if node not in imported and not isinstance(node, ast.Expr)]
    needed = set(names or ())
    while True:  # until no definition needs another one of the module
        chosen = [node for node in defined if names is None or _names_of(node) & needed]
        used = {part.id for node in chosen for part in ast.walk(node) if isinstance(part, ast.Name)}
        if used <= needed:
            break
        needed |= used
    definitions = []
    for node in imported:
        aliases = {alias.name for alias in node.names if (alias.asname or alias.name) in used}
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name) in used:
                    imports[alias.name if alias.asname is None else f"{alias.name} as {alias.asname}"] = set()
        elif aliases and (node.module or "").partition(".")[0] in _PROJECT:
            definitions += _definitions(str(node.module), aliases, imports)
        elif aliases:
            imports.setdefault(str(node.module), set()).update(aliases)
    return definitions + [ast.get_source_segment(source, node) or "" for node in chosen]


def _names_of(node: ast.stmt) -> set[str]:
    """The names that a statement of a module defines."""
    targets = node.targets if isinstance(node, ast.Assign) else [node]
    return {str(getattr(target, "name", getattr(target, "id", ""))) for target in targets}


def _source_of(module: str) -> str:
    """The source of a module, which is not imported: it may need what is not installed here."""
    spec: Any = find_spec(module)
    return str(spec.loader.get_source(module))
