"""Proofs that captured axes are right: permutations of their units in double precision, with a negative control."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.network import ElasticNetwork, argument_value
from supernets.networks.capture.program import BATCH, Call, Program
from supernets.networks.operations import operation
from supernets.space.axes import axes_in, permute_tensor


@dataclass(frozen=True, slots=True)
class PermutationProof:
    """The largest change of an output, relative to the outputs' scale.

    Attributes:
        permuted: with the units of all axes permuted in every tensor that has them.
        control: by axis of several tensors, with one of them left out; a correct map makes it large.
    """

    permuted: float
    control: Mapping[str, float]


def in_double(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with floating-point ones in double precision."""
    return {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}


def outputs_of(elastic: ElasticProgram, tensors: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The outputs of the largest network with these tensors, without gradients.

    Conversions to single precision are to double precision where the tensors have it.
    """
    with torch.no_grad():
        values = elastic_network(elastic, tensors).captured_values(*inputs, kept=False)
    return tuple(values[name] for name in elastic.program.outputs)


def elastic_network(elastic: ElasticProgram, tensors: Mapping[str, Tensor]) -> ElasticNetwork:
    """The largest network of these tensors, which are not copied, in evaluation mode; see `outputs_of`."""
    program = elastic.program
    if any(tensor.dtype is torch.float64 for tensor in tensors.values()):
        program = replace(program, calls=tuple(map(_in_double, program.calls)))
    return ElasticNetwork(program, tensors, elastic.full_sizes, copied=False).eval()


def _in_double(call: Call) -> Call:
    arguments = {
        name: "dtype:float64" if argument == "dtype:float32" else argument for name, argument in call.arguments.items()
    }
    return replace(call, op=call.op.replace("aten.float.", "aten.double."), arguments=arguments)


def difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """The largest difference of two networks' outputs, relative to the largest output; infinite if one is not finite."""
    worst = 0.0
    for one, other in zip(a, b, strict=True):
        if one.shape != other.shape or not (one.isfinite().all() and other.isfinite().all()):
            return float("inf")
        scale = max(one.abs().max().item(), 1e-30)
        worst = max(worst, (one - other).abs().max().item() / scale)
    return worst


def random_input(program: Program, name: str, n: int, generator: torch.Generator) -> Tensor:
    """A random value of an input for n examples; sentences consist of the first two tokens."""
    spec = program.values[name]
    kind = getattr(torch, spec.dtype)
    if kind.is_floating_point:
        return torch.randn(n, *spec.shape[1:], generator=generator, dtype=kind)
    found = torch.randint(2, (n, *spec.shape[1:]), generator=generator).to(kind)
    if program.padding is not None:
        found[:, 0] = 1 if program.padding == 0 else 0  # a sentence has at least one token
    return found


def randomised(tensors: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Tensors of which those that hold one number (fresh biases, norms) vary, so that errors show.

    Variances stay positive; others move by up to a fifth of their scale, or of 1.
    """
    found = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() > 1 and (tensor == tensor.flatten()[0]).all():
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) * 0.4 - 0.2
            tensor = tensor + noise * max(1.0 if name.endswith(("running_var", "weight")) else 0.5, 0.0)
        found[name] = tensor
    return found


def random_order(size: int, generator: torch.Generator) -> Tensor:
    """A random permutation that moves something."""
    order = torch.randperm(size, generator=generator)
    return order.flip(0) if torch.equal(order, torch.arange(size)) else order


def prove_permutations(
    elastic: ElasticProgram,
    tensors: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    *,
    seed: int = 0,
    controls: int | None = None,
    before: Sequence[Tensor] | None = None,
) -> PermutationProof:
    """Permutes the units of all axes at once, then each axis with one tensor left out.

    Args:
        tensors: of the largest network, in any precision.
        inputs: in double precision where they are no tokens.
        controls: axes to try the negative control on; None for all.
        before: the outputs in double precision; None to compute them.
    """
    generator = torch.Generator().manual_seed(seed)
    before = permuted_outputs(elastic, tensors, inputs, {}) if before is None else before
    axes = {name: axis for name, axis in elastic.axes.items() if axis.slice == "prefix"}
    orders = {name: random_order(axis.size, generator) for name, axis in axes.items()}
    tensors_by_axis = {name: tensors_with(elastic, name) for name in axes}
    all_axes = {name: (order, tensors_by_axis[name]) for name, order in orders.items()}
    change = difference(before, permuted_outputs(elastic, tensors, inputs, all_axes))
    names = [name for name in axes if len(tensors_by_axis[name]) > 1]
    control: dict[str, float] = {}
    for name in names if controls is None else names[:: max(1, len(names) // max(controls, 1))][:controls]:
        all_but_first = {name: (orders[name], tensors_by_axis[name][1:])}
        control[name] = difference(before, permuted_outputs(elastic, tensors, inputs, all_but_first))
    return PermutationProof(change, control)


def tensors_with(elastic: ElasticProgram, axis: str) -> list[str]:
    """The tensors of a network that have an axis."""
    return [tensor for tensor, dims in elastic.dims.items() if any(axis in axes_in(dim) for dim in dims)]


def permuted_outputs(
    elastic: ElasticProgram,
    tensors: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    orders: Mapping[str, tuple[Tensor, Collection[str]]],
) -> tuple[Tensor, ...]:
    """The outputs of the largest network in double precision, with the units of some axes in other orders.

    Each tensor is permuted and converted when a call first reads it, and each value is deleted after the last call that reads
    it: a large network fits into memory once.

    Args:
        tensors: of the largest network, in any precision.
        inputs: in double precision where they are no tokens.
        orders: by axis, the order and the names of the tensors that are permuted.
    """

    def tensor_of(name: str) -> Tensor:
        tensor = tensors[name]
        for axis, (order, chosen) in orders.items():
            if name in chosen:
                tensor = permute_tensor(tensor, elastic.dims[name], elastic.axes, axis, order)
        return tensor.double() if tensor.is_floating_point() else tensor

    program, sizes = elastic.program, {**elastic.full_sizes, BATCH: len(inputs[0])}
    last_reads = {name: i for i, call in enumerate(program.calls) for name in (*call.reads(), *call.outputs) if name}
    values: dict[str, Any] = dict(zip(program.inputs, inputs, strict=True))
    with torch.no_grad():
        for index, call in enumerate(program.calls):
            values.update((name, tensor_of(name)) for name in call.reads() if name not in values)
            values.update(results_of(_in_double(call), values, sizes))
            for name in {name for name in (*call.reads(), *call.outputs) if name and name not in program.outputs}:
                if last_reads[name] == index:
                    del values[name]
    return tuple(values[name] if name in values else tensor_of(name) for name in program.outputs)


def results_of(call: Call, values: Mapping[str, Any], sizes: Mapping[str, int]) -> Iterator[tuple[str, Tensor]]:
    """The results of a call by name; an error has a note that names the call."""
    try:
        arguments = {name: argument_value(argument, values, sizes) for name, argument in call.arguments.items()}
        result = operation(call)(**arguments)
    except Exception as error:
        error.add_note(f"in {call.name} of {call.module or 'the network'}, {call.place}")
        raise
    results = [result] if isinstance(result, Tensor) else result
    yield from ((name, one) for name, one in zip(call.outputs, results, strict=False) if name)
