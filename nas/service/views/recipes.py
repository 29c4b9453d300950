"""The built-in job files as the API describes them."""

from __future__ import annotations

from nas.jobs.recipes import list_recipes, read_recipe
from nas.service.api.schemas import Recipe


def recipes() -> tuple[Recipe, ...]:
    """All recipes without their texts, by name."""
    return tuple(Recipe(name=recipe.name, title=recipe.title) for recipe in list_recipes())


def recipe(name: str) -> Recipe:
    """One recipe with its text.

    Raises:
        UnknownNameError: there is none of this name.
    """
    text = read_recipe(name)
    return next(listed for listed in recipes() if listed.name == name).model_copy(update={"job": text})
