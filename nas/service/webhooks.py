"""Notifications of the ends of runs: signed HTTP requests to addresses of the server's owner and of its users."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import httpx

from nas.engine.run_listing import RunSnapshot
from nas.errors import JobError, NasError
from nas.service.background import BackgroundRounds
from nas.service.settings import ServiceSettings, Webhook
from nas.service.state import Delivery, ServiceState, Submission

EVENT = "run.ended"
_TIMEOUT_S = 10.0
"""Of one attempt as a whole: a limit of each read alone would let a receiver answer byte by byte for minutes."""
_TOGETHER = 16
_PAUSES_S = (10.0, 60.0, 300.0, 1800.0)
"""Between the attempts of a delivery, which fails with the one after the last."""
_LONGEST_WAIT_S = 60.0
_SCHEMES = {"http": 80, "https": 443}
_MIN_SECRET = 16

Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a host."""

logger = logging.getLogger(__name__)


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a host, as the system resolves it; `OSError` where it does not."""
    return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of the header ``Nas-Signature``: an HMAC of the time of sending and the body."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def checked_webhook(url: str, secret: str, *, allow_private: bool) -> Webhook:
    """A webhook of a client, whose address and secret have a form that can be used; its host is not resolved.

    Raises:
        JobError: they have not, or the address is one of this machine or of a private network, which is not allowed.
    """
    parsed = _parsed(url)
    if parsed is None or parsed.userinfo:
        text = f"got {url[:80]!r}; expected an address such as https://team.example/hook, without a user or password"
        raise JobError(f"webhook.url: {text}", code="webhook.invalid", fields=[("webhook.url", text)])
    if len(secret) < _MIN_SECRET:
        text = f"expected a secret of at least {_MIN_SECRET} characters, with which notifications are signed"
        raise JobError(f"webhook.secret: {text}", code="webhook.invalid", fields=[("webhook.secret", text)])
    if not allow_private and not _may_be_public(parsed.host):
        raise _private(parsed.host)
    return Webhook(url, secret)


class Webhooks(BackgroundRounds):
    """Sends a notification at the end of each submitted run, in a thread of its own. Safe to use from several threads.

    What is to be sent is in the server's database before the end of a run is settled, so that nothing is lost when the
    server is killed. A delivery that fails is tried again four times within 40 minutes.

    Args:
        address: The server's, for links in notifications, where its settings have none.
        clock: seconds since the epoch.
        pauses_s: between attempts.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        state: ServiceState,
        *,
        address: str = "",
        resolve: Resolve = addresses_of,
        clock: Callable[[], float] = time.time,
        pauses_s: Sequence[float] = _PAUSES_S,
    ) -> None:
        super().__init__("webhooks", retry_s=_LONGEST_WAIT_S)
        self._server, self._allow_private = settings.webhook, settings.private_webhooks
        self._state, self._resolve, self._clock, self._pauses_s = state, resolve, clock, pauses_s
        self._address = settings.public_url or address

    def run_ended(self, submission: Submission, snapshot: RunSnapshot) -> None:
        """Records the notifications of a run that has ended, unless those of this end are recorded already."""
        if snapshot.ended is None or snapshot.ended <= self._state.last_end(submission.run):
            return
        hooks = [hook for hook in (self._server, self._state.webhook(submission.run)) if hook is not None]
        body = _body_of(submission, snapshot)
        self._state.record_end(submission.run, snapshot.ended, hooks, body)
        if hooks:
            self.wake()

    def work(self) -> float:
        """Sends what is due; the seconds until something else is, at most a minute."""
        now = self._clock()
        asyncio.run(self._send([delivery for delivery in self._state.deliveries() if delivery.due <= now]))
        due = [delivery.due - self._clock() for delivery in self._state.deliveries()]
        return max(0.0, min([_LONGEST_WAIT_S, *due]))

    async def _send(self, deliveries: Sequence[Delivery]) -> None:
        """Sends some at a time, so that receivers that are slow delay no others."""
        turns = asyncio.Semaphore(_TOGETHER)

        async def attempt(delivery: Delivery) -> None:
            async with turns:
                if not self._closing.is_set():
                    self._record(delivery, await self._problem(delivery))

        await asyncio.gather(*map(attempt, deliveries))

    def _record(self, delivery: Delivery, problem: str) -> None:
        """Records the outcome of an attempt, which is "" for a success."""
        extra = {"run": delivery.run, "webhook": _host_of(delivery.url)}
        if not problem:
            self._state.forget_delivery(delivery.id)
            logger.info("the end of the run was notified", extra=extra)
        elif delivery.attempts >= len(self._pauses_s):
            self._state.forget_delivery(delivery.id)
            logger.warning(
                "the end of the run could not be notified in %d attempts: %s",
                delivery.attempts + 1,
                problem,
                extra=extra,
            )
        else:
            pause_s = self._pauses_s[delivery.attempts]
            self._state.delay_delivery(delivery.id, delivery.attempts + 1, self._clock() + pause_s)
            logger.info("the end of the run is notified again in %g s: %s", pause_s, problem, extra=extra)

    async def _problem(self, delivery: Delivery) -> str:
        """Why a notification was not accepted; "" where it was."""
        is_own = self._server is not None and delivery.url == self._server.url
        body = json.dumps({**delivery.body, "address": f"{self._address}/runs/{delivery.run}"}).encode()
        timestamp = str(int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "subnet-nas",
            "Nas-Event": EVENT,
            "Nas-Delivery": delivery.id,
            "Nas-Timestamp": timestamp,
            "Nas-Signature": signature(delivery.secret, timestamp, body),
        }
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                address = await asyncio.to_thread(self._checked_address, delivery.url, is_own=is_own)
                return await _post(delivery.url, address, body, headers)
        except TimeoutError:
            return f"it did not answer within {_TIMEOUT_S:g} s"
        except (httpx.HTTPError, OSError, NasError) as error:
            return str(error) or type(error).__name__

    def _checked_address(self, url: str, *, is_own: bool) -> str:
        """The address to connect to, which was checked: the name may have another one a moment later.

        Raises:
            JobError: one of the host's addresses is private, which only the server's owner may use.
        """
        parsed = httpx.URL(url)
        addresses = self._resolve(parsed.host, parsed.port or _SCHEMES[parsed.scheme])
        if not (is_own or self._allow_private) and not all(map(_is_public, addresses)):
            raise _private(parsed.host)
        return addresses[0]


async def _post(url: str, address: str, body: bytes, headers: dict[str, str]) -> str:
    """Sends a body to a URL at an address of its host; "" where the answer is a success, or else what it is.

    Redirects are not followed, proxies of the environment are not used, and the answer's body is not read.
    """
    parsed = httpx.URL(url)
    target = parsed.copy_with(host=address)
    async with (
        httpx.AsyncClient(timeout=None, trust_env=False, follow_redirects=False) as client,
        client.stream(
            "POST",
            target,
            content=body,
            headers={**headers, "Host": parsed.netloc.decode("ascii")},
            extensions={"sni_hostname": parsed.host},  # and the name that the certificate must have
        ) as answer,
    ):
        return "" if answer.is_success else f"it answered {answer.status_code}"


def _body_of(submission: Submission, snapshot: RunSnapshot) -> dict[str, object]:
    return {
        "event": EVENT,
        "run": submission.run,
        "name": snapshot.name or submission.run,
        "kind": submission.kind,
        "status": str(snapshot.status),
        "reason": snapshot.reason,
        "submitter": submission.submitter,
        "submitted": _iso(submission.submitted),
        "ended": _iso(snapshot.ended),
        "evaluations": snapshot.evaluations,
    }


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _parsed(url: str) -> httpx.URL | None:
    """An address with a scheme and a host; None for any other text."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        return None
    return parsed if parsed.scheme in _SCHEMES and parsed.host else None


def _host_of(url: str) -> str:
    """The host alone, for the log: the rest of an address may be a secret."""
    return httpx.URL(url).host


def _may_be_public(host: str) -> bool:
    """False for an address, or a name of this machine, that is known to be private without asking a name server."""
    try:
        return _is_public(str(ipaddress.ip_address(host)))
    except ValueError:
        return host.rstrip(".").rpartition(".")[2] not in ("localhost", "local", "internal")


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    return mapped.is_global and not mapped.is_multicast


def _private(host: str) -> JobError:
    text = (
        f"{host} is an address of a private network or of the server itself; its administrator can allow those, by the "
        "setting private-webhooks"
    )
    return JobError(f"webhook.url: {text}", code="webhook.private", fields=[("webhook.url", text)])
