"""Proofs that captured axes are right: permutations of their units in double precision, with a negative control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from supernets.axes import axes_in, permute_tensor
from supernets.capture.adoption import Adopted
from supernets.capture.network import ElasticNetwork
from supernets.capture.program import Call, Program


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


def outputs_of(adopted: Adopted, tensors: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The outputs of the largest network with these tensors, without gradients.

    Conversions to single precision are to double precision where the tensors have it.
    """
    with torch.no_grad():
        values = elastic_network(adopted, tensors).captured_values(*inputs, kept=False)
    return tuple(values[name] for name in adopted.program.outputs)


def elastic_network(adopted: Adopted, tensors: Mapping[str, Tensor]) -> ElasticNetwork:
    """The largest network of these tensors, which are not copied, in evaluation mode; see `outputs_of`."""
    program = adopted.program
    if any(tensor.dtype is torch.float64 for tensor in tensors.values()):
        program = replace(program, calls=tuple(map(_in_double, program.calls)))
    return ElasticNetwork(program, tensors, adopted.full_sizes, copied=False).eval()


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
    adopted: Adopted,
    tensors: dict[str, Tensor],
    inputs: Sequence[Tensor],
    *,
    seed: int = 0,
    controls: int | None = None,
    before: Sequence[Tensor] | None = None,
) -> PermutationProof:
    """Permutes the units of all axes at once, then each axis with one tensor left out.

    Args:
        tensors: of the largest network, in double precision; permuted one by one, and at the end as before, since a large
            network fits into memory once.
        inputs: in double precision where they are no tokens.
        controls: axes to try the negative control on; None for all.
        before: the outputs as `outputs_of` computes them; None to compute them.
    """
    generator = torch.Generator().manual_seed(seed)
    before = outputs_of(adopted, tensors, inputs) if before is None else before
    axes = {name: axis for name, axis in adopted.axes.items() if axis.slice == "prefix"}
    orders = {name: random_order(axis.size, generator) for name, axis in axes.items()}
    with permuted_tensors(adopted, tensors, {name: (order, list(adopted.dims)) for name, order in orders.items()}):
        all_axes = difference(before, outputs_of(adopted, tensors, inputs))
    found: dict[str, float] = {}
    tensors_of = {
        name: [t for t, dims in adopted.dims.items() if any(name in axes_in(dim) for dim in dims)] for name in axes
    }
    names = [name for name, having in tensors_of.items() if len(having) > 1]
    for name in names if controls is None else names[:: max(1, len(names) // max(controls, 1))][:controls]:
        with permuted_tensors(adopted, tensors, {name: (orders[name], tensors_of[name][1:])}):
            found[name] = difference(before, outputs_of(adopted, tensors, inputs))
    return PermutationProof(all_axes, found)


@contextmanager
def permuted_tensors(
    adopted: Adopted, tensors: dict[str, Tensor], orders: Mapping[str, tuple[Tensor, Sequence[str]]]
) -> Iterator[None]:
    """The tensors with the units of axes in other orders.

    Args:
        orders: by axis, the order and the tensors that are permuted.
    """
    steps = [
        (tensor, name, order)
        for name, (order, chosen) in orders.items()
        for tensor in chosen
        if any(name in axes_in(dim) for dim in adopted.dims[tensor])
    ]
    for tensor, name, order in steps:
        tensors[tensor] = permute_tensor(tensors[tensor], adopted.dims[tensor], adopted.axes, name, order)
    try:
        yield
    finally:
        for tensor, name, order in reversed(steps):
            back = order.argsort()
            tensors[tensor] = permute_tensor(tensors[tensor], adopted.dims[tensor], adopted.axes, name, back)
