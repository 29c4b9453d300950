"""Checks submitted job files: parsed within limits, with references to what a client may use only."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from nas.engine.store.folder import RunsFolder
from nas.errors import JobError, UnknownNameError
from nas.jobs.schema import WHAT, SearchJob, is_profile_path, job_of
from nas.jobs.schema.errors import MAX_REPORTED
from nas.jobs.schema.strict_yaml import dump_mapping, parse_mapping
from nas.jobs.schema.supernet import SupernetConfig
from nas.plugins import is_dotted
from nas.service.api import schemas
from nas.service.artifacts import TABLES, Artifacts
from nas.service.hardware import Hardware
from nas.service.uploads.captured_models import CapturedModels
from nas.service.uploads.data_sets import DataSets
from supernets.errors import CheckpointError
from supernets.networks.capture.model_names import is_file
from supernets.networks.formats.pretrained import HUB, PACKAGE, find_pretrained

_SOURCE = "job"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ValidJob:
    """A job that may be run.

    Attributes:
        job: with this machine's paths in place of the client's.
        written: as its client wrote it.
        text: the job file as it was submitted.
    """

    job: SearchJob
    written: SearchJob
    text: str


class JobValidator:
    """Validates the job files of submissions."""

    def __init__(
        self,
        runs: RunsFolder,
        hardware: Hardware,
        data: DataSets,
        models: CapturedModels,
        artifacts: Artifacts,
        allowed_plugins: Collection[str] = (),
    ) -> None:
        self._runs, self._hardware, self._data, self._models = runs, hardware, data, models
        self._artifacts, self._allowed = artifacts, allowed_plugins

    def validated(self, submission: schemas.JobSubmission) -> ValidJob:
        """The job of a submission.

        Raises:
            JobError: it is no job, or refers to something that submitted jobs may not use; see `JobError.fields`.
        """
        return self.resolved(*self.parsed(submission), submission.kind)

    def resolved(self, text: str, written: SearchJob, kind: schemas.RunKind) -> ValidJob:
        """A job that was parsed, with this machine's paths; raises as `validated` does."""
        problems: list[tuple[str, str]] = []
        job = self._with_own_paths(written, problems)
        self._check_runs(job, kind, problems)
        if problems:
            raise _rejected(problems)
        return ValidJob(job, written, text)

    def parsed(self, submission: schemas.JobSubmission) -> tuple[str, SearchJob]:
        """The text of a submission and its job, whose data, models and runs need not exist.

        Raises:
            JobError: it is no job, or names a class or a profile's file, which submitted jobs may not.
        """
        is_text = isinstance(submission.job, str)
        # JSON is YAML: so an object is parsed within the same limits as a text.
        text = str(submission.job) if is_text else json.dumps(submission.job, ensure_ascii=False)
        data = parse_mapping(text, source=_SOURCE, noun=WHAT)
        if submission.hardware is not None:
            data["hardware"] = list(submission.hardware)
        if submission.hardware is not None or not is_text:
            text = dump_mapping(data)
        _reject_paths(data.get("hardware"))
        written = job_of(data, source=_SOURCE)
        self._check_plugins(written)
        return text, written

    def _check_plugins(self, job: SearchJob) -> None:
        """Rejects classes that the server's owner has not allowed: naming one runs its code here."""
        text = (
            "{0} is a class, and submitted jobs may name only registered plug-ins, which GET /api/v1/plugins lists, and "
            "classes that the server's owner allows, who starts it with the option allow-plugin={0}"
        )
        class_by_key = {key: name for key, (_, name) in job.plugins.items() if is_dotted(name)}
        problems = [(key, text.format(name)) for key, name in class_by_key.items() if name not in self._allowed]
        if problems:
            raise _rejected(problems, code="plugin.refused")

    def _with_own_paths(self, job: SearchJob, problems: list[tuple[str, str]]) -> SearchJob:
        """The job with this machine's paths of its data, pretrained network, tables and added profiles; see `_tried`."""

        def resolved(key: str, path: Path) -> Any:
            return _tried(key, problems, self._data.resolved, path)

        paths = {key: resolved(f"data.{key}", path) for key, path in job.data.paths.items()}
        data, supernet = job.data.model_copy(update=paths), job.supernet
        if supernet.pretrained is not None:
            find = partial(self._pretrained, family=supernet.family)
            pretrained = _tried("supernet.pretrained", problems, find, supernet.pretrained)
            supernet = supernet.model_copy(update={"pretrained": str(pretrained)})
        supernet = self._with_own_model(supernet, resolved, problems)
        tables = tuple(
            _tried(f"lookup_tables[{i}]", problems, self._table, table) for i, table in enumerate(job.lookup_tables)
        )
        hardware = tuple(
            _tried(f"hardware[{i}]", problems, self._hardware.chosen, name) for i, name in enumerate(job.hardware)
        )
        changed = {"data": data, "supernet": supernet, "lookup_tables": tables, "hardware": hardware}
        return job.model_copy(update=changed)

    def _pretrained(self, name: str, family: str) -> str:
        """The path on this machine, or the installed package, of a job's pretrained network; raises `JobError`."""
        instead = "upload the network (POST /api/v1/models), and name it here as models/NAME"
        if name.startswith(PACKAGE):
            try:
                find_pretrained(name)
            except CheckpointError:
                text = f"{name} has no pretrained network on this server; {instead}"
                raise JobError(text, code="job.not-allowed") from None
            return name
        if name.startswith(HUB):
            raise JobError(f"got {name!r}, and submitted jobs download nothing; {instead}", code="job.not-allowed")
        path = self._models.resolved(name, "pretrained")
        if path is None:
            return str(self._data.resolved(Path(name)))
        model = self._models.get(name.partition("/")[2])
        if family != model.family:
            text = f"{name} is a network for the family {model.family}; got the family {family}"
            raise JobError(text, code="job.not-allowed")
        return str(path)

    def _table(self, path: Path) -> Path:
        """This machine's path of a lookup table: one that the server calibrated, or one below its data folders."""
        return self._artifacts.table(path) if path.parts[:1] == (TABLES,) else self._data.resolved(path)

    def _with_own_model(
        self, supernet: SupernetConfig, resolved: Callable[[str, Path], Any], problems: list[tuple[str, str]]
    ) -> SupernetConfig:
        """The supernet with this machine's path of its captured model; a module path would run its code here."""
        if supernet.model is not None and not is_file(supernet.model):
            text = f"got {supernet.model!r}, and submitted jobs run no model's own code; capture it as data, upload the file "
            problems.append(("supernet.model", f"{text}(POST /api/v1/models), and name it here as models/NAME"))
            return supernet
        reference_by_key = {"model": supernet.model, "weights": supernet.weights}
        captured_path = _tried(
            "supernet.model", problems, partial(self._models.resolved, kind="captured"), supernet.model or ""
        )
        path_by_key = {} if captured_path is None else {"model": captured_path}
        unresolved = {
            key: path for key, path in reference_by_key.items() if path is not None and key not in path_by_key
        }
        if captured_path is None and any(key == "supernet.model" for key, _ in problems):
            return supernet
        path_by_key |= {key: resolved(f"supernet.{key}", Path(path)) for key, path in unresolved.items()}
        return supernet.model_copy(update={key: str(path) for key, path in path_by_key.items()})

    def _check_runs(self, job: SearchJob, kind: schemas.RunKind, problems: list[tuple[str, str]]) -> None:
        """Adds a problem for each reference to a run that is no id of this folder's runs."""
        run_by_key = {"supernet.from": job.supernet.from_, "training.teacher": job.training.teacher}
        run_by_key |= {f"warm_start[{i}]": run for i, run in enumerate(job.warm_start)}
        run_ids = cache(lambda: [folder.id for folder in self._runs.list()])
        for key, run in run_by_key.items():
            if run is None:
                continue
            if "/" in run or "\\" in run:
                problems.append((key, "expected a run's id; submitted jobs may not name paths of the server"))
            else:
                _tried(key, problems, partial(self._check_run, run_ids=run_ids), run)
        if kind == "training" and not job.supernet.trains:
            problems.append(("supernet.from", "names a trained supernet, so that there is nothing to train; remove it"))

    def _check_run(self, run: str, *, run_ids: Callable[[], list[str]]) -> None:
        if not self._runs.holds(run):
            raise UnknownNameError("run", run, run_ids())


def _tried(key: str, problems: list[tuple[str, str]], call: Callable[[_T], Any], argument: _T) -> Any:
    """The result of a call; None where it raises that something is not allowed, which is added to `problems`.

    After some problems nothing more is looked up: a list of thousands of unknown names would take minutes.
    """
    if len(problems) >= MAX_REPORTED:
        return None
    try:
        return call(argument)
    except (JobError, UnknownNameError) as error:
        problems.append((key, str(error)))
        return None


def _reject_paths(hardware: object) -> None:
    """Raises `JobError` where hardware is named by a path: it would be a path of the server."""
    entries = hardware if isinstance(hardware, list) else []
    text = "expected a profile's name; submitted jobs may not name files of the server: add the profile first"
    paths = [i for i, entry in enumerate(entries) if isinstance(entry, str) and is_profile_path(entry)]
    if paths:
        raise _rejected([(f"hardware[{i}]", text) for i in paths])


def _rejected(problems: list[tuple[str, str]], *, code: str = "job.not-allowed") -> JobError:
    message = "\n".join(f"{_SOURCE}: {key}: {text}" for key, text in problems)
    return JobError(message, code=code, fields=problems)
