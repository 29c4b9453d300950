"""Ready job files: each is a YAML file of this folder, and its first line is a comment with its title."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from nas.errors import Remedy, UnknownNameError

_SUFFIX = ".yaml"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The name of a recipe (its file's, without the suffix) and its one-line title."""

    name: str
    title: str


def list_recipes() -> list[Recipe]:
    """All recipes, by name."""
    names = sorted(f.name.removesuffix(_SUFFIX) for f in files(__name__).iterdir() if f.name.endswith(_SUFFIX))
    return [Recipe(name, _read(name).partition("\n")[0].lstrip("# ").rstrip()) for name in names]


def read_recipe(name: str) -> str:
    """The text of a recipe's job file, comments and all; raises `UnknownNameError` for another name."""
    names = [recipe.name for recipe in list_recipes()]
    if name not in names:
        raise UnknownNameError("recipe", name, names, remedy=Remedy("init"))
    return _read(name)


def _read(name: str) -> str:
    return (files(__name__) / f"{name}{_SUFFIX}").read_text(encoding="utf-8")
