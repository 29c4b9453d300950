"""The browser of one profile: pairing by a one-time code, its presence, and the exchange of commands and answers."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hardware_profiles.transports.browser.messages import Device, MessageError

CODE_MINUTES = 10.0
MAX_WRONG_CODES = 50
"""Wrong codes after which the present one ends, too: guessing 40 bits is hopeless."""
PRESENT_S = 12.0
"""A page that has sent nothing for this long is away; it sends something every two seconds."""
_CODE_LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
_Check = Callable[[Any], dict[str, Any]]


class RefusedError(Exception):
    """A request of a browser is refused; `status` is that of the HTTP response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class _Pending:
    """A command that the page has not answered.

    Attributes:
        number: Number of the command, which its answer repeats.
        content: What is sent to the page.
        check: Returns the checked answer, or raises `MessageError`.
    """

    number: int
    content: bytes
    check: _Check
    answer: dict[str, Any] | None = None
    fault: str = ""
    taken: bool = False


class BrowserBoard:
    """The browser that measures one profile; its methods are called by the threads of the server and by that of the driver.

    The first device that shows the code is the profile's, for the life of this process: it returns with its secret token after
    a reload, and others are refused. Each load of the page is a new *visit*; a connection belongs to one visit.

    Args:
        name: Name of the profile.
        clock: Seconds of a steady clock.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self._clock = name, clock
        self.turn = threading.Lock()
        """Held by the connection whose session is measured."""
        self._changed = threading.Condition()
        self._code, self._code_until, self._n_wrong = "", 0.0, 0
        self._token = ""
        self._device: Device | None = None
        self._visit, self._seen, self._visible, self._left = 0, 0.0, False, True
        self._pending: _Pending | None = None
        self._n_commands = 0
        self._refusal = ""

    @property
    def device(self) -> Device:
        """The paired device."""
        assert self._device is not None  # a connection exists only after pairing
        return self._device

    def new_code(self) -> str:
        """A code that pairs the first device, if a new one is needed; "" while one is valid, or a device is paired."""
        with self._changed:
            if self._token or (self._code and self._clock() < self._code_until):
                return ""
            self._code = "".join(secrets.choice(_CODE_LETTERS) for _ in range(8))
            self._code_until, self._n_wrong = self._clock() + 60 * CODE_MINUTES, 0
            return self._code

    def accepts(self, code: str) -> bool:
        """Returns True if this is the valid code; counts wrong ones."""
        with self._changed:
            if not self._code or self._clock() >= self._code_until:
                return False
            if hmac.compare_digest(code.encode(), self._code.encode()):
                return True
            self._n_wrong += 1
            if self._n_wrong >= MAX_WRONG_CODES:
                self._code = ""
            return False

    def recognises(self, token: str) -> bool:
        """Returns True if this is the secret of the paired device."""
        return bool(self._token) and hmac.compare_digest(token.encode(), self._token.encode())

    def join(self, device: Device, *, by_code: bool) -> dict[str, Any]:
        """Begins a visit: of a new device after its code was accepted, or of the paired one after its token was recognised.

        Raises:
            RefusedError: the page's timer is too coarse, or the paired device is no longer what it was.
        """
        with self._changed:
            if not device.isolated:
                self._refusal = "the page was opened, but not from a secure address"
                raise RefusedError(
                    403, "the page has no precise clock here: it needs https, or an address of this machine"
                )
            if by_code:
                self._code, self._token, self._device = "", secrets.token_urlsafe(32), device
            elif device != self._device:
                self._refusal = "a browser came with the token of the paired one, and differs from it"
                raise RefusedError(403, "this browser is not the one that was paired: it reports other properties")
            self._visit, self._pending = self._visit + 1, None
            self._refusal, self._visible, self._left, self._seen = "", True, False, self._clock()
            self._changed.notify_all()
            return {"token": self._token, "visit": self._visit, "profile": self.name}

    def command(self, visit: int, wait_s: float) -> bytes | None:
        """The next command of a visit; None if there is none within some seconds."""
        with self._changed:
            self._heard(visit)
            self._changed.wait_for(lambda: self._untaken() is not None or visit != self._visit, wait_s)
            self._heard(visit)
            if (pending := self._untaken()) is None:
                return None
            pending.taken = True
            return pending.content

    def answer(self, visit: int, number: int, data: Any) -> None:
        """Takes the answer to the command of a number.

        Raises:
            RefusedError: the visit has ended, no answer to this command is expected, or the answer is malformed.
        """
        with self._changed:
            self._heard(visit)
            pending = self._pending
            if pending is None or pending.number != number or not pending.taken or pending.answer or pending.fault:
                raise RefusedError(409, f"no answer to command {number} is expected")
            try:
                pending.answer = pending.check(data)
            except MessageError as error:
                pending.fault = str(error)
                raise RefusedError(400, str(error)) from None
            finally:
                self._changed.notify_all()

    def beat(self, visit: int, *, visible: bool, left: bool) -> None:
        """Notes that the page is there, whether it can be seen, and whether it is being closed."""
        with self._changed:
            self._heard(visit)
            self._visible, self._left = visible, left
            self._changed.notify_all()

    def away(self) -> str:
        """Why nothing can be measured now, in a few words; "" if the page is ready."""
        with self._changed:
            return self._away()

    def visit(self) -> int:
        """Number of the present visit."""
        return self._visit

    def post(self, visit: int, head: Mapping[str, Any], payloads: bytes, check: _Check) -> None:
        """Puts a command in front of the page, unless its visit has ended; one that is unanswered is dropped."""
        with self._changed:
            if visit != self._visit:
                return
            self._n_commands += 1
            content = json.dumps({**head, "command": self._n_commands}).encode() + b"\n" + payloads
            self._pending = _Pending(self._n_commands, content, check)
            self._changed.notify_all()

    def wait(self, visit: int, seconds: float) -> tuple[dict[str, Any] | None, str]:
        """The answer to the last command, or None and why there is none; "" if it did not come in time."""
        until = self._clock() + seconds
        with self._changed:
            while True:
                pending = self._pending
                if pending is not None and pending.answer is not None:
                    return pending.answer, ""
                if pending is not None and pending.fault:
                    return None, f"it sent a malformed answer: {pending.fault}"
                if visit != self._visit:
                    return None, "its page was loaded again"
                if reason := self._away():
                    return None, reason
                if (remaining_s := until - self._clock()) <= 0:
                    return None, ""
                self._changed.wait(min(1.0, remaining_s))

    def drop(self) -> None:
        """Forgets the command that is unanswered."""
        with self._changed:
            self._pending = None

    def _untaken(self) -> _Pending | None:
        return self._pending if self._pending is not None and not self._pending.taken else None

    def _heard(self, visit: int) -> None:
        if visit != self._visit or visit == 0:
            raise RefusedError(410, "the page was opened again elsewhere on this device")
        self._seen = self._clock()

    def _away(self) -> str:
        if self._device is None:
            return self._refusal or "no browser has opened its page"
        if self._refusal:
            return self._refusal
        if self._left:
            return "its page was closed"
        if self._clock() - self._seen > PRESENT_S:
            return "its page is not heard of"
        return "" if self._visible else "its page is in the background, where browsers slow it down"
