"""Data sets of plug-ins: what they load is checked, and errors name the plug-in."""

from __future__ import annotations

from typing import Any

from nas.errors import PluginError
from nas.jobs.schema import SearchJob
from nas.jobs.schema.data import DATA_SETS
from nas.plugins import Kind, PluginRef, calling, check, construct, find, load, of_object
from supernets.data import LabelledData, Source, checked_source
from supernets.errors import DataError


def plugin_source(config: SearchJob, passed_data: object = None) -> Source | None:
    """The labelled examples of a job's data set that is a plug-in's; None for a shipped one.

    Args:
        passed_data: A class or an object in place of the data set that the job names; None without one.

    Raises:
        UnknownNameError, JobError: there is no such plug-in, or it does not take the settings.
        PluginError: it cannot be loaded, its code raises, or what it returns are no labelled examples.
    """
    name = config.data.name
    ref = of_object(Kind.DATA, passed_data) if passed_data is not None else find(Kind.DATA, name, DATA_SETS)
    return None if ref is None else _load_examples(ref, config, passed_data)


def _load_examples(ref: PluginRef, config: SearchJob, passed_data: object) -> Source:
    data_set: Any = load(ref) if passed_data is None else passed_data
    check(ref, data_set, LabelledData)
    if isinstance(data_set, type):
        data_set = construct(ref, data_set, settings=config.data.settings, key="data.settings")
    with calling(ref, "load"):
        examples = data_set.load()
    try:
        return checked_source(examples, str(ref))
    except DataError as error:
        raise PluginError(f"{ref}: load: {error}", code="plugin.contract") from None
