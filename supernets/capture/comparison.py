"""Compares a captured program with its module on another batch than the example's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supernets.capture.adoption import adopt
from supernets.capture.contexts import evaluating
from supernets.capture.diagnosis import place_of, raised
from supernets.capture.memory import check_values
from supernets.capture.outputs import parts_of, tensors_of
from supernets.capture.proof import difference, elastic_network
from supernets.capture.tracing import Captured, ModuleCall, capture
from supernets.errors import CaptureError

_BATCH = 3
_OTHER = 1e-2
"""A relative difference beyond any rounding."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Outputs of a captured program and of its module, for another batch than the example's.

    Attributes:
        difference: the largest, relative to the outputs' scale; None where the module does not run with that batch.
        notes: what differs, one sentence each.
    """

    difference: float | None
    notes: tuple[str, ...]


def compare(module: nn.Module, found: Captured, x: Tensor, call: ModuleCall) -> Comparison:
    """Runs a program and its module with a batch of 3, made of an example's rows; of 2, where an operation has no rule.

    Raises:
        CaptureError: the program does not run, its outputs are NaN, or are others than the module's.
    """
    adopted = adopt(found.program)
    # An operation without a rule may have state of the example's batch, with which torch reads beyond it (LSTM).
    batch = len(x) if adopted.unknown else _BATCH
    check_values(found.program, batch=batch)
    repeated = torch.cat([x] * -(-batch // len(x)))[:batch]
    network = elastic_network(adopted, found.tensors)
    with torch.no_grad(), evaluating(module):
        try:
            ours = list(tensors_of(network(repeated)))
        except Exception as error:  # of an operation whose arguments are those of the example's batch
            _check_runs(module, x, call)
            place = "; ".join(getattr(error, "__notes__", ()))
            raise CaptureError(
                f"it was captured with a batch of {found.program.batch}, and does not run with {batch} ({place}): a size of "
                "the batch is written into its forward; take it from the input there, x.shape[0]",
                code="capture.example",
            ) from error
        before = {name: (id(own), own._version) for name, own in module.named_buffers()}
        try:
            outputs = call(module, repeated)
        except Exception as error:  # the user's forward may raise anything
            text = f"the module itself does not run with a batch of {batch}{place_of(error)}, and the captured one does"
            return Comparison(None, (text,))
        theirs = list(tensors_of(outputs))
        if any(own.isnan().any() for own in theirs):
            raise _not_a_number(found, network.captured_values(repeated))
        apart = _apart(ours, theirs)
        if apart > _OTHER and _apart(list(tensors_of(call(module, repeated))), theirs) > _OTHER:
            raise CaptureError(
                "its outputs differ between two runs on the same input: it draws random numbers in evaluation mode, or changes "
                "itself; remove that from its forward",
                code="capture.random",
            )
        if apart > _OTHER:
            other = _first_other(module, found, network.captured_values(repeated), repeated, call)
            shapes = [" x ".join(map(str, own[0].shape if own else ())) for own in (ours, theirs)]
            raise CaptureError(
                f"with a batch of {batch} its output is {shapes[1]}, and {shapes[0]} was expected after the capture with "
                f"{found.program.batch} (relative difference {apart:.1e}){other}: a size of "
                "the batch is written into its forward, or it depends on more than its input; take the size "
                "from the input, x.shape[0]",
                code="capture.example",
            )
    notes = [f"an output is no tensor of floating-point numbers ({kind}); it is left out" for kind in _left(outputs)]
    after = {name: (id(own), own._version) for name, own in module.named_buffers()}
    if changed := [name for name, state in before.items() if after.get(name) != state]:
        notes.append(
            f"its forward changes {', '.join(changed)} in evaluation mode, and the captured one keeps their values; change "
            "them only where self.training is true"
        )
    return Comparison(apart, tuple(notes))


def _apart(a: list[Tensor], b: list[Tensor]) -> float:
    """The relative difference, infinite for other shapes; equal infinities count as equal."""
    if [own.shape for own in a] != [own.shape for own in b]:
        return float("inf")
    bounded = [own.nan_to_num(posinf=0.0, neginf=0.0) for own in (*a, *b)]
    if any(not torch.equal(one.isinf(), other.isinf()) for one, other in zip(a, b, strict=True)):
        return float("inf")
    return difference(bounded[: len(a)], bounded[len(a) :])


def _check_runs(module: nn.Module, x: Tensor, call: ModuleCall) -> None:
    """Raises `CaptureError` if a module does not run on its own example: torch traces without values."""
    try:
        call(module, x)
    except Exception as error:  # the user's forward may raise anything
        raise raised(error) from error


def _first_other(module: nn.Module, found: Captured, values: Mapping[str, Tensor], x: Tensor, call: ModuleCall) -> str:
    """The first call whose result has another shape when the module is captured with another batch; "" without one."""
    try:
        other = capture(module, [x], call=call).program
    except CaptureError as error:
        return f"; {error}"
    for step, own in zip(found.program.calls, other.calls, strict=False):
        for one, another in zip(step.outputs, own.outputs, strict=False):
            if one and another and tuple(values[one].shape) != other.values[another].shape:
                return f", from {step.name} at {step.place} on"
    return ""


def _not_a_number(found: Captured, values: Mapping[str, Tensor]) -> CaptureError:
    """The error for outputs of NaN; the message names the call that made the first."""
    if weights := [name for name in found.program.tensors if _has_nan(values[name])]:
        return CaptureError(
            f"its outputs are NaN, because {weights[0]} has NaN; load other weights", code="capture.nan"
        )
    for call in found.program.calls:
        if any(_has_nan(values[name]) for name in call.outputs if name):
            return CaptureError(
                f"its outputs are NaN; {call.name} at {call.place or call.module} is the first to return NaN; correct it "
                "there, or, if random inputs are the reason, pass an example of real data to nas.supernet_of",
                code="capture.nan",
            )
    return CaptureError("its outputs are NaN, and those of the captured one are not", code="capture.nan")


def _has_nan(value: Tensor) -> bool:
    return value.is_floating_point() and bool(value.isnan().any())


def _left(outputs: object) -> Iterator[str]:
    """The kinds of outputs that are not captured."""
    if (parts := parts_of(outputs)) is not None:
        for own in parts:
            yield from _left(own)
    elif outputs is not None and not (isinstance(outputs, Tensor) and outputs.is_floating_point()):
        yield str(outputs.dtype).removeprefix("torch.") if isinstance(outputs, Tensor) else type(outputs).__name__
