"""Words that a shell completes: runs, recipes, hardware profiles and numbers of networks; without what takes long to load."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import typer

from nas.engine.store.folder import DEFAULT_ROOT, RunsFolder
from nas.results.export.format_names import FORMATS

_MAX_NUMBERS = 1000
"""Networks of a run whose numbers are completed."""


def run_ids(context: typer.Context, incomplete: str) -> list[str]:
    """The runs of the selected folder."""
    runs = _runs_folder(context)
    return [folder.id for folder in runs.list() if folder.id.startswith(incomplete)] if runs.exists else []


def recipes(incomplete: str) -> list[tuple[str, str]]:
    """The recipes with their titles."""
    from nas.jobs.recipes import list_recipes

    return [(recipe.name, recipe.title) for recipe in list_recipes() if recipe.name.startswith(incomplete)]


def profile_names(incomplete: str) -> list[tuple[str, str]]:
    """The hardware profiles of the catalog with their descriptions."""
    from hardware_profiles import known_profiles

    return [(p.name, p.description) for p in known_profiles() if p.name.startswith(incomplete)]


def export_formats(incomplete: str) -> list[tuple[str, str]]:
    """The formats of exports with what they are."""
    return [(name, text) for name, text in FORMATS.items() if name.startswith(incomplete)]


def selections(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Numbers of the networks of the run that the command names: ``network=17``."""
    # The parser stops at the option that lacks its value, and leaves the arguments before it.
    run, runs = context.params.get("run") or next(iter(context.args), None), _runs_folder(context)
    if not isinstance(run, str) or not runs.holds(run):
        return
    texts = (f"network={number}" for number in range(1, 1 + _n_networks(runs.get(run).database)))
    yield from (text for text in texts if text.startswith(incomplete))


def _runs_folder(context: typer.Context) -> RunsFolder:
    return RunsFolder(Path(context.params.get("runs") or os.environ.get("NAS_RUNS") or DEFAULT_ROOT))


def _n_networks(database: Path) -> int:
    """The number of networks that a run has measured; 0 of one that has no database of its own."""
    query = "SELECT count(DISTINCT architecture) FROM measurements"
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return min(_MAX_NUMBERS, int(connection.execute(query).fetchone()[0]))
    except sqlite3.Error:
        return 0
