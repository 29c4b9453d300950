"""Deletes folders: at once for readers, while their files are removed afterwards, by the next server at the latest."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from nas.errors import StoreError
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from nas.service.uploads.archives import UNPACKING
from nas.service.uploads.storage_checks import UPLOADING

logger = logging.getLogger(__name__)


def move_away(folder: Path, trash: Path) -> Path:
    """The place of a folder in the trash, to be removed there: so no half of it is ever seen. A missing one is gone already.

    Args:
        trash: a folder on the same file system; the next server removes what stays in it.

    Raises:
        StoreError: the folder cannot be moved.
    """
    trashed = trash / f"{folder.name}.{secrets.token_hex(8)}"
    try:
        trash.mkdir(parents=True, exist_ok=True)
        folder.rename(trashed)
    except FileNotFoundError:
        return trashed
    except OSError as error:
        raise StoreError(f"{folder} cannot be removed: {error.strerror}") from None
    return trashed


def delete_folder(folder: Path, trash: Path) -> None:
    """Moves a folder away and removes its files; see `move_away`."""
    shutil.rmtree(move_away(folder, trash), ignore_errors=True)


def stale_files(settings: ServiceSettings, state: ServiceState) -> list[Path]:
    """Deleted runs, partly unpacked archives and uploads, and models without an open measurement.

    Only to be called before the server answers requests: none of them is in use then.
    """
    needed = {task.task for task in state.open_tasks()}
    paths = [*settings.trash.glob("*"), *settings.captured_models.glob(f"{UPLOADING}*")]
    for folder in (settings.uploaded_data, settings.captured_models):
        paths += folder.glob(f"{UNPACKING}*")
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
