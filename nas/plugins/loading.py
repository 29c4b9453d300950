"""Import of a plug-in's class, and the check that it has what its kind needs."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import FunctionType
from typing import Any

from nas.errors import PluginError
from nas.plugins.reference import PluginRef


def load(ref: PluginRef, contract: type | None = None) -> Any:
    """The class of a plug-in.

    Args:
        contract: the protocol of its kind: the class must have its public methods, which take the same arguments, and its
            class attributes.

    Raises:
        PluginError: the class cannot be imported (code ``plugin.import``), or does not fulfil the contract
            (code ``plugin.contract``).
    """
    module, _, name = ref.target.partition(":")
    try:
        found: Any = import_module(module)
    except Exception as error:  # a module of others may raise anything; the plug-in is named, and the cause kept
        raise PluginError(f"{ref}: {_import_fault(module, error)}", code="plugin.import") from error
    for part in name.split("."):
        if not hasattr(found, part):
            has = ", ".join(key for key in vars(found) if not key.startswith("_"))[:200]
            raise PluginError(
                f"{ref}: the module {module} has no {name}; it has {has or 'nothing'}", code="plugin.import"
            )
        found = getattr(found, part)
    if contract is not None:
        check(ref, found, contract)
    return found


def _import_fault(module: str, error: Exception) -> str:
    missing = isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}.")
    remedy = "install its package into the environment of nas (pip install ...), or name its folder in PYTHONPATH"
    if missing:
        return f"there is no module {module} here; {remedy}"
    return (
        f"the module {module} cannot be imported: {type(error).__name__}: {error}; correct it, or install what it needs"
    )


def check(ref: PluginRef, found: object, contract: type) -> None:
    """Raises `PluginError` unless a plug-in's class or object has what a protocol asks for."""
    expected = (
        f"expected a class like {contract.__module__}.{contract.__name__}; inherit it, or add what is missing, see "
        f"{ref.kind.page}"
    )
    if isinstance(found, FunctionType):
        raise PluginError(f"{ref}: is a function; {expected}", code="plugin.contract")
    hints = inspect.get_annotations(contract)
    for name in [key for key, hint in hints.items() if "ClassVar" in str(hint) and not hasattr(contract, key)]:
        if not hasattr(found, name):
            raise PluginError(f"{ref}: has no class attribute {name}; {expected}", code="plugin.contract")
    for name, method in inspect.getmembers(contract, inspect.isfunction):
        if name.startswith("_"):
            continue
        own = getattr(found, name, None)
        if not callable(own) or getattr(own, "__isabstractmethod__", False):
            raise PluginError(f"{ref}: has no method {name}; {expected}", code="plugin.contract")
        if not _takes_the_same(own, method, bound=not isinstance(found, type) or inspect.ismethod(own)):
            wanted = f"{name}{inspect.signature(method)}"
            came = f"{name}{inspect.signature(own)}"
            problem = f"expected the method {wanted}, got {came}; see {ref.kind.page}"
            raise PluginError(f"{ref}: {problem}", code="plugin.contract")


def _takes_the_same(own: Any, method: Any, *, bound: bool) -> bool:
    """Whether a method can be called with the arguments of the contract's."""
    parameters = list(inspect.signature(method).parameters.values())[1 if bound else 0 :]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
    try:
        inspect.signature(own).bind(*positional, **named)
    except TypeError:
        return False
    return True
