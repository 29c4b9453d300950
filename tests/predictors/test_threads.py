"""Tests of the limit on threads of linear algebra."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import numpy
from predictors.threads import one_thread
with one_thread():
    import scipy.linalg  # brings a BLAS of its own
    with one_thread():
        from threadpoolctl import threadpool_info
        found = threadpool_info()
        assert len(found) > 1, found
        print(*(library["num_threads"] for library in found))
"""


def test_libraries_that_are_loaded_later_have_one_thread_as_well() -> None:
    told = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True).stdout
    assert set(told.split()) == {"1"}
