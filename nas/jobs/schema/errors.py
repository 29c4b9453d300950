"""Turns pydantic's findings in a job file into `JobError`s with readable messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from nas.errors import JobError

MAX_REPORTED = 50
"""Problems of one job file: each costs a search for a similar name, and nobody reads more of them."""
_ERROR_TYPE = "job"
_MAX_SHOWN = 60
"""Characters of a value that an error quotes."""


def problem(key: str, text: str, *, code: str = "job.invalid-value") -> PydanticCustomError:
    """The error that a validator raises: `text` about `key`, a path below the model that it checks (or empty)."""
    return PydanticCustomError(_ERROR_TYPE, "{text}", {"key": key, "text": text, "code": code})


conflict = partial(problem, code="job.conflict")
missing_key = partial(problem, code="job.missing-key")


def show(value: object) -> str:
    """A value as its job file would write it, cut to a line."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        text = "a mapping with " + (", ".join(str(key) for key in value) or "no keys")
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(show(item) for item in value[:8])}{', ...' if len(value) > 8 else ''}]"
    else:
        text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def translate(error: ValidationError, model: type[BaseModel], *, source: str) -> JobError:
    """An error with the first finding's code and text, and the paths of the others, if any, in a second line.

    Unknown keys come before missing ones, since one typing error causes both.
    """
    texts: dict[str, str] = {}
    codes = []
    for finding in _sorted(error)[:MAX_REPORTED]:
        code, text = _explained(finding, model)
        texts.setdefault(_path(finding), text)
        codes.append(code)
    first = next(iter(texts))
    message = ": ".join(part for part in (source, first, texts[first]) if part)
    # A list with a wrong entry may be found too short as well, which adds nothing.
    other_paths = [path for path in texts if not first.startswith(path)]
    if other_paths:
        listed = ", ".join(other_paths[:6]) + (", ..." if len(other_paths) > 6 else "")
        message += f"\nAlso wrong: {listed}."
    return JobError(message, code=codes[0], fields=[(key, texts[key]) for key in (first, *other_paths)])


@contextmanager
def reported(source: str) -> Iterator[None]:
    """Raises the `problem` of a check that runs after validation as a `JobError`."""
    try:
        yield
    except PydanticCustomError as error:
        context = error.context or {}
        key, text = str(context["key"]), str(context["text"])
        raise JobError(f"{source}: {key}: {text}", code=str(context["code"]), fields=[(key, text)]) from None


def restated(error: ValidationError, model: type[BaseModel]) -> ValidationError:
    """The same findings in their final words, for a validator that chooses the model of a value itself."""
    findings = []
    for finding in _sorted(error):
        code, text = _explained(finding, model)
        key = str(finding.get("ctx", {}).get("key", ""))
        wrong = problem(key, text, code=code)
        findings.append(InitErrorDetails(type=wrong, loc=finding["loc"], input=finding["input"]))
    return ValidationError.from_exception_data(error.title, findings)


def _sorted(error: ValidationError) -> list[ErrorDetails]:
    return sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")


def _explained(error: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    """The code of a finding, and what is wrong, without the path to it."""
    loc, kind, value = error["loc"], error["type"], error["input"]
    if kind == _ERROR_TYPE:
        context = error.get("ctx", {})
        return str(context["code"]), str(context["text"])
    owner, field = _find(loc, model)
    expected, words = (_expectation(field) if loc else _mapping(model)), _options(field)
    if kind == "extra_forbidden":
        if loc[-1] in getattr(owner, "former_keys", ()):
            return "job.unknown-key", "is a key of earlier versions, and has no effect any more; remove it"
        return "job.unknown-key", _unknown("key", str(loc[-1]), _keys(owner))
    if kind == "missing":
        return "job.missing-key", f"is missing; expected {expected}"
    if words and isinstance(value, str):
        return "job.unknown-name", _unknown(str(loc[-1]), value, words)
    entry = "an entry of " if loc and isinstance(loc[-1], int) else ""
    return "job.invalid-value", f"expected {entry}{expected}, got {show(value)}"


def _unknown(kind: str, name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    ask = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {kind.replace('_', ' ')} {show(name)}{ask} Known: {', '.join(names)}."


def _path(error: ErrorDetails) -> str:
    text = ""
    for part in error["loc"]:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    key = error.get("ctx", {}).get("key") if error["type"] == _ERROR_TYPE else None
    if key:
        text += key if str(key).startswith("[") else f".{key}"
    return text.lstrip(".")


def _find(loc: Iterable[int | str], model: type[BaseModel]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The innermost model on the path of a finding, and its field (None: the whole job, or an unknown key)."""
    field: FieldInfo | None = None
    inner: type[BaseModel] | None = model
    owner = model
    for part in loc:
        if isinstance(part, int) or inner is None:
            continue
        owner = inner
        field = next((f for n, f in owner.model_fields.items() if part in (n, f.alias)), None)
        inner = None if field is None else _model_in(field.annotation)
    return owner, field


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation holds, through lists and optional values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_model_in, get_args(annotation)) if m is not None), None)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _options(field: FieldInfo | None) -> list[str]:
    """The words of a field of fixed choices; empty for other fields."""
    if field is None:
        return []
    annotations = [field.annotation, *get_args(field.annotation)]
    return [str(word) for a in annotations if get_origin(a) is Literal for word in get_args(a) if isinstance(word, str)]


def _expectation(field: FieldInfo | None) -> str:
    if field is None:
        return "a mapping of keys"
    if field.description:
        return field.description
    options = _options(field)
    if options:
        return " or ".join(options)
    model = _model_in(field.annotation)
    return _mapping(model) if model else "another value"


def _mapping(model: type[BaseModel]) -> str:
    return f"a mapping with the keys {', '.join(_keys(model))}"
