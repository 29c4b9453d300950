"""Programs as JSON: written from a capture, and read with every bound checked, because a stranger may have sent them."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from supernets.errors import CaptureError
from supernets.networks.capture.program import Argument, Call, Program, Ref, Shape, ValueSpec
from supernets.networks.operations import RULES
from supernets.networks.own_operations import NAMESPACE

MAX_CALLS, MAX_TENSORS, MAX_SIZE, MAX_NUMBERS = 100_000, 100_000, 2**31 - 1, 2**31
_NAMESPACES = ("aten.", f"{NAMESPACE}.")
TYPES = frozenset(("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"))


def program_to_json(program: Program) -> dict[str, Any]:
    """Plain data; `program_from_json` reads it."""
    return {
        "inputs": list(program.inputs),
        "tensors": list(program.tensors),
        "trainable": sorted(program.trainable),
        "values": {name: [list(spec.shape), spec.dtype] for name, spec in program.values.items()},
        "calls": [
            {
                "op": call.op,
                "arguments": {name: _argument_to_json(argument) for name, argument in call.arguments.items()},
                "outputs": list(call.outputs),
                "module": call.module,
                "place": call.place,
            }
            for call in program.calls
        ],
        "outputs": list(program.outputs),
        "batch": program.batch,
        "aliases": dict(program.aliases),
        **({} if program.padding is None else {"padding": program.padding}),
        **({"input_dims": [list(dims) for dims in program.input_dims]} if program.input_dims else {}),
    }


def program_from_json(data: Mapping[str, Any]) -> Program:
    """The program that `program_to_json` wrote.

    Raises:
        CaptureError: it is malformed or too large, reads a value before it is there, or has an operation without a rule.
    """
    try:
        program = Program(
            inputs=_names(data["inputs"]),
            tensors=_names(data["tensors"]),
            trainable=frozenset(_names(data["trainable"])),
            values={str(name): _spec(name, spec) for name, spec in data["values"].items()},
            calls=tuple(
                Call(
                    str(call["op"]),
                    {str(name): _argument_from_json(argument) for name, argument in call["arguments"].items()},
                    _names(call["outputs"]),
                    str(call["module"]),
                    str(call["place"]),
                )
                for call in data["calls"]
            ),
            outputs=_names(data["outputs"]),
            batch=int(data["batch"]),
            aliases={str(alias): str(name) for alias, name in data["aliases"].items()},
            padding=None if data.get("padding") is None else int(data["padding"]),
            input_dims=tuple(_names(dims) for dims in data.get("input_dims", [])),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _malformed(repr(error)) from None
    check(program)
    return program


def check(program: Program) -> None:
    """Raises `CaptureError` for a program that cannot be run: see `program_from_json`."""
    if len(program.calls) > MAX_CALLS or len(program.tensors) > MAX_TENSORS:
        raise _malformed(f"{len(program.calls)} calls and {len(program.tensors)} tensors are too many")
    defined = {*program.inputs, *program.tensors}
    if not program.inputs or not program.outputs or program.batch < 2 or not program.trainable <= defined:
        raise _malformed("it lacks inputs, outputs or a batch")
    if program.padding is not None and (not program.of_tokens or len(program.values[program.inputs[0]].shape) != 2):
        raise _malformed("its inputs are padded and no sentences")
    ranks = [len(program.values[name].shape) for name in program.inputs if name in program.values]
    if program.input_dims and [len(dims) for dims in program.input_dims] != ranks:
        raise _malformed("the names of its inputs' dimensions do not fit the inputs")
    if missing := sorted(defined - program.values.keys()):
        raise _malformed(f"the value {missing[0]} has no shape")
    for call in program.calls:
        if not call.op.startswith(_NAMESPACES) or call.op.count(".") != 2 or call.name not in RULES:
            raise CaptureError(
                f"the captured network has the operation {call.op}, which has no rule; capture it with this version",
                code="capture.unknown-operation",
            )
        if unknown := [name for name in call.reads() if name not in defined]:
            raise _malformed(f"{call.op} reads {unknown[0]} before it is there")
        outputs = {name for name in call.outputs if name}
        if not outputs or outputs & defined or not outputs <= program.values.keys():
            raise _malformed(f"the outputs of {call.op} are not new values with a shape")
        defined |= outputs
    if unknown_outputs := [name for name in program.outputs if name not in defined]:
        raise _malformed(f"the output {unknown_outputs[0]} is not computed")


def _malformed(problem: str) -> CaptureError:
    return CaptureError(
        f"the captured network cannot be read: {problem[:200]}; capture it again", code="capture.malformed"
    )


def _names(data: Any) -> tuple[str, ...]:
    if not isinstance(data, list) or not all(isinstance(name, str) and len(name) <= 1000 for name in data):
        raise ValueError("expected a list of names")
    return tuple(data)


def _spec(name: str, data: Any) -> ValueSpec:
    sizes, dtype = data
    shape: Shape = tuple(int(size) for size in sizes)
    is_valid = all(0 <= size <= MAX_SIZE for size in shape) and prod(shape) <= MAX_NUMBERS
    if not is_valid or dtype not in TYPES:
        raise ValueError(f"{name} has the shape {shape} and the type {dtype}")
    return ValueSpec(shape, str(dtype))


def _argument_to_json(argument: Argument) -> Any:
    match argument:
        case Ref(name):
            return {"value": name}
        case float() if argument != argument or argument in (float("inf"), float("-inf")):
            return {"float": str(argument)}
        case tuple():
            return [_argument_to_json(part) for part in argument]
    return argument


def _argument_from_json(data: Any) -> Argument:
    match data:
        case {"value": str(name)}:
            return Ref(name)
        case {"float": str(text)}:
            return float(text)
        case list():
            return tuple(_argument_from_json(part) for part in data)
        case None | bool() | int() | float() | str():
            return data
    raise ValueError(f"an argument {data!r}")
