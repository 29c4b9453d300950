"""Opens the store of a run's folder: the database file in it, or the schema that its store file names."""

from __future__ import annotations

import json
from collections.abc import Callable

from nas.engine.store.database import Database
from nas.engine.store.folder import RunFolder
from nas.engine.store.postgres import PostgresDatabase, new_schema, parse_url
from nas.engine.store.sql import SqlStore
from nas.engine.store.sqlite import SqliteDatabase
from nas.errors import OutdatedStoreError, StoreError


def database_of(folder: RunFolder) -> Database:
    """The database of a run's rows; `StoreError` if its store file is damaged or the database's client is not installed."""
    if not folder.store_file.is_file():
        return SqliteDatabase(folder.database)
    try:
        content = json.loads(folder.store_file.read_text())
        return PostgresDatabase(
            parse_url(str(content["url"]), where=f"{folder.store_file}: url"), str(content["schema"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder.store_file}: damaged ({error!r}); expected the url and the schema of the run's database"
        ) from None


def new_place(url: str, name: str) -> dict[str, str]:
    """The content of the store file of a new run, on a database server that has let us in; see `check_server`."""
    place = new_schema(url, name)
    return {"url": place.url.render_as_string(), "schema": str(place.schema)}


def open_store(
    folder: RunFolder, *, create: bool = False, driver: bool = False, on_wait: Callable[[str], None] | None = None
) -> SqlStore:
    """The store of a run; see `SqlStore.open`."""
    return SqlStore.open(database_of(folder), create=create, driver=driver, on_wait=on_wait)


def upgrade_store(folder: RunFolder) -> bool:
    """Brings a run's tables up to this version's; True if they were of an earlier one. Raises as `open_store` does."""
    try:
        open_store(folder).close()
    except OutdatedStoreError:
        open_store(folder, driver=True).close()
        return True
    return False


def is_held(folder: RunFolder) -> bool:
    """True if a live driver has a run now; False if that cannot be determined."""
    try:
        return database_of(folder).is_held()
    except StoreError:
        return False
