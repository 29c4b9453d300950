"""The reference page of the REST API, from its OpenAPI description."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.generators.markdown import code, sentence, table
from nas.engine.store.folder import RunsFolder
from nas.service.http.app import create_app
from nas.service.jobs.job_runner import JobState
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState

_HEAD = """\
# REST API

`nas serve` answers below `/api/v1`. `/api/v1/openapi.json` is this description for programs, and `/docs` shows it with the
version that runs. Errors are problem details (RFC 9457), whose `type` is an [error code](errors.md). Where the server needs a
token, send it as `Authorization: Bearer TOKEN`.

"""
_METHODS = ("get", "post", "put", "patch", "delete")


class _NoJobs:
    """A job runner for a server that is described and never runs."""

    def start(self, job: str, argv: Sequence[str], log: Path) -> None:
        raise RuntimeError("this server runs nothing")

    def states(self, jobs: Collection[str]) -> Mapping[str, JobState]:
        return {}

    def stop(self, job: str) -> None:
        raise RuntimeError("this server runs nothing")

    def nodes(self) -> Sequence[Mapping[str, float]]:
        return []


def openapi() -> dict[str, Any]:
    """The OpenAPI description of a server."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ServiceSettings(RunsFolder(Path(folder) / "runs"))
        settings.runs.check_writable()
        state = ServiceState.open(settings.database)
        try:
            described: dict[str, Any] = create_app(Service(settings, state, _NoJobs()), settings).openapi()
            return described
        finally:
            state.close()


def rest_api_page() -> str:
    """All operations by tag, and the schemas that they use."""
    described = openapi()
    return _HEAD + "\n".join([*_operations(described), *_schemas(described)])


def _operations(described: Mapping[str, Any]) -> Iterator[str]:
    """The sections of all operations, by tag."""
    tags: dict[str, list[str]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if method in _METHODS:
                tags.setdefault(operation.get("tags", ["other"])[0], []).append(_operation(method, path, operation))
    for tag, operations in sorted(tags.items()):
        yield "\n".join([f"## {tag.capitalize()}\n", *operations])


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [f"### {code(f'{method.upper()} {path}')}\n", operation.get("description") or operation["summary"], ""]
    if parameters := operation.get("parameters", []):
        rows = [[code(p["name"]), p["in"], _type(p["schema"]), sentence(p.get("description", ""))] for p in parameters]
        parts.append(table(["parameter", "in", "type", "meaning"], rows))
    body = operation.get("requestBody", {}).get("content", {})
    rows = [["request", code(kind), _type(about.get("schema", {}))] for kind, about in body.items()]
    failures = []
    for status, answer in operation["responses"].items():
        if status[0] in "45":
            failures.append(status)
            continue
        content = answer.get("content") or {"": {}}
        rows += [[status, code(kind), _type(about.get("schema", {}))] for kind, about in content.items()]
    parts.append(table(["body", "content", "schema"], rows))
    if failures:
        parts.append(f"Problems: {', '.join(failures)}.\n")
    return "\n".join(parts)


def _schemas(described: Mapping[str, Any]) -> Iterator[str]:
    """The sections of all named schemas, with an example where there is one."""
    yield "## Schemas\n"
    for name, schema in sorted(described["components"]["schemas"].items()):
        if name.startswith("Body_"):
            continue
        required = schema.get("required", [])
        rows = [
            [code(key), _type(field), "yes" if key in required else "", sentence(field.get("description", ""))]
            for key, field in schema.get("properties", {}).items()
        ]
        parts = [f"### {name}\n", sentence(schema.get("description", "")), ""]
        if rows:
            parts.append(table(["field", "type", "required", "meaning"], rows))
        for example in schema.get("examples", [])[:1]:
            shown = json.dumps(example, indent=2, ensure_ascii=False)
            parts.append('??? example "Example"\n\n    ```json\n' + _indented(shown) + "\n    ```\n")
        yield "\n".join(parts)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to the named ones."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "form" if name.startswith("Body_") else f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(map(_type, schema[key])))
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema.get('items', {}))}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"mapping to {_type(schema['additionalProperties'])}"
        case str(kind):
            return kind + (f" ({schema['format']})" if "format" in schema else "")
    return "any"
