"""The reference page of job files, from the pydantic models that read them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.generators.markdown import code, sentence, table
from nas.jobs.recipes import read_recipe
from nas.jobs.schema.job_schema import field_notes
from nas.jobs.schema.search_job import SearchJob
from nas.jobs.schema.supernet import SupernetConfig
from supernets.families.registry import FAMILIES
from supernets.families.shared.spec import Spec, Stages, dimensions

_HEAD = """\
# Job file

A job file is YAML. `nas init RECIPE` writes one with comments, and `nas plan JOB` checks one. Unknown keys and wrong values are
errors that name the key, what was expected and what was found. Keys with a default may be left out.

"""
_RECIPE = "digits-cnn"


def job_file_page() -> str:
    """The commented recipe, a table of keys for each section, and the search space of each family."""
    recipe = f"## A job file with all keys explained\n\n```yaml\n{read_recipe(_RECIPE)}```\n"
    return "\n".join([_HEAD, recipe, *_sections("", SearchJob), *_spaces()])


def _sections(path: str, model: type[BaseModel]) -> Iterator[str]:
    """The section of a model's keys, then those of the models that it holds."""
    title = f"## {code(path)}" if path else "## Top level"
    notes = field_notes(model)
    rows, below = [], []
    for name, field in model.model_fields.items():
        key = field.alias or name
        inner = _model_of(field.annotation)
        where = f"{path}.{key}" if path else key
        mapping = "mapping" if inner is None or _is_mapping(field) else f"see [{code(where)}](#{_anchor(where)})"
        kind = _expected(field) if inner is None or _is_mapping(field) else mapping
        if model is SupernetConfig and key == "space":
            kind = "see [search spaces](#search-spaces)"
            inner = None
        rows.append([code(key), kind, _default(field), sentence(notes.get(name, ""))])
        if inner is not None:
            below.append((f"{where}.METRIC" if _is_mapping(field) else where, inner))
    about = sentence(inspect.getdoc(model) or "")
    anchor = f" {{ #{_anchor(path)} }}" if path else ""
    yield f"{title}{anchor}\n\n{about}\n\n" + table(["key", "value", "default", "meaning"], rows)
    for where, inner in below:
        yield from _sections(where, inner)


def _spaces() -> Iterator[str]:
    """The presets and the dimensions of the families' search spaces."""
    yield (
        "## Search spaces\n\nThe keys of `supernet.space` depend on `supernet.family`. Beside a `preset`, they replace "
        "those of the preset; without one, all required keys are needed. A list has the options of an elastic dimension, "
        "smallest first.\n"
    )
    for name, family in FAMILIES.items():
        presets = ", ".join(map(code, family.presets))
        yield f"### {code(name)} {{ #space-{name} }}\n\nPresets: {presets}. Data: {family.data}.\n"
        yield from _spec_tables(family.spec, "space")


def _spec_tables(spec: type[Spec], path: str) -> Iterator[str]:
    notes = _attribute_notes(spec)
    rows, below = [], []
    for dimension in dimensions(spec):
        default = "" if dimension.required else code("none" if dimension.default is None else _shown(dimension.default))
        expected = getattr(dimension.kind, "expected", "")
        if isinstance(dimension.kind, Stages):
            expected = "a list of mappings, see below"
            below.append((dimension.name, dimension.kind.spec))
        rows.append([code(dimension.name), expected, default, sentence(notes.get(dimension.name, ""))])
    yield table([code(path), "value", "default", "meaning"], rows)
    for name, inner in below:
        yield from _spec_tables(inner, f"{path}.{name}[]")


def _anchor(path: str) -> str:
    return "key-" + path.replace(".", "-").lower()


def _is_mapping(field: FieldInfo) -> bool:
    """Whether a field is a mapping from names to models, such as constraints."""
    return getattr(field.annotation, "__origin__", None) is dict


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a section or of the values of a mapping; None for other values."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_of(part)) is not None), None)


def _expected(field: FieldInfo) -> str:
    """What is expected: the description that errors use, or the words that are allowed."""
    if field.description:
        return field.description
    words = [word for word in _words(field.annotation) if word is not None]
    return ", ".join(map(code, words)) if words else _type_name(field.annotation)


def _words(annotation: Any) -> Iterator[Any]:
    for part in get_args(annotation):
        if isinstance(part, str | bool | int):
            yield part
        elif not isinstance(part, FieldInfo):
            yield from _words(part)


def _type_name(annotation: Any) -> str:
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    found = [names[kind] for kind in names if kind is annotation or kind in get_args(annotation)]
    return " or ".join(found) or "a mapping"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True) if field.default is PydanticUndefined else field.default
    return "" if isinstance(value, BaseModel) or value is None or value in ((), {}) else code(_shown(value))


def _shown(value: Any) -> str:
    """A value as YAML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return str(value)


def _attribute_notes(spec: type[Spec]) -> dict[str, str]:
    """The lines below ``Attributes:`` of the docstrings of a class and its bases, by attribute."""
    notes: dict[str, str] = {}
    for kind in reversed(spec.__mro__):
        _, _, below = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
        name = ""
        for line in below.splitlines():
            if line.startswith("    ") and not line.startswith("     "):
                name, _, text = line.strip().partition(":")
                notes[name] = text.strip()
            elif name:
                notes[name] += " " + line.strip()
    return notes
