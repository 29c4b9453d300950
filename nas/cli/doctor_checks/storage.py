"""Checks of the storage: the runs folder, runs, the service's database and data sets."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from nas.cli.doctor_checks.finding import Finding, ok, warning, wrong
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.lease import Holder, RunLock
from nas.engine.store.opening import is_held, open_store
from nas.engine.store.sqlite import SqliteDatabase
from nas.errors import NasError, OutdatedStoreError, StoreError
from nas.service.file_permissions import open_files
from nas.service.settings import ServiceSettings
from nas.service.state_tables import SCHEMA

_MAX_LISTED = 5
"""Number of runs that are named."""


def runs_folder(runs: RunsFolder) -> Finding:
    """Checks that runs can be stored in the folder; creates no folder and leaves no file."""
    existing = next(path for path in (runs.root.absolute(), *runs.root.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=existing) as folder:
            RunLock(Path(folder) / "lock", Holder.this()).release()
    except (OSError, StoreError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        remedy = "choose another folder with --runs (NAS_RUNS), on a file system with locks, or change its permissions"
        return wrong("runs folder", f"{runs.root} cannot be written: {reason}", remedy)
    if existing != runs.root.absolute():
        return ok("runs folder", f"{runs.root} is created by the first run")
    return ok("runs folder", f"{runs.root} is writable, and locks work")


def runs_in(runs: RunsFolder) -> list[Finding]:
    """Checks that every run's database is readable and has this version."""
    folders = runs.list()
    old, bad = [], {}
    for folder in folders:
        try:
            _read(folder)
        except OutdatedStoreError:
            old.append(folder.id)
        except NasError as error:
            if not is_held(folder):  # otherwise its driver is just creating it
                bad[folder.id] = str(error)
    findings = []
    if not old and not bad:
        findings.append(ok("runs", f"{len(folders)}, all readable" if folders else "none yet"))
    if old:
        more = f" and {len(old) - _MAX_LISTED} more" if len(old) > _MAX_LISTED else ""
        observation = f"{', '.join(old[:_MAX_LISTED])}{more}: written by a previous version"
        findings.append(warning("runs", observation, "upgrade them with: nas upgrade"))
    for run, reason in list(bad.items())[:_MAX_LISTED]:
        findings.append(wrong("runs", f"{run}: {reason}", f"restore {run} from a copy, or remove its folder"))
    if len(bad) > _MAX_LISTED:
        findings.append(wrong("runs", f"{len(bad) - _MAX_LISTED} more are not readable", "`nas runs` lists them"))
    return findings


def service_state(path: Path) -> list[Finding]:
    """Checks that the service's database (``service.db``) is readable, if a server has created one."""
    if not path.exists():
        return []

    remedy = "restore it from a backup; without it, a server forgets submissions (runs are kept)"
    database = SqliteDatabase(path)
    engine = database.reading_engine()
    try:
        with engine.connect() as connection:
            SCHEMA.check(connection, name=path.name)
    except OutdatedStoreError:
        return [ok("service", f"{path} has a previous version, which the next server upgrades")]
    except (DBAPIError, StoreError) as error:
        observation = str(error) if isinstance(error, StoreError) else f"{path}: {database.explain(error)}"
        return [wrong("service", observation, remedy)]
    finally:
        engine.dispose()
    return [ok("service", f"{path} is readable")]


def permissions(runs: RunsFolder) -> list[Finding]:
    """Checks that other users of this machine cannot read the files of a server, if there was one."""
    settings = ServiceSettings(runs)
    if not settings.folder.is_dir():
        return []
    paths = list(open_files(settings))
    if not paths:
        return [ok("permissions", f"{settings.folder} and {settings.database.name} are for their user alone")]
    first = f"{paths[0]} ({paths[0].stat().st_mode & 0o777:03o})"
    more = f" and {len(paths) - 1} more of the server's files" if len(paths) > 1 else ""
    remedy = f"start the server again as their owner, which closes them, or: chmod -R go= {shlex.quote(str(paths[0]))}"
    return [warning("permissions", f"other users of this machine have access to {first}{more}", remedy)]


def data_sets() -> Finding:
    """Data sets that jobs can name without a path. Needs torch."""
    from supernets.data.fashion_mnist import find

    folder = find()
    if folder is None:
        remedy = "for fashion-mnist: apt install dataset-fashion-mnist, or give a folder with its four files as path"
        return warning("data sets", "digits; fashion-mnist was not found", remedy)
    return ok("data sets", f"digits, fashion-mnist ({folder})")


def _read(folder: RunFolder) -> None:
    store = open_store(folder)
    try:
        store.status(), store.facts(), store.state(), store.n_measurements()
    finally:
        store.close()
