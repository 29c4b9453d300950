"""The command that edits the labels of a run: label."""

from __future__ import annotations

from typing import Annotated

from nas.cli.app import DEFAULT_RUNS, Json, RunId, Runs, Token, TokenFile, app, option, server_client
from nas.cli.output import print_json
from nas.engine.store.folder import RunsFolder
from nas.engine.store.labels import Labels, read_labels, write_labels


@app.command(epilog='Example: nas label digits-cnn-1 --add thesis --note "first try"')
def label(
    run: RunId,
    add: Annotated[list[str] | None, option("--add", help="A tag to add; may be repeated.")] = None,
    remove: Annotated[list[str] | None, option("--remove", help="A tag to remove; may be repeated.")] = None,
    note: Annotated[str | None, option("--note", help='The note in place of the present one; "" removes it.')] = None,
    runs: Runs = DEFAULT_RUNS,
    server: Annotated[str | None, option("--server", help="Label a run of this server.")] = None,
    token: Token = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Show or change the tags and the note of a run."""
    changes = bool(add or remove or note is not None)
    if server is not None:
        with server_client(server, token, token_file) as client:
            now = client.status(run)
            labels = Labels(now.tags, now.note)
            if changes:
                labels = labels.edited(add or (), remove or (), note)
                client.label(run, tags=labels.tags, note=labels.note)
    else:
        run_folder = RunsFolder(runs).get(run)
        labels = read_labels(run_folder)
        if changes:
            labels = labels.edited(add or (), remove or (), note)
            write_labels(run_folder, labels)
    if as_json:
        return print_json({"run": run, "tags": list(labels.tags), "note": labels.note})
    print(f"{run}: {', '.join(labels.tags) or 'no tags'}")
    return print(labels.note) if labels.note else None
