"""The built-in jobs as a server offers them: what each needs, and their texts with uploaded data and models."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any, Literal

import nas.jobs
from nas.errors import JobError
from nas.jobs.recipes import list_recipes, read_recipe
from nas.jobs.schema import SearchJob, parse_job
from nas.service.api import schemas
from nas.service.uploads.captured_models import CapturedModels
from nas.service.uploads.data_sets import DataSets
from supernets.data.fashion_mnist import find
from supernets.errors import CheckpointError
from supernets.networks.formats.pretrained import PACKAGE, find_pretrained

_FASHION_MNIST = "fashion-mnist"


class Recipes:
    """The recipes of a server.

    Args:
        data_sets, models: What clients have uploaded.
    """

    def __init__(self, data_sets: DataSets, models: CapturedModels) -> None:
        self._data_sets, self._models = data_sets, models

    def list(self) -> tuple[schemas.Recipe, ...]:
        """The built-in jobs without their texts, by name."""
        return tuple(_described(recipe.name, recipe.title) for recipe in list_recipes())

    def get(self, name: str, *, data: str | None = None, model: str | None = None) -> schemas.Recipe:
        """One built-in job with its text.

        Args:
            name: Its name.
            data: An uploaded data set, which its text then names; None for the recipe's own.
            model: An uploaded model, likewise.

        Raises:
            UnknownNameError: there is no recipe, data set or model of this name.
            JobError: the recipe cannot be used with this data set or model.
        """
        text = read_recipe(name)
        recipe = next(listed for listed in self.list() if listed.name == name)
        names: dict[str, Any] = {}
        if data:
            stored = self._data_sets.get(data)
            names["data"] = nas.jobs.KnownData(
                stored.kind, stored.path, stored.options, stored.task, stored.examples, stored.short_side
            )
        if model:
            uploaded = self._models.get(model)
            if uploaded.kind == "pretrained" and recipe.family not in ("", uploaded.family):
                message = f"{uploaded.path} is read by the family {uploaded.family}, and {name} has {recipe.family}"
                raise JobError(message, code="recipe.without-model", parameter="model")
            names["model" if uploaded.kind == "captured" else "pretrained"] = uploaded.path
        return recipe.model_copy(update={"job": nas.jobs.fill_known(text, **names) if names else text})


def _described(name: str, title: str) -> schemas.Recipe:
    job = _job(name)
    model_kind: Literal["captured", "pretrained", ""] = ""
    if job.supernet.model is not None:
        model_kind = "captured"
    elif job.supernet.pretrained is not None:
        model_kind = "pretrained"
    kind = job.data.name if job.data.path is not None or job.data.name == _FASHION_MNIST else ""
    family = job.supernet.family if model_kind == "pretrained" else ""
    missing: dict[Literal["data", "model"], str] = {"data": _missing_data(job), "model": _missing_model(job)}
    return schemas.Recipe(
        name=name,
        title=title,
        data_kind=kind,
        model_kind=model_kind,
        family=family,
        needs={need: reason for need, reason in missing.items() if reason},
    )


@cache
def _job(name: str) -> SearchJob:
    return parse_job(read_recipe(name), source=name)


def _missing_data(job: SearchJob) -> str:
    """The data that have to be uploaded; "" where the server has them."""
    if job.data.name == _FASHION_MNIST and find() is None:
        return "the four files of Fashion-MNIST, which are not on this server"
    return "" if job.data.path is None else f"uploaded data of the kind {job.data.name}"


def _missing_model(job: SearchJob) -> str:
    """The model that has to be uploaded; "" where the recipe has none, or the server has it."""
    if job.supernet.model is not None:
        return "an uploaded model that was captured, since submitted jobs run no model's own code"
    if (pretrained := job.supernet.pretrained) is None:
        return ""
    if pretrained.startswith(PACKAGE):
        with suppress(CheckpointError):  # it is not installed here
            find_pretrained(pretrained)
            return ""
    return f"an uploaded pretrained network of the family {job.supernet.family}"
