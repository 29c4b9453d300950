"""Data sets of plug-ins: what they load is checked, and errors name the plug-in."""

from __future__ import annotations

from typing import Any

from nas.errors import PluginError
from nas.jobs.schema import SearchJob
from nas.jobs.schema.data import DATA_SETS
from nas.plugins import Kind, PluginRef, calling, check, construct, find, load, of_object
from supernets.data import LabelledData, Source, checked_source
from supernets.errors import DataError


def plugin_source(config: SearchJob, given: object = None) -> Source | None:
    """The labelled examples of a job's data set that is a plug-in's; None for a shipped one.

    Args:
        given: a class or an object in place of what the name refers to.

    Raises:
        UnknownNameError, JobError: there is no such plug-in, or it does not take the settings.
        PluginError: it cannot be loaded, its code raises, or what it returns are no labelled examples.
    """
    name = config.data.name
    ref = of_object(Kind.DATA, given) if given is not None else find(Kind.DATA, name, DATA_SETS)
    return None if ref is None else _loaded(ref, config, given)


def _loaded(ref: PluginRef, config: SearchJob, given: object) -> Source:
    made: Any = load(ref) if given is None else given
    check(ref, made, LabelledData)
    if isinstance(made, type):
        made = construct(ref, made, settings=config.data.settings, key="data.settings")
    with calling(ref, "load"):
        found = made.load()
    try:
        return checked_source(found, str(ref))
    except DataError as error:
        raise PluginError(f"{ref}: load: {error}", code="plugin.contract") from None
