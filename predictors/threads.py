"""One thread for linear algebra while a predictor works."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


def one_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS and OpenMP use one thread.

    Matrices of a hundred rows gain nothing from a second one and wait for it on a busy machine (a fit took 2 s of CPU
    time instead of 0.2), and sums in another order would make a resumed search ask for other architectures.
    """
    limits: AbstractContextManager[Any] = _controller().limit(limits=1)
    return limits


@cache
def _controller() -> ThreadpoolController:
    # Cached, because finding the loaded libraries takes milliseconds.
    return ThreadpoolController()
