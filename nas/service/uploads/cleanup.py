"""Removes stale files of servers that were killed while they deleted or unpacked something."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from nas.service.uploads.archives import UNPACKING
from nas.service.uploads.captured_models import UPLOADING

logger = logging.getLogger(__name__)


def stale_files(settings: ServiceSettings, state: ServiceState) -> list[Path]:
    """Deleted runs, partly unpacked archives and uploads, and models without an open measurement.

    Only to be called before the server answers requests: none of them is in use then.
    """
    needed = {task.task for task in state.open_tasks()}
    paths = [*settings.trash.glob("*"), *settings.uploaded_data.glob(f"{UNPACKING}*")]
    paths += settings.captured_models.glob(f"{UPLOADING}*")
    paths += [path for path in settings.uploaded_models.glob("*/*.onnx") if path.parent.name not in needed]
    return sorted(paths)


def remove(paths: Sequence[Path]) -> threading.Thread:
    """Removes files and folders in the background, which may take minutes."""
    thread = threading.Thread(target=_remove, args=(paths,), name="cleanup", daemon=True)
    thread.start()
    return thread


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            logger.warning("%s cannot be removed: %s", path, error)
