"""The forward of a composite module as a torch.fx graph of one level, made once for all modules alike."""

from __future__ import annotations

import copy
import functools
import inspect
import operator
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.immutable_collections import immutable_dict, immutable_list

from supernets.errors import LoweringError
from supernets.graph.reads import HOLE, HiddenStateError, Read, Reads, frozen, state, states

_GRAPHS: dict[Hashable, dict[Reads, dict[Hashable, fx.Graph]]] = {}
"""By class and arguments; then by what the forward read of the modules, and by what it found there."""
_LOCK = threading.Lock()
"""While fx traces, it replaces methods of `nn.Module` for the whole process, and so does `_watched`."""
_GETATTR, _SETATTR = nn.Module.__getattr__.__code__, nn.Module.__setattr__.__code__
_IN_PLACE = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")
"""Operators that a tensor has as ``x += y`` and the like."""


class _Proxy(fx.Proxy):
    """Tells ``x += y`` from ``x = x + y``, as fx's own proxies do not."""


def _in_place(function: Callable[..., Any]) -> Callable[[fx.Proxy, object], fx.Proxy]:
    return lambda a, b: a.tracer.create_proxy("call_function", function, (a, b), {})


for _name in _IN_PLACE:
    setattr(_Proxy, f"__i{_name}__", _in_place(getattr(operator, f"__i{_name}__")))


class _OneLevel(fx.Tracer):
    """Every child is a leaf: what it computes is the walk's to find out.

    Attributes:
        found: what the forward read of the modules, and what was there when it read it first.
        lasting: whether the graph is that of every module where the same is found.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Read, Hashable] = {}
        self.lasting = True
        self._thread = threading.get_ident()
        self._watching = False

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """The forward and its arguments: a placeholder for each `HOLE` in them, and the others as they are."""
        args: list[Any] = [self.root]
        kwargs: dict[str, Any] = {}
        kinds = inspect.signature(root_fn).parameters
        for name, value in concrete_args.items():
            filled = self._filled(name, value)
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

    def _filled(self, name: str, value: Any) -> Any:
        # Lists and dicts that refuse to be changed: the caller, who is walked apart, would not see it.
        if value is HOLE:
            return self.create_proxy("placeholder", name, (), {})
        if type(value) is tuple:
            return tuple(self._filled(name, part) for part in value)
        if type(value) is list:
            return immutable_list([self._filled(name, part) for part in value])
        if type(value) is dict:
            return immutable_dict({key: self._filled(name, part) for key, part in value.items()})
        return value

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """A proxy for a tensor of the tree, whatever its type: those of a live subnet are no parameters."""
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

    def note(self, module: nn.Module, name: str, reader: Any) -> None:
        """Takes down that the code `reader` reads an attribute of a module.

        Raises:
            LoweringError: it is about to set one of a child, which runs after the forward has been traced.
        """
        if not self._watching or threading.get_ident() != self._thread:
            return
        if name == "__dict__":
            if reader is _SETATTR and module is not self.root:
                raise LoweringError("it sets an attribute of another module")
            # Module's own lookup of a tensor or child; anyone else may read anything there.
            self.lasting = self.lasting and reader is _GETATTR
        elif not name.startswith("__"):
            with self._not_watching():
                self._note(module, name)

    def _note(self, module: nn.Module, name: str) -> None:
        path = self.submodule_paths.get(module) if self.submodule_paths else None
        if path is None or name in ("_parameters", "_buffers"):
            self.lasting = False
            return
        read = (tuple(path.split(".")) if path else (), name)
        if read in self.found:
            return
        try:
            self.found[read] = state(module, name)
        except HiddenStateError:
            self.lasting = False
        # fx knows each module and tensor by one name. Where it has two, the graph is not that of modules without ties.
        children = module._modules if name == "_modules" else {name: module._modules.get(name)}
        for key, child in children.items():
            if child is not None and self.submodule_paths.get(child) != join(path, key):  # type: ignore[union-attr]
                self.lasting = False
        tensor = module._parameters.get(name, module._buffers.get(name))
        if tensor is not None and self._name_of(tensor) != join(path, name):
            self.lasting = False


@contextmanager
def _watched(note: Callable[[nn.Module, str, Any], None]) -> Iterator[None]:
    """Meanwhile, each reading of a module's attribute is told: which module, which name, the code that reads."""

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
    """The operations of a module's forward; calls of children stay calls.

    Kept by all that the forward depended on before it saw a tensor: its class, its arguments, and whatever it read of the
    module and of those below it. So the blocks of thousands of subnets share a few graphs. Where it read what can change
    unseen (an object of a class of its own, for instance), its graph is not kept. What it reads of the program itself, as
    global variables are, is taken to stay as it is.

    Args:
        arguments: of ``forward``, in its order, with a `HOLE` for each value of the graph, which become the placeholders.

    Raises:
        LoweringError: fx cannot follow the forward (for instance, it branches on a tensor's values).
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
                # A copy, because the tracer hangs the constants that it meets to what it traces.
                graph = tracer.trace(copy.copy(module), dict(arguments))
        except Exception as error:  # fx raises whatever the forward does when it is run on proxies
            message = f"the forward of {type(module).__name__} cannot be traced: {error}"
            raise LoweringError(message) from error
    if tracer.lasting:
        known.setdefault(tuple(tracer.found), {})[tuple(tracer.found.values())] = graph
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
    except (TypeError, ValueError) as error:
        raise LoweringError(f"the forward of {type(module).__name__}: {error}") from None
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])


def join(path: str, name: str) -> str:
    """The path of a module's own module or tensor."""
    return f"{path}.{name}" if path else name
