"""The job file: what a search is made of, as frozen models that check themselves (no torch).

`search_job` is the whole of it, the others are its larger sections, `section` what these have in common, `strict_yaml` how
small files written by people are read, and `errors` what pydantic found, in people's words.
"""

from nas.config.search_job import WHAT, SearchConfig, SearchJob, is_profile_path, job_of, load_job, parse_job

__all__ = ["WHAT", "SearchConfig", "SearchJob", "is_profile_path", "job_of", "load_job", "parse_job"]
