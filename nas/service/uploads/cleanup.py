"""What servers left that were killed in the middle of deleting or unpacking: found, and removed."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from nas.service.uploads.archives import UNPACKING

logger = logging.getLogger(__name__)


def stale_files(settings: ServiceSettings, state: ServiceState) -> list[Path]:
    """What nothing needs any more, of a server that is not answering yet: then nothing of it is in the making.

    Runs that were deleted, archives that were being unpacked, and models that no measurement is still to be made of.
    """
    needed = {task.task for task in state.open_tasks()}
    found = [*settings.trash.glob("*"), *settings.uploaded_data.glob(f"{UNPACKING}*")]
    found += [path for path in settings.uploaded_models.glob("*/*.onnx") if path.parent.name not in needed]
    return sorted(found)


def remove(paths: Sequence[Path]) -> threading.Thread:
    """Removes files and folders in the background, which may take minutes."""
    thread = threading.Thread(target=_remove, args=(paths,), name="leftovers", daemon=True)
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
