"""Import of a plug-in's class, and the check that it has what its kind needs."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import FunctionType
from typing import Any

from nas.errors import PluginError
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
    """Raises `PluginError` unless a plug-in's class or object has what a protocol asks for."""
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
    for name, method in inspect.getmembers(contract, inspect.isfunction):
        if name.startswith("_"):
            continue
        implemented = getattr(implementation, name, None)
        if not callable(implemented) or getattr(implemented, "__isabstractmethod__", False):
            raise PluginError(f"{ref}: has no method {name}; {expected}", code="plugin.contract")
        bound = not isinstance(implementation, type) or inspect.ismethod(implemented)
        if not _accepts_arguments_of(method, implemented, bound=bound):
            expected_method = f"{name}{inspect.signature(method)}"
            actual_method = f"{name}{inspect.signature(implemented)}"
            problem = f"expected the method {expected_method}, got {actual_method}; see {ref.kind.page}"
            raise PluginError(f"{ref}: {problem}", code="plugin.contract")


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
