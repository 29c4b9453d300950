"""The pages over a service of small runs, asked as a browser asks."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from nas.service.http.app import create_app
from nas.service.service import Service
from tests.nas.service.pages.outline import Outline

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


class Browser:
    """Gets pages without running their scripts."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def get(self, path: str) -> httpx.Response:
        """The answer, with any status."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.get(path, headers={"Accept": "text/html,*/*;q=0.8"})

        return asyncio.run(ask())

    def page(self, path: str, *, status: int = 200) -> Outline:
        """A page, which must have this status."""
        return Outline.of(self.html(path, status=status))

    def html(self, path: str, *, status: int = 200) -> str:
        """Its text."""
        answer = self.get(path)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"].startswith("text/html")
        return answer.text


@pytest.fixture
def browser(service: Service) -> Browser:
    return Browser(create_app(service, service.settings))
