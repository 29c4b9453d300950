"""The plug-ins that installed packages register by entry points, and the lookup of a plug-in's name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from importlib.metadata import entry_points

from nas.errors import PluginError, UnknownNameError, quoted
from nas.plugins.reference import Kind, PluginRef, is_dotted, owner, searched_folders


def registered(kind: Kind) -> list[PluginRef]:
    """The plug-ins of a kind that installed packages register, in the order of their names; nothing is imported.

    Args:
        kind: Kind of the plug-ins, which gives the entry-point group.
    """
    return list(_registered(kind, searched_folders()))


@lru_cache(maxsize=16)
def _registered(kind: Kind, folders: tuple[tuple[str, int], ...]) -> tuple[PluginRef, ...]:
    """The cached answer of `registered`.

    Reading the entry points of all packages takes longer than all else that the names of a job need.
    """
    references = {
        PluginRef(
            kind,
            entry.name,
            f"{entry.module}:{entry.attr}",
            *((entry.dist.name, entry.dist.version) if entry.dist is not None else ("", "")),
        )
        for entry in entry_points(group=kind.group)
    }
    return tuple(sorted(references, key=lambda ref: (ref.name, ref.package)))


def known_names(kind: Kind, shipped: Iterable[str]) -> list[str]:
    """The names that a job may write, other than `module:Class`: the shipped ones, then the registered ones.

    Args:
        kind: Kind of the plug-ins.
        shipped: Names of the shipped classes of this kind, in the order in which they are listed.
    """
    return list(dict.fromkeys([*shipped, *(ref.name for ref in registered(kind))]))


def find(kind: Kind, name: str, shipped: Collection[str] = ()) -> PluginRef | None:
    """Finds the plug-in that a name refers to, without importing it; None for a shipped class.

    Args:
        kind: The kind of plug-in.
        name: A shipped name, a registered short name, or `module:Class`.
        shipped: The names of the shipped classes of this kind.

    Raises:
        UnknownNameError: The name is none of the shipped and registered names, and not `module:Class`.
        PluginError: A package registers a shipped name (code ``plugin.shadows``), or two packages register this one
            (code ``plugin.ambiguous``).
    """
    entries = registered(kind)
    same_name = [ref for ref in entries if ref.name == name]
    if name in shipped:
        if same_name:
            raise PluginError(
                f"{shadow_fault(same_name[0])}; uninstall it, or write its class, {same_name[0].target}",
                code="plugin.shadows",
            )
        return None
    if len(same_name) > 1:
        listed = " and ".join(f"{ref.target} of {ref.package} {ref.version}" for ref in same_name)
        raise PluginError(
            f"the {kind.noun} {name} is registered by several packages: {listed}; write the class that you mean",
            code="plugin.ambiguous",
        )
    if same_name:
        return same_name[0]
    if not is_dotted(name):
        hint = (
            f"A plug-in is named by its class, module:Class, or by a name that its package registers in {kind.group}."
        )
        raise UnknownNameError(kind.noun, name, known_names(kind, shipped), hint=hint)
    module = name.partition(":")[0]
    sibling = next((ref for ref in entries if ref.target.partition(":")[0] == module), None)
    place = owner(module) if sibling is None else (sibling.package, sibling.version)
    return PluginRef(kind, name, name, *place)


def shadow_fault(ref: PluginRef) -> str:
    """Describes the conflict of a plug-in that has the name of a shipped class."""
    return (
        f"the package {quoted(ref.package)} registers {ref.target} as the {ref.kind.noun} {ref.name}, which is the name of a "
        "shipped one"
    )
