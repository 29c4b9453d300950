"""The forward of a composite module as a torch.fx graph of one level, made once for all modules alike."""

from __future__ import annotations

import copy
import functools
import inspect
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any

from torch import fx, nn

from supernets.errors import LoweringError

_GRAPHS: dict[Hashable, fx.Graph] = {}
_LOCK = threading.Lock()
"""While fx traces, it replaces `nn.Module.__call__` for the whole process."""


class _OneLevel(fx.Tracer):
    """Every child is a leaf: what it computes is the walk's to find out."""

    proxy_buffer_attributes = True  # a buffer's numbers are the module's own, no constants of its class

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return True


def trace(module: nn.Module, fixed: Mapping[str, object]) -> fx.Graph:
    """The operations of a module's forward; calls of children stay calls.

    Cached by all that a forward can depend on before it sees a tensor: the class, the children's names and types, and
    those plain attributes of the module and its children that a method of the class names. So the blocks of thousands of
    subnets share a few graphs.

    Args:
        fixed: the arguments of ``forward`` that hold no tensor, which it may branch on.

    Raises:
        LoweringError: fx cannot follow the forward (for instance, it branches on a tensor's values).
    """
    key = _key(module, fixed)
    graph = None if key is None else _GRAPHS.get(key)
    if graph is None:
        with _LOCK:
            try:
                # A copy, because the tracer hangs the constants that it meets to what it traces.
                graph = _OneLevel().trace(copy.copy(module), dict(fixed) or None)
            except Exception as error:  # fx raises whatever the forward does when it is run on proxies
                message = f"the forward of {type(module).__name__} cannot be traced: {error}"
                raise LoweringError(message) from error
        if key is not None:
            _GRAPHS[key] = graph
    return graph


@functools.cache
def _signature(forward: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(forward)


def bind(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What each argument of a module's forward gets in a call, the defaults of those left out included, in their order.

    Raises:
        LoweringError: the forward does not take these arguments.
    """
    try:
        bound = _signature(type(module).forward).bind(module, *args, **kwargs)
    except TypeError as error:
        raise LoweringError(f"the forward of {type(module).__name__}: {error}") from None
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])


def _key(module: nn.Module, fixed: Mapping[str, object]) -> Hashable | None:
    """What a trace depends on; None where it reads something that cannot be compared."""
    names = _names(type(module))  # type: ignore[arg-type]  # mypy takes the instances' hash for the class's
    key = (
        type(module),
        tuple((name, type(value), value) for name, value in fixed.items()),
        _scalars(module, names),
        _children(module, names),
    )
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _children(module: nn.Module, names: frozenset[str]) -> tuple[Hashable, ...]:
    found: list[Hashable] = []
    for name, child in module._modules.items():
        # A forward runs over the members of a list itself, so that they are its children too.
        inner = _children(child, names) if isinstance(child, nn.ModuleList | nn.ModuleDict) else ()
        found.append((name, type(child), () if child is None else _scalars(child, names), inner))
    return tuple(found)


def _scalars(module: nn.Module, names: frozenset[str]) -> tuple[Hashable, ...]:
    """The plain attributes that the methods may read; whether optional tensors are there is one of them."""
    attributes = module.__dict__
    absent = [name for box in (module._parameters, module._buffers) for name, t in box.items() if t is None]
    return (*((name, attributes[name]) for name in sorted(names & attributes.keys())), *absent)


@functools.cache
def _names(cls: type[nn.Module]) -> frozenset[str]:
    """All names and texts in the code of a class's own methods: a superset of the attributes that they read."""
    found: set[str] = set()
    todo: list[Any] = []
    for base in cls.__mro__[: cls.__mro__.index(nn.Module)]:
        for name, member in vars(base).items():
            functions = [member.fget] if isinstance(member, property) else [getattr(member, "__func__", member)]
            if name != "__init__":
                todo.extend(f.__code__ for f in functions if isinstance(f, FunctionType))
    while todo:
        code = todo.pop()
        found.update(code.co_names)
        found.update(c for c in code.co_consts if isinstance(c, str))
        todo.extend(c for c in code.co_consts if isinstance(c, CodeType))
    return frozenset(found - {"training", "forward"})
