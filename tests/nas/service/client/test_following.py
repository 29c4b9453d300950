"""Watching survives broken connections, server restarts and proxies."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from nas.errors import Remedy, ServiceError
from nas.service.client.following import LogPosition, Patience, watched
from nas.service.client.transport import Transport
from tests.errors import raises
from tests.nas.service.client.answers import URL, Script, as_json, gone, problem, summary

SUMMARIES = [summary("queued"), *(summary(evaluations=n) for n in (1, 2, 3)), summary("finished", evaluations=3)]


def told(*numbers: int) -> list[Callable[[], httpx.Response]]:
    return [lambda n=n: as_json(SUMMARIES[n]) for n in numbers]


class TestWatch:
    def test_each_change_is_told_once(self) -> None:
        script = Script(status=told(0, 0, 1, 2, 2, 2, 3, 4))
        assert list(script.client().watch("small-1")) == SUMMARIES
        assert script.times("status") == 8
        assert script.waited == [1.0] * 7

    def test_what_comes_after_the_end_is_not_waited_for(self) -> None:
        script = Script(status=told(4, 0))
        assert list(script.client().watch("small-1")) == [SUMMARIES[4]]
        assert script.times("status") == 1
        assert script.waited == []

    def test_a_server_may_be_gone_in_between(self) -> None:
        script = Script(status=[*told(0, 1), *[gone] * 18, *told(2, 3, 4)])
        gone_for: list[ServiceError] = []
        assert list(script.client().watch("small-1", on_gone=gone_for.append)) == SUMMARIES
        assert len(gone_for) == 1
        tries = [0.2, 0.4]  # those of one request
        pauses = [pause for between in (0.5, 1.0, 2.0, 4.0, 5.0, 5.0) for pause in (*tries, between)]
        assert script.waited == [1.0, 1.0, *pauses, 1.0, 1.0]

    def test_a_server_that_is_back_is_waited_for_again(self) -> None:
        script = Script(status=[*told(0), *[gone] * 6, *told(1), *[gone] * 3, *told(4)])
        assert list(script.client().watch("small-1")) == [SUMMARIES[n] for n in (0, 1, 4)]
        assert [pause for pause in script.waited if pause not in (0.2, 0.4)] == [1.0, 0.5, 1.0, 1.0, 0.5]

    def test_a_proxy_may_answer_for_a_server_that_is_started_again(self) -> None:
        proxy = [lambda status=status: httpx.Response(status, text="<html>") for status in (502, 504, 503, 503, 502)]
        script = Script(status=[*told(0, 1), *proxy, *told(3, 4)])
        gone_for: list[str] = []
        watched = list(script.client().watch("small-1", on_gone=lambda error: gone_for.append(str(error))))
        assert watched == [SUMMARIES[n] for n in (0, 1, 3, 4)]
        assert len(gone_for) == 1
        assert "503 Service Unavailable" in gone_for[0]

    def test_a_proxy_that_never_reached_a_server_is_told_at_once(self) -> None:
        script = Script(status=[lambda: httpx.Response(502)])
        with raises("service.rejected", "502"):
            list(script.client().watch("small-1"))
        assert script.waited == [0.2, 0.4]

    def test_but_not_for_longer_than_patience_lasts(self) -> None:
        now = [0.0]

        def wait(seconds: float) -> None:
            now[0] += seconds

        script = Script(status=[*told(0, 1), gone])
        transport = Transport(URL, wait=wait, through=httpx.MockTransport(script))
        watch = watched(transport, "runs/small-1", Patience(60.0, lambda: now[0]))
        assert [next(watch), next(watch)] == SUMMARIES[:2]
        with raises("service.unreachable"):
            next(watch)
        assert 60.0 < now[0] < 70.0

    def test_a_server_that_never_answered_is_told_at_once(self) -> None:
        script = Script(status=[gone])
        with raises("service.unreachable", remedy=Remedy("serve")):
            list(script.client().watch("small-1"))
        assert script.waited == [0.2, 0.4]

    def test_a_run_that_is_not_there_is_told(self) -> None:
        script = Script(status=[lambda: problem(404, "unknown run 'small-1'", type="/problems#run.unknown")])
        with raises("run.unknown", "small-1"):
            list(script.client().watch("small-1"))

    def test_an_unexpected_answer_is_an_error(self) -> None:
        script = Script(status=[*told(0), lambda: httpx.Response(200, json={"hello": 1})])
        with raises("service.unexpected-response"):
            list(script.client().watch("small-1"))

    def test_a_page_in_place_of_an_answer_is_an_error(self) -> None:
        script = Script(status=[lambda: httpx.Response(200, headers={"content-type": "text/html"}, text="<html>")])
        with raises("service.unexpected-response"):
            list(script.client().watch("small-1"))


class TestLogs:
    def test_they_are_followed_until_the_driver_is_gone(self) -> None:
        texts = ["", "one\n", "one\n", "one\ntwo\nth", "one\ntwo\nthree\n"]
        states = [summary(), summary(), summary(), summary("cancelled", live=True), summary("cancelled")]
        script = Script(
            status=[lambda s=s: as_json(s) for s in states],
            logs=[lambda text=text: httpx.Response(200, text=text) for text in texts],
        )
        assert list(script.client().follow_logs("small-1")) == ["one\n", "two\nth", "ree\n"]
        assert script.times("status") == len(states)

    def test_a_server_may_be_gone_in_between(self) -> None:
        script = Script(
            status=[lambda: as_json(summary()), gone, gone, gone, lambda: as_json(summary("failed"))],
            logs=[
                lambda: httpx.Response(200, text="a"),
                *[lambda: httpx.Response(502)] * 3,
                lambda: httpx.Response(200, text="ab"),
            ],
        )
        gone_for: list[ServiceError] = []
        assert list(script.client().follow_logs("small-1", on_gone=gone_for.append)) == ["a", "b"]
        assert len(gone_for) == 1

    def test_a_text_whose_beginning_is_cut_off_is_known_again(self) -> None:
        lines = [f"line {n}\n" for n in range(2000)]
        whole, seen, read = "".join(lines), LogPosition(), ""
        for end in range(100, 2001, 100):
            kept = "".join(lines[:end])[-9000:]  # the server keeps the last 9,000 characters
            read += seen.new_in(kept)
        assert read == whole[-len(read) :]
        assert read == whole

    def test_a_text_that_is_another_is_new(self) -> None:
        seen = LogPosition()
        assert [seen.new_in(text) for text in ("abc", "abc", "xyz", "")] == ["abc", "", "xyz", ""]
