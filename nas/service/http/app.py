"""The application: the API's routes and the pages of one service, and the middleware that protects them."""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml
from fastapi import FastAPI

from nas.plugins.parts import require
from nas.service.api.schemas import JobEdit, JobSubmission, Problem
from nas.service.audit import AuditLog
from nas.service.http.concurrency_limit import ConcurrencyLimit
from nas.service.http.metrics import PREFIX, Metrics
from nas.service.http.problems import add_handlers
from nas.service.http.requests import RequestMiddleware
from nas.service.http.tokens import Tokens
from nas.service.pages import page_routes
from nas.service.path_privacy import PathPrivacy
from nas.service.people import SERVER, Caller, acting_as
from nas.service.rest_routes import hardware, jobs, login, operations, people, results, runs, tasks
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.views.event_stream import EventStreams

if TYPE_CHECKING:
    from nas.service.sign_on.sign_on import SignOn

_DESCRIPTION = """\
Neural architecture search: from a job file to the Pareto front of subnetworks measured on your hardware, and the one you
choose as verified ONNX. Errors are problem details (RFC 9457), whose type is a code that `/problems` explains. Where the
server needs a token, send it as `Authorization: Bearer TOKEN`.
"""
_AT_ONCE = 2
"""Job files that are parsed, or uploaded files that are unpacked, at the same time."""
_WAITING_TEXTS = 100
_WAITING_FILES = 20
"""Each takes disk space while it waits."""
_TEXTS_OF_PERSON, _FILES_OF_PERSON = 30, 6


def create_app(service: Service, settings: ServiceSettings, *, tokens: Tokens | None = None) -> FastAPI:
    """The ASGI application of a server; `app.state.streams.close()` ends its event streams.

    Args:
        tokens: valid tokens; those of the settings' file by default.
    """
    valid_tokens = tokens or Tokens(settings.tokens_file)
    settings = service.owners.visible(settings)
    audit = AuditLog(settings.audit_file)
    metrics = Metrics(service)
    # One poll of a run is for all of its subscribers, each of whom may see it.
    streams = EventStreams(
        acting_as(SERVER)(service.runs.summary),
        max_streams=settings.limits.watchers,
        max_of_person=settings.limits.watchers_of_person,
        changed=metrics.watchers.set,
    )

    app = FastAPI(
        title="subnet-nas",
        description=_DESCRIPTION,
        version=version("subnet-nas"),
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # they load scripts from other sites
        redoc_url=None,
    )
    app.state.streams = streams
    hide_paths = PathPrivacy(settings)
    add_handlers(app, hide_paths)
    parsing = ConcurrencyLimit(
        "job files and profiles", at_once=_AT_ONCE, waiting=_WAITING_TEXTS, of_person=_TEXTS_OF_PERSON
    )
    unpacking = ConcurrencyLimit("uploaded files", at_once=_AT_ONCE, waiting=_WAITING_FILES, of_person=_FILES_OF_PERSON)
    for router in (
        jobs.routes(service, parsing, hide_paths),
        runs.routes(service, streams, parsing),
        results.routes(service),
        tasks.routes(service),
        hardware.routes(service, parsing, unpacking),
        operations.routes(service, metrics, hide_paths),
        people.routes(audit),
    ):
        app.include_router(router, prefix=PREFIX)
    sign_on = _sign_on(settings)
    app.include_router(login.routes(settings, valid_tokens, sign_on))
    app.include_router(page_routes.router(service, settings, audit))

    def holder(shown: str) -> Caller | None:
        return valid_tokens.holder(shown) or (None if sign_on is None else sign_on.sessions.holder(shown))

    app.add_middleware(
        RequestMiddleware, settings=settings, holder=holder, metrics=metrics, owners=service.owners, audit=audit
    )
    _complete_description(app, settings.root_path)
    return app


def _sign_on(settings: ServiceSettings) -> SignOn | None:
    """Single sign-on; None where there is none."""
    if settings.sign_on is None:
        return None
    require("oidc", "--oidc-issuer")
    from nas.service.sign_on.sign_on import SignOn  # an optional part

    return SignOn(settings.sign_on, settings.folder)


def _complete_description(app: FastAPI, root_path: str) -> None:
    """Adds hand-written references, examples of all schemas, the security scheme and the path of a proxy to the OpenAPI
    description."""
    describe = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = describe()
            components = described.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            for model in (Problem, JobSubmission, JobEdit):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= schema.pop("$defs", {})
                schemas[model.__name__] = schema
            for name, shown in examples().items():
                schemas.setdefault(name, {})["examples"] = [shown]
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            described["security"] = [{}, {"token": []}]
            if root_path:
                described["servers"] = [{"url": root_path}]
        return app.openapi_schema or {}

    app.openapi = complete  # type: ignore[method-assign]


def examples() -> dict[str, Any]:
    """One example of each schema, by the schema's name."""
    example_by_schema: dict[str, Any] = yaml.safe_load(
        (files("nas.service.http") / "openapi_examples.yaml").read_text("utf-8")
    )
    return example_by_schema
