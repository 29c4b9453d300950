"""The CPUs that runs are pinned to, and their priority, as the user asks for them."""

from __future__ import annotations

import os

from .machine import file_text

REALTIME = os.environ.get("NAS_MEASURING_REALTIME", "") not in ("", "0")


def choose_cpus(n: int) -> list[int]:
    """`n` of the allowed CPUs, on different cores where possible, the last ones first (CPU 0 serves interrupts)."""
    allowed, siblings = os.sched_getaffinity(0), "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    one_per_core = {file_text(siblings.format(cpu)) or str(cpu): cpu for cpu in sorted(allowed)}.values()
    return sorted(allowed, key=lambda cpu: (cpu not in one_per_core, -cpu))[:n]


def asked_cpus(n: int) -> list[int]:
    """The first `n` CPUs that the user asks for by NAS_MEASURING_CPUS; empty without a wish.

    Raises:
        ValueError: they are too few, or none is meant.
    """
    text = os.environ.get("NAS_MEASURING_CPUS", "")
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if text and (len(parts) < n or not all(part.isdecimal() for part in parts)):
        raise ValueError(f"NAS_MEASURING_CPUS is {text!r}; expected the numbers of {n} CPUs or more, as 2,3")
    return [int(part) for part in parts[:n]]


def pin(cpus: list[int]) -> None:
    """Pins this thread to the first of some CPUs, each of which is tried.

    Raises:
        ValueError: one of them is none of this machine, or not allowed.
    """
    for cpu in reversed(cpus):
        try:
            os.sched_setaffinity(0, [cpu])
        except (OSError, OverflowError):
            raise ValueError(
                f"CPU {cpu} of NAS_MEASURING_CPUS is none that this process may use; expected numbers of CPUs of this machine"
            ) from None


def prefer_worker(on: bool) -> None:
    """Gives this thread, and those that it starts, real-time priority or takes it away, if NAS_MEASURING_REALTIME asks for it.

    Raises:
        PermissionError: this user has no right to it.
    """
    if not REALTIME:
        return
    try:
        os.sched_setscheduler(0, os.SCHED_RR if on else os.SCHED_OTHER, os.sched_param(int(on)))
    except PermissionError:
        message = "NAS_MEASURING_REALTIME is set, and this user may not use real-time priority (`ulimit -r` is 0)"
        raise PermissionError(f"{message}; unset it, or ask for the right (rtprio in limits.conf)") from None
