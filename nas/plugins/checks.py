"""Calls of a plug-in's code: its errors become errors that name the plug-in."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from nas.errors import JobError, NasError, PluginError
from nas.plugins.reference import PluginRef


@contextmanager
def calling(ref: PluginRef, call_name: str, *, but: type[Exception] = NasError) -> Iterator[None]:
    """Raises what the code of a plug-in raises as a `PluginError` that names it; errors of this program stay.

    Args:
        call_name: The method that the caller calls, or another name of the call, e.g. ``ask``; begins the message.
        but: Further errors that stay as they are.
    """
    try:
        yield
    except (NasError, but):
        raise
    except Exception as error:  # the code is of others: whatever it raises ends in one line that names it
        raise PluginError(f"{ref}: {call_name} raised {type(error).__name__}: {error}") from error


def construct(ref: PluginRef, make: Any, *values: Any, settings: Mapping[str, Any], key: str, **fixed: Any) -> Any:
    """Constructs an object of a plug-in's class from the arguments of its kind and the settings of the job.

    Args:
        ref: The plug-in, which errors name.
        make: The class.
        values: Positional arguments of the kind.
        settings: Keyword arguments that the job gives.
        key: The key of the settings in the job file, e.g. ``search.settings``.
        fixed: Keyword arguments of the kind, which are no settings.

    Raises:
        JobError: The class does not take a setting, or lacks one.
        PluginError: The class does not take the arguments of its kind, or its constructor raises.
    """
    signature = inspect.signature(make)
    parameters = list(signature.parameters.values())[len(values) :]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    settable = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in fixed]
    names = [p.name for p in settable]
    for name in settings:
        if name in fixed or (name not in names and not takes_all):
            near = get_close_matches(name, names, n=1, cutoff=0.5)
            ask = f"; did you mean {near[0]!r}?" if near else "."
            expected_settings = f" {ref} takes {', '.join(names) or 'no settings'}."
            raise JobError(
                f"{key}: unknown key {name!r}{ask}{expected_settings}",
                code="job.unknown-key",
                fields=[(f"{key}.{name}", ask)],
            )
    missing = [p.name for p in settable if p.default is p.empty and p.name not in settings]
    if missing:
        raise JobError(
            f"{key}: {missing[0]} is missing; {ref} needs it",
            code="job.missing-key",
            fields=[(f"{key}.{missing[0]}", "is missing")],
        )
    try:
        signature.bind(*values, **fixed, **settings)
    except TypeError as error:
        expected = ", ".join([*(type(value).__name__ for value in values), *(f"{name}=" for name in fixed)])
        raise PluginError(
            f"{ref}: its constructor takes {signature}, expected one that takes ({expected}): {error}",
            code="plugin.contract",
        ) from None
    with calling(ref, "its constructor"):
        return make(*values, **fixed, **settings)
