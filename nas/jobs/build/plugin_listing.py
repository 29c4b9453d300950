"""The plug-ins that are installed here, with what is wrong with each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pkgutil import resolve_name
from typing import Any

from hardware_profiles.runtimes.shipped import RUNTIMES
from nas.errors import PluginError
from nas.jobs.schema.data import DATA_SETS
from nas.jobs.schema.training import STRATEGIES
from nas.plugins import Kind, PluginRef, load, registered
from nas.plugins.installed import shadow_fault
from nas.search.algorithms import ALGORITHMS
from nas.search.problem.tasks import SHIPPED as TASKS
from predictors.registry import PREDICTORS
from supernets.families.registry import FAMILIES

SHIPPED: Mapping[Kind, Collection[str]] = {
    Kind.SEARCH: ALGORITHMS,
    Kind.PREDICTORS: PREDICTORS,
    Kind.FAMILIES: FAMILIES,
    Kind.STRATEGIES: STRATEGIES,
    Kind.TASKS: TASKS,
    Kind.DATA: DATA_SETS,
    Kind.RUNTIMES: RUNTIMES,
}
"""Names that no plug-in can take, by kind."""
_CONTRACTS: Mapping[Kind, str] = {
    Kind.SEARCH: "nas.search.base:SearchAlgorithm",
    Kind.PREDICTORS: "predictors.base:Predictor",
    Kind.FAMILIES: "supernets.sharing.base:Family",
    Kind.STRATEGIES: "supernets.sharing.base:TrainingStrategy",
    Kind.METRICS: "nas.engine.evaluation.metric:Metric",
    Kind.TASKS: "supernets.tasks:Task",
    Kind.DATA: "supernets.data:LabelledData",
    Kind.RUNTIMES: "hardware_profiles.runtimes.base:Runtime",
}
"""The protocol of each kind's class, ``module:Class``: most need torch, which loads only where plug-ins are loaded."""


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """A plug-in that a package registers.

    Attributes:
        kind: the end of its entry-point group, e.g. ``search``.
        target: ``module:Class``.
        error: why it cannot be used; "" where nothing was found.
    """

    kind: str
    name: str
    target: str
    package: str
    version: str
    error: str

    def to_json(self) -> dict[str, Any]:
        """The plug-in's entry in the output of `nas plugins --json`."""
        return asdict(self)


def installed_plugins(*, loaded: bool) -> list[InstalledPlugin]:
    """The registered plug-ins by kind and name.

    Args:
        loaded: import each, and check that it has what its kind needs; else only their names are checked.
    """
    plugins = []
    for kind in Kind:
        refs = registered(kind)
        for ref in refs:
            twice = [namesake.package for namesake in refs if namesake.name == ref.name and namesake != ref]
            error = _fault(ref, twice) or (_load_fault(ref) if loaded else "")
            plugins.append(InstalledPlugin(kind.value, ref.name, ref.target, ref.package, ref.version, error))
    return plugins


def _fault(ref: PluginRef, twice: Collection[str]) -> str:
    if ref.name in SHIPPED.get(ref.kind, ()):
        return f"{shadow_fault(ref)}; it is never used under this name"
    return f"{', '.join(twice)} registers the name, too; jobs name the class" if twice else ""


def _load_fault(ref: PluginRef) -> str:
    try:
        load(ref, resolve_name(_CONTRACTS[ref.kind]))
    except PluginError as error:
        return str(error)
    return ""
