"""What is asked again and what never is, and what a user reads where a server refuses, is gone, or is another one."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from nas.errors import Remedy, ServiceError
from nas.service.api.schemas import Health, RunSummary
from nas.service.client import NasClient, RefusedError, UnreachableError
from tests.errors import raises
from tests.nas.service.client.answers import URL, Script, Stream, as_json, gone, problem, summary


def health() -> httpx.Response:
    return httpx.Response(200, json={"status": "ok", "version": "0.1.0"})


def busy() -> httpx.Response:
    return httpx.Response(503, headers={"retry-after": "3"}, text="starting")


def broken() -> httpx.Response:
    raise httpx.ReadError("connection reset by peer")


class TestTryingAgain:
    @pytest.mark.parametrize("failure", [gone, broken, busy])
    def test_a_question_is_asked_three_times(self, failure: httpx.Response) -> None:
        script = Script(health=[failure, failure, health])
        assert script.client().health() == Health(version="0.1.0")
        assert len(script.asked) == 3
        assert script.waited == ([3.0, 3.0] if failure is busy else [0.2, 0.4])

    @pytest.mark.parametrize(
        ("failure", "error"), [(gone, UnreachableError), (broken, UnreachableError), (busy, RefusedError)]
    )
    def test_and_no_more_often(self, failure: httpx.Response, error: type[ServiceError]) -> None:
        script = Script(health=[failure])
        with pytest.raises(error):
            script.client().health()
        assert len(script.asked) == 3

    @pytest.mark.parametrize("failure", [gone, broken, busy])
    def test_what_changes_something_is_asked_once(self, failure: httpx.Response) -> None:
        script = Script(runs=[failure], cancel=[failure])
        with pytest.raises(ServiceError):
            script.client().submit("name: a")
        with pytest.raises(ServiceError):
            script.client().cancel("small-1")
        assert len(script.asked) == 2
        assert script.waited == []

    def test_a_refusal_is_no_reason_to_ask_again(self) -> None:
        script = Script(front=[lambda: problem(409, "small-1: has no front yet", type="/problems#run.wrong-state")])
        with raises("run.wrong-state", "small-1"):
            script.client().front("small-1")
        assert len(script.asked) == 1

    def test_a_server_that_is_not_ready_says_so_and_is_not_asked_again(self) -> None:
        script = Script(ready=[lambda: httpx.Response(503, json={"ready": False, "parts": {"ray": "starting"}})])
        assert script.client().ready().parts == {"ray": "starting"}
        assert len(script.asked) == 1


class TestWhatAUserReads:
    def test_of_a_server_that_is_not_there(self) -> None:
        with raises("service.unreachable", URL, remedy=Remedy("serve")):
            Script(health=[gone]).client().health()

    def test_of_a_run_that_is_not_there_the_servers_own_words(self) -> None:
        said = "unknown run 'smal-1' in runs; did you mean 'small-1'? Known: small-1."
        script = Script(status=[lambda: problem(404, said)])
        with pytest.raises(RefusedError) as caught:
            script.client().status("smal-1")
        assert str(caught.value) == said
        assert caught.value.problem.status == 404

    def test_of_a_token_that_is_wrong_and_never_the_token(self) -> None:
        script = Script(health=[lambda: problem(401, "a bearer token is needed")])
        with raises("service.unauthorized", "NAS_TOKEN") as caught:
            script.client("secret-4711").health()
        assert "secret-4711" not in str(caught.value)
        assert script.asked[0].headers["authorization"] == "Bearer secret-4711"

    def test_of_a_job_that_is_wrong_every_field(self) -> None:
        wrong = [
            {"field": "search.evaluations", "message": "expected at least 1"},
            {"field": "", "message": "too large"},
        ]
        script = Script(runs=[lambda: problem(422, "the job is wrong", errors=wrong)])
        with pytest.raises(RefusedError) as caught:
            script.client().submit("name: a")
        assert str(caught.value).splitlines() == [
            "the job is wrong", "  search.evaluations: expected at least 1", "  too large",
        ]  # fmt: skip

    def test_of_a_proxy_that_answers_in_its_place(self) -> None:
        script = Script(health=[lambda: httpx.Response(403, text="<html>Forbidden by proxy</html>")])
        with raises("service.rejected", f"{URL}/api/v1/health", "403 Forbidden"):
            script.client().health()

    @pytest.mark.parametrize("said", ["<html>", '{"status": "ok"}', '{"status": "bad", "version": "1"}', "[]"])
    def test_of_another_program_that_answers(self, said: str) -> None:
        script = Script(health=[lambda: httpx.Response(200, text=said)])
        with raises("service.unexpected-response", URL):
            script.client().health()

    def test_of_a_server_that_has_moved_and_the_token_stays_here(self) -> None:
        script = Script(health=[lambda: httpx.Response(308, headers={"location": "https://nas.other/api/v1/health"})])
        with raises("service.moved", "https://nas.other/api/v1/health"):
            script.client("secret").health()
        assert len(script.asked) == 1

    @pytest.mark.parametrize(
        "url", ["", "localhost:8700", "ftp://here", "http://", "http://u:p@here", "http://here?a=b", "http://:80:"]
    )
    def test_of_what_is_no_url(self, url: str) -> None:
        with raises("service.invalid-url"):
            NasClient(url)

    @pytest.mark.parametrize("token", ["", "a b", "a\nX-Evil: 1", "schlüssel", "\x00"])
    def test_of_a_token_that_cannot_be_sent(self, token: str) -> None:
        with raises("service.invalid-token", "nas token make") as caught:
            NasClient(URL, token)
        assert not token or token not in str(caught.value)

    def test_of_a_server_without_tls(self) -> None:
        def otherwise() -> httpx.Response:
            raise httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number")

        with raises("service.no-tls", "http://"):
            Script(health=[otherwise]).client().health()

    def test_of_an_answer_that_cannot_be_unpacked(self) -> None:
        packed = {"content-encoding": "gzip"}
        script = Script(health=[lambda: httpx.Response(200, headers=packed, stream=Stream(b"no gzip"))])
        with raises("service.unreachable"):
            script.client().health()

    @pytest.mark.parametrize(
        ("ask", "values"),
        [
            (lambda client: client.export("a", index=-1), ("index", "'-1'")),
            (lambda client: client.export("a", select="x" * 501), ("select", "500")),
            (
                lambda client: client.resume("a", evaluations="many"),
                ("evaluations", "'many'"),
            ),
            (lambda client: client.submit("name: a", hardware=["a"] * 17), ("hardware", "16")),
            (lambda client: client.submit("name: a", hardware=["\udcff"]), ("Unicode",)),
            (lambda client: client.add_profile("x" * 10_001), ("profile", "10000")),
            (lambda client: client.status("\udcff"), ("\\udcff",)),
        ],
    )
    def test_of_an_invalid_request_before_it_is_sent(
        self, ask: Callable[[NasClient], object], values: tuple[str, ...]
    ) -> None:
        script = Script()
        with raises("request.invalid", *values):
            ask(script.client())
        assert script.asked == []


def test_unknown_fields_of_a_newer_server_are_ignored() -> None:
    newer = {**summary().model_dump(mode="json"), "colour": "blue"}
    script = Script(runs=[lambda: httpx.Response(200, json={"total": 1, "offset": 0, "runs": [newer], "next": None})])
    assert script.client().runs().runs == (summary(),)


def test_names_cannot_leave_their_place_in_a_path() -> None:
    script = Script(status=[lambda: as_json(summary())])
    assert isinstance(script.client().status("../../admin?x=1#y/é"), RunSummary)
    assert script.asked[0].url.raw_path == b"/api/v1/runs/..%2F..%2Fadmin%3Fx%3D1%23y%2F%C3%A9/status"


def test_a_path_before_the_api_is_kept() -> None:
    script = Script(health=[health])
    NasClient("https://team.test/nas/", through=httpx.MockTransport(script)).health()
    assert str(script.asked[0].url) == "https://team.test/nas/api/v1/health"


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    with raises("service.unreachable", "http://127.0.0.1:9", "refused"):
        NasClient("http://127.0.0.1:9", wait=lambda _: None).health()
