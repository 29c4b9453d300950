"""The API's OpenAPI description, checked with requests generated from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from nas.engine.store.folder import RunsFolder
from nas.service.api import schemas
from nas.service.http.app import create_app, examples
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from nas.service.state import ServiceState
from tests.nas.service.made_runs import Jobs, searched, trained

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
HERE = {"Host": "localhost"}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    runs = RunsFolder(tmp_path_factory.mktemp("openapi") / "runs")
    runs.check_writable()
    searched(runs, n=20)
    trained(runs)
    about = ServiceSettings(runs, limits=Limits(queued=5, requests_per_minute=10**6))
    state = ServiceState.open(about.database)
    service = Service(about, state, Jobs())
    yield schemathesis.openapi.from_asgi("/api/v1/openapi.json", create_app(service, about), headers=HERE)
    state.close()


def test_every_operation_is_described_with_a_summary_and_its_problems(schema: Any) -> None:
    paths = schema.raw_schema["paths"]
    operations = [(path, method, op) for path, methods in paths.items() for method, op in methods.items()]
    assert len(operations) >= 30
    for path, method, operation in operations:
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and not (path.endswith("/ready") and status == "503"):
                assert list(answer["content"]) == ["application/problem+json"], (method, path, status)
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (method, path, parameter["name"])


def shows_an_example(schema: Any, described: Any) -> bool:
    """Whether a schema has an example, or is made of one that has."""
    if "examples" in described:
        return True
    if "$ref" in described:
        return shows_an_example(schema, schema["components"]["schemas"][described["$ref"].rpartition("/")[2]])
    parts = [described["items"]] if "items" in described else described.get("anyOf", [])
    return any(shows_an_example(schema, part) for part in parts)


def test_every_request_and_answer_has_an_example(schema: Any) -> None:
    raw, n = schema.raw_schema, 0
    for path, methods in raw["paths"].items():
        for method, operation in methods.items():
            contents = [(s, a.get("content", {})) for s, a in operation["responses"].items()]
            contents.append(("request", operation.get("requestBody", {}).get("content", {})))
            for where, content in contents:
                for kind, found in content.items():
                    if kind in ("application/octet-stream", "application/zip", "multipart/form-data"):
                        continue
                    shown = "example" in found or "examples" in found or shows_an_example(raw, found["schema"])
                    assert shown, (method, path, where, kind)
                    n += 1
            for parameter in operation.get("parameters", []):
                needed = parameter["in"] == "path" or parameter["required"]
                assert not needed or "examples" in parameter["schema"], (method, path, parameter["name"])
    assert n > 60


def test_examples_are_of_the_schemas_that_show_them(schema: Any) -> None:
    described = schema.raw_schema["components"]["schemas"]
    shown = examples()
    assert set(shown) <= set(described)
    for name, value in shown.items():
        root = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": described}}
        jsonschema.Draft202012Validator(root).validate(value)
        model = getattr(schemas, name)
        assert model.model_validate(value).model_dump(mode="json") == value, name


MODES = pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "not allowed"]
)


@pytest.mark.slow
@MODES
def test_no_answer_is_off_the_description(schema: Any, mode: GenerationMode) -> None:
    """To ten requests for each operation, some of them about runs and profiles that there are.

    Args:
        mode: requests that the description allows, or ones that it does not.
    """
    bounded = settings(
        max_examples=10,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    known = {"run": "made-1", "profile": "cpu-1-thread", "recipe": "digits-cnn"}
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body):
            continue  # a path has nothing to do wrong

        @bounded
        @given(case=operation.as_strategy(generation_mode=mode), existing=st.booleans())
        def holds(case: Any, existing: bool) -> None:
            if existing and case.method != "DELETE":
                named = {name: value for name, value in known.items() if f"{{{name}}}" in case.path}
                case.path_parameters = {**(case.path_parameters or {}), **named}
            case.call_and_validate(headers=HERE, checks=CHECKS)

        holds()
