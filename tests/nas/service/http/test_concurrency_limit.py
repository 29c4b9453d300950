"""ConcurrencyLimit: how many expensive requests run, wait, and are rejected; and that all others are answered meanwhile."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from nas.service.http.concurrency_limit import ConcurrencyLimit
from nas.service.people import Caller, Role, acting_as
from nas.service.service import Service
from nas.service.submissions import Submissions
from tests.errors import raises
from tests.nas.commands import SMALL_JOB

PATIENCE_S = 20.0


def request_of(*, connected: bool) -> Request:
    """A request of a client that waits for its response, or has gone."""

    async def receive() -> Message:
        if connected:
            await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    return Request({"type": "http"}, receive)


def test_requests_whose_client_has_gone_are_skipped() -> None:
    limit = ConcurrencyLimit("job files", at_once=1, waiting=1, of_person=2)
    with pytest.raises(ClientDisconnect):
        asyncio.run(limit.run(request_of(connected=False), lambda: pytest.fail("it was run")))


def test_a_few_run_at_once_some_wait_and_the_rest_are_rejected() -> None:
    release, running = threading.Event(), threading.Semaphore(0)
    at_once, most = 0, 0

    def call() -> str:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        running.release()
        assert release.wait(PATIENCE_S)
        at_once -= 1
        return "done"

    async def scenario() -> list[str]:
        limit, request = ConcurrencyLimit("job files", at_once=2, waiting=3, of_person=2), request_of(connected=True)
        taken = [asyncio.create_task(limit.run(request, call)) for _ in range(5)]
        for _ in range(2):
            await asyncio.to_thread(running.acquire)
        with raises("request.too-many", "5 job files"):
            await limit.run(request, call)
        release.set()
        answers = await asyncio.gather(*taken)
        return [*answers, await limit.run(request, call)]

    assert asyncio.run(scenario()) == ["done"] * 6
    assert most == 2


def test_one_person_leaves_room_for_others() -> None:
    release = threading.Event()

    async def scenario() -> list[bool]:
        limit, request = (
            ConcurrencyLimit("uploaded files", at_once=1, waiting=3, of_person=2),
            request_of(connected=True),
        )

        with acting_as(Caller("eve", Role.MEMBER)):
            taken = [asyncio.create_task(limit.run(request, lambda: release.wait(PATIENCE_S))) for _ in range(2)]
            await asyncio.sleep(0)
            with raises("request.too-many", "2 uploaded files of eve"):
                await limit.run(request, lambda: True)
        with acting_as(Caller("ben", Role.MEMBER)):
            taken.append(asyncio.create_task(limit.run(request, lambda: True)))
            await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(*taken)

    assert asyncio.run(scenario()) == [True] * 3


def test_requests_are_answered_while_many_job_files_are_checked(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, checked = threading.Event(), Submissions.check

    def slow(*arguments: Any) -> Any:
        assert release.wait(PATIENCE_S)
        return checked(*arguments)

    monkeypatch.setattr(Submissions, "check", slow)
    found: list[int] = []
    checks = [
        threading.Thread(
            target=lambda: found.append(client.post("/api/v1/jobs/check", json={"job": SMALL_JOB}).status_code)
        )
        for _ in range(60)  # more than there are worker threads
    ]
    for check in checks:
        check.start()
    assert client.get("/api/v1/runs").status_code == 200
    release.set()
    for check in checks:
        check.join(PATIENCE_S)
    assert found == [200] * 60
