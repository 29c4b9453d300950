"""The tables of operations: what each does to dimensions, how much work it is, and how it becomes ONNX."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast

from supernets.errors import LoweringError
from supernets.networks.capture.dimensions import Dimension, MismatchError, fixed, is_plain, singles, unify
from supernets.networks.capture.inference import Dims, Inference
from supernets.networks.capture.program import Argument, Call, Ref
from supernets.networks.operations.arguments import (
    NEUTRAL_FOR_DIMENSIONS,
    NEUTRAL_FOR_ONNX,
    RecordedArguments,
    unread_arguments,
)
from supernets.networks.own_operations import NAMESPACE

if TYPE_CHECKING:
    from supernets.networks.lowering.state import Lowering
    from supernets.networks.onnx_graph.ir import Value

Products = list[list[Dimension]] | list[tuple[list[Dimension], list[Dimension]]]
"""The dimensions over which each product of matrices in a call loops; with those of its result, where these
are not the call's output."""
ResultDims = Dims | tuple[Dims, ...]
"""The dimensions of the output of a call, or of several."""
Rule = Callable[[Inference, Call], ResultDims]
WorkRule = Callable[[Inference, Call], Products]
ResultValues = Union["Value", Sequence["Value"]]
"""The values of the graph for the outputs of a call."""
LoweringRule = Callable[["Lowering", Call], ResultValues]
OnnxRule = TypeVar("OnnxRule", bound=Callable[..., Any])
"""Appends an operation's nodes: (lowering, arguments by the names of the schema) -> the value, or a tuple of values."""
# By the operation's name without overload:
RULES: dict[str, Rule] = {}
WORK: dict[str, WorkRule] = {}
LOWERED: dict[str, LoweringRule] = {}
State = TypeVar("State", "Inference", "Lowering")
Result = TypeVar("Result")


def rule_of(*names: str, neutral: tuple[str, ...] = ()) -> Callable[[Rule], Rule]:
    """Registers what operations do to dimensions; the rule returns those of the results.

    Where a call has an argument that the rule does not read, its dimensions are fixed.

    Args:
        neutral: arguments of these operations that need no reading, beside those of `NEUTRAL_FOR_DIMENSIONS`: they restate the
            shape of the result, treat the units of a dimension alike, or concern dimensions that the rule fixes.
    """

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, _accounting(rule, neutral, NEUTRAL_FOR_DIMENSIONS, MismatchError)))
        return rule

    return register


def work_of(*names: str) -> Callable[[WorkRule], WorkRule]:
    """Registers the multiply-accumulates of operations."""

    def register(work: WorkRule) -> WorkRule:
        WORK.update(dict.fromkeys(names, work))
        return work

    return register


def lowers(*names: str, neutral: tuple[str, ...] = ()) -> Callable[[LoweringRule], LoweringRule]:
    """Registers how operations become nodes of ONNX, whose results the rule returns.

    A call with an argument that the rule does not read is a `LoweringError`.

    Args:
        neutral: arguments of these operations that need no reading, beside those of `NEUTRAL_FOR_ONNX`: the shapes or types of
            the results, which the program records, say the same.
    """

    def register(rule: LoweringRule) -> LoweringRule:
        LOWERED.update(dict.fromkeys(names, _accounting(rule, neutral, NEUTRAL_FOR_ONNX, LoweringError)))
        return rule

    return register


def own(name: str) -> str:
    """The name in programs of an own operation, see `supernets.networks.own_operations`."""
    return f"{NAMESPACE}.{name}"


def onnx_of(name: str) -> Callable[[OnnxRule], OnnxRule]:
    """Registers the ONNX of an own operation, whose values have shapes with marks for dynamic sizes."""

    def register(rule: OnnxRule) -> OnnxRule:
        @lowers(own(name))
        def lower(low: Lowering, call: Call) -> ResultValues:
            results: ResultValues = rule(
                low, **{key: _graph_argument(low, value) for key, value in call.arguments.items()}
            )
            return results

        return rule

    return register


def _graph_argument(low: Lowering, argument: Argument) -> Any:
    """An argument with the graph's values in place of references."""
    if isinstance(argument, Ref):
        return low.value(argument.name)
    if isinstance(argument, tuple) and any(isinstance(part, Ref) for part in argument):
        return [_graph_argument(low, part) for part in argument]
    return argument


def _accounting(
    rule: Callable[[State, Call], Result],
    neutral: tuple[str, ...],
    neutral_numbers: Collection[str],
    error: type[MismatchError | LoweringError],
) -> Callable[[State, Call], Result]:
    """The rule, which raises an error for an argument that it does not read."""

    @wraps(rule)
    def accounting(state: State, call: Call) -> Result:
        arguments = RecordedArguments(call.arguments)
        result = rule(state, replace(call, arguments=arguments))
        if unread := unread_arguments(call, arguments.names_read, neutral, neutral_numbers):
            raise error(f"there is no rule for {call.op} with {' and '.join(unread)}")
        return result

    accounting.neutral = neutral  # type: ignore[attr-defined]
    accounting.neutral_numbers = neutral_numbers  # type: ignore[attr-defined]
    return accounting


def dims_of(inference: Inference, argument: Argument) -> Dims:
    """The dimensions of a tensor argument after all rules; none of other arguments."""
    return inference.dims[argument.name] if isinstance(argument, Ref) else []


def unify_parameters(ctx: Inference, call: Call, dims: Sequence[Dimension], *names: str) -> None:
    """Gives the parameters of a call these dimensions, those that it has."""
    for name in names:
        if (parameter := ctx.optional_dims(call.arguments.get(name))) is not None:
            for dimension, expected in zip(parameter, dims, strict=True):
                unify(dimension, expected)


def axis(call: Call, rank: int, name: str = "dim") -> int:
    """The position of the dimension that an argument names."""
    return cast(int, call.arguments[name]) % max(rank, 1)


def axes(argument: Argument, rank: int) -> list[int]:
    """Positions of dimensions as an argument gives them: none or empty for all."""
    if argument is None or argument == ():
        return list(range(rank))
    positions = argument if isinstance(argument, tuple) else (argument,)
    return [cast(int, position) % max(rank, 1) for position in positions if rank]


def extents(ctx: Inference, call: Call, start: int, output: int = 0) -> Dims:
    """New fixed dimensions for the spatial extents of an output."""
    return [fixed(size, "an extent of the image") for size in ctx.shape(call.outputs[output])[start:]]


def by_rank(name: str) -> list[str]:
    """The names of an operation for one, two and three spatial dimensions."""
    return [f"{name}{n}d" for n in (1, 2, 3)]


def n_extents(call: Call) -> int:
    """The number of spatial dimensions that an operation is for, which its name says."""
    return int(next(character for character in call.name if character in "123"))


def check_batched(call: Call, rank: int) -> None:
    """Raises `LoweringError` for an operation on images whose input has no dimension of examples."""
    if rank != n_extents(call) + 2:
        raise LoweringError(f"there is no rule for {call.op} of an input without channels or examples")


def is_symbolic_extent(ctx: Inference, extent: Dimension) -> bool:
    """Returns whether a size follows from an extent, as of a declared axis or of the inputs; other extents are fixed."""
    return not is_plain(extent) and (bool(ctx.declared) or all(single.fixed for single in singles(extent)))
