"""Use of a plug-in's class: its import, the check that it has what its kind needs, its construction, and calls of its code.

Errors of its code become errors that name the plug-in.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from types import FunctionType
from typing import Any

from nas.errors import JobError, NasError, PluginError
from nas.plugins.reference import PluginRef


def load(ref: PluginRef, contract: type | None = None) -> Any:
    """Imports the class of a plug-in.

    Args:
        ref: The plug-in.
        contract: The protocol of its kind: the class must have its public methods, which take the same arguments, and its
            class attributes.

    Raises:
        PluginError: The class cannot be imported (code ``plugin.import``), or does not fulfil the contract
            (code ``plugin.contract``).
    """
    module, _, name = ref.target.partition(":")
    try:
        target: Any = import_module(module)
    except Exception as error:  # a module of others may raise anything; the plug-in is named, and the cause kept
        raise PluginError(f"{ref}: {_import_fault(module, error)}", code="plugin.import") from error
    for part in name.split("."):
        if not hasattr(target, part):
            has = ", ".join(key for key in vars(target) if not key.startswith("_"))[:200]
            raise PluginError(
                f"{ref}: the module {module} has no {name}; it has {has or 'nothing'}", code="plugin.import"
            )
        target = getattr(target, part)
    if contract is not None:
        check(ref, target, contract)
    return target


def _import_fault(module: str, error: Exception) -> str:
    missing = isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}.")
    remedy = "install its package into the environment of nas (pip install ...), or name its folder in PYTHONPATH"
    if missing:
        return f"there is no module {module} here; {remedy}"
    return (
        f"the module {module} cannot be imported: {type(error).__name__}: {error}; correct it, or install what it needs"
    )


def check(ref: PluginRef, implementation: object, contract: type) -> None:
    """Raises `PluginError` unless a plug-in's class or object has what a protocol asks for.

    Args:
        ref: Plug-in that the error names.
        implementation: Class or object of the plug-in; a function is rejected.
        contract: Protocol of the kind. Its public methods must exist and take the same arguments; class attributes that it
            declares without a value must exist.
    """
    expected = (
        f"expected a class like {contract.__module__}.{contract.__name__}; inherit it, or add what is missing, see "
        f"{ref.kind.page}"
    )
    if isinstance(implementation, FunctionType):
        raise PluginError(f"{ref}: is a function; {expected}", code="plugin.contract")
    hints = inspect.get_annotations(contract)
    for name in [key for key, hint in hints.items() if "ClassVar" in str(hint) and not hasattr(contract, key)]:
        if not hasattr(implementation, name):
            raise PluginError(f"{ref}: has no class attribute {name}; {expected}", code="plugin.contract")
    methods = [(name, m) for name, m in inspect.getmembers(contract, inspect.isfunction) if not name.startswith("_")]
    _check_methods(ref, implementation, methods, expected)
    for name, method in methods:
        implemented = getattr(implementation, name)
        bound = not isinstance(implementation, type) or inspect.ismethod(implemented)
        if not _accepts_arguments_of(method, implemented, bound=bound):
            expected_method = f"{name}{inspect.signature(method)}"
            actual_method = f"{name}{inspect.signature(implemented)}"
            problem = f"expected the method {expected_method}, got {actual_method}; see {ref.kind.page}"
            raise PluginError(f"{ref}: {problem}", code="plugin.contract")


def _check_methods(ref: PluginRef, implementation: object, methods: Sequence[tuple[str, Any]], expected: str) -> None:
    """Raises `PluginError` if a plug-in lacks methods: names those that it must write, or else those that it inherits."""
    lacking: dict[bool, list[str]] = {True: [], False: []}
    for name, method in methods:
        implemented = getattr(implementation, name, None)
        if not callable(implemented) or getattr(implemented, "__isabstractmethod__", False):
            lacking[getattr(method, "__isabstractmethod__", False)].append(name)
    if names := lacking[True]:
        raise PluginError(f"{ref}: has no method {' and no method '.join(names)}; {expected}", code="plugin.contract")
    if names := lacking[False]:
        problem = f"does not inherit the contract's class, which has a method {' and a method '.join(names)}"
        raise PluginError(f"{ref}: {problem}; {expected}", code="plugin.contract")


def _accepts_arguments_of(method: Any, implemented: Any, *, bound: bool) -> bool:
    """Returns True if a plug-in's method can be called with the arguments of the contract's method."""
    parameters = list(inspect.signature(method).parameters.values())[1 if bound else 0 :]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keywords = {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
    try:
        inspect.signature(implemented).bind(*positional, **keywords)
    except TypeError:
        return False
    return True


@contextmanager
def calling(ref: PluginRef, call_name: str, *, but: type[Exception] = NasError) -> Iterator[None]:
    """Raises what the code of a plug-in raises as a `PluginError` that names it; errors of this program stay.

    Args:
        ref: Plug-in whose code is called within the context; begins the message.
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
