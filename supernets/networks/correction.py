"""Correction of subnets of any program in closed form: each layer's weights are fitted to the largest network's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.execution import last_reads, results_of, values_of
from supernets.networks.capture.memory import peak_bytes
from supernets.networks.capture.program import BATCH, Call, Program, Ref
from supernets.networks.network import Network, network_of
from supernets.networks.operations import operation
from supernets.networks.threads import one_thread
from supernets.space.axes import Dim, Sizes, axes_in, slice_tensor

MAX_EXAMPLES, MAX_BYTES = 512, 2**30
"""Number of examples that are read, as far as the results that a subnet needs at once take no more than these bytes."""
MAX_ROWS = 2**13
"""Number of positions of outputs (of pixels or tokens of all examples) that a layer is fitted on."""
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 100.0)
"""Shares of the mean second moment that are added to all; each layer takes the best of them on rows that are held out."""
_HELD_OUT = 4
"""Every row of this number is held out while the ridge is chosen."""
_SAME = 1e-3
"""Relative difference of a layer's outputs up to which it is not fitted: other examples for statistics make some, too."""
_CHUNK = 16
"""Number of examples that the largest network reads at once."""


@dataclass(frozen=True)
class _Layer:
    """A linear layer or convolution of the largest network.

    Attributes:
        batch: The dimension of its outputs that begins with the examples.
        intercept: Whether any number may be added to all of an output: it has a bias, or a batch norm follows.
        rows: Positions of its outputs, (rows,): indices of examples and pixels, or tokens, in row-major order.
        outputs: The largest network's outputs there, (rows, outputs).
    """

    batch: int
    intercept: bool
    rows: Tensor = field(repr=False)
    outputs: Tensor = field(repr=False)


class LayerCorrection:
    """Corrects subnets of one network, layer after layer, without labels.

    The weights (and biases) of each linear layer and each convolution that is not depthwise are fitted by least squares, with a
    ridge that keeps them near to what they are, so that it returns for the subnet's inputs, after the layers before have been
    corrected, what the largest network's layer returns for its own. Statistics of batch norms are those of the subnet's inputs.
    Fits to the outputs of the unpruned network are those of ThiNet (Luo et al. 2017, arXiv 1707.06342) and of He et al. (2017,
    arXiv 1707.06168), who also take the inputs of the pruned network. Departure: a ridge for each layer, which is chosen on
    positions that are held out.

    Args:
        elastic: The networks' program, with its axes.
        largest: The largest network, extracted, in evaluation mode.
        batches: (n, ...) examples of the training part, without labels; the first ones are read.
    """

    @torch.no_grad()
    def __init__(self, elastic: ElasticProgram, largest: nn.Module, batches: Sequence[Tensor]) -> None:
        network = network_of(largest, batches[0][:2])
        bytes_each = peak_bytes(network.program) // network.program.batch
        n = max(_CHUNK, min(MAX_EXAMPLES, MAX_BYTES // max(1, bytes_each)))
        inputs = torch.cat([batch[:n] for batch in batches[: 1 + n // len(batches[0])]])[:n]
        self._elastic, self._inputs = elastic, inputs
        calls = {call.outputs[0]: call for call in network.program.calls if _is_fitted(call, network)}
        batch_dims = {name: _batch_dim(elastic.shapes[name]) for name in calls}
        calls = {name: call for name, call in calls.items() if batch_dims[name] is not None}
        parts: dict[str, list[Tensor]] = {name: [] for name in calls}
        generator = torch.Generator().manual_seed(0)
        rows: dict[str, Tensor] = {}
        with one_thread():
            for start in range(0, len(inputs), _CHUNK):
                chunk = inputs[start : start + _CHUNK]
                values = values_of(
                    network.program, list(calls), network.tensors.__getitem__, [chunk], _lengths(network.program, chunk)
                )
                for name, call in calls.items():
                    outputs = (
                        values[name].movedim(_channel(call), -1).movedim(cast(int, batch_dims[name]), 0).flatten(0, -2)
                    )
                    per_example = len(outputs) // len(chunk)
                    if name not in rows:
                        order = torch.randperm(per_example * len(inputs), generator=generator)
                        rows[name] = order[:MAX_ROWS].sort().values
                    first = start * per_example
                    chosen = rows[name][(rows[name] >= first) & (rows[name] < first + len(outputs))]
                    parts[name].append(outputs[chosen - first])
        consumers = network.program.consumers()
        self._layers = {
            name: _Layer(
                cast(int, batch_dims[name]),
                isinstance(call.arguments.get("bias"), Ref)
                or [network.program.calls[i].name for i in consumers.get(name, ())] == ["batch_norm"],
                rows[name],
                torch.cat(parts[name]),
            )
            for name, call in calls.items()
        }

    @torch.no_grad()
    def __call__(self, network: nn.Module, sizes: Sizes) -> nn.Module:
        """The network, with its weights changed in place.

        Args:
            network: an extracted subnet of the same family, in evaluation mode.
            sizes: The sizes of its axes.
        """
        plain = network_of(network, self._inputs[:2])
        program, lengths = plain.program, _lengths(plain.program, self._inputs)
        values: dict[str, Tensor] = dict(zip(program.inputs, [self._inputs], strict=True))
        with one_thread():
            for call, ending in zip(program.calls, last_reads(program, ()), strict=True):
                values.update((name, plain.tensors[name]) for name in call.reads() if name not in values)
                if call.name == "batch_norm":
                    _recalibrate(call, values)
                elif (layer := self._layers.get(call.outputs[0])) is not None:
                    dim = self._elastic.shapes[call.outputs[0]][_channel(call)]
                    expected = slice_tensor(layer.outputs, (len(layer.outputs), dim), self._elastic.axes, sizes)
                    _fit(call, values, layer, expected)
                values.update(results_of(call, operation(call), values, lengths))
                for name in ending:
                    del values[name]
        return network


def _lengths(program: Program, inputs: Tensor) -> dict[str, int]:
    """The sizes that the inputs decide, by name."""
    names = program.input_dims[0] if program.input_dims else (BATCH,)
    return {name: size for name, size in zip(names, inputs.shape, strict=False) if name}


def _is_fitted(call: Call, network: Network) -> bool:
    """Returns whether a call is a linear layer, or a convolution that is not depthwise, whose weight no other call reads."""
    weight, program = call.arguments.get("weight"), network.program
    if call.name not in ("linear", "conv1d", "conv2d") or not isinstance(weight, Ref):
        return False
    if weight.name not in program.trainable or len(program.consumers()[weight.name]) != 1:
        return False
    if call.name == "linear":
        return call.outputs[0] not in program.state_values
    return program.values[weight.name].shape[1] > 1 and not isinstance(call.arguments["padding"], str)


def _channel(call: Call) -> int:
    """The dimension of a layer's outputs."""
    return -1 if call.name == "linear" else 1


def _batch_dim(dims: Sequence[Dim]) -> int | None:
    """The dimension that begins with the examples, of those of a layer's outputs; None where there is none such."""
    with_batch = [i for i, dim in enumerate(dims) if BATCH in axes_in(dim)]
    if len(with_batch) != 1:
        return None
    dim = dims[with_batch[0]]
    return with_batch[0] if dim == BATCH or (isinstance(dim, tuple) and dim[0] == BATCH) else None


def _recalibrate(call: Call, values: Mapping[str, Tensor]) -> None:
    """Replaces the statistics of a batch norm by those of its inputs."""
    x = values[cast(Ref, call.arguments["input"]).name]
    statistics = {name: x.new_zeros(x.shape[1]) for name in ("running_mean", "running_var")}
    torch.ops.aten.batch_norm_update_stats(x, **statistics, momentum=1)  # takes a third of the time of Tensor.var
    for name, statistic in statistics.items():
        if isinstance(tensor := call.arguments.get(name), Ref):
            values[tensor.name].copy_(statistic)


def _fit(call: Call, values: Mapping[str, Tensor], layer: _Layer, expected: Tensor) -> None:
    """Fits the weight and the bias of a layer to what it should return at some positions of its outputs, (rows, outputs)."""
    a = call.arguments
    x, weight = (values[cast(Ref, a[name]).name] for name in ("input", "weight"))
    bias = values[bias_argument.name] if isinstance(bias_argument := a.get("bias"), Ref) else None
    groups = cast(int, a.get("groups", 1)) if call.name != "linear" else 1
    inputs = _rows_of(call, x.movedim(layer.batch, 0), weight, layer.rows, groups)
    weights = weight.reshape(groups, weight.shape[0] // groups, -1).clone()
    targets = expected.view(len(expected), groups, -1).transpose(0, 1)
    missing = targets - inputs @ weights.transpose(1, 2)
    if bias is not None:
        missing -= bias.view(groups, 1, -1)
    if float(missing.square().sum()) <= _SAME**2 * float(targets.square().sum()):
        return
    for group in range(groups):
        change, shift = _least_squares(inputs[group], missing[group], intercept=layer.intercept)
        weights[group] += change.T
        if bias is not None:
            bias.view(groups, -1)[group] += shift
    weight.copy_(weights.view(weight.shape))


def _rows_of(call: Call, x: Tensor, weight: Tensor, rows: Tensor, groups: int) -> Tensor:
    """What a layer reads for some positions of its outputs, (groups, rows, inputs)."""
    if call.name == "linear":
        return x.flatten(0, -2)[rows][None]
    a = call.arguments
    kernel = weight.shape[2:]
    stride, padding, dilation = (_pair(a[name], len(kernel)) for name in ("stride", "padding", "dilation"))
    padded = functional.pad(x, [n for size in reversed(padding) for n in (size, size)])
    windows = padded
    for i, (size, step, apart) in enumerate(zip(kernel, stride, dilation, strict=True)):
        windows = windows.unfold(2 + i, apart * (size - 1) + 1, step)[..., ::apart]
    extents = windows.shape[2 : 2 + len(kernel)]
    windows = windows.movedim(1, 1 + len(kernel))  # examples, positions, channels, kernel
    chosen = windows[torch.unravel_index(rows, (len(x), *extents))]
    return chosen.reshape(len(rows), groups, -1).transpose(0, 1)


def _pair(argument: object, n: int) -> tuple[int, ...]:
    numbers = cast(tuple[int, ...], argument if isinstance(argument, tuple) else (argument,))
    return numbers * n if len(numbers) == 1 else numbers


def _least_squares(inputs: Tensor, missing: Tensor, *, intercept: bool) -> tuple[Tensor, Tensor]:
    """The changes of weights, (inputs, outputs), and of biases that add to outputs what is missing.

    Weights stay as they are where no ridge makes outputs better for rows that are held out. Rows that are not finite are left
    out.
    """
    finite = inputs.isfinite().all(1) & missing.isfinite().all(1)
    inputs, missing = inputs[finite], missing[finite]
    change, shift = inputs.new_zeros(inputs.shape[1], missing.shape[1]), missing.new_zeros(missing.shape[1])
    if len(inputs) < 2 * _HELD_OUT:
        return change, shift
    if intercept:
        centre, shift = inputs.mean(0), missing.mean(0)
        inputs, missing = inputs - centre, missing - shift
    held_out = torch.arange(len(inputs)) % _HELD_OUT == 0
    (moments, products), (tests, expected) = (
        (inputs[part].T @ inputs[part], inputs[part].T @ missing[part]) for part in (~held_out, held_out)
    )
    smallest_error, best = 0.0, 0.0
    for ridge in RIDGES:
        tried = _solved(moments, products, ridge)
        # Of the squares of what is missing, those without a change are left out.
        error = 0.0 if tried is None else float((tried * (tests @ tried - 2 * expected)).sum())
        if error < smallest_error:
            smallest_error, best = error, ridge
    if best and (solved := _solved(moments + tests, products + expected, best)) is not None:
        change = solved
    return change, shift - centre @ change if intercept else shift


def _solved(moments: Tensor, products: Tensor, ridge: float) -> Tensor | None:
    """The change of weights with a ridge; None where the moments are too near to singular."""
    added = ridge * moments.diagonal().mean().clamp(min=1e-12)
    factor, failed = torch.linalg.cholesky_ex(moments + added * torch.eye(len(moments)))
    return None if failed else torch.cholesky_solve(products, factor)
