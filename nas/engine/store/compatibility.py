"""Checks that measurements and weights are compatible before they are combined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from nas.errors import REPEAT, NasError, PluginError, Remedy, UnknownNameError
from nas.plugins import PluginRef, find
from supernets.errors import CheckpointError

_ALWAYS: Mapping[str, Mapping[str, object]] = {
    "supernet": {
        "divergence": "kl",
        "keep": "last",
        "clip_norm": None,
        "top_k": None,
        "accumulate": 1,
        "activation_checkpointing": False,
        "precision": "auto",
        "balance_loss": 0.01,
        "router_z_loss": 0.001,
        "entropy_loss": 0.0,
        "parameters": "all",
        "largest_epochs": 0,
    },
}
"""Values, by section, that earlier versions did not record because there was no other."""
_UNKNOWN: Mapping[str, tuple[str, ...]] = {
    "": ("family",),
    "supernet": ("distill", "teacher", "random_subnets", "micro_batches", "candidates", "pick"),
}
"""Keys, by section, that earlier versions did not record and that cannot be known now; they are not compared."""


def check_compatibility(
    run: str, recorded: Mapping[str, Any], current: Mapping[str, Any], *, remedy: str = "restore it, or start a new run"
) -> None:
    """Raises `NasError` with the first of a run's facts that differs from the current one, as far as its version recorded it.

    Args:
        run: Name of the run in the error: ``run NAME``.
        recorded: Facts that the run recorded, by name.
        current: Facts of the job or the machine now, by name; facts that are not compared are absent.
        remedy: Advice on what to do, for the error.
    """
    for name, now in _recorded(recorded, current, section="").items():
        was = recorded.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            was = {**{key: value for key, value in _ALWAYS.get(name, {}).items() if key in now}, **was}
            now = _recorded(was, now, section=name)
        if was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            key = next(k for k in [*now, *was] if was.get(k) != now.get(k))
            detail = f", {key}{_values(was.get(key), now.get(key))}"
        else:
            detail = _values(was, now)
        raise NasError(f"{run} is not compatible: {name}{detail}; {remedy}", code="run.incompatible")


def _recorded(was: Mapping[str, Any], now: Mapping[str, Any], *, section: str) -> dict[str, Any]:
    """The facts of a section now that can be compared with those that a run recorded."""
    unknown = _UNKNOWN.get(section, ())
    return {key: value for key, value in now.items() if key in was or key not in unknown}


def _values(was: object, now: object) -> str:
    """The values of a fact that differs; "" for lists, which are long."""
    return "" if isinstance(was, list) or isinstance(now, list) else f": was {was}, is {now}"


def check_installed(run: str, recorded: Iterable[PluginRef]) -> None:
    """Raises `PluginError` where the package of one of a run's plug-ins is not installed; objects from Python need none."""
    for was in recorded:
        if was.is_object or not was.package:
            continue
        try:
            installed = find(was.kind, was.name)
        except UnknownNameError:
            installed = None
        top = was.target.partition(":")[0].partition(".")[0]
        if installed is None or (not installed.package and find_spec(top) is None):
            raise PluginError(
                f"{run}: its {was} is not installed here; install its package (pip install '{was.package}=={was.version}')",
                code="plugin.import",
            )


def check_plugins(
    run: str, recorded: Iterable[PluginRef], now: Iterable[PluginRef], *, accept: bool, note: Callable[[str], None]
) -> None:
    """Raises `PluginError` unless the plug-ins of a run come from the packages and versions that it recorded.

    Args:
        accept: continue with other versions, which are then noted.
    """
    ref_by_name = {(ref.kind, ref.name): ref for ref in now}
    for was in recorded:
        ref = ref_by_name.get((was.kind, was.name))
        if ref is None or (ref.target, ref.package, ref.version) == (was.target, was.package, was.version):
            continue
        place = (
            " ".join(part for part in (ref.target, "of", ref.package, ref.version) if part)
            if ref.package
            else ref.target
        )
        message = f"{run}: its {was} is {place} here"
        if not accept:
            install = f"install it (pip install '{was.package}=={was.version}'), or " if was.package else ""
            advice = f"{install}accept the other version (accept_plugin_versions=True)"
            remedy = Remedy(REPEAT, options={"accept_plugin_versions": True})
            raise PluginError(f"{message}; {advice}", code="plugin.version", remedy=remedy)
        note(f"{message}, which was accepted")


def check_teacher(run: str, was: str | None, now: str) -> None:
    """Raises `CheckpointError` unless a teacher's weights are those with which a training began."""
    if was is not None and was != now:
        raise CheckpointError(
            f"run {run}: its training began with a teacher of the weights {was}, and the teacher now has {now}; "
            "restore the teacher, or start a new run",
            code="checkpoint.teacher-changed",
        )


def check_weights(run: str, was: str | None, now: str) -> None:
    """Raises `CheckpointError` unless a checkpoint's weights are those that a run's measurements were taken on."""
    if was is not None and was != now:
        raise CheckpointError(
            f"run {run}: its measurements are of the weights {was}, but the checkpoint now holds {now}; restore the "
            "checkpoint, or start a new run",
            code="checkpoint.weights-changed",
        )
