"""The command that lists installed plug-ins: plugins."""

from __future__ import annotations

import nas.jobs
from nas.cli.app import Json, app
from nas.cli.output import print_list


@app.command(epilog="Example: nas plugins")
def plugins(as_json: Json = False) -> None:
    """List the plug-ins of installed packages.

    Each is loaded, and found to have what its kind needs. A job names one by its short name, or any class as module:Class.
    """
    installed = nas.jobs.installed_plugins(loaded=True)
    rows = [
        [p.kind, p.name, p.target, f"{p.package} {p.version}".strip(), "no" if p.error else "yes"] for p in installed
    ]
    header = ["kind", "name", "class", "package", "loads"]
    empty_text = "no installed package registers a plug-in (entry points of the groups subnet_nas.search, ...)"
    print_list(as_json, [plugin.to_json() for plugin in installed], header, rows, empty_text=empty_text)
    for plugin in installed:
        if plugin.error and not as_json:
            print(f"{plugin.name}: {plugin.error}")
