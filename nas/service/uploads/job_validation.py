"""Checks submitted job files: parsed within limits, with references to what a client may use only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from nas.api import schemas
from nas.config import WHAT, SearchJob, is_profile_path, job_of
from nas.config.strict_yaml import dump_mapping, parse_mapping
from nas.errors import JobError, UnknownNameError
from nas.service.hardware import Hardware
from nas.service.uploads.data_sets import DataSets
from nas.store.folder import RunsFolder

_SOURCE = "job"


@dataclass(frozen=True, slots=True)
class ValidJob:
    """A job that may be run.

    Attributes:
        job: with this machine's paths in place of the client's.
        text: the job file as it was submitted.
    """

    job: SearchJob
    text: str


class JobValidator:
    """Validates the job files of submissions."""

    def __init__(self, runs: RunsFolder, hardware: Hardware, data: DataSets) -> None:
        self._runs, self._hardware, self._data = runs, hardware, data

    def validated(self, submission: schemas.JobSubmission) -> ValidJob:
        """The job of a submission.

        Raises:
            JobError: it is no job, or refers to something that submitted jobs may not use; see `JobError.fields`.
        """
        text = submission.job if isinstance(submission.job, str) else _as_yaml(submission.job)
        data = parse_mapping(text, source=_SOURCE, what=WHAT)
        if submission.hardware is not None:
            data["hardware"] = list(submission.hardware)
            text = dump_mapping(data)
        elif not isinstance(submission.job, str):
            text = dump_mapping(data)
        _reject_paths(data.get("hardware"))
        job = job_of(data, source=_SOURCE)
        problems: list[tuple[str, str]] = []
        job = self._with_own_paths(job, problems)
        self._check_runs(job, submission.kind, problems)
        if problems:
            raise _rejected(problems)
        return ValidJob(job, text)

    def _with_own_paths(self, job: SearchJob, problems: list[tuple[str, str]]) -> SearchJob:
        """The job with this machine's paths of its data, pretrained network, tables and added profiles; see `_tried`."""
        data = job.data
        found = {
            key: _tried(partial(self._data.resolved, path), f"data.{key}", problems) for key, path in data.paths.items()
        }
        data, supernet = data.model_copy(update=found), job.supernet
        if supernet.pretrained_path is not None:
            folder = _tried(partial(self._data.resolved, supernet.pretrained_path), "supernet.pretrained", problems)
            supernet = supernet.model_copy(update={"pretrained": str(folder)})
        elif supernet.pretrained is not None:
            text = (
                f"got {supernet.pretrained!r}; expected the path of a folder below the server's data folders "
                "(`nas serve --data-root` adds one): submitted jobs download nothing"
            )
            problems.append(("supernet.pretrained", text))
        tables = tuple(
            _tried(partial(self._data.resolved, table), f"lookup_tables[{i}]", problems)
            for i, table in enumerate(job.lookup_tables)
        )
        hardware = tuple(
            _tried(partial(self._hardware.entry, name), f"hardware[{i}]", problems)
            for i, name in enumerate(job.hardware)
        )
        changed = {"data": data, "supernet": supernet, "lookup_tables": tables, "hardware": hardware}
        return job.model_copy(update=changed)

    def _check_runs(self, job: SearchJob, kind: schemas.RunKind, problems: list[tuple[str, str]]) -> None:
        """Adds a problem for each reference to a run that is no id of this folder's runs."""
        named = {"supernet.from": job.supernet.from_, "training.teacher": job.training.teacher}
        named |= {f"warm_start[{i}]": run for i, run in enumerate(job.warm_start)}
        for key, run in named.items():
            if run is None:
                continue
            if "/" in run or "\\" in run:
                problems.append((key, "expected a run's id; submitted jobs may not name paths of the server"))
            else:
                _tried(partial(self._checked_run, run), key, problems)
        if kind == "training" and not job.supernet.trains:
            problems.append(("supernet.from", "names a trained supernet, so that there is nothing to train; remove it"))

    def _checked_run(self, run: str) -> None:
        try:
            self._runs.get(run)
        except UnknownNameError:  # without the path of the runs folder
            raise UnknownNameError("run", run, [folder.id for folder in self._runs.list()]) from None


def _tried(make: Callable[[], Any], key: str, problems: list[tuple[str, str]]) -> Any:
    """The value; None where it is not allowed, which is added to `problems`."""
    try:
        return make()
    except (JobError, UnknownNameError) as error:
        problems.append((key, str(error)))
        return None


def _reject_paths(hardware: object) -> None:
    """Raises `JobError` where hardware is named by a path: it would be a path of the server."""
    entries = hardware if isinstance(hardware, list) else []
    text = "expected a profile's name; submitted jobs may not name files of the server: add the profile first"
    problems = [
        (f"hardware[{i}]", text) for i, entry in enumerate(entries) if isinstance(entry, str) and is_profile_path(entry)
    ]
    if problems:
        raise _rejected(problems)


def _rejected(problems: list[tuple[str, str]]) -> JobError:
    message = "\n".join(f"{_SOURCE}: {key}: {text}" for key, text in problems)
    return JobError(message, code="job.not-allowed", fields=problems)


def _as_yaml(job: dict[str, Any]) -> str:
    """The object as JSON, which is YAML: so that it is parsed within the same limits as a text."""
    return json.dumps(job, ensure_ascii=False)
