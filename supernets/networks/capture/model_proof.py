"""The proof that the axes of a captured model are right, which every way into a search runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from supernets.errors import CaptureError
from supernets.networks.capture.captured_model import CapturedModel
from supernets.networks.capture.comparison import BATCHES, of_one_batch, relative_difference
from supernets.networks.capture.elastic_program import ElasticProgram, infer_axes
from supernets.networks.capture.execution import check_batch, outputs_of
from supernets.networks.capture.memory import check_values
from supernets.networks.capture.program import BATCH, Program, first_names, product_text
from supernets.networks.capture.space import SpaceOptions, elastic_axes
from supernets.space.axes import axes_in, permute_tensor, size_of

EXACT = 1e-8
"""The largest relative change of outputs under a permutation in double precision: rounding; a wrong axis makes it larger."""
_MAX_CONTROLS, _MAX_NAMES, _MAX_TENSORS = 4, 3, 4
"""Axes that the control is tried on; and wrong axes, and tensors of each of them, that an error names."""
_GATE = 0.5
"""The value of a gate of one number that is 0, as in residual branches that begin closed: so its branch counts."""


@dataclass(frozen=True, slots=True)
class WrongAxis:
    """An axis whose permutation changes the outputs.

    Attributes:
        tensors: Tensors that have the axis.
        change: Change of the outputs, relative to their scale.
    """

    name: str
    tensors: tuple[str, ...]
    change: float


@dataclass(frozen=True, slots=True)
class Proof:
    """Relative changes of the outputs.

    Attributes:
        original: Change of the largest network against the user's module, in float32; None where the module is not at hand.
        permuted: Largest change of all batches with the units of all axes permuted, in float64.
        control: the smallest with one tensor left out of a permutation, over some of the axes on which outputs depend; 0 where
            they depend on none of these, None without axes.
        wrong_axes: some of the axes whose permutation changes the outputs.
    """

    original: float | None
    permuted: float
    control: float | None
    wrong_axes: tuple[WrongAxis, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """True if permutations change nothing, and the control does."""
        return self.permuted <= EXACT and (self.control is None or self.control > self.permuted * 10)


def prove_model(
    model: CapturedModel,
    options: SpaceOptions,
    *,
    elastic: ElasticProgram | None = None,
    example: Tensor | None = None,
) -> Proof:
    """Permutes the units of the elastic axes of a model, in double precision, with each batch of `BATCHES`.

    It computes two runs for each batch, and one for each axis of the control with the first batch.

    Args:
        options: Options of the space; the axes that they keep are not permuted.
        elastic: Elastic program of the model; None to infer it.
        example: of the model's input, for models that random numbers do not suit; None for random inputs.

    Raises:
        CaptureError: the model does not run with one of the batches, or its outputs are NaN.
    """
    return _Prover(model, infer_axes(model.program) if elastic is None else elastic, options, example).prove()


def check_model(
    model: CapturedModel, options: SpaceOptions, *, elastic: ElasticProgram | None = None, example: Tensor | None = None
) -> None:
    """Raises `CaptureError` unless the proof of a model's axes holds; see `prove_model`."""
    if not (proof := prove_model(model, options, elastic=elastic, example=example)).holds:
        raise unproved_error(model.name, proof)


def unproved_error(name: str, proof: Proof) -> CaptureError:
    """The error for a proof that does not hold: which axes, in which tensors, and what to do."""
    if proof.permuted > EXACT:
        axes = "".join(
            f"\n  {axis.name}, in {first_names(axis.tensors, _MAX_TENSORS)}: the outputs change by {axis.change:.1e}"
            for axis in proof.wrong_axes
        )
        text = (
            f"{name}: the outputs change by {proof.permuted:.1e} when units change places that should be alike, so that its "
            "axes are not understood; keep these axes as they are (keep; in a job: "
            f"supernet.keep), or write that part of its forward with other operations:{axes}"
        )
    else:
        text = (
            f"{name}: the outputs do not depend on its elastic layers (they change by {proof.control:.1e} when the units of "
            "one tensor change places), so that nothing proves its axes; load trained weights, or correct its forward"
        )
    return CaptureError(text, code="capture.unproved")


def random_input(program: Program, name: str, n: int, generator: torch.Generator) -> Tensor:
    """A random value of an input for n examples; sentences consist of the first two tokens."""
    spec = program.values[name]
    kind = getattr(torch, spec.dtype)
    if kind.is_floating_point:
        return torch.randn(n, *spec.shape[1:], generator=generator, dtype=kind)
    tokens = torch.randint(2, (n, *spec.shape[1:]), generator=generator).to(kind)
    if program.padding is not None:
        tokens[:, 0] = 1 if program.padding == 0 else 0  # a sentence has at least one token
    return tokens


def randomised(tensors: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Tensors of which those that hold one number (fresh biases, norms) vary, so that errors show.

    Variances stay positive; others move by up to a fifth of their scale, or of 1.
    """
    varied = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() > 1 and (tensor == tensor.flatten()[0]).all():
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) * 0.4 - 0.2
            tensor = tensor + noise * (1.0 if name.endswith(("running_var", "weight")) else 0.5)
        varied[name] = tensor
    return varied


def random_order(size: int, generator: torch.Generator) -> Tensor:
    """A random permutation that moves something."""
    order = torch.randperm(size, generator=generator)
    return order.flip(0) if torch.equal(order, torch.arange(size)) else order


class _Prover:
    """The proof of one model."""

    def __init__(
        self, model: CapturedModel, elastic: ElasticProgram, options: SpaceOptions, example: Tensor | None
    ) -> None:
        self._model, self._elastic, self._example = model, elastic, example
        self._generator = torch.Generator().manual_seed(0)
        axes = [elastic.axes[name] for name in elastic_axes(elastic, options)]
        # The positions of a kernel have an order.
        self._orders = {axis.name: random_order(axis.size, self._generator) for axis in axes if axis.slice == "prefix"}
        self._tensors_by_axis = {
            name: [tensor for tensor, dims in elastic.dims.items() if any(name in axes_in(dim) for dim in dims)]
            for name in self._orders
        }
        self._tensors: dict[str, Tensor] = {}

    def prove(self) -> Proof:
        """The proof; raises as `prove_model`."""
        self._tensors = self._varied_tensors()
        largest_change, wrong_axes = 0.0, tuple[WrongAxis, ...]()
        control: float | None = None
        for position, batch in enumerate(BATCHES):
            inputs = self._inputs(batch)
            before = self._outputs(inputs)
            self._check_outputs(before, batch)
            change = self._change(before, inputs, self._orders)
            if change > max(largest_change, EXACT):
                wrong_axes = tuple(islice(self._wrong_axes(before, inputs, list(self._orders)), _MAX_NAMES))
            largest_change = max(largest_change, change)
            if not position:
                control = self._control(before, inputs)
        return Proof(self._model.difference, largest_change, control, wrong_axes)

    def _varied_tensors(self) -> dict[str, Tensor]:
        """The model's tensors, without values by which a wrong axis would not show."""
        varied_tensors = randomised(self._model.tensors, self._generator)
        for name in self._model.program.trainable:
            if varied_tensors[name].numel() == 1 and not varied_tensors[name].any():
                varied_tensors[name] = torch.full_like(varied_tensors[name], _GATE)
        return varied_tensors

    def _inputs(self, batch: int) -> list[Tensor]:
        program = self._model.program
        check_values(program, batch=batch, double=True)
        if self._example is None:
            return [random_input(program, name, batch, self._generator) for name in program.inputs]
        return [torch.cat([self._example] * -(-batch // len(self._example)))[:batch]]

    def _outputs(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs; raises `CaptureError` for a program that does not run with this batch."""
        try:
            if self._elastic.unknown:
                check_batch(self._elastic, len(inputs[0]))
            return self._permuted({}, inputs)
        except Exception as error:  # of any operation
            raise self._of_one_batch(error, len(inputs[0])) from error

    def _of_one_batch(self, error: Exception, batch: int) -> CaptureError:
        problem = of_one_batch(error, self._elastic, batch=batch)
        return CaptureError(f"{self._model.name}: {problem}", code=problem.code)

    def _check_outputs(self, outputs: Sequence[Tensor], batch: int) -> None:
        """Raises `CaptureError` for NaN, and for an output that has not one row of each example any more."""
        if any(output.isnan().any() for output in outputs):
            raise CaptureError(
                f"{self._model.name}: its outputs are NaN for random inputs, so that nothing proves its axes; correct that, or "
                "pass an example of real data to nas.supernet_of",
                code="capture.nan",
            )
        program = self._elastic.program
        sizes, state = {**self._elastic.full_sizes, BATCH: batch}, program.state_values
        for name, output in zip(program.outputs, outputs, strict=True):
            captured_shape, shape = program.values[name].shape, tuple(output.shape)
            expected = tuple(int(size_of(dim, sizes)) for dim in self._elastic.shapes[name])
            if name not in state and captured_shape[:1] == (program.batch,) and expected == captured_shape:
                expected = (batch, *captured_shape[1:])
            if shape != expected:
                text = f"its output is {product_text(shape)}; {product_text(expected)} was expected"
                raise self._of_one_batch(ValueError(text), batch)

    def _change(self, before: Sequence[Tensor], inputs: Sequence[Tensor], orders: Mapping[str, Tensor]) -> float:
        """The change of the outputs with the units of some axes permuted in every tensor that has them."""
        return relative_difference(before, self._permuted(orders, inputs))

    def _permuted(
        self, orders: Mapping[str, Tensor], inputs: Sequence[Tensor], without: str = ""
    ) -> tuple[Tensor, ...]:
        """The outputs in double precision, with the units of some axes in other orders, but not in the tensor `without`."""

        def tensor_of(name: str) -> Tensor:
            tensor = self._tensors[name]
            for axis, order in orders.items():
                if name != without and name in self._tensors_by_axis[axis]:
                    tensor = permute_tensor(tensor, self._elastic.dims[name], self._elastic.axes, axis, order)
            return tensor

        return outputs_of(self._elastic, tensor_of, inputs, double=True)

    def _control(self, before: Sequence[Tensor], inputs: Sequence[Tensor]) -> float | None:
        """The smallest change over some axes with one tensor left out; see `Proof.control`."""
        names = [name for name, tensors in self._tensors_by_axis.items() if len(tensors) > 1]
        if not names:
            return None
        changes = []
        for name in names[:: max(1, len(names) // _MAX_CONTROLS)][:_MAX_CONTROLS]:
            for tensor in self._tensors_by_axis[name]:
                outputs = self._permuted({name: self._orders[name]}, inputs, without=tensor)
                change = relative_difference(before, outputs)
                if change > EXACT:
                    changes.append(change)
                    break
        return min(changes, default=0.0)

    def _wrong_axes(
        self, before: Sequence[Tensor], inputs: Sequence[Tensor], names: Sequence[str]
    ) -> Iterator[WrongAxis]:
        """The axes whose permutation changes the outputs, by bisection; axes that do so only together count each."""
        change = self._change(before, inputs, {name: self._orders[name] for name in names})
        if change <= EXACT:
            return
        if len(names) == 1:
            yield WrongAxis(names[0], tuple(self._tensors_by_axis[names[0]]), change)
            return
        middle, one_alone = len(names) // 2, False
        for half in (names[:middle], names[middle:]):
            for axis in self._wrong_axes(before, inputs, half):
                one_alone = True
                yield axis
        if not one_alone:
            yield from (WrongAxis(name, tuple(self._tensors_by_axis[name]), change) for name in names)
