"""Job files that tests begin with, and checks of the errors of texts that describe no job."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from nas.errors import JobError
from nas.jobs.schema import parse_job

BASE = "name: a\ndata: {name: digits}\nsupernet: {preset: tiny}\n"
STAGE = "{stride: 1, depth: [1, 2], width: [8], kernel: [3, 5], expand: [2]}"
BLOCKS = "{stride: 2, depth: [1, 2], width: [32], expand: [0.25, 0.5]}"


def with_section(line: str) -> str:
    """The base with this line in place of its line of the same key."""
    key = line.partition(":")[0]
    return "\n".join([*(old for old in BASE.splitlines() if not old.startswith(f"{key}:")), line])


def fails(text: str) -> JobError:
    """The error of a text that describes no job."""
    with pytest.raises(JobError) as caught:
        parse_job(text, source="job.yaml")
    message = str(caught.value)
    assert message.startswith("job.yaml: ")
    assert message.count("\n") <= 1
    return caught.value


def check_refused(text: str, path: str, code: str, mentions: str = "") -> None:
    """Asserts that the error of a text has this code, and that its first line begins with the path and mentions values.

    Args:
        mentions: the values, with " | " between them.
    """
    error = fails(text)
    first = str(error).splitlines()[0]
    assert first.startswith(f"job.yaml: {path}: ")
    assert error.code == code
    said = first.removeprefix(f"job.yaml: {path}: ")
    assert [value for value in mentions.split(" | ") if value not in said] == []


def field_paths(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, field in model.model_fields.items():
        path = (*prefix, field.alias or name)
        inner = field.annotation
        nested = isinstance(inner, type) and issubclass(inner, BaseModel)
        found += [path, *(field_paths(inner, path) if nested else [])]  # type: ignore[arg-type]
    return found


BAD_VALUES = [-1, 0, 10**7, 2.5, float("nan"), "x", "", "a\x07" * 99, True, None, [], [[]], {}, {"q": 1}, [None]]


def spoilt_jobs(path: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The base with each of some values, most of them wrong, in place of that of a key."""
    base = yaml.safe_load(BASE)
    for value in BAD_VALUES:
        data = copy.deepcopy(base)
        place = data
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
        yield data
