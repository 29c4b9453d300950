"""The operations of the REST API, read from its OpenAPI description for the page that documents them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def operations(described: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """All operations of an OpenAPI description by the title of their group, in the order described.

    Each has the ``id`` of its element on the page, ``method``, ``path`` and ``summary``, its ``parameters`` (of the path, of
    the query or of a form, each with ``name``, ``kind``, ``required`` and ``description``), examples of the request's ``body``
    and of the ``answer`` ("" for none), and ``statuses``, the descriptions of the responses by status.
    """
    operations_by_group: dict[str, list[dict[str, Any]]] = {}
    for path, methods in _expanded(described["paths"], described["components"]["schemas"]).items():
        for method, about in methods.items():
            body, answers = about.get("requestBody", {}).get("content", {}), about["responses"]
            success = next(answer for status, answer in answers.items() if status.startswith("2"))
            operation = {
                "id": about["operationId"],
                "method": method.upper(),
                "path": path,
                "summary": about["description"],
                "parameters": [*map(_parameter, about.get("parameters", ())), *_fields(body)],
                "body": _example(body),
                "answer": _example(success.get("content", {})),
                "statuses": {status: answer["description"] for status, answer in answers.items()},
            }
            operations_by_group.setdefault(about["tags"][0].capitalize(), []).append(operation)
    return operations_by_group


def _expanded(node: Any, schemas: Mapping[str, Any]) -> Any:
    """A part of the description with schemas in the place of references to them."""
    if isinstance(node, dict):
        if "$ref" in node:
            return _expanded(schemas[node["$ref"].rpartition("/")[2]], schemas)
        return {key: _expanded(value, schemas) for key, value in node.items()}
    return [_expanded(item, schemas) for item in node] if isinstance(node, list) else node


def _parameter(about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": about["name"],
        "kind": _kind(about["schema"]),
        "required": about.get("required", False),
        "description": about.get("description", ""),
    }


def _fields(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields of an upload."""
    forms = [content["schema"] for kind, content in body.items() if kind.startswith("multipart/")]
    return [
        _parameter({**field, "name": name, "schema": field, "required": name in form.get("required", ())})
        for form in forms
        for name, field in form["properties"].items()
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


def _example(content: Mapping[str, Any]) -> str:
    """An example of a body, in the first media type that has one."""
    for about in content.values():
        schema = about.get("schema", {})
        schema = next((option for option in schema.get("anyOf", ()) if "properties" in option), schema)
        items = schema.get("items", {}) if schema.get("type") == "array" else {}
        if "example" in about:
            return _text(about["example"])
        if "examples" in about:
            return _text(next(iter(about["examples"].values()))["value"])
        if items.get("examples"):
            return _text(items["examples"][:1])
        if schema.get("examples"):
            return _text(schema["examples"][0])
    return ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
