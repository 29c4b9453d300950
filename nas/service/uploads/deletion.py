"""Deletes folders: at once for readers, while their files, which may be many, are removed afterwards."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from nas.errors import StoreError


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
