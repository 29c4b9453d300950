"""The job files of runs."""

from nas.engine.store.stored_run import StoredRun
from nas.jobs.schema.search_job import SearchJob, load_job


def stored_job(run: StoredRun) -> SearchJob:
    """The job file that a run was started with.

    Raises:
        JobError: the file is missing or damaged.
    """
    return load_job(run.folder.job_file, stored=True)
