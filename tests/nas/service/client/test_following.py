"""Watching survives broken streams, server restarts, and proxies that pass no streams on."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from nas.errors import Remedy, ServiceError
from nas.service.client.following import LogPosition, Patience, Watch
from nas.service.client.transport import Transport
from tests.errors import raises
from tests.nas.service.client.answers import URL, Script, as_json, event, gone, problem, stream, summary

SUMMARIES = [summary("queued"), *(summary(evaluations=n) for n in (1, 2, 3)), summary("finished", evaluations=3)]


def sent(*numbers: int, broken: bool = False) -> httpx.Response:
    return stream(*(event(SUMMARIES[n], n) for n in numbers), broken=broken)


class TestWatch:
    def test_a_stream_is_read_to_the_end(self) -> None:
        script = Script(events=[lambda: sent(0, 1, 2, 3, 4)])
        assert list(script.client().watch("small-1")) == SUMMARIES
        assert script.times("events") == 1
        assert script.asked[0].headers["accept"] == "text/event-stream"

    def test_what_comes_after_the_end_is_not_waited_for(self) -> None:
        def endless() -> Iterator[bytes]:
            yield event(SUMMARIES[4], 4)
            raise AssertionError("read on after the run had ended")

        script = Script(
            events=[lambda: httpx.Response(200, headers={"content-type": "text/event-stream"}, content=endless())]
        )
        assert list(script.client().watch("small-1")) == [SUMMARIES[4]]

    def test_a_broken_stream_goes_on_after_the_last_event(self) -> None:
        script = Script(events=[lambda: sent(0, 1, broken=True), lambda: sent(2, broken=True), lambda: sent(3, 4)])
        assert list(script.client().watch("small-1")) == SUMMARIES
        assert [request.headers.get("last-event-id") for request in script.asked] == [None, "1", "2"]

    def test_what_is_sent_twice_is_told_once(self) -> None:
        script = Script(events=[lambda: sent(0, 1), lambda: sent(1, 2, 3), lambda: sent(3, 3, 4)])
        assert list(script.client().watch("small-1")) == SUMMARIES

    def test_a_server_may_be_gone_in_between(self) -> None:
        script = Script(events=[lambda: sent(0, 1), *[gone] * 6, lambda: sent(2, 3, 4)])
        assert list(script.client().watch("small-1")) == SUMMARIES
        assert script.waited == [0.5, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]

    def test_a_proxy_may_answer_for_a_server_that_is_started_again(self) -> None:
        proxy = [lambda status=status: httpx.Response(status, text="<html>") for status in (502, 504, 503, 503, 502)]
        script = Script(
            events=[lambda: sent(0, 1), *proxy, lambda: sent(2, 3, 4)],
            status=[*proxy, lambda: as_json(SUMMARIES[3]), lambda: as_json(SUMMARIES[4])],
        )
        gone_for: list[str] = []
        watched = list(script.client().watch("small-1", on_gone=lambda error: gone_for.append(str(error))))
        assert watched[:2] == SUMMARIES[:2]
        assert watched[-1] == SUMMARIES[4]
        assert len(gone_for) == 1
        assert "502 Bad Gateway" in gone_for[0]

    def test_a_proxy_that_never_reached_a_server_is_told_at_once(self) -> None:
        with raises("service.rejected", "502"):
            list(Script(events=[lambda: httpx.Response(502)]).client().watch("small-1"))

    def test_but_not_for_longer_than_patience_lasts(self) -> None:
        now = [0.0]

        def wait(seconds: float) -> None:
            now[0] += seconds

        script = Script(events=[lambda: sent(0, 1), gone])
        transport = Transport(URL, wait=wait, through=httpx.MockTransport(script))
        watch = iter(Watch(transport, "runs/small-1", Patience(60.0, lambda: now[0])))
        assert [next(watch), next(watch)] == SUMMARIES[:2]
        with raises("service.unreachable"):
            next(watch)
        assert 60.0 < now[0] < 70.0

    def test_a_server_that_never_answered_is_told_at_once(self) -> None:
        script = Script(events=[gone])
        with raises("service.unreachable", remedy=Remedy("serve")):
            list(script.client().watch("small-1"))
        assert script.waited == []

    def test_where_streams_do_not_get_through_it_asks(self) -> None:
        script = Script(
            events=[lambda: stream(), lambda: stream(b": ping\n\n"), lambda: stream(broken=True)],
            status=[lambda n=n: as_json(SUMMARIES[n]) for n in (0, 0, 1, 1, 1, 3, 4)],
        )
        assert list(script.client().watch("small-1")) == [SUMMARIES[n] for n in (0, 1, 3, 4)]
        assert script.times("events") == 3
        assert script.waited[3:] == [2.0] * 6

    def test_a_server_with_too_many_watchers_is_asked(self) -> None:
        script = Script(
            events=[lambda: problem(503, "too many watchers")], status=[lambda c=c: as_json(c) for c in SUMMARIES[3:]]
        )
        assert list(script.client().watch("small-1")) == SUMMARIES[3:]

    def test_a_run_that_is_not_there_is_told(self) -> None:
        with raises("run.unknown", "small-1"):
            list(
                Script(events=[lambda: problem(404, "unknown run 'small-1'", type="/problems#run.unknown")])
                .client()
                .watch("small-1")
            )

    def test_an_unexpected_event_is_an_error(self) -> None:
        script = Script(events=[lambda: stream(b'data: {"hello": 1}\n\n')])
        with raises("service.unexpected-response"):
            list(script.client().watch("small-1"))

    def test_a_page_in_place_of_a_stream_counts_as_no_stream(self) -> None:
        script = Script(
            events=[lambda: httpx.Response(200, headers={"content-type": "text/html"}, text="<html>")],
            status=[lambda n=n: as_json(SUMMARIES[n]) for n in (0, 4)],
        )
        gone_for: list[ServiceError] = []
        watched = list(script.client().watch("small-1", on_gone=gone_for.append))
        assert watched == [SUMMARIES[0], SUMMARIES[4]]
        assert script.times("events") == 3
        assert gone_for == []  # the server answers, so nobody is to wait for it

    def test_the_server_says_how_long_to_wait(self) -> None:
        script = Script(events=[lambda: stream(b"retry: 1500\n" + event(SUMMARIES[0], 0)), lambda: sent(4)])
        assert list(script.client().watch("small-1")) == [SUMMARIES[0], SUMMARIES[4]]
        assert script.waited == [1.5]


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
