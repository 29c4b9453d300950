"""The job file as frozen models that check themselves (no torch): one module for each of its larger sections."""

from nas.jobs.schema.metrics import MetricConfig
from nas.jobs.schema.search import SearchConfig
from nas.jobs.schema.search_job import (
    WHAT,
    SearchJob,
    is_profile_path,
    job_of,
    load_job,
    parse_job,
    parse_stored_job,
)

__all__ = [
    "WHAT",
    "MetricConfig",
    "SearchConfig",
    "SearchJob",
    "is_profile_path",
    "job_of",
    "load_job",
    "parse_job",
    "parse_stored_job",
]
