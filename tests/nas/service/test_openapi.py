"""The API's OpenAPI description: every operation and its examples; `test_generated_requests` sends what it describes."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

from nas.engine.store.folder import RunsFolder
from nas.service.api import schemas
from nas.service.http.app import create_app, examples
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from tests.nas.service.made_runs import Jobs


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The description that a server answers."""
    runs = RunsFolder(tmp_path_factory.mktemp("openapi") / "runs")
    runs.check_writable()
    about = ServiceSettings(runs)
    state = ServiceState.open(about.database)
    with TestClient(create_app(Service(about, state, Jobs()), about), base_url="http://localhost") as client:
        answer = client.get("/api/v1/openapi.json").json()
    state.close()
    return answer


def test_every_operation_is_described_with_a_summary_and_its_problems(described: Any) -> None:
    paths = described["paths"]
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


def shows_an_example(described: Any, schema: Any) -> bool:
    """Whether a schema of a description has an example, or is made of one that has."""
    if "examples" in schema:
        return True
    if "$ref" in schema:
        return shows_an_example(described, described["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    parts = [schema["items"]] if "items" in schema else schema.get("anyOf", schema.get("oneOf", []))
    return any(shows_an_example(described, part) for part in parts)


def test_every_request_and_answer_has_an_example(described: Any) -> None:
    n = 0
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            contents = [(s, a.get("content", {})) for s, a in operation["responses"].items()]
            contents.append(("request", operation.get("requestBody", {}).get("content", {})))
            for where, content in contents:
                for kind, found in content.items():
                    if kind in ("application/octet-stream", "application/zip", "multipart/form-data"):
                        continue
                    shown = "example" in found or "examples" in found or shows_an_example(described, found["schema"])
                    assert shown, (method, path, where, kind)
                    n += 1
            for parameter in operation.get("parameters", []):
                needed = parameter["in"] == "path" or parameter["required"]
                assert not needed or "examples" in parameter["schema"], (method, path, parameter["name"])
    assert n > 60


def test_examples_are_of_the_schemas_that_show_them(described: Any) -> None:
    by_name = described["components"]["schemas"]
    shown = examples()
    assert set(shown) <= set(by_name)
    for name, value in shown.items():
        root = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": by_name}}
        jsonschema.Draft202012Validator(root).validate(value)
        model = getattr(schemas, name)
        assert model.model_validate(value).model_dump(mode="json") == value, name
