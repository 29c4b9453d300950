"""Rewriting of plain programs before they are lowered, so that runtimes execute fewer kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from supernets.networks.capture.program import Argument, Call, Program, Ref, ValueSpec, needed_calls, refs, replacement

Extent = tuple[int, str]
"""A size in the captured batch, and the name of what decides it; "" for a constant size."""
Extents = tuple[Extent, ...]
_ONE: Extent = (1, "")
_RESHAPES = frozenset(("view", "reshape", "_unsafe_view", "flatten", "unflatten", "view_as", "reshape_as"))
_EXPANSIONS = frozenset(("expand", "expand_as", "broadcast_to", "repeat", "tile"))
_BROADCASTING = frozenset(
    (
        "_to_copy",
        "add",
        "bitwise_and",
        "bitwise_not",
        "bitwise_or",
        "clone",
        "contiguous",
        "cos",
        "div",
        "eq",
        "ge",
        "gt",
        "le",
        "logical_and",
        "logical_not",
        "logical_or",
        "lt",
        "masked_fill",
        "maximum",
        "minimum",
        "mul",
        "ne",
        "neg",
        "rsub",
        "sin",
        "sub",
        "to",
        "true_divide",
        "where",
    )
)
"""Operations each of whose results is computed from one element of each operand."""


def simplified(program: Program) -> Program:
    """The program of one architecture with the same outputs by fewer operations; one that a family declares as it is.

    - Reshapes, expansions and paddings that change nothing are left out.
    - Expansions are left out where every operation that reads them broadcasts.
    - Attention reads keys and values that heads share in groups, where they were repeated for it.
    - The product with a reciprocal root is a quotient, which runtimes recognise in root-mean-square norms.
    """
    if program.input_dims:
        return program
    for rewrite in (_without_unchanged, _without_expansions, _with_grouped_keys, _with_quotients):
        program = rewrite(program)
    return program


def _extents(program: Program, name: str) -> Extents:
    """The sizes of a value."""
    dynamic = program.dynamic.get(name, {})
    return tuple((size, dynamic.get(i, "")) for i, size in enumerate(program.values[name].shape))


def _source(call: Call) -> str:
    """The name of the value that a call changes; "" if it has none."""
    x = call.arguments.get("self", call.arguments.get("input"))
    return x.name if isinstance(x, Ref) else ""


def _renamed(program: Program, names: Mapping[str, str]) -> Program:
    """The program whose calls and outputs read other values in place of these, without calls that nothing reads."""
    if not names:
        return program
    calls = [call.reading(names) for call in program.calls]
    outputs = tuple(replacement(name, names) for name in program.outputs)
    return _with_calls(replace(program, outputs=outputs), calls)


def _with_calls(program: Program, calls: Sequence[Call]) -> Program:
    """The program with other calls, without those that nothing reads."""
    return replace(program, calls=needed_calls(calls, program.outputs))


def _without_unchanged(program: Program) -> Program:
    names = {}
    for call in program.calls:
        source = _source(call)
        if not source or call.name not in _RESHAPES | _EXPANSIONS | {"pad", "constant_pad_nd"}:
            continue
        if call.name in ("pad", "constant_pad_nd") and any(cast(tuple[int, ...], call.arguments["pad"])):
            continue
        same = _extents(program, source) == _extents(program, call.outputs[0])
        if same and program.values[source].dtype == program.values[call.outputs[0]].dtype:
            names[call.outputs[0]] = source
    return _renamed(program, names)


def _without_expansions(program: Program) -> Program:
    for call in program.calls:
        if call.name not in _EXPANSIONS or not (source := _source(call)):
            continue
        before, after = _extents(program, source), _extents(program, call.outputs[0])
        if len(before) != len(after) or any(a not in (_ONE, b) for a, b in zip(before, after, strict=True)):
            continue
        changed = _changed_by(program, call.outputs[0], before)
        if changed is not None:
            values, dynamic = dict(program.values), dict(program.dynamic)
            for name, extents in changed.items():
                values[name] = ValueSpec(tuple(size for size, _ in extents), values[name].dtype)
                dynamic[name] = {i: mark for i, (_, mark) in enumerate(extents) if mark}
            program = _renamed(replace(program, values=values, dynamic=dynamic), {call.outputs[0]: source})
    return program


def _changed_by(program: Program, name: str, extents: Extents) -> dict[str, Extents] | None:
    """The sizes that others get where a value has these, which are broadcast; None if an operation needs the value whole."""
    changed = {name: extents}
    for call in program.calls:
        narrow = [value for value in call.reads() if value in changed]
        if not narrow:
            continue
        rule = _READERS.get(call.name)
        result = None if rule is None or len(call.outputs) != 1 else rule(program, call, changed)
        if result is None:
            return None
        if result != _extents(program, call.outputs[0]):
            changed[call.outputs[0]] = result
    if changed.keys() & set(program.outputs):
        return None
    return {value: sizes for value, sizes in changed.items() if value != name}


_Reader = Callable[[Program, Call, Mapping[str, Extents]], Extents | None]


def _broadcast(program: Program, call: Call, changed: Mapping[str, Extents]) -> Extents | None:
    """The sizes of the result of an elementwise operation."""
    if call.name == "to" and "other" in call.arguments:
        return None
    operands = [changed.get(name, _extents(program, name)) for name in refs(call.arguments.values())]
    rank = len(program.values[call.outputs[0]].shape)
    if any(len(shape) > rank for shape in operands):
        return None
    padded = [(_ONE,) * (rank - len(shape)) + shape for shape in operands]
    return tuple(next((size for size in column if size != _ONE), _ONE) for column in zip(*padded, strict=True))


def _looked_up(program: Program, call: Call, changed: Mapping[str, Extents]) -> Extents | None:
    """The sizes of embeddings, if only the indices have changed."""
    weight, indices = (cast(Ref, call.arguments[name]).name for name in ("weight", "indices"))
    return None if weight in changed else (*changed[indices], _extents(program, weight)[1])


def _attended(program: Program, call: Call, changed: Mapping[str, Extents]) -> Extents | None:
    """The sizes of the result of attention, if only the mask has changed."""
    factors = [cast(Ref, call.arguments[name]).name for name in ("query", "key", "value")]
    return None if changed.keys() & set(factors) else _extents(program, call.outputs[0])


_READERS: Mapping[str, _Reader] = {
    **dict.fromkeys(_BROADCASTING, _broadcast),
    "embedding": _looked_up,
    "scaled_dot_product_attention": _attended,
}


def _with_grouped_keys(program: Program) -> Program:
    """Attention with grouped queries, where keys and values were repeated for the heads of each group."""
    writers = {name: call for call in program.calls for name in call.outputs if name}
    calls = []
    for call in program.calls:
        if call.name == "scaled_dot_product_attention" and not call.arguments["enable_gqa"]:
            shared = {name: _before_repetition(program, writers, call.arguments[name]) for name in ("key", "value")}
            if all(shared.values()):
                sources = {name: Ref(source) for name, source in shared.items() if source}
                call = replace(call, arguments={**call.arguments, **sources, "enable_gqa": True})
        calls.append(call)
    return _with_calls(program, calls)


def _before_repetition(program: Program, writers: Mapping[str, Call], argument: Argument) -> str:
    """The (batch, heads, tokens, channels) value each of whose heads was repeated to give an argument; "" if none was.

    Values of a dynamic number of tokens are left as they are.
    """
    name, path = cast(Ref, argument).name, []
    for names in (_RESHAPES, {"expand"}, {"unsqueeze"}):
        call = writers.get(name)
        if call is None or call.name not in names:
            return ""
        path.append(_extents(program, name))
        name = _source(call)
    flat, expanded, column = path
    before = _extents(program, name)
    if len(before) != len(flat) or len(before) != _RANK or len(expanded) != _RANK + 1 or before[2][1]:
        return ""
    if column != (*before[:2], _ONE, *before[2:]) or expanded[:2] + expanded[3:] != before or expanded[2][1]:
        return ""
    repeated = (before[0], (before[1][0] * expanded[2][0], ""), *before[2:])
    return name if flat == repeated else ""


_RANK = 4
"""Dimensions of keys in attention: examples, heads, tokens and channels."""


def _with_quotients(program: Program) -> Program:
    """A quotient by a root in place of each product with a reciprocal root that products alone read."""
    readers = program.consumers()
    roots = {
        call.outputs[0]
        for call in program.calls
        if call.name == "rsqrt"
        and call.outputs[0] not in program.outputs
        and all(
            _is_scaled(program, program.calls[reader], call.outputs[0]) for reader in readers.get(call.outputs[0], ())
        )
    }
    calls = []
    for call in program.calls:
        if call.outputs[0] in roots:
            call = replace(call, op="aten.sqrt.default")
        elif roots.intersection(call.reads()):
            factors = [cast(Ref, call.arguments[name]).name for name in ("self", "other")]
            dividend, root = sorted(factors, key=lambda name: name in roots)
            call = replace(call, op="aten.div.Tensor", arguments={"self": Ref(dividend), "other": Ref(root)})
        calls.append(call)
    return replace(program, calls=tuple(calls))


def _is_scaled(program: Program, call: Call, root: str) -> bool:
    """Returns whether a call multiplies a larger value with a root, both in single precision."""
    factors = [call.arguments.get(name) for name in ("self", "other")]
    if call.name != "mul" or not all(isinstance(factor, Ref) for factor in factors):
        return False
    names = [cast(Ref, factor).name for factor in factors]
    other_factors = [name for name in names if name != root]
    if len(other_factors) != 1 or any(program.values[name].dtype != "float32" for name in names):
        return False
    return math.prod(program.values[other_factors[0]].shape) > math.prod(program.values[root].shape)
