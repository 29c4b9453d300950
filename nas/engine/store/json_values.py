"""JSON values as a store keeps them: plain, finite, and a copy of their own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from numbers import Integral, Real
from typing import Any


def plain(value: Any, *, where: str) -> Any:
    """The value as dicts, lists, texts, whole numbers, finite floats, booleans and None: what reading it back gives.

    Tuples become lists and NumPy's numbers Python's. NaN and infinities, which JSON has not, become None: a quality
    that cannot be computed (a correlation of constants) must not end a search.

    Args:
        where: Name of the value in errors, e.g. ``detail``.

    Raises:
        TypeError: something in it is no JSON value, or a key is no text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where}: the key {key!r} is no text; JSON's keys are, so write str(key)")
        return {str(key): plain(item, where=f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, where=f"{where}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"{where}: a {type(value).__name__} is no JSON value; give numbers, texts, lists or mappings")


@lru_cache(maxsize=1024)
def decoded(text: str) -> Any:
    """The value of a JSON text, not to be changed: equal texts are decoded once, and a run's rows repeat a few."""
    return json.loads(text)
