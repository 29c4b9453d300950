"""The record of a machine's speeds: a file for each machine and runtime, by which later measurements know its usual speed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hardware_profiles.measuring.pace import Speed, usable_sessions

FOLDER = "NAS_SPEEDS"
"""The environment variable with another folder for the records."""


def default_folder() -> Path:
    """The folder of the records: the user's cache, unless the environment variable `FOLDER` names another."""
    if folder := os.environ.get(FOLDER):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "subnet-nas" / "speeds"


class SpeedRecord:
    """The speeds of sessions that tell the usual one, by machine.

    A record only makes values comparable over time: one that cannot be read or written is as good as none.

    Args:
        key: the name of a machine by its environment, as `hardware_profiles.environment.machine_key`.
    """

    def __init__(self, folder: Path, key: Callable[[Mapping[str, Any]], str]) -> None:
        self._folder, self._key = folder, key

    def read(self, environment: Mapping[str, Any]) -> list[Speed]:
        """Speeds in order of time; those that cannot be read are left out."""
        try:
            lines = self._file(environment).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return []
        speeds = []
        for line in lines:
            try:
                speeds.append(Speed.from_json(json.loads(line)))
            except (ValueError, KeyError, TypeError):  # another version's, or half a line
                continue
        return speeds

    def add(self, environment: Mapping[str, Any], speed: Speed) -> None:
        """Keeps a speed, unless quieter ones are known."""
        sessions = usable_sessions([*self.read(environment), speed])
        text = "".join(json.dumps(session.to_json()) + "\n" for session in sessions)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=self._folder, delete=False) as file:
                file.write(text)
            Path(file.name).replace(self._file(environment))
        except OSError:
            return  # a home that cannot be written to: the next session is the first again

    def _file(self, environment: Mapping[str, Any]) -> Path:
        return self._folder / f"{self._key(environment)}.jsonl"
