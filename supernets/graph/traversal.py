"""Traversal of a module tree that builds its graph: rules for plain modules, traces for composite ones."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import FunctionType
from typing import Any

from torch import Tensor, fx, nn

from supernets.errors import LoweringError
from supernets.graph import functions
from supernets.graph.calls import FUNCTIONS, METHODS
from supernets.graph.ir import BATCH_SIZE, CONTEXT, INPUT, LENGTH, OUTPUT, PAST, ROOM, TOKENS, Graph, Shape, Value
from supernets.graph.rules import RULES
from supernets.graph.trace import HOLE, bind, join, trace

BATCH, LENGTH_NAME = "batch", "tokens"


class DynamicSize(Enum):
    """A size in a forward that no operation accepts, except a reshape the batch's."""

    BATCH = BATCH_SIZE
    TOKENS = LENGTH
    PAST = PAST
    CONTEXT = CONTEXT
    ROOM = ROOM


Size = int | DynamicSize


@dataclass(frozen=True, slots=True)
class Span:
    """The nodes of a named module: ``graph.nodes[start:end]``."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a module.

    Attributes:
        shape: with the batch, where there is one.
        integer: whether it holds 64-bit integers; else 32-bit floats.
    """

    name: str
    shape: Shape
    integer: bool = False


@dataclass(frozen=True, slots=True)
class Walked:
    """A module as a graph.

    Attributes:
        spans: of the requested modules, in the order of their calls.
    """

    graph: Graph
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    spans: tuple[Span, ...]


def walk(module: nn.Module, input_shape: Sequence[int], names: Collection[str] = ()) -> Walked:
    """The graph of a module of one input and one output in eval mode; see `walk_inputs`.

    Args:
        input_shape: of one example, without the batch; or `TOKENS`.
    """
    read = Input(INPUT, (BATCH_SIZE, *input_shape), integer=tuple(input_shape) == TOKENS)
    walked = walk_inputs(module, [read], names)
    if len(walked.outputs) > 1:
        raise LoweringError(f"{type(module).__name__} returns tuple; expected one tensor", code="export.type-mismatch")
    return walked


def walk_inputs(module: nn.Module, inputs: Sequence[Input], names: Collection[str] = ()) -> Walked:
    """The graph of a module in eval mode, without running it or copying tensors.

    Args:
        inputs: in the order of its forward's arguments.
        names: of the modules whose spans to record.

    Raises:
        LoweringError: the module is in training mode, has hooks, or has an operation without a rule.
    """
    _check(module, {OUTPUT, *(own.name for own in inputs)})
    graph = Graph(names)
    given = tuple(graph.input(own.name, own.shape, integer=own.integer) for own in inputs)
    walker = _Walker(graph)
    found = walker.call(module, "", given, {})
    outputs = [_output(graph, own, module, given) for own in (found if isinstance(found, tuple) else (found,))]
    marked = (Span(*mark) for mark in graph.marks if mark[0] in graph.named)
    return Walked(graph, given, tuple(outputs), (*walker.spans, *marked))


def _output(graph: Graph, output: object, module: nn.Module, inputs: Sequence[Value]) -> Value:
    """An output of the graph, checked; raises `LoweringError`."""
    if not isinstance(output, Value):
        problem = f"{type(module).__name__} returns {type(output).__name__}; expected one tensor"
        raise LoweringError(problem, code="export.type-mismatch")
    graph.check_read(output.name)
    if output.name in graph.integers:
        raise LoweringError(f"{type(module).__name__} returns integers; expected float32", code="export.type-mismatch")
    if not graph.nodes or output.name in graph.parameters or output in inputs:
        return graph.add("Identity", [output], output.shape)
    return output


def _check(module: nn.Module, taken: set[str]) -> None:
    for name, child in module.named_modules():
        problem = ""
        if not _called_plainly(type(child)):  # type: ignore[arg-type]  # mypy confuses the hashes of instance and class
            problem = "is compiled or overrides __call__; use a plain forward"
        elif child.training:
            problem = "is in training mode; call eval() first"
        elif child._forward_hooks or child._forward_pre_hooks:
            problem = "has forward hooks, which the graph would omit; remove them first"
        elif "forward" in child.__dict__:
            problem = "has a forward that differs from its class's; make it a class"
        if problem:
            problem = f"{name or 'the network'} ({type(child).__name__}) {problem}"
            raise LoweringError(problem, code="export.module-state")
    tensors = (name for name, value in vars(module).items() if isinstance(value, Tensor))
    renames = hasattr(type(module), "lowered")  # a captured network, whose rule gives such tensors other names
    if not renames and (taken := taken & {*module._parameters, *module._buffers, *tensors}):
        raise LoweringError(f"the network has a tensor named {taken.pop()!r}, which the graph uses; rename it")


@functools.cache
def _called_plainly(cls: type[nn.Module]) -> bool:
    """Whether calling a module of this class runs its forward, and that is a Python function."""
    # A `__call__` in torch's own classes leads to the forward, or raises (ParameterList).
    own = [base for base in cls.__mro__ if not base.__module__.startswith("torch.")]
    return isinstance(getattr(cls, "forward", None), FunctionType) and not any("__call__" in vars(base) for base in own)


@functools.cache
def _is_chain(cls: type[nn.Module]) -> bool:
    """Whether a module of this class behaves as nn.Sequential."""
    return cls.forward is nn.Sequential.forward and cls.__iter__ is nn.Sequential.__iter__  # type: ignore[attr-defined]


class _Walker:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.spans: list[Span] = []

    def call(self, module: nn.Module, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of a module's forward; its nodes are appended to the graph."""
        start = len(self.graph.nodes)
        rule = RULES.get(type(module)) or getattr(type(module), "lowered", None)
        if rule is not None:
            if len(args) != 1 or kwargs or not isinstance(args[0], Value):
                raise LoweringError(f"{path} ({type(module).__name__}) has other arguments than one tensor")
            result: Any = rule(self.graph, module, path, args[0])
        elif _is_chain(type(module)) and len(args) + len(kwargs) == 1:  # type: ignore[arg-type]
            (result,) = args or kwargs.values()
            for name, child in module._modules.items():
                if child is None:
                    raise LoweringError(f"{join(path, name)} is None; expected a module")
                result = self.call(child, join(path, name), (result,), {})
        elif type(module).__module__.startswith("torch.nn."):
            raise LoweringError(
                f"{path or 'the network'}: there is no rule for modules of type {type(module).__name__}"
            )
        else:
            result = self._composite(module, path, args, kwargs)
        if path in self.graph.named:
            self.spans.append(Span(path, start, len(self.graph.nodes)))
        return result

    def _composite(self, module: nn.Module, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        bound = bind(module, args, kwargs)
        given: list[Value | DynamicSize] = []

        def opened(part: Any) -> Any:
            if isinstance(part, Value | DynamicSize):
                given.append(part)
                return HOLE
            return part

        nodes = trace(module, {name: fx.node.map_aggregate(value, opened) for name, value in bound.items()}).nodes
        values: dict[fx.Node, Any] = {}
        placeholders = iter(given)
        for node in nodes:
            arguments = fx.node.map_arg(node.args, values.__getitem__)
            named = fx.node.map_arg(node.kwargs, values.__getitem__)
            match node.op:
                case "placeholder":
                    values[node] = next(placeholders)
                case "get_attr":
                    values[node] = self._tensor(module, path, node.target)
                case "call_module":
                    child = module.get_submodule(node.target)
                    values[node] = self.call(child, join(path, node.target), arguments, named)
                case "call_function" | "call_method":
                    values[node] = self._apply(node, module, path, arguments, named)
                case "output":
                    return arguments[0]
        raise LoweringError(f"the forward of {type(module).__name__} returns nothing")

    def _tensor(self, module: nn.Module, path: str, name: str) -> Value:
        owner, _, leaf = name.rpartition(".")
        tensor = getattr(module.get_submodule(owner), leaf, None)
        if not isinstance(tensor, Tensor):
            raise LoweringError(f"{type(module).__name__} creates a tensor in its forward; make it a buffer")
        return self.graph.parameter(join(path, name), tensor)

    def _apply(self, node: fx.Node, module: nn.Module, path: str, args: Any, kwargs: Any) -> Any:
        """The result of one function or method call of a trace."""
        target = node.target
        name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        where = f"{type(module).__name__} ({path or 'the network'})"
        try:
            if target is getattr and args[1] == "shape":
                return _size(args[0])
            if target == "size":
                return _size(*args, **kwargs)
            if getattr(target, "__module__", "") == "_operator" and all(isinstance(a, int | float) for a in args):
                return target(*args)  # type: ignore[operator]  # arithmetic on sizes and settings
            if target is operator.getitem:
                return args[0][args[1]] if isinstance(args[0], tuple) else functions.element(self.graph, *args)
            table: Mapping[Any, Callable[..., Any]] = METHODS if node.op == "call_method" else FUNCTIONS
            if target not in table:
                raise LoweringError(f"there is no rule for {name}")
            if table[target] is functions.reshape:
                args = fx.node.map_aggregate(args, lambda a: a.value if isinstance(a, DynamicSize) else a)
            return table[target](self.graph, *args, **kwargs)
        except LoweringError as error:
            raise LoweringError(f"{where}: {error}", code=error.code) from None
        except (TypeError, AttributeError, ValueError, IndexError) as error:
            raise LoweringError(f"{where}: there is no rule for this call of {name}: {error}") from None


def _size(x: Value, dim: int | None = None) -> tuple[Size, ...] | Size:
    sizes = tuple(DynamicSize(n) if n < 0 else n for n in x.shape)
    return sizes if dim is None else sizes[dim]
