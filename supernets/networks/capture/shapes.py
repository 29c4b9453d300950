"""Shapes of a program's values, computed by running it without memory for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from supernets.errors import CaptureError
from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.execution import results_of
from supernets.networks.capture.program import BATCH, Program, ValueSpec
from supernets.networks.operations import operation


def with_shapes(
    program: Program, tensors: Mapping[str, ValueSpec], *, sizes: Mapping[str, int] = MappingProxyType({})
) -> Program:
    """The program with other shapes of some of its tensors or inputs, and with what follows from them for every value.

    Args:
        sizes: Sizes of the axes and the batch, where the program's arguments follow them.

    Raises:
        CaptureError: a call does not run with them; the message names it.
    """
    specs = {**program.values, **tensors}
    values: dict[str, Any] = {
        name: torch.empty(specs[name].shape, dtype=getattr(torch, specs[name].dtype), device="meta")
        for name in (*program.inputs, *program.tensors)
    }
    for call in program.calls:
        step = _on_meta(operation(call))
        try:
            values.update(results_of(call, step, values, sizes))
        except Exception as error:  # of the operation, given sizes or arguments that do not fit
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            at = f" in {call.module}" if call.module else ""
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
