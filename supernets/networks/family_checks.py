"""Checks of families that others may write: their declarations fit their networks, and their programs compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from numbers import Integral
from traceback import walk_tb
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from supernets.errors import HOW_TO_ADD_A_FAMILY, SpaceError
from supernets.networks.capture.diagnosis import place_of
from supernets.networks.capture.execution import values_of
from supernets.networks.capture.model_proof import randomised
from supernets.networks.capture.program import Program
from supernets.networks.live_subnets import clone_tree, forward_problem, place, tensors_in
from supernets.space.axes import Axis, NamedDims, axes_in, slice_tensor

if TYPE_CHECKING:
    from supernets.networks.family_program import FamilyProgram
    from supernets.sharing.base import Family

_N_EXAMPLES = 3
"""Of compared inputs: another number than that of captured ones."""


def template_of(family: Family) -> nn.Module:
    """The largest network of a family, freshly initialised.

    Raises:
        SpaceError: its template returns something else than a module with parameters.
    """
    template: object = family.template()
    if not isinstance(template, nn.Module) or not any(True for _ in template.parameters()):
        problem = f"{type(template).__name__}; expected a torch.nn.Module with parameters"
        raise SpaceError(f"template of the family {family.name} returned {problem}", code="family.inconsistent")
    return template


def is_of_plug_in(family: Family) -> bool:
    """Returns whether a family is none of the project's own, which its tests compare with their networks."""
    return type(family).__module__.partition(".")[0] != "supernets"


def checked_named_dims(family: Family, network: nn.Module) -> Mapping[str, NamedDims]:
    """The named dimensions of a family for every tensor, checked against its axes and its largest network."""
    for name, module in network.named_modules():
        if problem := forward_problem(module):
            problem = f"{name or 'the network'} ({type(module).__name__}) of its template {problem}"
            raise SpaceError(f"the family {family.name}: {problem}", code="family.inconsistent")
    named_dims = family.named_dims()
    dims = [dim for dims in named_dims.values() for dim in dims if not isinstance(dim, EllipsisType)]
    names, state = frozenset[str]().union(*map(axes_in, dims)), network.state_dict()
    first_names = dict[int, str]()
    for name, tensor in tensors_in(network).items():
        if (first := first_names.setdefault(id(tensor), name)) != name:
            problem = (
                f"its template has one tensor under two names, {first} and {name}; register it once, and read it in the "
                "forward wherever it is used, e.g. torch.nn.functional.linear(x, self.embedding.weight)"
            )
        elif name not in state:
            problem = f"the buffer {name} of its template is not in checkpoints; register it without persistent=False"
        else:
            continue
        raise SpaceError(f"the family {family.name}: {problem}", code="family.inconsistent")
    problem = ""
    if unknown := sorted(named_dims.keys() - state.keys()):
        problem = f"the template has no tensor {unknown[0]}"
    elif differing := sorted(names ^ family.axes.keys()):
        problem = f"the axis {differing[0]} is only one of its axes and of its named dims"
    if problem:
        raise SpaceError(f"named_dims of the family {family.name}: {problem}", code="family.inconsistent")
    return {name: named_dims.get(name, (...,)) for name in state}


def check_networks(family: Family, network: nn.Module) -> None:
    """Checks the sizes and the dropped modules of a family's networks with each option of its space.

    Args:
        network: the largest one.

    Raises:
        SpaceError: an axis has no size, or none that can be cut out of the largest network; a dropped module does not exist; or
            all networks are the same.
    """
    choices, axes, stated = family.space.choices, family.axes, set[object]()
    levels = [len(choice.options) - 1 for choice in choices]
    names = {name for name, _ in network.named_modules(remove_duplicate=False) if name} | tensors_in(network).keys()

    def fail(method: str, problem: str) -> NoReturn:
        raise SpaceError(f"{method} of the family {family.name}: {problem}", code="family.inconsistent")

    for i, choice in enumerate(choices):
        for level, option in reversed(tuple(enumerate(choice.options))):  # the sizes of the largest network first
            architecture = family.space.canonical((*levels[:i], level, *levels[i + 1 :]))
            sizes, dropped = family.sizes(architecture), family.dropped(architecture)
            where = f"where {choice.name} is {option}"
            for name, axis in axes.items():
                if expected := _expected_size(axis, sizes.get(name)):
                    fail("sizes", f"the axis {name} has the size {sizes.get(name)!r} {where}; expected {expected}")
            if unknown := sorted(dropped - names):
                fail("dropped", f"the template has no module or tensor {unknown[0]}, which is dropped {where}")
            stated.add((tuple(sizes.items()), dropped))
    if len(stated) == 1 < family.space.size:
        fail("named_dims", "no axis in it has several sizes, and no module is dropped; all networks are the same")


def _expected_size(axis: Axis, size: object) -> str:
    """The expected sizes of an axis if a size is none of them, else ""."""
    if not isinstance(size, Integral):
        return "a whole number"
    if not 1 <= int(size) <= axis.size:
        return f"1 to {axis.size}"
    if axis.slice == "centre" and (axis.size - int(size)) % 2:
        parity = "an odd" if axis.size % 2 else "an even"
        return f"{parity} number, as the largest, {axis.size}: smaller kernels are the centre of the largest"
    return ""


def computes_the_same(family: Family, source: FamilyProgram) -> bool:
    """Returns whether the programs of the smallest, the largest and a random network compute what these networks do.

    They do not where Python code of the forward reads what differs between networks, calls or templates: a size, the number
    of examples, a random attribute. The network's weights are random, and its inputs are of another number than the captured.

    Raises:
        SpaceError: the live subnet of a network does not run. Or they do not, and kernels are axes: a padding that does not
            follow the kernel changes costs, too.
    """
    rng, space = np.random.default_rng(0), family.space
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.rand(1)  # the captured template may have been made from the same state of the generator
        template = template_of(family).eval()
    state = randomised(tensors_in(template), generator)
    example = family.example(_N_EXAMPLES)
    if example.is_floating_point():
        inputs = torch.randn(example.shape, generator=generator, dtype=example.dtype)
    else:
        inputs = torch.randint(2, example.shape, generator=generator).to(example.dtype)
    dims, axes = source.elastic.dims, family.axes
    for architecture in dict.fromkeys([space.smallest, space.largest, space.sample(rng)]):
        sizes = family.sizes(architecture)
        weights = {
            name: slice_tensor(tensor, dims.get(name, tuple(tensor.shape)), axes, sizes).clone()
            for name, tensor in state.items()
        }
        with torch.no_grad():
            expected = _live_output(family, clone_tree(template, family.dropped(architecture)), weights, inputs)
            output = _output(source, source.specialised(architecture), {**weights, **source.constants}, inputs)
        if not _close(output, expected):
            if kernels := {name: sizes[name] for name, axis in axes.items() if axis.slice == "centre"}:
                problem = (
                    f"with kernels of the sizes {kernels}, its forward does not compute what the operations of its largest "
                    "network do; expected padding by dilation * (size - 1) / 2, and no Python code that reads sizes otherwise "
                    "or random numbers; change that, or leave the axis out"
                )
                raise SpaceError(f"the family {family.name}: {problem}", code="family.inconsistent")
            return False
    return True


def _close(output: Tensor | None, expected: Any) -> bool:
    """Returns whether two outputs are equal in single precision."""
    if output is None or not isinstance(expected, Tensor) or output.shape != expected.shape:
        return False
    scale = expected.abs().nan_to_num(0, 0, 0).max().item()
    return torch.allclose(output, expected, _RELATIVE, _RELATIVE * scale, equal_nan=True)


_RELATIVE = 1e-3
"""Largest difference of outputs, relative to the largest output: single precision through many layers."""


def _live_output(family: Family, network: nn.Module, weights: Mapping[str, Tensor], inputs: Tensor) -> Any:
    """The outputs of a clone of the template with the tensors of a live subnet; None where it rejects random inputs.

    Raises:
        SpaceError: it does not run with the family's example, either.
    """
    try:
        place(network, weights)
        with suppress(Exception):  # whatever a user's code raises, for random inputs
            return network(inputs)
        network(family.example(len(inputs)))
    except SpaceError:
        raise
    except Exception as error:
        paths = {id(module): name for name, module in network.named_modules()}
        owners = [frame.f_locals.get("self") for frame, _ in walk_tb(error.__traceback__)]
        path = next((paths[id(owner)] for owner in reversed(owners) if id(owner) in paths), "")
        raise SpaceError(
            f"the family {family.name}: a smaller network raised {type(error).__name__} in {path or 'its forward'}"
            f"{place_of(error)}: {error}; expected a forward that takes sizes from its tensors. A module that has tensors sets "
            "other attributes with sizes in a method fit(weights), which is not called for modules without tensors, see "
            f"{HOW_TO_ADD_A_FAMILY}",
            code="family.inconsistent",
        ) from error
    return None


def _output(source: FamilyProgram, program: Program, tensors: Mapping[str, Tensor], inputs: Tensor) -> Tensor | None:
    """The output of a program; None where its operations do not fit inputs of this number."""
    (dims, *_) = source.elastic.program.input_dims
    lengths = {name: n for name, n in zip(dims, inputs.shape, strict=True) if name}
    try:
        return values_of(program, program.outputs, tensors.__getitem__, [inputs], lengths)[program.outputs[0]]
    except (RuntimeError, IndexError, TypeError, KeyError):  # of torch's operations, or for other tensors
        return None
