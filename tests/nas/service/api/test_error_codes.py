"""Every error code that the code raises is described, and every description is of a code that is raised."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from nas.plugins import Kind
from nas.service.api.error_codes import DESCRIPTIONS
from nas.service.artifacts import Artifacts
from nas.service.exports import Exports
from nas.service.state import TaskKind

ROOT = Path(__file__).resolve().parents[4]
PACKAGES = ("nas", "predictors", "supernets", "hardware_profiles")
_CODE = re.compile(r"[a-z][a-z0-9-]*\.[a-z][a-z0-9-]*")


def raised_codes() -> set[str]:
    """Codes in the source: defaults of classes, ``code=`` arguments, pairs of a code and a text, and kinds of unknown names."""
    found: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Assign(targets=[ast.Name(id="code")], value=value) | ast.keyword(arg="code", value=value):
                        constants = (part.value for part in ast.walk(value) if isinstance(part, ast.Constant))
                        found.update(constant for constant in constants if isinstance(constant, str))
                    case ast.Return(value=ast.Tuple(elts=[ast.Constant(value=str(code)), _])):
                        found.add(code)
                    case ast.Call(func=ast.Name(id="UnknownNameError"), args=[ast.Constant(value=str(kind)), *_]):
                        found.add(f"{kind.replace(' ', '-')}.unknown")
    found |= {f"{kind}.unknown" for kind in (TaskKind.MEASUREMENT, TaskKind.PLAN)}  # `TaskRequests.get` raises them
    found |= {f"{products.noun}.unknown" for products in (Exports, Artifacts)}  # `RunTasks` raises them
    found |= {f"{kind.noun.replace(' ', '-')}.unknown" for kind in Kind}  # `nas.plugins.find` raises them
    return {code for code in found if _CODE.fullmatch(code)}


def test_every_raised_code_is_described_and_no_other() -> None:
    assert raised_codes() == set(DESCRIPTIONS)


def test_descriptions_are_one_sentence() -> None:
    assert [code for code, text in DESCRIPTIONS.items() if not text.endswith(".") or "\n" in text] == []
