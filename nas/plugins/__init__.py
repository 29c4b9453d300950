"""Plug-ins: classes of other packages that jobs name; a name is looked up without importing them (no torch).

A job writes `module:Class`, or a short name that an installed package registers as an entry point of the group
`subnet_nas.<kind>`. Registries of shipped classes hold entries by name; what they do not hold is looked up here.
"""

from nas.plugins.installed import find, known_names, registered
from nas.plugins.loading import calling, check, construct, load
from nas.plugins.reference import Kind, PluginRef, is_dotted, of_object

__all__ = [
    "Kind",
    "PluginRef",
    "calling",
    "check",
    "construct",
    "find",
    "is_dotted",
    "known_names",
    "load",
    "of_object",
    "registered",
]
