"""Signing in with a provider: the way there and back, whatever is wrong on it, roles, and the end of a session."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from nas.engine.store.folder import RunsFolder
from nas.errors import ServiceError
from nas.service.http.app import create_app
from nas.service.http.tokens import Tokens
from nas.service.people import Caller, Role
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.sign_on.provider import SignInError
from nas.service.sign_on.sessions import PREFIX, Sessions, SignedCookies
from nas.service.sign_on.settings import RoleRule, SignOnSettings
from nas.service.sign_on.sign_on import SignOn
from nas.service.state import ServiceState
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.service.made_runs import Jobs
from tests.nas.service.sign_on.openid_provider import CLIENT, SECRET, OpenIdProvider, running_provider

HERE = "http://127.0.0.1:8700"
RULES = tuple(map(RoleRule.parse, ("groups=nas-admins:administrator", "groups=nas:member", "department=sales:reader")))
WRONG_TYPE = "eyJhbGciOiJIUzI1NiIsImNyaXQiOjF9.e30.AA"
"""A token whose header is {"alg":"HS256","crit":1}."""
HTML = {"Accept": "text/html"}


class Clock:
    """The time of day, put forward by hand."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[OpenIdProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: OpenIdProvider) -> OpenIdProvider:
    shared_provider.reset()
    return shared_provider


def settings_of(provider: OpenIdProvider, **values: Any) -> SignOnSettings:
    provider.server.client.redirect_uri = f"{values.get('public_url', HERE)}/login/callback"
    return SignOnSettings(provider.issuer, CLIENT, **{"public_url": HERE, "secret": SECRET, **values})


def sign_in(sign_on: SignOn, wanted: str = "/") -> tuple[Caller | None, str]:
    """The person after a whole sign-in, and the page to go to."""
    url, cookie = sign_on.begin(wanted)
    session, page = sign_on.finish(answer_of(url), cookie)
    return sign_on.sessions.holder(session), page


def answer_of(url: str) -> dict[str, str]:
    """The parameters with which the provider sends the browser back."""
    answer = httpx.get(url)
    assert answer.status_code == 302, answer.text
    return {name: last for name, (*_, last) in parse_qs(urlsplit(answer.headers["location"]).query).items()}


@pytest.fixture
def sign_on(provider: OpenIdProvider, tmp_path: Path) -> SignOn:
    return SignOn(settings_of(provider), tmp_path)


def test_a_person_signs_in_with_code_and_pkce(sign_on: SignOn, provider: OpenIdProvider) -> None:
    url, _ = sign_on.begin("/runs/made-1")
    sent = parse_qs(urlsplit(url).query)
    assert (sent["response_type"], sent["code_challenge_method"]) == (["code"], ["S256"])
    assert sent["redirect_uri"] == [f"{HERE}/login/callback"]
    assert min(len(sent[name][0]) for name in ("state", "nonce", "code_challenge")) >= 43
    assert sign_in(sign_on, "/runs/made-1") == (Caller("ada", Role.MEMBER), "/runs/made-1")
    assert provider.asked.count("/realm/keys") == 1
    sign_in(sign_on)
    assert provider.asked.count("/realm/keys") == 1


def test_a_public_client_needs_no_secret(provider: OpenIdProvider, tmp_path: Path) -> None:
    provider.server.client.secret = None
    assert sign_in(SignOn(settings_of(provider, secret=None), tmp_path))[0] == Caller("ada", Role.MEMBER)


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"groups": ["staff", "nas-admins", "nas"]}, Role.ADMINISTRATOR),
        ({"groups": ["nas"]}, Role.MEMBER),
        ({"groups": "nas"}, Role.MEMBER),
        ({"department": "sales"}, Role.READER),
        ({"groups": ["NAS", "nas-admins2"]}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("place", ["claims", "info"])
def test_claims_decide_the_role(
    provider: OpenIdProvider, tmp_path: Path, claims: dict[str, Any], role: Role | None, place: str
) -> None:
    getattr(provider.person, place).update(claims)
    sign_on = SignOn(settings_of(provider, roles=RULES), tmp_path)
    if role is None:
        with raises("sign-on.rejected", "ada"):
            sign_in(sign_on)
    else:
        assert sign_in(sign_on)[0] == Caller("ada", role)


def test_another_claim_names_the_person(provider: OpenIdProvider, tmp_path: Path) -> None:
    sign_on = SignOn(settings_of(provider, person_claim="email"), tmp_path)
    with raises("sign-on.rejected", "'email'"):
        sign_in(sign_on)
    provider.person.claims |= {"email": "ada@team.example", "email_verified": True}
    assert sign_in(sign_on)[0] == Caller("ada@team.example", Role.MEMBER)


@pytest.mark.parametrize("verified", [False, "false", 0, 1, None, ...], ids=str)
def test_addresses_that_are_not_verified_do_not_count(
    provider: OpenIdProvider, tmp_path: Path, verified: object
) -> None:
    is_stated = verified is not ...
    provider.person.claims |= {"email": "ada@team.example"} | ({"email_verified": verified} if is_stated else {})
    rules = (RoleRule("email", "ada@team.example", Role.ADMINISTRATOR),)
    for values in ({"person_claim": "email"}, {"roles": rules}):
        with raises("sign-on.rejected", "ada"):
            sign_in(SignOn(settings_of(provider, **values), tmp_path))
    trusting = SignOn(settings_of(provider, person_claim="email", roles=rules, trusts_email=True), tmp_path)
    if is_stated:
        with raises("sign-on.rejected", "email_verified"):
            sign_in(trusting)
    else:
        assert sign_in(trusting)[0] == Caller("ada@team.example", Role.ADMINISTRATOR)


@pytest.mark.parametrize("place", ["claims", "info"])
def test_a_provider_may_send_as_a_text_that_an_address_is_verified(
    provider: OpenIdProvider, tmp_path: Path, place: str
) -> None:
    provider.person.claims["email"] = "ada@team.example"
    getattr(provider.person, place)["email_verified"] = "true"
    assert sign_in(SignOn(settings_of(provider, person_claim="email"), tmp_path))[0]


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": [CLIENT, "another-client"]},
        {"aud": [CLIENT, "another-client"], "azp": "another-client"},
        {"azp": "another-client"},
        {"iss": "https://another.example"},
        {"exp": 1},
        {"exp": None},
        {"iat": 10**10},
        {"sub": None},
        {"preferred_username": ""},
        {"preferred_username": 7},
        {"preferred_username": "a\nb"},
    ],
    ids=str,
)
def test_an_id_token_that_is_not_for_this_sign_in_is_rejected(
    sign_on: SignOn, provider: OpenIdProvider, change: dict[str, Any]
) -> None:
    def make_wrong(claims: dict[str, Any]) -> None:
        claims.update(change)
        for name in [name for name, value in claims.items() if value is None]:
            del claims[name]

    provider.person.change = make_wrong
    with raises("sign-on.rejected"):
        sign_in(sign_on)


def test_signatures_by_other_keys_are_rejected_and_new_keys_of_the_provider_are_taken(
    provider: OpenIdProvider, tmp_path: Path
) -> None:
    clock = Clock()
    sign_on = SignOn(settings_of(provider), tmp_path, clock)
    assert sign_in(sign_on)[0]
    other = RSAKey.generate_key(2048, {"kid": "one"})
    provider.key, published = other, provider.key
    with raises("sign-on.rejected"):
        sign_in(sign_on)
    provider.key = RSAKey.generate_key(2048, {"kid": "two"})
    provider.published = [published, provider.key]
    clock.ahead_s += 11  # keys are asked for every ten seconds at most
    assert sign_in(sign_on)[0]


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_id_tokens_without_a_signature_of_the_provider_are_rejected(
    sign_on: SignOn, provider: OpenIdProvider, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = provider.id_token

    def forged() -> str:
        head, body, _ = make().split(".")
        if algorithm == "HS256":
            claims = jwt.decode(f"{head}.{body}.{make().split('.')[2]}", provider.key).claims
            return jwt.encode({"alg": "HS256", "kid": "one"}, claims, OctKey.import_key(SECRET * 4))
        return "eyJhbGciOiJub25lIn0." + body + "."

    monkeypatch.setattr(provider, "id_token", forged)
    with raises("sign-on.rejected"):
        sign_in(sign_on)


def responses() -> list[tuple[str, Callable[[dict[str, str]], dict[str, str]]]]:
    return [
        ("another state", lambda response: {**response, "state": "x"}),
        ("no state", lambda response: {"code": response["code"]}),
        ("another code", lambda response: {**response, "code": "x"}),
        ("no code", lambda response: {"state": response["state"]}),
        ("another issuer", lambda response: {**response, "iss": "https://another.example"}),
        ("an error", lambda response: {"state": response["state"], "error": "access_denied"}),
    ]


@pytest.mark.parametrize(("case", "change"), responses(), ids=[case for case, _ in responses()])
def test_a_response_that_does_not_fit_is_rejected(
    sign_on: SignOn, case: str, change: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    url, cookie = sign_on.begin("/")
    response = answer_of(url)
    with raises("sign-on.rejected"):
        sign_on.finish(change(response), cookie)
    assert sign_on.finish(response, cookie)
    with raises("sign-on.rejected"):  # a code is good for once
        sign_on.finish(response, cookie)


def test_a_response_to_another_browser_or_too_late_is_rejected(provider: OpenIdProvider, tmp_path: Path) -> None:
    clock = Clock()
    sign_on = SignOn(settings_of(provider), tmp_path, clock)
    (url, cookie), (_, other) = sign_on.begin("/"), sign_on.begin("/")
    response = answer_of(url)
    session = sign_on.sessions.begin(Caller("eve", Role.READER)).removeprefix(PREFIX)
    for wrong in ("", "x", WRONG_TYPE, other, cookie[:-4] + "AAAA", session):
        with raises("sign-on.rejected", "browser"):
            sign_on.finish(response, wrong)
    clock.ahead_s += 601
    with raises("sign-on.rejected", "10 minutes"):
        sign_on.finish(response, cookie)


def test_a_provider_that_denies_is_quoted(sign_on: SignOn, provider: OpenIdProvider) -> None:
    provider.person.denies = True
    url, cookie = sign_on.begin("/")
    with raises("sign-on.rejected", "access_denied"):
        sign_on.finish(answer_of(url), cookie)


@pytest.mark.parametrize(
    "described",
    [
        {"issuer": "https://another.example"},
        {"token_endpoint": None},
        {"jwks_uri": 7},
        {"token_endpoint": "http://team.example/token"},
        {"userinfo_endpoint": "http://team.example/userinfo"},
    ],
    ids=str,
)
def test_a_provider_that_describes_another_one_is_not_used(
    sign_on: SignOn, provider: OpenIdProvider, described: dict[str, Any]
) -> None:
    provider.described = described
    with raises("sign-on.unavailable"):
        sign_on.begin("/")
    provider.described = {}
    assert sign_in(sign_on)[0]


def test_a_provider_that_is_away(tmp_path: Path) -> None:
    sign_on = SignOn(SignOnSettings("http://127.0.0.1:1/realm", CLIENT, HERE), tmp_path)
    with raises("sign-on.unavailable", "http://127.0.0.1:1/realm") as caught:
        sign_on.begin("/")
    assert isinstance(caught.value, ServiceError)
    assert not isinstance(caught.value, SignInError)


def test_sessions_are_signed_bounded_and_ended(tmp_path: Path) -> None:
    clock = Clock()

    def sessions() -> Sessions:
        return Sessions(SignedCookies(tmp_path, clock), tmp_path, lifetime_s=3600, clock=clock)

    first, ada = sessions(), Caller("ada", Role.MEMBER)
    cookie, other = first.begin(ada), first.begin(ada)
    assert first.holder(cookie) == sessions().holder(cookie) == ada  # also of the next server
    head, body, signature = cookie.removeprefix(PREFIX).split(".")
    claims = {"name": "eve", "role": "administrator", "aud": "session", "exp": 10**10, "jti": "1"}
    forged = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key("x" * 32))
    for wrong in (
        "",
        PREFIX,
        cookie.removeprefix(PREFIX),
        f"{PREFIX}{head}.{body}.",
        f"{PREFIX}{head}.{body}.{signature[:-3]}AAA",
        f"{PREFIX}eyJhbGciOiJub25lIn0.{body}.",
        PREFIX + forged,
        PREFIX + WRONG_TYPE,
        PREFIX + SignedCookies(tmp_path, clock).signed("sign-in", {"name": "ada", "role": "member"}, lifetime_s=60),
    ):
        assert first.holder(wrong) is None, wrong
    first.end(cookie)
    first.end("nonsense")
    assert first.holder(cookie) is None
    assert sessions().holder(cookie) is None
    assert sessions().holder(other) == ada
    clock.ahead_s += 3601
    assert first.holder(other) is None
    first.end(first.begin(ada))
    assert len(json.loads((tmp_path / "signed-out.json").read_bytes())) == 1  # what has expired is forgotten
    assert (tmp_path / "session.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "session.key").write_text("no key")
    with raises("sign-on.key-damaged", "session.key"):
        sessions()


@pytest.mark.parametrize(
    ("values", "mention"),
    [
        ({"issuer": "team.example"}, "--oidc-issuer"),
        ({"issuer": "http://team.example"}, "https://"),
        ({"issuer": "https://team.example?x=1"}, "--oidc-issuer"),
        ({"public_url": "http://nas.team.example"}, "--public-url"),
        ({"client": ""}, "--oidc-client"),
    ],
)
def test_settings_that_cannot_work_are_rejected(values: dict[str, str], mention: str) -> None:
    usual = {"issuer": "https://team.example", "client": "nas", "public_url": "https://nas.team.example"}
    with raises("server.settings-invalid", mention):
        SignOnSettings(**{**usual, **values})


@pytest.mark.parametrize("text", ["groups", "groups=x", "groups=x:owner", "=x:member", "groups=:member"])
def test_a_rule_that_is_none_is_rejected(text: str) -> None:
    with raises("server.settings-invalid", text):
        RoleRule.parse(text)


def test_the_public_url_has_the_path_of_the_proxy(runs: RunsFolder) -> None:
    sign_on = SignOnSettings("https://team.example", "nas", "https://nas.team.example/nas")
    assert ServiceSettings(runs, sign_on=sign_on, root_path="/nas").needs_token
    with raises("server.settings-invalid", "--root-path"):
        ServiceSettings(runs, sign_on=sign_on)


@pytest.fixture
def browser(provider: OpenIdProvider, runs: RunsFolder) -> Iterator[TestClient]:
    settings = ServiceSettings(runs, sign_on=settings_of(provider, roles=RULES))
    runs.check_writable()
    state = ServiceState.open(settings.database)
    service = Service(settings, state, Jobs())
    with TestClient(create_app(service, settings), base_url=HERE, follow_redirects=False) as client:
        yield client
    state.close()


def test_the_pages_lead_to_the_provider_and_back(
    browser: TestClient, provider: OpenIdProvider, runs: RunsFolder
) -> None:
    assert browser.get("/submit", headers=HTML).headers["location"] == "/login?next=/submit"
    assert 'href="/login/provider?next=/submit"' in browser.get("/login?next=/submit").text
    provider.person.claims["groups"] = ["nas"]
    begun = browser.get("/login/provider?next=/submit")
    cookie = begun.headers["set-cookie"].lower()
    assert "samesite=lax" in cookie
    assert "path=/login/callback" in cookie
    assert "httponly" in cookie
    back = browser.get("/login/callback", params=answer_of(begun.headers["location"]))
    assert back.status_code == 200
    assert 'content="0; url=/submit"' in back.text
    session = next(c for c in back.headers.get_list("set-cookie") if c.startswith("nas_token=session."))
    assert "SameSite=strict" in session
    assert "HttpOnly" in session
    assert "Max-Age=43200" in session
    made = browser.post("/api/v1/runs", json={"job": SMALL_JOB})
    assert (made.status_code, made.json()["submitter"]) == (201, "ada")
    kept = browser.cookies["nas_token"]
    browser.post("/logout")
    assert "nas_token" not in browser.cookies
    assert browser.get("/api/v1/runs").status_code == 401
    assert (
        browser.get("/api/v1/runs", headers={"Cookie": f"nas_token={kept}"}).status_code == 401
    )  # a copy has ended, too


def test_tokens_stay_beside_single_sign_on(browser: TestClient, runs: RunsFolder) -> None:
    token = Tokens(ServiceSettings(runs).tokens_file).make("ci", lifetime_s=None, role=Role.MEMBER)
    assert browser.get("/api/v1/runs", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert "nas_token=" in browser.post("/login", data={"token": token}).headers["set-cookie"]


@pytest.mark.parametrize("wanted", ["https://evil.example", "//evil.example", "/\\evil.example"])
def test_no_sign_in_leads_to_another_site(browser: TestClient, provider: OpenIdProvider, wanted: str) -> None:
    provider.person.claims["groups"] = ["nas"]
    begun = browser.get("/login/provider", params={"next": wanted})
    back = browser.get("/login/callback", params=answer_of(begun.headers["location"]))
    assert 'content="0; url=/"' in back.text


def test_a_person_without_a_role_gets_a_page_that_says_so(browser: TestClient, provider: OpenIdProvider) -> None:
    begun = browser.get("/login/provider")
    back = browser.get("/login/callback", params=answer_of(begun.headers["location"]), headers=HTML)
    assert back.status_code == 403
    assert "has no role on this server" in back.text
    assert "nas_token=session" not in back.headers.get("set-cookie", "")
    hostile = {"state": parse_qs(urlsplit(begun.headers["location"]).query)["state"][0], "error": "<script>x</script>"}
    shown = browser.get("/login/callback", params=hostile, headers=HTML)
    assert shown.status_code == 403
    assert "<script>x" not in shown.text


def test_sign_ons_are_in_the_audit_log(browser: TestClient, provider: OpenIdProvider, runs: RunsFolder) -> None:
    def sign_in_with(group: str) -> int:
        provider.person.claims["groups"] = [group]
        begun = browser.get("/login/provider")
        return browser.get("/login/callback", params=answer_of(begun.headers["location"])).status_code

    assert [sign_in_with(group) for group in ("nas", "staff", "nas-admins")] == [200, 403, 200]
    entries = [(e["who"], e["role"], e["action"], e["outcome"]) for e in lines_of(browser)]
    assert entries == [
        ("ada", "member", "sign in", "done"),
        ("", "", "sign in", "denied"),
        ("ada", "administrator", "sign in", "done"),
    ]


def lines_of(browser: TestClient) -> list[dict[str, Any]]:
    """The entries of the audit log, which an administrator reads."""
    return [json.loads(line) for line in browser.get("/api/v1/audit.jsonl").text.splitlines()]


def test_a_malformed_cookie_is_rejected(browser: TestClient) -> None:
    headers = {"Cookie": f"nas_token={PREFIX}{WRONG_TYPE}; nas_sign_in={WRONG_TYPE}"}
    assert browser.get("/api/v1/runs", headers=headers).status_code == 401
    assert browser.get("/login/callback", headers=headers).status_code == 403


def test_a_reader_of_the_provider_changes_nothing(browser: TestClient, provider: OpenIdProvider) -> None:
    provider.person.claims["department"] = "sales"
    begun = browser.get("/login/provider")
    browser.get("/login/callback", params=answer_of(begun.headers["location"]))
    assert browser.get("/api/v1/runs").status_code == 200
    assert browser.post("/api/v1/runs", json={"job": SMALL_JOB}).status_code == 403


def test_servers_without_single_sign_on_have_none_of_its_routes(client: TestClient) -> None:
    for path in ("/login/provider", "/login/callback"):
        assert client.get(path).status_code == 404
    assert "/login/provider" not in client.get("/login").text
