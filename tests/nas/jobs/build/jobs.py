"""Small jobs, prepared, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from tests.nas.commands import SMALL_JOB


def prepared(tmp_path: Path, more: str) -> BuiltJob:
    return build_job(
        ResolvedJob(parse_job(SMALL_JOB + more, source="job.yaml"), RunsFolder(tmp_path), source="job.yaml")
    )
