"""The keys in which the job files of several runs differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nas.jobs.schema import SearchJob
from nas.jobs.schema.strict_yaml import dump_inline
from nas.service.api.schemas import JobDifference


def job_differences(jobs: Mapping[str, SearchJob]) -> tuple[JobDifference, ...]:
    """The keys with different values, defaults included, in the order of a job file; at least one job."""
    flat = {
        run: dict(_flat(job.model_dump(mode="json", by_alias=True, exclude_none=True))) for run, job in jobs.items()
    }
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    rows = [{run: values.get(key) for run, values in flat.items()} for key in keys]
    return tuple(
        JobDifference(key=key, values={run: None if v is None else dump_inline(v) for run, v in values.items()})
        for key, values in zip(keys, rows, strict=True)
        if any(value != next(iter(values.values())) for value in values.values())
    )


def _flat(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a section by their path; lists are values."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
