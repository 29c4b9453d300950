"""Calls about what a server stores, and about its operation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from nas.service.api import schemas
from nas.service.client.following import finished
from nas.service.client.transport import UPLOAD_S, Calls, T, checked, quoted
from nas.service.client.uploads import UploadProgress, opened_upload
from supernets.networks.formats.pretrained import is_of_pretrained


class StoredCalls(Calls):
    """Calls about hardware, data sets, models, tasks, recipes, people and the server."""

    def profiles(self) -> tuple[schemas.Profile, ...]:
        """Hardware profiles: the catalog, then added ones."""
        return self._transport.get("profiles", tuple[schemas.Profile, ...])

    def profile(self, name: str) -> schemas.Profile:
        """A hardware profile with the noise and drift of its measurements.

        Args:
            name: Name of a hardware profile of the catalog, or of one that was added.
        """
        return self._transport.get(f"profiles/{quoted(name)}", schemas.Profile)

    def add_profile(self, profile: str) -> schemas.Profile:
        """Adds a hardware profile from the text of its YAML file.

        Args:
            profile: YAML text of at most 10,000 characters; its ``name`` must be new on the server. Profiles that use ssh, or a
                class as their runtime, are rejected.
        """
        body = checked(schemas.ProfileUpload, {"profile": profile})
        return self._transport.post("profiles", schemas.Profile, body=body)

    def delete_profile(self, name: str) -> None:
        """Deletes a hardware profile that was added.

        Args:
            name: Name of an added profile that no run or measurement uses that waits or runs.
        """
        self._transport.send("DELETE", f"profiles/{quoted(name)}")

    def measure(
        self, profile: str, model: Path, *, on_change: Callable[[schemas.ModelMeasurement], None] | None = None
    ) -> schemas.ModelMeasurement:
        """Measures the latency of an ONNX model on a hardware profile and waits for it.

        Args:
            profile: Name of a hardware profile of the server.
            model: Path of an ONNX file whose weights are in it.
            on_change: Called with the measurement after each change of its status.

        Raises:
            ServiceError: the file cannot be read, or the measurement failed.
        """
        path = f"profiles/{quoted(profile)}/measurements"
        measurement = self._upload(path, schemas.ModelMeasurement, "model", model)
        subject = f"{profile}: the measurement of {model}"
        return finished(
            self._transport, measurement, f"{path}/{quoted(measurement.measurement)}", on_change, subject=subject
        )

    def add_data(
        self,
        name: str,
        archive: Path,
        *,
        kind: str = "",
        task: str = "",
        options: Mapping[str, str | bool] | None = None,
        on_progress: UploadProgress | None = None,
    ) -> schemas.DataUpload:
        """Uploads a data set, which the server reads as a job does before it stores it.

        Args:
            name: New name of 1 to 64 letters, digits, ``-`` and ``_`` that begins with a letter or a digit.
            archive: Path of a folder, which is packed; of a zip archive; of a table (``.csv``, ``.tsv``, ``.jsonl``); or of a
                text file. Images are in one folder a class, or named in a table beside them.
            kind: The data set's name in jobs, e.g. ``text-pairs``; "" to recognise it.
            task: ``classification``, ``regression`` or ``multi-label``, by which a table's labels are read; "" to recognise it.
            options: Keys of a job's data section that say how the files are read, e.g. ``{"label_column": "stars"}``.
            on_progress: Called while files are packed and sent.

        Raises:
            ServiceError: the file cannot be read.
        """
        form = {"name": name, "kind": kind, "task": task, "options": json.dumps(dict(options or {}))}
        return self._upload("data", schemas.DataUpload, "archive", archive, form, on_progress=on_progress)

    def data_sets(self) -> tuple[schemas.DataSet, ...]:
        """The uploaded data sets, by name."""
        return self._transport.get("data", tuple[schemas.DataSet, ...])

    def delete_data(self, name: str) -> None:
        """Deletes an uploaded data set.

        Args:
            name: Name of an uploaded data set that no run uses that waits or runs. Ended runs that used it can no longer be
                resumed or exported.
        """
        self._transport.send("DELETE", f"data/{quoted(name)}")

    def add_model(self, name: str, file: Path, *, on_progress: UploadProgress | None = None) -> schemas.CapturedModel:
        """Uploads a model that `nas capture` wrote, or a pretrained network.

        A job names the former as ``supernet: {model: models/NAME}``, the latter as ``supernet: {pretrained: models/NAME}``.

        Args:
            name: New name of 1 to 64 letters, digits, ``-`` and ``_`` that begins with a letter or a digit.
            file: Path of the captured model; of the folder of a pretrained network with its ``config.json`` and safetensors, or
                of a zip archive of one; or of a GGUF file.
            on_progress: Called while files are packed and sent.

        Raises:
            ServiceError: the file cannot be read.
        """
        form = {"name": name}
        return self._upload("models", schemas.CapturedModel, "model", file, form, is_of_pretrained, on_progress)

    def models(self) -> tuple[schemas.CapturedModel, ...]:
        """The captured models and pretrained networks, by name."""
        return self._transport.get("models", tuple[schemas.CapturedModel, ...])

    def delete_model(self, name: str) -> None:
        """Deletes a model.

        Args:
            name: Name of a model that no run names that waits or runs; runs that have ended keep their copy of a captured one.
        """
        self._transport.send("DELETE", f"models/{quoted(name)}")

    def tasks(
        self, *, kind: schemas.TaskKindName | None = None, status: schemas.TaskStatusName | None = None
    ) -> tuple[schemas.Task, ...]:
        """The exports and measurements of all runs and profiles, newest first.

        Args:
            kind: Only tasks of this kind; None for all.
            status: Only tasks of this status; None for all.
        """
        return self._transport.get("tasks", tuple[schemas.Task, ...], {"kind": kind, "status": status})

    def me(self) -> schemas.Person:
        """The name and the role of the client's token."""
        return self._transport.get("me", schemas.Person)

    def audit(
        self,
        *,
        who: str = "",
        action: str = "",
        thing: str = "",
        outcome: schemas.AuditOutcome | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> schemas.AuditPage:
        """Who did what to which thing, the newest first; for administrators.

        Args:
            who: Only entries of this person; "" for all.
            action: A part of the action, e.g. ``delete``; "" for all.
            thing: A part of the thing's name; "" for all.
            outcome: Only entries of this outcome; None for all.
            offset: How many to skip.
            limit: How many to return at most, up to 1,000.
        """
        filters = {"who": who, "action": action, "thing": thing, "outcome": outcome, "offset": offset, "limit": limit}
        return self._transport.get("audit", schemas.AuditPage, filters)

    def audit_lines(self) -> str:
        """The whole audit log as lines of JSON, the oldest first; for administrators."""
        return self._transport.read("audit.jsonl").text

    def cancel_task(self, task: str) -> schemas.Task:
        """Cancels an export or a measurement.

        Args:
            task: Id of an export, a measurement or a plan that is queued or running, as in `schemas.Task.task`.
        """
        return self._transport.post(f"tasks/{quoted(task)}/cancel", schemas.Task)

    def delete_measurement(self, profile: str, measurement: str) -> None:
        """Deletes a measurement that has ended.

        Args:
            profile: Name of the hardware profile of the measurement.
            measurement: Id of a measurement that is finished, failed or cancelled.
        """
        self._transport.send("DELETE", f"profiles/{quoted(profile)}/measurements/{quoted(measurement)}")

    def recipes(self) -> tuple[schemas.Recipe, ...]:
        """The recipes."""
        return self._transport.get("recipes", tuple[schemas.Recipe, ...])

    def recipe(self, name: str, *, data: str = "", model: str = "") -> schemas.Recipe:
        """A recipe with its text.

        Args:
            name: Name of a recipe, e.g. ``digits-cnn``; `recipes` lists them.
            data: Name of an uploaded data set that the text then names; "" for the recipe's own.
            model: Name of an uploaded model that the text then names; "" for the recipe's own.
        """
        chosen = {key: value for key, value in (("data", data), ("model", model)) if value}
        return self._transport.get(f"recipes/{quoted(name)}", schemas.Recipe, chosen)

    def health(self) -> schemas.Health:
        """The server's health and version."""
        return self._transport.get("health", schemas.Health)

    def ready(self) -> schemas.Readiness:
        """The readiness of the server: whether jobs can run now, and otherwise the reasons."""
        return self._transport.get("ready", schemas.Readiness, accept=(503,))

    def _upload(
        self,
        path: str,
        kind: type[T],
        field: str,
        file: Path,
        form: Mapping[str, str] | None = None,
        chooses: Callable[[str], bool] = lambda name: True,
        on_progress: UploadProgress | None = None,
    ) -> T:
        """Sends a file or folder as form data."""
        with opened_upload(file, chooses=chooses, on_progress=on_progress) as (name, content):
            return self._transport.post(path, kind, form=form, files={field: (name, content)}, answer_s=UPLOAD_S)
