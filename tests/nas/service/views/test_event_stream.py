"""Event streams of runs, with many subscribers at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nas.engine.store.folder import RunsFolder
from nas.errors import StoreError, TooManyError, UnknownNameError
from nas.service.api.schemas import JobSubmission, RunSummary
from nas.service.people import Caller, Role, acting_as
from nas.service.service import Service
from nas.service.views.event_stream import EventStreams
from tests.nas.commands import SMALL_JOB
from tests.nas.service.made_runs import searched

BASE = RunSummary(
    run="a-1", name="a", kind="search", status="running", reason="", live=True, submitted=None, submitter="",
    queue_position=None, started=None, ended=None, evaluations=0, evaluations_wanted=9, epoch=0, epochs=0,
)  # fmt: skip


class Summaries:
    """Runs with statuses that a test sets, and how often they were read."""

    def __init__(self) -> None:
        self.summaries: dict[str, RunSummary | Exception] = {"a-1": BASE}
        self.looks = 0

    def __call__(self, run: str) -> RunSummary:
        self.looks += 1
        found = self.summaries[run]
        if isinstance(found, Exception):
            raise found
        return found

    def change(self, **values: Any) -> None:
        self.summaries["a-1"] = BASE.model_copy(update=values)


def made_streams(made: Summaries, **about: Any) -> EventStreams:
    return EventStreams(
        made, **{"max_streams": 1000, "max_of_person": 1000, "interval_s": 0.005, "keep_alive_s": 5.0, **about}
    )


async def events(stream: AsyncIterator[bytes]) -> list[dict[str, Any]]:
    """The data of all events, until the stream ends."""
    found = []
    async for frame in stream:
        found += [json.loads(line[6:]) for line in frame.decode().splitlines() if line.startswith("data: ")]
    return found


async def first_data(stream: AsyncIterator[bytes]) -> dict[str, Any]:
    async for frame in stream:
        for line in frame.decode().splitlines():
            if line.startswith("data: "):
                return dict(json.loads(line[6:]))
    raise AssertionError("the stream ended")


def test_every_subscriber_gets_each_change_and_the_end() -> None:
    made, n = Summaries(), 200

    async def watch() -> list[list[tuple[int, str]]]:
        runs = made_streams(made, interval_s=0.02)
        streams = [runs.follow("a-1", BASE) for _ in range(n)]
        rounds = [await asyncio.gather(*map(first_data, streams))]
        for values in ({"evaluations": 1}, {"evaluations": 2}, {"status": "finished", "live": False}):
            made.change(**values)
            rounds.append(await asyncio.gather(*map(first_data, streams)))
        assert await asyncio.gather(*map(events, streams)) == [[]] * n
        return [[(event["evaluations"], event["status"]) for event in events_] for events_ in rounds]

    expected = [(0, "running"), (1, "running"), (2, "running"), (0, "finished")]
    assert asyncio.run(watch()) == [[event] * n for event in expected]
    assert made.looks < n  # far fewer than watchers times changes: one a round for all


def test_a_run_that_has_ended_is_sent_once() -> None:
    made = Summaries()
    made.change(status="cancelled")
    ended = made("a-1")
    found = asyncio.run(events(made_streams(made).follow("a-1", ended)))
    assert [event["status"] for event in found] == ["cancelled"]


def test_a_run_that_is_resumed_is_watched_though_a_slow_watcher_still_reads_its_end() -> None:
    made = Summaries()

    async def watch() -> list[str]:
        runs = made_streams(made)
        slow = runs.follow("a-1", BASE.model_copy(update={"status": "finished"}))
        found = [(await first_data(slow))["status"]]  # and does not ask for more
        quick = runs.follow("a-1", BASE)
        found.append((await first_data(quick))["status"])
        made.change(status="failed")
        found += [event["status"] for event in await events(quick)]
        assert await events(slow) == []
        return found

    assert asyncio.run(watch()) == ["finished", "running", "failed"]


def test_a_run_that_is_deleted_ends_its_streams() -> None:
    made = Summaries()

    async def watch() -> list[dict[str, Any]]:
        runs = made_streams(made)
        stream = runs.follow("a-1", BASE)
        await first_data(stream)
        made.summaries["a-1"] = UnknownNameError("run", "a-1", [])
        return await events(stream)

    assert asyncio.run(watch()) == []


def test_another_run_of_the_id_of_a_deleted_one_is_not_sent_to_those_who_followed_that() -> None:
    made = Summaries()
    before = BASE.model_copy(update={"submitted": datetime(2026, 1, 1, tzinfo=UTC), "submitter": "bob"})
    later = {"submitted": datetime(2026, 1, 2, tzinfo=UTC), "submitter": "mia"}

    async def watch(*, mia_follows: bool) -> list[dict[str, Any]]:
        runs = made_streams(made)
        stream = runs.follow("a-1", before)
        await first_data(stream)
        made.change(**later)
        if mia_follows:
            mias = runs.follow("a-1", BASE.model_copy(update=later))
            assert (await first_data(mias))["submitter"] == "mia"
        return await asyncio.wait_for(events(stream), 5.0)

    for mia_follows in (False, True):
        assert asyncio.run(watch(mia_follows=mia_follows)) == []


def test_a_run_that_cannot_be_read_for_a_moment_stays_watched() -> None:
    made = Summaries()

    async def watch() -> list[dict[str, Any]]:
        runs = made_streams(made)
        stream = runs.follow("a-1", BASE)
        await first_data(stream)
        made.summaries["a-1"] = StoreError("locked")
        rest, looks = asyncio.create_task(events(stream)), made.looks
        while made.looks < looks + 2:  # one of them has come to its end
            await asyncio.sleep(0)
        made.change(status="finished")
        return await rest

    assert [event["status"] for event in asyncio.run(watch())] == ["finished"]


def test_comments_keep_an_idle_stream_open() -> None:
    async def watch() -> list[bytes]:
        stream = made_streams(Summaries(), keep_alive_s=0.01).follow("a-1", BASE)
        return [await anext(stream) for _ in range(4)]

    retry, first, *comments = asyncio.run(watch())
    assert retry.startswith(b"retry: ")
    assert first.startswith(b"id: ")
    assert all(comment.startswith(b":") for comment in comments)


def test_the_number_of_streams_is_limited_and_counted() -> None:
    counts: list[int] = []

    async def watch() -> None:
        runs = made_streams(Summaries(), max_streams=1, changed=counts.append)
        stream = runs.follow("a-1", BASE)
        await first_data(stream)
        with pytest.raises(TooManyError):
            runs.follow("a-1", BASE)
        await stream.aclose()  # type: ignore[attr-defined]
        await first_data(runs.follow("a-1", BASE))

    asyncio.run(watch())
    assert counts[:3] == [1, 0, 1]


def test_one_person_leaves_streams_for_others() -> None:
    async def watch() -> None:
        runs = made_streams(Summaries(), max_streams=2, max_of_person=1)
        with acting_as(Caller("eve", Role.MEMBER)):
            stream = runs.follow("a-1", BASE)
            await first_data(stream)
            with pytest.raises(TooManyError, match="eve has 1 "):
                runs.follow("a-1", BASE)
        with acting_as(Caller("ben", Role.MEMBER)):
            assert await first_data(runs.follow("a-1", BASE))
        await stream.aclose()  # type: ignore[attr-defined]
        with acting_as(Caller("eve", Role.MEMBER)):
            assert await first_data(runs.follow("a-1", BASE))

    asyncio.run(watch())


def test_closing_ends_all_streams() -> None:
    async def watch() -> list[dict[str, Any]]:
        runs = made_streams(Summaries())
        stream = runs.follow("a-1", BASE)
        await first_data(stream)
        runs.close()
        return await events(stream)

    assert asyncio.run(watch()) == []


def test_the_route_streams_a_run_until_it_ends(client: TestClient, service: Service, runs: RunsFolder) -> None:
    run = searched(runs, n=10).id
    with client.stream("GET", f"/api/v1/runs/{run}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert RunSummary.model_validate_json(lines[0][6:]) == service.runs.summary(run)
    assert client.get("/api/v1/runs/nothing/events").status_code == 404
    waiting = service.submissions.submit(JobSubmission(job=SMALL_JOB)).run
    service.submissions.cancel(waiting)
    assert "nas_watchers 0" in client.get("/api/v1/metrics").text
