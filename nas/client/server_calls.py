"""Calls about the server: hardware profiles, measurements, data sets, recipes, health."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from nas.api import schemas
from nas.client.calls import PATIENCE_S, Calls
from nas.client.following import Patience, finished
from nas.client.transport import checked, quoted
from nas.errors import ServiceError


class ServerCalls(Calls):
    """Hardware, data sets, recipes and operations."""

    def profiles(self) -> tuple[schemas.Profile, ...]:
        """Hardware profiles: the catalog, then added ones."""
        return self._transport.get("profiles", tuple[schemas.Profile, ...])

    def profile(self, name: str) -> schemas.Profile:
        """A hardware profile with the noise and drift of its measurements."""
        return self._transport.get(f"profiles/{quoted(name)}", schemas.Profile)

    def add_profile(self, profile: str) -> schemas.Profile:
        """Adds a hardware profile from the text of its YAML file."""
        answer = self._transport.send("POST", "profiles", body=checked(schemas.ProfileUpload, {"profile": profile}))
        return self._transport.parsed(answer, schemas.Profile)

    def measure(
        self, profile: str, model: Path, *, on_change: Callable[[schemas.ModelMeasurement], None] | None = None
    ) -> schemas.ModelMeasurement:
        """Measures the latency of an ONNX model on a hardware profile and waits for it.

        Raises:
            ServiceError: the file cannot be read, or the measurement failed.
        """
        path = f"profiles/{quoted(profile)}/measurements"
        made = self._transport.parsed(self._upload(path, "model", model), schemas.ModelMeasurement)
        path = f"{path}/{quoted(made.measurement)}"
        made = finished(self._transport, made, path, Patience(PATIENCE_S), on_change)
        if made.status == "failed":
            raise ServiceError(f"{profile}: {model} was not measured: {made.reason or 'no reason is known'}")
        return made

    def add_data(self, name: str, archive: Path) -> schemas.DataUpload:
        """Uploads a small data set of images: a zip archive with one folder per class.

        Raises:
            ServiceError: the file cannot be read.
        """
        return self._transport.parsed(self._upload("data", "archive", archive, {"name": name}), schemas.DataUpload)

    def recipes(self) -> tuple[schemas.Recipe, ...]:
        """The recipes."""
        return self._transport.get("recipes", tuple[schemas.Recipe, ...])

    def recipe(self, name: str) -> schemas.Recipe:
        """A recipe with its text."""
        return self._transport.get(f"recipes/{quoted(name)}", schemas.Recipe)

    def health(self) -> schemas.Health:
        """The server's health and version."""
        return self._transport.get("health", schemas.Health)

    def ready(self) -> schemas.Readiness:
        """Whether jobs can run now, and otherwise the reasons."""
        return self._transport.get("ready", schemas.Readiness, accept=(503,))

    def _upload(self, path: str, field: str, file: Path, form: Mapping[str, str] | None = None) -> httpx.Response:
        """Sends a file as form data."""
        try:
            with file.open("rb") as opened:
                return self._transport.send("POST", path, form=form, files={field: (file.name, opened)})
        except OSError as error:
            raise ServiceError(f"{file}: cannot be read: {error.strerror}; check its path and permissions") from None
