"""A small OpenID provider: authlib's server side over HTTP, with RSA keys, and answers that tests can make wrong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, grants
from authlib.oauth2.rfc6749.requests import JsonPayload, OAuth2Payload, OAuth2Request
from authlib.oauth2.rfc7636 import CodeChallenge
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT, SECRET = "nas", "only-for-tests"


@dataclass
class Client(ClientMixin):  # type: ignore[misc]
    """This provider's one client."""

    redirect_uri: str = ""
    secret: str | None = SECRET

    def get_client_id(self) -> str:
        return CLIENT

    def get_default_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == self.redirect_uri

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == ("none" if self.secret is None else "client_secret_basic")

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class Code:
    """An authorization code with what its request had."""

    code: str
    redirect_uri: str
    scope: str
    nonce: str
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


@dataclass
class Person:
    """Who signs in, without being asked.

    Attributes:
        claims: of the ID token.
        info: of the user information alone.
        change: changes the claims of the ID token last, to make it wrong.
    """

    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "1", "preferred_username": "ada"})
    info: dict[str, Any] = field(default_factory=dict)
    change: Callable[[dict[str, Any]], object] = lambda claims: None
    denies: bool = False


class Payload(OAuth2Payload):  # type: ignore[misc]
    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    @property
    def data(self) -> dict[str, str]:
        return self._values

    @property
    def datalist(self) -> dict[str, list[str]]:
        return {name: [value] for name, value in self._values.items()}


class Request(OAuth2Request):  # type: ignore[misc]
    """A request with the values of its query or its form."""

    def __init__(self, method: str, uri: str, headers: dict[str, str], values: dict[str, str]) -> None:
        super().__init__(method, uri, headers=headers)
        self.payload, self._values = Payload(values), values

    @property
    def form(self) -> dict[str, str]:
        return self._values

    args = form


class Grant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "none")

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        data = request.payload.data
        names = ("redirect_uri", "scope", "nonce", "code_challenge", "code_challenge_method")
        self.server.codes[code] = Code(code, *(data[name] for name in names))

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        found: Code | None = self.server.codes.get(code)
        return found

    def delete_authorization_code(self, authorization_code: Code) -> None:
        self.server.nonce = authorization_code.nonce
        del self.server.codes[authorization_code.code]

    def authenticate_user(self, authorization_code: Code) -> str:
        return "the person"


class Server(AuthorizationServer):  # type: ignore[misc]
    """authlib's framework-independent server over plain values."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: dict[str, Code] = {}
        self.nonce = ""
        self.client = Client()
        self.register_grant(Grant, [CodeChallenge(required=True)])
        self.register_token_generator("default", self._token)

    def query_client(self, client_id: str) -> Client | None:
        return self.client if client_id == CLIENT else None

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        """Tokens are valid while the server lives."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def create_oauth2_request(self, request: OAuth2Request) -> OAuth2Request:
        return request

    def create_json_request(self, request: Any) -> JsonPayload:
        raise NotImplementedError

    def handle_response(self, status: int, body: Any, headers: Any) -> tuple[int, Any, Any]:
        return status, body, headers

    @staticmethod
    def _token(**about: Any) -> dict[str, Any]:
        return {"token_type": "Bearer", "access_token": "an-access-token", "expires_in": 60}


class OpenIdProvider:
    """A provider on a free port.

    Attributes:
        person: who signs in next.
        key: signs ID tokens; a test may replace it.
        published: the keys that it shows.
        asked: paths of requests.
    """

    def __init__(self) -> None:
        self.issuer, self._first_key = "", RSAKey.generate_key(2048, {"kid": "one"})
        self.reset()

    def reset(self) -> None:
        """As it was before any test changed it."""
        self.person, self.server, self.asked = Person(), Server(), list[str]()
        self.key, self.published = self._first_key, [self._first_key]
        self.described: dict[str, Any] = {}

    @property
    def description(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            **self.described,
        }

    def answer(self, method: str, url: str, headers: dict[str, str], body: str) -> tuple[int, Any, dict[str, str]]:
        path, query = urlsplit(url).path, urlsplit(url).query
        self.asked.append(path)
        if path.endswith("/openid-configuration"):
            return 200, self.description, {}
        if path.endswith("/keys"):
            return 200, KeySet(self.published).as_dict(private=False), {}
        if path.endswith("/userinfo"):
            is_known = headers.get("authorization") == "Bearer an-access-token"
            return (200, {"sub": self.person.claims.get("sub"), **self.person.info}, {}) if is_known else (401, {}, {})
        values = {name: last for name, (*_, last) in parse_qs(body if method == "POST" else query).items()}
        request = Request(method, self.issuer + path, headers, values)
        if path.endswith("/authorize"):
            user = None if self.person.denies else "the person"
            grant = self.server.get_consent_grant(request, end_user=user)
            status, content, more = self.server.create_authorization_response(request, grant_user=user, grant=grant)
            return status, content, dict(more)
        status, content, more = self.server.create_token_response(request)
        if status == 200:
            content = {**content, "id_token": self.id_token()}
        return status, content, dict(more)

    def id_token(self) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": self.server.nonce}
        claims |= self.person.claims
        self.person.change(claims)
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)


@contextmanager
def running_provider() -> Iterator[OpenIdProvider]:
    """A provider that answers until the end."""
    provider = OpenIdProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            headers |= {name.title(): value for name, value in headers.items()}
            status, content, more = provider.answer(self.command, self.path, headers, body)
            sent = content.encode() if isinstance(content, str) else json.dumps(content or {}).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **more, "Content-Length": str(len(sent))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        provider.issuer = f"http://127.0.0.1:{serving.server_port}/realm"
        threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        yield provider
        serving.shutdown()
