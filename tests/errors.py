"""Checks errors by their stable code instead of their prose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def raises(code: str, *mentions: str) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """Expects an error with this code whose message mentions values: a name, a path, a number, a key; not sentences."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the code is compared below
        yield caught
    found = getattr(caught.value, "code", None)
    assert found == code, f"expected an error with code {code!r}, got {found!r}: {caught.value!r}"
    missing = [value for value in mentions if value not in str(caught.value)]
    assert not missing, f"the message does not mention {missing}: {caught.value}"
