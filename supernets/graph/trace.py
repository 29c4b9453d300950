"""Cached one-level torch.fx traces of the forwards of composite modules."""

from __future__ import annotations

import copy
import functools
import inspect
import operator
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from itertools import chain
from types import BuiltinFunctionType, FunctionType
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.immutable_collections import immutable_dict, immutable_list

from supernets.errors import LoweringError

Read = tuple[tuple[str, ...], str]
"""The path of a module below the traced one, and the name of the attribute."""
Reads = tuple[Read, ...]

HOLE = object()
"""Stands in arguments for a value of the graph."""
_BY_IDENTITY = (type, FunctionType, BuiltinFunctionType, property, classmethod, staticmethod, Enum, torch.dtype)
"""Types whose instances are compared by identity, because they do not change."""
_GRAPHS: dict[Hashable, dict[Reads, dict[Hashable, fx.Graph]]] = {}
"""By class and arguments; then by the attributes that the forward read, and by their states."""
_LOCK = threading.Lock()
"""Held while tracing, because fx and `_watched` replace methods of `nn.Module` for the whole process."""
_GETATTR, _SETATTR = nn.Module.__getattr__.__code__, nn.Module.__setattr__.__code__
_IN_PLACE = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")
"""Operators with an in-place form, as ``x += y``."""


class HiddenStateError(Exception):
    """A value may change in a way that `frozen` cannot detect."""


def frozen(value: object) -> Hashable:
    """A hashable snapshot of a value, equal for values of the same type with equal parts.

    Raises:
        HiddenStateError: the value has a part that may change while it stays the same object.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return (kind, value)
    if kind is float or kind is complex:
        return (kind, repr(value))  # distinguishes 0.0 from -0.0, and nan equals itself
    if kind in (tuple, list, torch.Size, immutable_list):
        return (kind, tuple([frozen(part) for part in value]))  # type: ignore[attr-defined]
    if kind is dict or kind is immutable_dict:
        return (kind, tuple([(frozen(key), frozen(part)) for key, part in value.items()]))  # type: ignore[attr-defined]
    if kind is set or kind is frozenset:
        return (kind, frozenset(frozen(part) for part in value))  # type: ignore[attr-defined]
    if value is HOLE or isinstance(value, _BY_IDENTITY):
        return value
    raise HiddenStateError(kind.__name__)


def state(module: nn.Module, name: str) -> Hashable:
    """The snapshot of an attribute that a forward reads; of a tensor or child module its type only.

    Raises:
        HiddenStateError: as in `frozen`.
    """
    own = module.__dict__
    if name == "_modules":
        return tuple([(key, type(child)) for key, child in own[name].items()])
    if name in own:
        return frozen(own[name])
    for box in ("_modules", "_parameters", "_buffers"):
        if name in own[box]:
            return cast(Hashable, type(own[box][name]))
    for cls in type(module).__mro__:
        if name in cls.__dict__:
            return frozen(cls.__dict__[name])
    return None


def states(module: nn.Module, reads: Reads) -> tuple[Hashable, ...] | None:
    """The states of all reads; None if a module does not exist or a state is hidden."""
    there = []
    for path, name in reads:
        at: nn.Module | None = module
        for part in path:
            at = None if at is None else at._modules.get(part)
        if at is None:
            return None
        try:
            there.append(state(at, name))
        except HiddenStateError:
            return None
    return tuple(there)


def _in_place(function: Callable[..., Any]) -> Callable[[fx.Proxy, object], fx.Proxy]:
    return lambda a, b: a.tracer.create_proxy("call_function", function, (a, b), {})


_Proxy = type(
    "_Proxy", (fx.Proxy,), {f"__i{name}__": _in_place(getattr(operator, f"__i{name}__")) for name in _IN_PLACE}
)
"""Records ``x += y`` as an operation in place, which fx's own proxies record as ``x = x + y``."""


class _OneLevel(fx.Tracer):
    """Traces a forward with every child module as a leaf, and records the attributes that it reads.

    Attributes:
        found: the state of each attribute when the forward first read it.
        reusable: whether every module with these states has the same graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Read, Hashable] = {}
        self.reusable = True
        self._thread = threading.get_ident()
        self._watching = False

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return cast(fx.Proxy, _Proxy(node, self))

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """The forward and its arguments, with a placeholder for each `HOLE` in them."""
        args: list[Any] = [self.root]
        kwargs: dict[str, Any] = {}
        kinds = inspect.signature(root_fn).parameters
        for name, value in concrete_args.items():
            # Lists and dicts become immutable: the caller, which is walked separately, would not see a change.
            filled: Any = fx.node.map_aggregate(value, functools.partial(self._placeholder, name))
            match kinds[name].kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    args.extend(filled)
                case inspect.Parameter.VAR_KEYWORD:
                    kwargs.update(filled)
                case inspect.Parameter.KEYWORD_ONLY:
                    kwargs[name] = filled
                case _:
                    args.append(filled)
        self._watching = True
        return (lambda *positional: root_fn(*positional, **kwargs)), args

    def _placeholder(self, name: str, part: Any) -> Any:
        return self.create_proxy("placeholder", name, (), {}) if part is HOLE else part

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """A proxy for any tensor of the tree: those of a live subnet are not `nn.Parameter`."""
        name = self._name_of(attr_val) if isinstance(attr_val, Tensor) else None
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def create_arg(self, a: Any) -> Any:
        with self._not_watching():
            return super().create_arg(a)

    def _name_of(self, tensor: Tensor) -> str | None:
        with self._not_watching():
            named = chain(self.root.named_parameters(), self.root.named_buffers())
            return next((name for name, other in named if other is tensor), None)

    @contextmanager
    def _not_watching(self) -> Iterator[None]:
        before, self._watching = self._watching, False
        try:
            yield
        finally:
            self._watching = before

    def note(self, module: nn.Module, name: str, code: Any) -> None:
        """Records that `code` reads an attribute of a module.

        Raises:
            LoweringError: it sets an attribute of a child, which runs after the forward has been traced.
        """
        if not self._watching or threading.get_ident() != self._thread:
            return
        if name == "__dict__":
            if code is _SETATTR and module is not self.root:
                raise LoweringError("it sets an attribute of another module")
            # `Module.__getattr__` looks up one tensor or child; other code may read any attribute.
            self.reusable = self.reusable and code is _GETATTR
        elif not name.startswith("__"):
            with self._not_watching():
                self._note(module, name)

    def _note(self, module: nn.Module, name: str) -> None:
        path = self.submodule_paths.get(module) if self.submodule_paths else None
        if path is None or name in ("_parameters", "_buffers"):
            self.reusable = False
            return
        read = (tuple(path.split(".")) if path else (), name)
        if read in self.found:
            return
        try:
            self.found[read] = state(module, name)
        except HiddenStateError:
            self.reusable = False
        # fx uses one name per module and tensor, so that a graph with ties does not hold for modules without them.
        children = module._modules if name == "_modules" else {name: module._modules.get(name)}
        for key, child in children.items():
            if child is not None and self.submodule_paths.get(child) != join(path, key):  # type: ignore[union-attr]
                self.reusable = False
        tensor = module._parameters.get(name, module._buffers.get(name))
        if tensor is not None and self._name_of(tensor) != join(path, name):
            self.reusable = False


@contextmanager
def _watched(note: Callable[[nn.Module, str, Any], None]) -> Iterator[None]:
    """Calls `note` for each read of a module's attribute, with the module, the name and the reading code."""

    def getattribute(module: nn.Module, name: str) -> Any:
        frame = inspect.currentframe()
        note(module, name, frame and frame.f_back and frame.f_back.f_code)
        return object.__getattribute__(module, name)

    nn.Module.__getattribute__ = getattribute  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del nn.Module.__getattribute__


def trace(module: nn.Module, arguments: Mapping[str, object]) -> fx.Graph:
    """The operations of a module's forward, in which calls of children remain calls.

    Cached by everything that determines the graph: the class, the arguments, and the attributes that the forward read of
    the module and its descendants. So the blocks of thousands of subnets share a few graphs. If it read an attribute that
    may change undetected (an object of the user's class, for instance), the graph is not cached. Global variables are
    assumed constant.

    Args:
        arguments: of ``forward``, in its order, with a `HOLE` for each value of the graph, which become placeholders.

    Raises:
        LoweringError: fx cannot trace the forward (for instance, it branches on a tensor's values).
    """
    try:
        known = _GRAPHS.setdefault((type(module), frozen(dict(arguments))), {})
    except HiddenStateError:
        known = {}
    for reads, graphs in tuple(known.items()):
        there = states(module, reads)
        if there is not None and there in graphs:
            return graphs[there]
    with _LOCK:
        tracer = _OneLevel()
        try:
            with _watched(tracer.note):
                # A copy, because the tracer adds constants as attributes to the module.
                graph = tracer.trace(copy.copy(module), dict(arguments))
        except Exception as error:  # the forward may raise anything when it runs on proxies
            message = f"torch.fx cannot trace the forward of {type(module).__name__}: {error}"
            raise LoweringError(message, code="export.untraceable") from error
    if tracer.reusable:
        known.setdefault(tuple(tracer.found), {})[tuple(tracer.found.values())] = graph
    return graph


@functools.cache
def _signature(forward: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(forward)


def bind(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a module's forward by name, in its order, including defaults.

    Raises:
        LoweringError: the forward does not accept these arguments.
    """
    try:
        bound = _signature(type(module).forward).bind(module, *args, **kwargs)
    except (TypeError, ValueError) as error:
        raise LoweringError(f"the forward of {type(module).__name__}: {error}") from None
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])


def join(path: str, name: str) -> str:
    """The path of a module's child or tensor."""
    return f"{path}.{name}" if path else name
