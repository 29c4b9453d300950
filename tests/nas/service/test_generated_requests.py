"""Answers to requests that are generated from the API's OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
from nas.service.http.app import create_app
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
pytestmark = pytest.mark.slow


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


MODES = pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "not allowed"]
)


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
