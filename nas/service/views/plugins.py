"""The plug-ins that submitted jobs may name; the server imports none of them."""

from __future__ import annotations

from collections.abc import Sequence

from nas.jobs.build.plugin_listing import installed_plugins
from nas.plugins.reference import owner
from nas.service.api import schemas


def plugins(allowed: Sequence[str]) -> tuple[schemas.Plugin, ...]:
    """Those that installed packages register, then the classes that the server's owner allows."""
    listed = [schemas.Plugin(**plugin.to_json()) for plugin in installed_plugins(loaded=False)]
    for target in allowed:
        package, version = owner(target.partition(":")[0])
        listed.append(schemas.Plugin(kind="", name=target, target=target, package=package, version=version, error=""))
    return tuple(listed)
