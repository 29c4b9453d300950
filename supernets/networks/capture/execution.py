"""Runs programs in torch, call by call: with tensors that are not copied, or for the shapes of values alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from supernets.errors import CaptureError
from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.program import BATCH, Argument, Call, Program, Ref, Size, ValueSpec
from supernets.networks.operations import operation, registered
from supernets.space.axes import size_of


def argument_value(argument: Argument, values: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    """An argument as torch takes it."""
    match argument:
        case Ref(name):
            return values[name]
        case Size(dim):
            return size_of(dim, sizes)
        case tuple():
            return [argument_value(part, values, sizes) for part in argument]
        case str() if argument.startswith("dtype:"):
            return getattr(torch, argument.removeprefix("dtype:"))
    return argument


def results_of(
    call: Call, step: Callable[..., Any], values: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, Tensor]:
    """The results of a call by name; an error has a note that names the call.

    Args:
        step: the operation, which is called with the arguments by name.
    """
    try:
        result = step(**{name: argument_value(argument, values, sizes) for name, argument in call.arguments.items()})
    except Exception as error:
        error.add_note(f"in {call.name} of {call.module or 'the network'}, {call.place}")
        raise
    if isinstance(result, Tensor):
        return {call.outputs[0]: result}
    return {name: tensor for name, tensor in zip(call.outputs, result, strict=False) if name}


def last_reads(program: Program, names: Collection[str]) -> list[tuple[str, ...]]:
    """The values but these that each call reads or computes and that no later call reads, by index of the call."""
    last_call: dict[str, int] = {}
    for index, call in enumerate(program.calls):
        last_call.update((name, index) for name in (*call.reads(), *call.outputs) if name)
    ending_values: list[list[str]] = [[] for _ in program.calls]
    for name, index in last_call.items():
        if name not in names:
            ending_values[index].append(name)
    return [tuple(ending) for ending in ending_values]


def values_of(
    program: Program,
    names: Collection[str],
    tensor_of: Callable[[str], Tensor],
    inputs: Sequence[Tensor],
    sizes: Mapping[str, int],
) -> dict[str, Tensor]:
    """Values of a program by name, without gradients.

    Each tensor is read before the first call that reads it, and each value that is not asked for is deleted after the last
    one: a large network fits into memory once.

    Args:
        names: Names of the values.
        tensor_of: returns a tensor of the program.
        sizes: Sizes of the axes and of what the inputs decide, where the program's arguments follow them.
    """
    values = dict(zip(program.inputs, inputs, strict=True))
    with torch.no_grad():
        for call, ending in zip(program.calls, last_reads(program, names), strict=True):
            values.update((name, tensor_of(name)) for name in call.reads() if name not in values)
            values.update(results_of(call, operation(call), values, sizes))
            for name in ending:
                del values[name]
    return {name: values[name] if name in values else tensor_of(name) for name in names}


def outputs_of(
    elastic: ElasticProgram, tensor_of: Callable[[str], Tensor], inputs: Sequence[Tensor], *, double: bool = False
) -> tuple[Tensor, ...]:
    """The outputs of the largest network, without gradients; see `values_of`.

    Args:
        double: compute in double precision, whatever the precision of the tensors and the inputs.
    """
    program, sizes = elastic.program, {**elastic.full_sizes, BATCH: len(inputs[0])}
    if double:
        program = replace(program, calls=tuple(map(_in_double, program.calls)))
        inputs = [_as_double(x) for x in inputs]
    tensor = (lambda name: _as_double(tensor_of(name))) if double else tensor_of
    values = values_of(program, program.outputs, tensor, inputs, sizes)
    return tuple(values[name] for name in program.outputs)


def _as_double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _in_double(call: Call) -> Call:
    """The call with conversions to double precision in place of single."""
    arguments = {
        name: "dtype:float64" if argument == "dtype:float32" else argument for name, argument in call.arguments.items()
    }
    return replace(call, op=call.op.replace("aten.float.", "aten.double."), arguments=arguments)


def with_shapes(
    program: Program, tensors: Mapping[str, ValueSpec], *, sizes: Mapping[str, int] = MappingProxyType({})
) -> Program:
    """The program with other shapes of some of its tensors or inputs, and with what follows from them for every value.

    It is run without memory for its values.

    Args:
        sizes: Sizes of the axes and the batch, where the program's arguments follow them.

    Raises:
        CaptureError: a call does not run with them, or torch computes no shapes for it; the message names it.
    """
    specs = {**program.values, **tensors}
    values: dict[str, Any] = {
        name: torch.empty(specs[name].shape, dtype=getattr(torch, specs[name].dtype), device="meta")
        for name in (*program.inputs, *program.tensors)
    }
    for call in program.calls:
        step = _on_meta(registered(call))
        try:
            values.update(results_of(call, step, values, sizes))
        except NotImplementedError:
            raise CaptureError(
                f"the operation {call.name} of {call.module or 'the network'} (at {call.place}) has no rule, and torch does "
                "not compute its shapes; write it with other operations of torch",
                code="capture.unknown-operation",
            ) from None
        except Exception as error:  # of the operation, given sizes or arguments that do not fit
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            at = f" in {call.module}" * bool(call.module) + f" (at {call.place})" * bool(call.place)
            raise CaptureError(
                f"the call {call.op}{at} does not run with its arguments: {reason[:200]}", code="capture.malformed"
            ) from None
    return replace(program, values={name: ValueSpec.of(value) for name, value in values.items()})


def _on_meta(step: Any) -> Any:
    """The operation; one that makes a tensor makes it on the meta device."""
    takes = any(argument.name == "device" for argument in step._schema.arguments)
    return (lambda **arguments: step(**{**arguments, "device": torch.device("meta")})) if takes else step


def check_shapes(program: Program) -> None:
    """Raises `CaptureError` if a call does not run, or returns other shapes than the program says."""
    for name, spec in with_shapes(program, {}).values.items():
        if program.values.get(name) != spec:
            raise CaptureError(
                f"the captured network cannot be read: {name} has the shape {program.values.get(name)}, and its call returns "
                f"{spec}; capture it again",
                code="capture.malformed",
            )


def check_batch(elastic: ElasticProgram, batch: int) -> None:
    """Raises `CaptureError` if a call does not run with this number of examples."""
    program = elastic.program
    inputs = {name: program.values[name] for name in program.inputs}
    specs = {name: ValueSpec((batch, *spec.shape[1:]), spec.dtype) for name, spec in inputs.items()}
    with_shapes(program, specs, sizes={**elastic.full_sizes, BATCH: batch})
