"""Compares a captured program with its module, for two numbers of examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supernets.errors import CaptureError
from supernets.networks.capture.diagnosis import place_of, raised
from supernets.networks.capture.elastic_program import ElasticProgram, infer_axes
from supernets.networks.capture.execution import check_batch, outputs_of, values_of
from supernets.networks.capture.memory import check_values
from supernets.networks.capture.module_call import evaluating, parts_of, tensors_of
from supernets.networks.capture.program import BATCH, first_names
from supernets.networks.capture.tracing import Captured, ModuleCall, capture

BATCHES = (2, 3)
"""The numbers of examples that a captured program is run with; at least one of them is another than its example's."""
EQUAL = 1e-5
"""The largest relative difference of outputs that is rounding in single precision, by itself."""
_OTHER = 1e-2
"""A relative difference beyond any rounding."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Outputs of a captured program and of its module, for the batches of `BATCHES`.

    Attributes:
        difference: Largest difference, relative to the outputs' scale; None where the module runs with none of these batches.
        notes: Further differences, one sentence each.
    """

    difference: float | None
    notes: tuple[str, ...]


def compare(module: nn.Module, captured: Captured, x: Tensor, call: ModuleCall) -> Comparison:
    """Runs a program and its module with each batch of `BATCHES`, made of an example's rows; another than its batch first.

    A module that changes its buffers in evaluation mode is run with the first of them alone.

    Raises:
        CaptureError: the program does not run, its outputs are NaN, or are others than the module's.
    """
    comparer = _Comparer(module, captured, x, call)
    before = {name: (id(buffer), buffer._version) for name, buffer in module.named_buffers()}
    differences, notes, changed = list[float](), dict[str, None](), list[str]()
    with torch.no_grad(), evaluating(module):
        for batch in sorted(BATCHES, key=lambda n: n == len(x)):
            comparison = comparer.compare_batch(batch)
            differences += [] if comparison.difference is None else [comparison.difference]
            notes.update(dict.fromkeys(comparison.notes))
            after = {name: (id(buffer), buffer._version) for name, buffer in module.named_buffers()}
            if changed := [name for name, state in before.items() if after.get(name) != state]:
                break
    if changed:
        notes[
            f"its forward changes {', '.join(changed)} in evaluation mode, and the captured one keeps their values; change "
            "them only where self.training is true"
        ] = None
    return Comparison(max(differences, default=None), tuple(notes))


class _Comparer:
    """Compares a program with its module for one number of examples after another."""

    def __init__(self, module: nn.Module, captured: Captured, x: Tensor, call: ModuleCall) -> None:
        self._module, self._captured, self._x, self._call = module, captured, x, call
        self._elastic, self._tensor_of = infer_axes(captured.program), captured.tensors.__getitem__

    def compare_batch(self, batch: int) -> Comparison:
        """The difference for a number of examples, and what else differs; raises as `compare`."""
        check_values(self._captured.program, batch=batch)
        x = torch.cat([self._x] * -(-batch // len(self._x)))[:batch]
        program_outputs = self._outputs(x)
        try:
            outputs = self._call(self._module, x)
        except Exception as error:  # the user's forward may raise anything
            text = f"the module itself does not run with a batch of {batch}{place_of(error)}, and the captured one does"
            return Comparison(None, (text,))
        module_outputs = list(tensors_of(outputs))
        if any(output.isnan().any() for output in module_outputs):
            raise self._nan_error(x)
        difference = relative_difference(program_outputs, module_outputs)
        if (
            difference > _OTHER
            and relative_difference(list(tensors_of(self._call(self._module, x))), module_outputs) > _OTHER
        ):
            raise CaptureError(
                "its outputs differ between two runs on the same input: it draws random numbers in evaluation mode, or changes "
                "itself; remove that from its forward",
                code="capture.random",
            )
        if difference > _OTHER or (difference > EQUAL and self._differs_in_double(x)):
            raise self._difference_error(x, program_outputs, module_outputs, difference)
        notes = (
            f"an output is no tensor of floating-point numbers ({kind}); it is left out"
            for kind in _uncaptured_kinds(outputs)
        )
        return Comparison(difference, tuple(notes))

    def _outputs(self, x: Tensor) -> list[Tensor]:
        """The program's outputs."""
        try:
            if self._elastic.unknown:
                # An operation without a rule may have state of the example's batch, with which torch reads beyond it.
                check_batch(self._elastic, len(x))
            return list(outputs_of(self._elastic, self._tensor_of, [x]))
        except Exception as error:  # of an operation whose arguments are those of the example's batch
            self._check_runs()
            raise of_one_batch(error, self._elastic, batch=len(x)) from error

    def _check_runs(self) -> None:
        """Raises `CaptureError` if the module does not run on its own example: torch traces without values."""
        try:
            self._call(self._module, self._x)
        except Exception as error:  # the user's forward may raise anything
            raise raised(error) from error

    def _values(self, x: Tensor) -> dict[str, Tensor]:
        """All values of the program."""
        program, sizes = self._elastic.program, {**self._elastic.full_sizes, BATCH: len(x)}
        return values_of(program, program.values, self._tensor_of, [x], sizes)

    def _differs_in_double(self, x: Tensor) -> bool:
        """Returns whether outputs differ in double precision, too, without rounding; False if no copy can be made."""
        try:
            module = deepcopy(self._module).double()
        except Exception:  # a user's module may hold anything
            return False
        try:
            module_outputs = list(tensors_of(self._call(module, x.double() if x.is_floating_point() else x)))
        except Exception:  # of a forward that makes tensors in single precision
            return False
        program_outputs = outputs_of(self._elastic, self._tensor_of, [x], double=True)
        return relative_difference(program_outputs, module_outputs) > EQUAL

    def _difference_error(
        self, x: Tensor, program_outputs: list[Tensor], module_outputs: list[Tensor], difference: float
    ) -> CaptureError:
        """The error for outputs that are not the module's."""
        shapes = [
            " x ".join(map(str, outputs[0].shape if outputs else ())) for outputs in (program_outputs, module_outputs)
        ]
        return CaptureError(
            f"with a batch of {len(x)} its output is {shapes[1]}, and {shapes[0]} was expected after the capture with "
            f"{self._captured.program.batch} (relative difference {difference:.1e}){self._first_difference(x)}: a size of "
            "the batch is written into its forward, or it depends on more than its input; take the size "
            "from the input, x.shape[0]",
            code="capture.example",
        )

    def _first_difference(self, x: Tensor) -> str:
        """The first call whose result has another shape when the module is captured with another batch; "" without one."""
        values, calls = self._values(x), self._captured.program.calls
        try:
            recaptured = capture(self._module, [x], call=self._call).program
        except CaptureError as error:
            return f"; {error}"
        for captured_call, recaptured_call in zip(calls, recaptured.calls, strict=False):
            for name, recaptured_name in zip(captured_call.outputs, recaptured_call.outputs, strict=False):
                if name and recaptured_name and tuple(values[name].shape) != recaptured.values[recaptured_name].shape:
                    return f", from {captured_call.name} at {captured_call.place} on"
        return ""

    def _nan_error(self, x: Tensor) -> CaptureError:
        """The error for outputs of NaN; the message names the call that made the first."""
        program, values = self._captured.program, self._values(x)
        text = "its outputs are NaN, and those of the captured one are not"
        if weights := [name for name in program.tensors if _has_nan(values[name])]:
            text = f"its outputs are NaN, because {weights[0]} has NaN; load other weights"
        elif calls := [call for call in program.calls if any(_has_nan(values[name]) for name in call.outputs if name)]:
            text = (
                f"its outputs are NaN; {calls[0].name} at {calls[0].place or calls[0].module} is the first to return NaN; "
                "correct it there, or, if random inputs are the reason, pass an example of real data to nas.supernet_of"
            )
        return CaptureError(text, code="capture.nan")


def of_one_batch(error: Exception, elastic: ElasticProgram, *, batch: int) -> CaptureError:
    """The error for a program that runs only with the batch that it was captured with.

    Args:
        error: Error of the call that does not run.
        elastic: The program; an operation without a rule may read tensors that its caller made for each example.
    """
    if isinstance(error, CaptureError) and error.code == "capture.unknown-operation":
        return error
    captured, remedy = elastic.program.batch, "take it from the input there, x.shape[0]"
    if elastic.unknown:
        remedy += f", or, if it already is, write {first_names(list(elastic.unknown), 3)}, without a rule, with others"
    place = "; ".join(getattr(error, "__notes__", ())) or str(error).partition("\n")[0]
    return CaptureError(
        f"it was captured with a batch of {captured}, and does not run with {batch} ({place}): a size of "
        f"the batch is written into its forward; {remedy}",
        code="capture.example",
    )


def relative_difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """The largest difference of two networks' outputs, relative to the largest output of the first.

    It is infinite for other shapes and NaN; equal infinities count as equal.
    """
    if [tensor.shape for tensor in a] != [tensor.shape for tensor in b]:
        return float("inf")
    worst = 0.0
    for first, second in zip(a, b, strict=True):
        if first.isnan().any() or second.isnan().any() or not torch.equal(first.isinf(), second.isinf()):
            return float("inf")
        first, second = (tensor.nan_to_num(posinf=0.0, neginf=0.0) for tensor in (first, second))
        worst = max(worst, (first - second).abs().max().item() / max(first.abs().max().item(), 1e-30))
    return worst


def _has_nan(value: Tensor) -> bool:
    return value.is_floating_point() and bool(value.isnan().any())


def _uncaptured_kinds(outputs: object) -> Iterator[str]:
    """The kinds of outputs that are not captured."""
    if (parts := parts_of(outputs)) is not None:
        for part in parts:
            yield from _uncaptured_kinds(part)
    elif outputs is not None and not (isinstance(outputs, Tensor) and outputs.is_floating_point()):
        yield str(outputs.dtype).removeprefix("torch.") if isinstance(outputs, Tensor) else type(outputs).__name__
