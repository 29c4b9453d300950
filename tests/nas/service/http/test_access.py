"""Who may ask: tokens, cookies, and how often."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient

from nas.errors import JobError, ServiceError, UnknownNameError
from nas.service.http.access import COOKIE, Access, RateLimit, network_of
from nas.service.http.app import create_app
from nas.service.http.security import is_local_path
from nas.service.http.tokens import Tokens
from nas.service.people import Caller, Role
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from tests.errors import raises
from tests.nas.commands import SMALL_JOB

HOST = "http://10.0.0.5:8700"
DAY_S = 86400.0


class Clock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(tmp_path: Path, clock: Clock) -> Tokens:
    return Tokens(tmp_path / "runs" / ".service" / "tokens.json", clock)


@pytest.fixture
def guarded(service: Service, settings: ServiceSettings, tokens: Tokens) -> Iterator[TestClient]:
    """A server that others than this machine's users reach."""
    app = create_app(service, replace(settings, host="0.0.0.0"), tokens=tokens)
    with TestClient(app, base_url=HOST, follow_redirects=False) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_token_is_stored_as_a_digest_that_only_its_owner_can_read(tokens: Tokens, tmp_path: Path) -> None:
    made = tokens.make("ada", lifetime_s=DAY_S)
    path = tmp_path / "runs" / ".service" / "tokens.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made not in path.read_text()
    assert made.startswith("nas_")
    assert len(made) > 40
    (kept,) = tokens.entries()
    assert (kept.name, kept.created, kept.expires) == ("ada", 1000.0, 1000.0 + DAY_S)
    assert tokens.holder(made) == Caller("ada", Role.MEMBER)
    assert tokens.holder(made[:-1]) is tokens.holder("") is tokens.holder("é\ud800") is None


def test_tokens_expire_and_are_revoked(tokens: Tokens, clock: Clock) -> None:
    short, long = tokens.make("ada", lifetime_s=DAY_S), tokens.make("bob", lifetime_s=None)
    with raises("name.taken"):
        tokens.make("ada", lifetime_s=DAY_S)
    clock.now += DAY_S
    assert tokens.holder(short) is None
    assert tokens.holder(long) == Caller("bob", Role.MEMBER)
    again = tokens.make("ada", lifetime_s=DAY_S)
    assert tokens.holder(again) == Caller("ada", Role.MEMBER)
    tokens.revoke("bob")
    assert tokens.holder(long) is None
    with pytest.raises(UnknownNameError):
        tokens.revoke("bob")
    with pytest.raises(JobError):
        tokens.make("a b", lifetime_s=None)


def test_another_process_changes_tokens_of_a_server_that_runs(tokens: Tokens, clock: Clock, tmp_path: Path) -> None:
    made = tokens.make("ada", lifetime_s=None)
    assert tokens.holder(made) == Caller("ada", Role.MEMBER)
    Tokens(tmp_path / "runs" / ".service" / "tokens.json", clock).revoke("ada")
    assert tokens.holder(made) is None


def test_a_damaged_token_file_rejects_all_requests(guarded: TestClient, tokens: Tokens, tmp_path: Path) -> None:
    made = tokens.make("ada", lifetime_s=None)
    (tmp_path / "runs" / ".service" / "tokens.json").write_text("{")
    assert guarded.get("/api/v1/runs", headers=bearer(made)).status_code == 503


def test_without_a_valid_token_only_public_addresses_are_answered(
    guarded: TestClient, tokens: Tokens, clock: Clock
) -> None:
    made = tokens.make("ada", lifetime_s=DAY_S)
    paths = ["runs", "ready", "metrics", "openapi.json", "profiles", "recipes", "runs/x/events", "nothing"]
    wrong = [{}, bearer("nas_wrong"), bearer(""), {"authorization": f"Basic {made}"}, {"cookie": f"{COOKIE}=nas_wrong"}]
    for path in paths:
        for headers in wrong:
            answer = guarded.get(f"/api/v1/{path}", headers=headers)
            assert answer.status_code == 401, (path, headers)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"
    assert guarded.post("/api/v1/runs", json={"job": SMALL_JOB}).status_code == 401
    assert guarded.get(f"/api/v1/runs?token={made}").status_code == 401
    assert guarded.get("/api/v1/health").json()["status"] == "ok"
    assert guarded.get("/problems").status_code == 200
    assert guarded.get("/api/v1/runs", headers=bearer(made)).status_code == 200
    clock.now += DAY_S
    assert guarded.get("/api/v1/runs", headers=bearer(made)).status_code == 401


def test_the_submitter_of_a_run_is_the_name_of_the_token(guarded: TestClient, tokens: Tokens) -> None:
    made = tokens.make("ada", lifetime_s=None)
    answer = guarded.post("/api/v1/runs", json={"job": SMALL_JOB}, headers=bearer(made))
    assert answer.status_code == 201
    assert answer.json()["submitter"] == "ada"
    assert answer.headers["location"] == f"/api/v1/runs/{answer.json()['run']}"


def test_tokens_are_never_logged(
    guarded: TestClient, tokens: Tokens, caplog: pytest.LogCaptureFixture, runs: object
) -> None:
    caplog.set_level("DEBUG")
    made = tokens.make("ada", lifetime_s=None)
    guarded.get(f"/api/v1/runs?token={made}", headers=bearer(made))
    guarded.post("/login", data={"token": made})
    guarded.get("/api/v1/runs", headers=bearer(made + "x"))
    own = [record for record in caplog.records if record.name.startswith("nas.")]
    assert [vars(record)["token"] for record in own] == ["ada", "", ""]
    assert made not in json.dumps([{k: str(v) for k, v in vars(record).items()} for record in own])


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_alone(guarded: TestClient, tokens: Tokens, scheme: str) -> None:
    made = tokens.make("ada", lifetime_s=DAY_S)
    origin = {"origin": HOST.replace("http", scheme)}
    for path in ("/login", "/logout"):
        answer = guarded.post(path, data={"token": made}, headers={**origin, "cookie": f"{COOKIE}={made}"})
        cookie = answer.headers["set-cookie"].lower()
        assert ("; secure" in cookie) is (scheme == "https")


def test_signing_in_sets_a_cookie_that_no_script_reads(guarded: TestClient, tokens: Tokens) -> None:
    made = tokens.make("ada", lifetime_s=DAY_S)
    refused = guarded.post("/login", data={"token": "nas_wrong", "next": "/runs/x"})
    assert (refused.status_code, refused.headers["location"]) == (303, "/login?next=/runs/x&refused=1")
    assert "set-cookie" not in refused.headers
    signed = guarded.post("/login", data={"token": f" {made}\n", "next": "/runs/x"})
    assert (signed.status_code, signed.headers["location"]) == (303, "/runs/x")
    cookie = signed.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert guarded.get("/api/v1/runs").status_code == 200  # by the cookie
    assert guarded.post("/api/v1/runs", json={"job": SMALL_JOB}, headers={"origin": HOST}).status_code == 201
    crossed = guarded.post("/api/v1/runs", json={"job": SMALL_JOB}, headers={"origin": "http://evil.example"})
    assert crossed.status_code == 403
    out = guarded.post("/logout")
    assert "max-age=0" in out.headers["set-cookie"].lower()
    assert guarded.get("/api/v1/runs").status_code == 401


@pytest.mark.parametrize("beside", ['x={"a":"b c"}', "a b", 'x="half', "ключ=1", "=", "x=[1, 2]; y", "$Path=/"])
def test_cookies_of_other_servers_on_this_machine_are_ignored(guarded: TestClient, tokens: Tokens, beside: str) -> None:
    made = tokens.make("ada", lifetime_s=None)
    for cookies in (f"{beside}; {COOKIE}={made}", f"{COOKIE}={made}; {beside}"):
        assert guarded.get("/api/v1/runs", headers=[(b"cookie", cookies.encode())]).status_code == 200


@pytest.mark.parametrize("path", ["/", "/runs/x", "/compare?runs=a&runs=b"])
def test_signing_in_leads_on_to_pages_of_this_server(path: str) -> None:
    assert is_local_path(path)


@pytest.mark.parametrize(
    "path",
    ["", "//evil.example", "/\\evil.example", "http://evil.example", "javascript:x", "/a\nb", "/ b", "/a\\b", "x"],
)
def test_signing_in_never_leads_to_another_server(guarded: TestClient, tokens: Tokens, path: str) -> None:
    assert not is_local_path(path)
    made = tokens.make("ada", lifetime_s=None)
    assert guarded.post("/login", data={"token": made, "next": path}).headers["location"] == "/"
    refused = guarded.post("/login", data={"token": "nas_wrong", "next": path})
    assert refused.headers["location"] == "/login?next=/&refused=1"


def test_pages_redirect_to_the_form_without_a_token(guarded: TestClient) -> None:
    answer = guarded.get("/runs/x", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/runs/x")
    assert guarded.get("/runs/x", headers={"accept": "application/json"}).status_code == 401
    out = guarded.post("/logout", headers={"accept": "text/html"})  # with a token that has expired, say
    assert (out.status_code, out.headers["location"]) == (303, "/login?next=/")
    wanted = "/compare?runs=a&runs=b%26c&next=//evil.example"
    led = guarded.get(wanted, headers={"accept": "text/html"}).headers["location"]
    assert parse_qs(urlsplit(led).query) == {"next": [wanted]}


def test_a_public_server_accepts_only_its_address_and_its_names(
    service: Service, settings: ServiceSettings, tokens: Tokens
) -> None:
    named = replace(settings, host="0.0.0.0", names=("nas.example",))
    client = TestClient(create_app(service, named, tokens=tokens), base_url=HOST)
    for host, status in {"nas.example": 200, "NAS.example:443": 200, "192.168.1.2:8700": 200, "[::1]": 200}.items():
        assert client.get("/api/v1/health", headers={"host": host}).status_code == status
    for host in ("evil.example", "nas.example.evil.example", "xnas.example"):
        assert client.get("/api/v1/health", headers={"host": host}).status_code == 400


def test_a_name_for_a_proxy_makes_tokens_needed(settings: ServiceSettings) -> None:
    assert not settings.needs_token
    assert replace(settings, names=("nas.example",)).needs_token
    assert replace(settings, host="0.0.0.0").needs_token


def test_requests_are_counted_by_token(service: Service, settings: ServiceSettings, tokens: Tokens) -> None:
    limited = replace(settings, host="0.0.0.0", limits=Limits(requests_per_minute=12))  # so two at once
    ada, bob = bearer(tokens.make("ada", lifetime_s=None)), bearer(tokens.make("bob", lifetime_s=None))
    client = TestClient(create_app(service, limited, tokens=tokens), base_url=HOST)
    assert [client.get("/api/v1/runs", headers=ada).status_code for _ in range(3)] == [200, 200, 429]
    answer = client.get("/api/v1/runs", headers=ada)
    assert answer.json()["status"] == 429
    assert int(answer.headers["retry-after"]) > 0
    assert client.get("/api/v1/runs", headers=bob).status_code == 200
    assert [client.get("/api/v1/runs", headers=bearer("x")).status_code for _ in range(3)] == [401, 401, 429]


def test_a_rate_limit_allows_a_burst_and_then_single_requests(clock: Clock) -> None:
    rate = RateLimit(60, clock)
    assert [rate.allows("a") for _ in range(11)] == [True] * 10 + [False]
    assert rate.allows("b")
    clock.now += 1.0
    assert [rate.allows("a"), rate.allows("a")] == [True, False]
    clock.now += 3600
    assert sum(rate.allows("a") for _ in range(50)) == 10


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_limits_are_of_an_address_or_of_an_ipv6_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_requests_are_limited_while_tokens_cannot_be_read(settings: ServiceSettings) -> None:
    def fail(token: str) -> None:
        raise ServiceError("the tokens cannot be read")

    access = Access(replace(settings, limits=Limits(requests_per_minute=12)), fail)
    scope = {"type": "http", "path": "/api/v1/runs", "method": "GET", "headers": [(b"authorization", b"Bearer x")]}
    responses = [access.rejection(scope) for _ in range(3)]
    assert [response.status_code for response in responses if response] == [503, 503, 429]
