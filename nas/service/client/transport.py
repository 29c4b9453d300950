"""HTTP requests to a server: timeouts, retries of safe requests, error responses as exceptions."""

from __future__ import annotations

import ipaddress
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from nas.errors import Remedy, ServiceError
from nas.service.api.schemas import Problem
from nas.service.client.errors import RefusedError, UnreachableError

PREFIX = "/api/v1"
_CONNECT_S, _ANSWER_S = 5.0, 60.0
UPLOAD_S = 600.0
"""Seconds that a server may take to read an upload before it answers."""
_TRIES, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 3, 0.2, 10.0
BUSY = frozenset({429, 502, 503, 504})
"""Statuses of a server or proxy that cannot answer now."""
_PROBLEM_BYTES = 1024 * 1024

Params = Mapping[str, str | int | float | bool | list[str] | None]
T = TypeVar("T")
Body = TypeVar("Body", bound=BaseModel)


class Transport:
    """HTTP connection to one server; safe to use from several threads.

    Args:
        server: its URL, e.g. ``http://127.0.0.1:8700``; a path before ``/api/v1`` is kept.
        token: sent with every request; never part of an error message.
        wait: sleeps for a number of seconds.
        through: an httpx transport to use instead of the network.

    Raises:
        ServiceError: the URL or the token is invalid, or SSL_CERT_FILE names no certificates.
    """

    def __init__(
        self,
        server: str,
        token: str | None = None,
        *,
        wait: Callable[[float], None] = time.sleep,
        through: httpx.BaseTransport | None = None,
    ) -> None:
        url = _checked_url(server)
        self.server = str(url).rstrip("/")
        self.on_loopback = _is_loopback(url.host)
        self.wait = wait
        headers = {"Accept": "application/json, application/problem+json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {_checked_token(token)}"
        self._http = httpx.Client(
            base_url=f"{self.server}{PREFIX}/",
            headers=headers,
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            transport=through,
            # A proxy from the environment cannot reach the ports of this machine.
            trust_env=not self.on_loopback,
            verify=_trusted() if url.scheme == "https" else True,
        )

    def close(self) -> None:
        """Closes the connections; idempotent."""
        self._http.close()

    def get(self, path: str, kind: type[T], params: Params | None = None, *, accept: tuple[int, ...] = ()) -> T:
        """The response to a GET request as a value of this type; `accept` has statuses besides 2xx that are no errors."""
        return self.parsed(self.read(path, params, accept=accept), kind)

    def read(self, path: str, params: Params | None = None, *, accept: tuple[int, ...] = ()) -> httpx.Response:
        """The response to a GET request; retried a few times if the server cannot answer now.

        Raises:
            RefusedError: the server rejected the request.
            UnreachableError: no server answers.
        """
        pause = _FIRST_PAUSE_S
        for last in (*[False] * (_TRIES - 1), True):
            try:
                answer = self._http.get(path, params=_without_none(params))
            except httpx.RequestError as error:
                if last:
                    raise self.unreachable(error) from error
            else:
                if last or answer.status_code not in BUSY or answer.status_code in accept:
                    return self._accepted(answer, accept)
                pause = _retry_after(answer, pause)
            self.wait(pause)
            pause *= 2
        raise AssertionError("unreachable")

    def send(
        self,
        method: Literal["POST", "PUT", "DELETE"],
        path: str,
        *,
        body: BaseModel | None = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, Any] | None = None,
        answer_s: float = _ANSWER_S,
    ) -> httpx.Response:
        """The response to a request that changes something; never sent twice.

        Raises:
            RefusedError: the server rejected the request.
            UnreachableError: no server answers, or the connection broke and the outcome is unknown.
        """
        content = None if body is None else body.model_dump(mode="json", exclude_none=True, exclude_unset=True)
        try:
            timeout = httpx.Timeout(answer_s, connect=_CONNECT_S)
            answer = self._http.request(method, path, json=content, data=form, files=files, timeout=timeout)
        except httpx.RequestError as error:
            raise self.unreachable(error) from error
        return self._accepted(answer)

    def post(
        self,
        path: str,
        kind: type[T],
        *,
        body: BaseModel | None = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, Any] | None = None,
        answer_s: float = _ANSWER_S,
    ) -> T:
        """The response to a POST request as a value of this type; see `send`."""
        return self.parsed(self.send("POST", path, body=body, form=form, files=files, answer_s=answer_s), kind)

    def put(self, path: str, kind: type[T], body: BaseModel) -> T:
        """The response to a PUT request as a value of this type; see `send`."""
        return self.parsed(self.send("PUT", path, body=body), kind)

    @contextmanager
    def stream(self, path: str) -> Iterator[httpx.Response]:
        """A response that is read while it arrives.

        Raises:
            RefusedError: the server rejected the request.
            UnreachableError: no server answers, or the connection breaks, also while the response is read.
        """
        try:
            with self._http.stream("GET", path) as answer:
                if not answer.is_success:
                    answer.read()
                yield self._accepted(answer)
        except httpx.RequestError as error:
            raise self.unreachable(error) from error

    def parsed(self, answer: httpx.Response, kind: type[T]) -> T:
        """The value in the JSON of a response; unknown fields of a newer server are ignored.

        Raises:
            ServiceError: the text holds no such value.
        """
        try:
            return TypeAdapter(kind).validate_json(answer.content, extra="ignore")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the answer"
            raise ServiceError(
                f"{self.server}: unexpected response ({place}: {first['msg']}); expected `nas serve` of this client's version",
                code="service.unexpected-response",
            ) from error

    def unreachable(self, error: httpx.RequestError) -> UnreachableError:
        """The error for a broken or refused connection."""
        cause = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError) and ("certificate" in cause.lower() or "mismatch" in cause):
            why = f"is not trusted ({cause}); set SSL_CERT_FILE to its authority's certificate"
            if "mismatch" in cause:
                why = f"is for another host name ({cause}); use the name in the certificate"
            return UnreachableError(f"{self.server}: its certificate {why}", code="service.invalid-certificates")
        if isinstance(error, httpx.ConnectError) and "[SSL" in cause:
            why = f"does not speak TLS ({cause}); check whether its URL begins with http://"
            return UnreachableError(f"{self.server}: {why}", code="service.no-tls")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return UnreachableError(f"no server answers at {self.server} ({cause}); start one", remedy=Remedy("serve"))
        if isinstance(error, httpx.TimeoutException):
            return UnreachableError(f"{self.server}: did not answer in time ({cause}); check whether it is overloaded")
        or_tls = ", and whether its URL begins with https://" if self.server.startswith("http:") else ""
        return UnreachableError(
            f"{self.server}: connection broken ({cause}); check whether the server still runs{or_tls}"
        )

    def _accepted(self, answer: httpx.Response, accept: tuple[int, ...] = ()) -> httpx.Response:
        if answer.is_success or answer.status_code in accept:
            return answer
        if answer.is_redirect:
            target = answer.headers.get("location", "an unknown address")
            raise ServiceError(f"{self.server}: redirects to {target}; use that address", code="service.moved")
        raise RefusedError(self.server, _problem(answer))


class Calls:
    """Calls of the API of one server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport


def _problem(answer: httpx.Response) -> Problem:
    """The problem details of an error response; made from the status if a proxy sent none."""
    try:
        return Problem.model_validate_json(answer.content[:_PROBLEM_BYTES])
    except ValidationError:
        title = f"{answer.status_code} {answer.reason_phrase}".strip()
        detail = f"{answer.url.copy_with(query=None)}: {title}; check that this is the address of `nas serve`"
        return Problem(title=title, status=answer.status_code, detail=detail)


def _checked_url(server: str) -> httpx.URL:
    expected = "expected a server's URL, e.g. http://127.0.0.1:8700"
    try:
        url = httpx.URL(server)
    except (httpx.InvalidURL, TypeError) as error:
        raise ServiceError(f"{server!r} is not a URL ({error}); {expected}", code="service.invalid-url") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ServiceError(f"{server!r} is not the URL of a server; {expected}", code="service.invalid-url")
    if url.userinfo or url.query or url.fragment:
        problem = f"the server's URL has a user, a query or a fragment; {expected}, and the token in NAS_TOKEN"
        raise ServiceError(problem, code="service.invalid-url")
    return url


def _trusted() -> ssl.SSLContext:
    """Trusted certificate authorities: those of SSL_CERT_FILE or SSL_CERT_DIR, else the usual ones."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        path_by_variable = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
        where = (
            ", ".join(f"{name}={value}" for name, value in path_by_variable.items())
            or "the certificates of this machine"
        )
        raise ServiceError(
            f"{where}: cannot be read ({error}); expected a PEM file of certificates, or a folder of such files",
            code="service.invalid-certificates",
        ) from None


def _checked_token(token: str) -> str:
    """The token as it is sent; never part of a message."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        problem = "the token is empty or has characters that no token has; copy the output of `nas token make`"
        raise ServiceError(problem, code="service.invalid-token")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _without_none(params: Params | None) -> dict[str, Any] | None:
    return None if params is None else {name: value for name, value in params.items() if value is not None}


def _retry_after(answer: httpx.Response, otherwise: float) -> float:
    """Seconds from the Retry-After header, else `otherwise`; bounded."""
    header = answer.headers.get("retry-after", "")
    return min(float(header) if header.isdigit() else otherwise, _LONGEST_PAUSE_S)


def quoted(value: object) -> str:
    """A value as one segment of a path.

    Raises:
        ServiceError: it is not valid Unicode.
    """
    try:
        return quote(str(value), safe="")
    except UnicodeEncodeError:
        raise ServiceError(f"{value!r} is not valid Unicode", code="request.invalid") from None


def path_of(run: str) -> str:
    """The path of a run in the API."""
    return f"runs/{quoted(run)}"


def checked(kind: type[Body], values: Mapping[str, Any]) -> Body:
    """The request body with these values, validated as the server validates it.

    Raises:
        ServiceError: a value is invalid; the message names it and what is expected.
    """
    try:
        body = kind.model_validate(values)
        body.model_dump_json()
    except ValidationError as error:
        problems = []
        for name, text in {str(detail["loc"][0]): detail["msg"] for detail in error.errors(include_url=False)}.items():
            description = kind.model_fields[name].description
            expected = f" ({description.rstrip('.')})" if description else ""
            problems.append(f"{name}: {text}, got {str(values[name])[:80]!r}{expected}")
        raise ServiceError("; ".join(problems), code="request.invalid") from None
    except (PydanticSerializationError, UnicodeEncodeError):
        raise ServiceError("the request is not valid Unicode", code="request.invalid") from None
    return body
