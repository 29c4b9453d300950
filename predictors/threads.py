"""One thread for linear algebra while a predictor works."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


def one_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS and OpenMP use one thread.

    Matrices of a hundred rows gain nothing from a second one and wait for it on a busy machine (a fit took 2 s of CPU
    time instead of 0.2), and sums in another order would make a resumed search ask for other architectures.
    """
    limits: AbstractContextManager[Any] = _controller(len(sys.modules)).limit(limits=1)
    return limits


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    # Cached, because finding the loaded libraries takes milliseconds; found again after imports, which may load another BLAS.
    # Those of scipy, loaded after the first search had begun, waited in busy threads for five times the CPU time of an ask.
    return ThreadpoolController()
