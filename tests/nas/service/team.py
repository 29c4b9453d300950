"""A server for a team: people of each role, and things that belong to bob."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from nas.service.api.schemas import JobSubmission, ProfileUpload
from nas.service.client import NasClient
from nas.service.http.app import create_app
from nas.service.http.tokens import Tokens
from nas.service.people import Caller, Role, acting_as
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from nas.service.state import TaskKind
from nas.service.uploads import data_sets
from nas.service.uploads.content_check import UploadedContent, check_content
from tests.nas.commands import SMALL_JOB
from tests.nas.service.sent_files import begun_capture, flowers, packed

HOST = "http://10.0.0.5:8700"
BOB = Caller("bob", Role.MEMBER)
ROLES = {"rita": Role.READER, "mia": Role.MEMBER, "bob": Role.MEMBER, "ada": Role.ADMINISTRATOR}


_FACTS_OF_FLOWERS: dict[str, Any] = {}
"""What the process that checks uploads has answered to the first server; it starts longer than a server."""


def _check_flowers(content: UploadedContent, limits: Limits) -> dict[str, Any]:
    if not _FACTS_OF_FLOWERS:
        _FACTS_OF_FLOWERS.update(check_content(content, limits))
    return _FACTS_OF_FLOWERS


@dataclass(frozen=True)
class Team:
    """A server that people reach with tokens, and what belongs to bob."""

    service: Service
    client: TestClient
    headers: dict[str, dict[str, str]]

    def nas_client(self, person: str) -> NasClient:
        """The project's client, with a person's token."""

        def forward(request: httpx.Request) -> httpx.Response:
            answer = self.client.request(
                request.method, str(request.url), headers=request.headers, content=request.content
            )
            return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)

        token = self.headers[person]["authorization"].removeprefix("Bearer ")
        return NasClient(HOST, token, through=httpx.MockTransport(forward))

    def send(self, person: str, method: str, path: str, **content: object) -> int:
        return self.client.request(method, f"/api/v1{path}", headers=self.headers[person], **content).status_code  # type: ignore[arg-type]


@contextmanager
def serving_a_team(service: Service, settings: ServiceSettings) -> Iterator[Team]:
    """A server at which each person has a token; all things are bob's."""
    tokens = Tokens(settings.tokens_file)
    secrets = {name: tokens.make(name, lifetime_s=None, role=role) for name, role in ROLES.items()}
    headers = {name: {"authorization": f"Bearer {secret}"} for name, secret in secrets.items()}
    app = create_app(service, replace(settings, host="0.0.0.0"), tokens=tokens)
    with TestClient(app, base_url=HOST, follow_redirects=False) as client, acting_as(BOB):
        service.submissions.submit(JobSubmission(job=SMALL_JOB), "bob")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(data_sets, "check_content", _check_flowers)
            service.data_sets.add("flowers", io.BytesIO(packed(flowers())))
        service.models.add("net", io.BytesIO(begun_capture()))
        service.hardware.add(ProfileUpload(profile="{name: board, placement: {hw-none: 1}}"))
        for kind, of in (("export", "small-1"), ("measurement", "board"), ("plan", "jobs")):
            service.tasks.add(f"{kind}-0", kind, of, settings.folder / kind, [])  # type: ignore[arg-type]
        service.tasks.add("plots-0", TaskKind.PLOTS, "small-1", settings.folder / "plots", [], {"kind": "plots"})
        yield Team(service, client, headers)
