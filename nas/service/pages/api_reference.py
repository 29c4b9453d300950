"""The operations of the REST API, read from its OpenAPI description for the page that documents them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the path, of the query or of a form."""

    name: str
    kind: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of an address.

    Attributes:
        id: of the element on the page.
        body: an example of the request's JSON; "" for none.
        answer: an example of the response's JSON or text; "" for none.
        statuses: descriptions of the responses by status.
    """

    id: str
    method: str
    path: str
    summary: str
    parameters: Sequence[Parameter]
    body: str
    answer: str
    statuses: Mapping[str, str]


def operations(described: Mapping[str, Any]) -> dict[str, list[Operation]]:
    """All operations of an OpenAPI description by the title of their group, in the order described."""
    operations_by_group: dict[str, list[Operation]] = {}
    schemas = described["components"]["schemas"]
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            tag = about["tags"][0]
            operations_by_group.setdefault(tag.capitalize(), []).append(_operation(path, method, about, schemas))
    return operations_by_group


def _operation(path: str, method: str, about: Mapping[str, Any], schemas: Mapping[str, Any]) -> Operation:
    body = about.get("requestBody", {}).get("content", {})
    form = next((body[kind]["schema"] for kind in body if kind.startswith("multipart/")), None)
    answers = about["responses"]
    success = next(answer for status, answer in answers.items() if status.startswith("2"))
    return Operation(
        id=about["operationId"],
        method=method.upper(),
        path=path,
        summary=about["description"],
        parameters=[*map(_parameter, about.get("parameters", ())), *_fields(form, schemas)],
        body=_example(body, schemas),
        answer=_example(success.get("content", {}), schemas),
        statuses={status: answer["description"] for status, answer in answers.items()},
    )


def _parameter(about: Mapping[str, Any]) -> Parameter:
    text = str(about.get("description", ""))
    return Parameter(about["name"], _kind(about["schema"]), about.get("required", False), text)


def _fields(form: Mapping[str, Any] | None, schemas: Mapping[str, Any]) -> list[Parameter]:
    """The fields of an upload."""
    if form is None:
        return []
    schema = _resolved(form, schemas)
    required = schema.get("required", ())
    return [
        Parameter(name, _kind(field), name in required, str(field.get("description", "")))
        for name, field in schema["properties"].items()
    ]


def _kind(schema: Mapping[str, Any]) -> str:
    """The type of a value in words."""
    options = [option for option in schema.get("anyOf", (schema,)) if option.get("type") != "null"]
    shown = options[0] if options else schema
    if "enum" in shown:
        return " | ".join(map(str, shown["enum"]))
    if "contentMediaType" in shown or shown.get("format") == "binary":
        return "file"
    if shown.get("type") == "array":
        return f"list of {_kind(shown['items'])}"
    return str(shown.get("type", "object"))


def _example(content: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """An example of a body, in the first media type that has one."""
    for about in content.values():
        if "example" in about:
            return _text(about["example"])
        if "examples" in about:
            return _text(next(iter(about["examples"].values()))["value"])
        schema = about.get("schema", {})
        if schema.get("type") == "array" and (inside := _resolved(schema["items"], schemas).get("examples")):
            return _text(inside[:1])
        if inside := _resolved(schema, schemas).get("examples"):
            return _text(inside[0])
    return ""


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema, or the one that it refers to."""
    options = [option for option in schema.get("anyOf", ()) if "$ref" in option]
    name = str((options[0] if options else schema).get("$ref", "")).rpartition("/")[2]
    target: Mapping[str, Any] = schemas[name] if name else schema
    return target


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
