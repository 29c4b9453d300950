"""One thread for linear algebra while a predictor works."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


@contextmanager
def one_thread() -> Iterator[None]:
    """A context in which BLAS and OpenMP use one thread.

    Matrices of a hundred rows gain nothing from a second one and wait for it on a busy machine (a fit took 2 s of CPU
    time instead of 0.2), and sums in another order would make a resumed search ask for other architectures.
    """
    controller = _controller(len(sys.modules))
    with (
        _blas.limited(controller),
        controller.limit(limits=1, user_api="openmp"),
    ):  # OpenMP's number is the thread's own
        yield


class _BlasLimit:
    """The limit of BLAS, which all threads of the process share: set by the first one that needs it, lifted by the last."""

    def __init__(self) -> None:
        self._lock, self._n_users = threading.Lock(), 0
        self._limit: Any = None

    @contextmanager
    def limited(self, controller: ThreadpoolController) -> Iterator[None]:
        with self._lock:
            self._n_users += 1
            if self._n_users == 1:
                self._limit = controller.limit(limits=1, user_api="blas")
                self._limit.__enter__()
        try:
            yield
        finally:
            with self._lock:
                self._n_users -= 1
                if not self._n_users:
                    self._limit.__exit__(None, None, None)


_blas = _BlasLimit()


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    # Cached, because finding the loaded libraries takes milliseconds; found again after imports, which may load another BLAS.
    # Those of scipy, loaded after the first search had begun, waited in busy threads for five times the CPU time of an ask.
    return ThreadpoolController()
