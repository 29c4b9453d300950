"""Checks errors by their stable code instead of their prose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nas.errors import Remedy, remedy_of


@contextmanager
def raises(code: str, *mentions: str, remedy: Remedy | None = None) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """Expects an error with this code whose message mentions values: a name, a path, a number, a key; not sentences.

    Args:
        remedy: The error's; None does not check it.
    """
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the code is compared below
        yield caught
    found = getattr(caught.value, "code", None)
    assert found == code, f"expected an error with code {code!r}, got {found!r}: {caught.value!r}"
    assert remedy is None or remedy_of(caught.value) == remedy
    missing = [value for value in mentions if value not in str(caught.value)]
    assert not missing, f"the message does not mention {missing}: {caught.value}"
