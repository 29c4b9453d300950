"""Captured networks as torch modules: one that runs with any sizes of its axes, and plain ones of one architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.execution import last_reads, results_of
from supernets.networks.capture.program import BATCH, Call, Program, Ref
from supernets.networks.capture.specialisation import without_branches
from supernets.networks.operations import operation

SIZES, LAYERS = "axis_sizes", "layers_left"
"""Submodules whose children state the sizes of the axes, as empty buffers (size, 0), and which branches are there."""


def bookkeeping_names(program: Program) -> tuple[str, str]:
    """The names of the two submodules, `SIZES` and `LAYERS`; with underscores where the captured network has these names."""
    network_names = {name.partition(".")[0] for name in program.tensors}
    sizes, layers = SIZES, LAYERS
    while {sizes, layers} & network_names:
        sizes, layers = f"{sizes}_", f"{layers}_"
    return sizes, layers


class Holder(nn.Module):
    """A node of the module tree: holds tensors and further nodes, and has no forward."""

    def fit(self, weights: Mapping[str, Tensor]) -> None:
        """Nothing restates a shape here."""


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm of inputs of any rank."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.ndim}")

    def reset_running_stats(self) -> None:
        """Sets the statistics to mean 0 and variance 1."""
        cast(Tensor, self.running_mean).zero_()
        cast(Tensor, self.running_var).fill_(1)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        nn.Module._load_from_state_dict(self, *arguments)  # torch's own would expect a count of batches

    def fit(self, weights: Mapping[str, Tensor]) -> None:
        """States the number of channels of the tensors that were placed."""
        self.num_features = len(cast(Tensor, self.running_mean))


class ProgramModule(Holder):
    """Runs a program; its tensors have the names of the captured network.

    A user's modules may have any names, those of attributes here, too; so no method of torch's finds or adds them.

    Args:
        tensors: every tensor of the program.
        copied: True if the network has copies of the tensors, and not the tensors themselves.
    """

    captured_program: Program
    _captured_steps: list[tuple[Call, Callable[..., Any] | str]]
    _captured_last_reads: list[tuple[str, ...]]

    def __init__(self, program: Program, tensors: Mapping[str, Tensor], *, copied: bool = True) -> None:
        super().__init__()
        # As torch's modules set attributes, a user's module of the same name would be in the way.
        attributes = self.__dict__
        attributes["captured_program"] = program
        norms = batch_norms(program)
        tensors = {name: tensors[name].detach() for name in program.tensors}
        if copied:
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        for name, call in norms.items():
            self._add_norm(name, call, tensors)
        for name in program.tensors:
            path, _, leaf = name.rpartition(".")
            owner = self._owner(path)
            if leaf in owner._parameters or leaf in owner._buffers:
                continue
            if name in program.trainable:
                owner._parameters[leaf] = nn.Parameter(tensors[name])
            else:
                owner._buffers[leaf] = tensors[name]
        attributes["_captured_steps"] = [(call, self._step(call, norms)) for call in program.calls]
        attributes["_captured_last_reads"] = last_reads(program, program.outputs)

    def _owner(self, path: str) -> nn.Module:
        """The node of a path, created on the way."""
        node: nn.Module = self
        for part in filter(None, path.split(".")):
            if part not in node._modules:
                node._modules[part] = Holder()
            node = cast(nn.Module, node._modules[part])
        return node

    def _add_norm(self, name: str, call: Call, tensors: Mapping[str, Tensor]) -> None:
        affine = call.arguments["weight"] is not None
        size = len(tensors[f"{name}.running_mean"])
        momentum = call.arguments["momentum"]
        norm = BatchNorm(size, eps=cast(float, call.arguments["eps"]), momentum=cast(float, momentum), affine=affine)
        norm.num_batches_tracked = None  # no program reads it
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            if (initial := getattr(norm, leaf)) is not None:
                tensor = tensors[f"{name}.{leaf}"]
                # Assigned, not copied: the norm may be on another device, where a default device is set.
                setattr(norm, leaf, nn.Parameter(tensor) if isinstance(initial, nn.Parameter) else tensor)
        path, _, leaf = name.rpartition(".")
        self._owner(path)._modules[leaf] = norm

    def _step(self, call: Call, norms: Mapping[str, Call]) -> Callable[..., Any] | str:
        """The operation of a call, or the name of the batch norm that does it."""
        if call.name == "batch_norm" and isinstance(running := call.arguments["running_mean"], Ref):
            name = running.name.rpartition(".")[0]
            if name in norms:
                return name
        return cast(Callable[..., Any], operation(call))

    def captured_sizes(self) -> Mapping[str, int]:
        """The sizes of the axes; none in a plain network."""
        return {}

    def captured_skipped(self) -> Mapping[int, str]:
        """The values that stand for the outputs of the calls to leave out, by index of the call; "" for none."""
        return {}

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs; an error of a call has a note that names it. Other values live until the last call that reads them."""
        program, skipped = self.captured_program, self.captured_skipped()
        sizes = {**self.captured_sizes(), BATCH: inputs[0].shape[0]}
        values: dict[str, Any] = dict(zip(program.inputs, map(self._padded, inputs), strict=True))
        values.update((name, self._tensor(name)) for name in program.tensors)
        for index, (call, step) in enumerate(self._captured_steps):
            if index not in skipped:
                values.update(results_of(call, self._function(step), values, sizes))
            elif (source := skipped[index]) in values:
                values[call.outputs[0]] = values[source]
            for name in self._captured_last_reads[index]:
                values.pop(name, None)
        outputs = tuple(values[name] for name in program.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _function(self, step: Callable[..., Any] | str) -> Callable[..., Any]:
        """The function that computes the results of a call from its arguments by name."""
        if not isinstance(step, str):
            return step
        norm = cast(nn.Module, self._node(step))
        return lambda **arguments: norm(arguments["input"])

    def _padded(self, x: Tensor) -> Tensor:
        """Sentences with the padding at their ends that the program expects; other inputs as they are."""
        if self.captured_program.padding is None:
            return x
        missing = self.captured_program.values[self.captured_program.inputs[0]].shape[1] - x.shape[1]
        if missing < 0:
            raise IndexError(f"a sentence of {x.shape[1]} tokens, and the network takes {x.shape[1] + missing}")
        return functional.pad(x, (0, missing), value=self.captured_program.padding)

    def _tensor(self, name: str) -> Tensor | None:
        """A tensor of the program; None in a layer that the network lacks."""
        path, _, leaf = name.rpartition(".")
        if (node := self._node(path)) is None:
            return None
        parameter = node._parameters.get(leaf)
        return node._buffers.get(leaf) if parameter is None else parameter

    def _node(self, path: str) -> nn.Module | None:
        """The module of a path; None in a layer that the network lacks."""
        node: nn.Module | None = self
        for part in filter(None, path.split(".")):
            node = node._modules.get(part) if node is not None else None
        return node


class ElasticNetwork(ProgramModule):
    """Runs a captured program with the axis sizes, and without the branches, that the tensors placed in it state.

    Args:
        tensors: Tensors of the largest network, by name.
    """

    _captured_elastic: ElasticProgram
    _captured_skipped: dict[tuple[int, ...], Mapping[int, str]]
    _captured_stated: tuple[str, str]

    def __init__(self, elastic: ElasticProgram, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(elastic.program, tensors)
        attributes = self.__dict__
        attributes["_captured_elastic"], attributes["_captured_skipped"] = elastic, {}
        attributes["_captured_stated"] = bookkeeping_names(elastic.program)
        layers = Holder()
        for i in range(len(elastic.branches)):
            layers.add_module(str(i), Holder())
        self._modules.update(zip(self._captured_stated, (_size_records(elastic.full_sizes), layers), strict=True))

    def captured_sizes(self) -> Mapping[str, int]:
        stated = cast(nn.Module, self._modules[self._captured_stated[0]])._buffers
        return {name: len(cast(Tensor, stated[str(i)])) for i, name in enumerate(self._captured_elastic.axes)}

    def captured_skipped(self) -> Mapping[int, str]:
        layers = cast(nn.Module, self._modules[self._captured_stated[1]])._modules
        elastic = self._captured_elastic
        dropped = tuple(i for i in range(len(elastic.branches)) if str(i) not in layers)
        if dropped not in self._captured_skipped:
            branches = [elastic.branches[i] for i in dropped]
            skipped = dict.fromkeys(range(len(elastic.program.calls)), "")
            for index in without_branches(elastic, branches).calls:
                del skipped[index]
            self._captured_skipped[dropped] = {**skipped, **{branch.sum: branch.skip for branch in branches}}
        return self._captured_skipped[dropped]


class PlainNetwork(ProgramModule):
    """A network of one architecture, from a specialised program.

    Args:
        sizes: Sizes of the axes, which its state records; no call reads them.
        blocks: the names of blocks by the values that they compute.
        stated: the name of the submodule that records the sizes.
    """

    captured_blocks: Mapping[str, str]

    def __init__(
        self,
        program: Program,
        tensors: Mapping[str, Tensor],
        sizes: Mapping[str, int],
        blocks: Mapping[str, str] | None = None,
        *,
        copied: bool = True,
        stated: str = SIZES,
    ) -> None:
        super().__init__(program, tensors, copied=copied)
        self.__dict__["captured_blocks"] = blocks or {}
        self._modules[stated] = _size_records(sizes)

    def captured_tensors(self) -> dict[str, Tensor]:
        """The tensors of its program that it has, by name."""
        tensors = ((name, self._tensor(name)) for name in self.captured_program.tensors)
        return {name: tensor for name, tensor in tensors if tensor is not None}


def _size_records(sizes: Mapping[str, int]) -> Holder:
    """A node whose empty buffers have the sizes as their lengths."""
    holder = Holder()
    for i, size in enumerate(sizes.values()):
        holder.register_buffer(str(i), torch.empty(size, 0))
    return holder


def batch_norms(program: Program) -> dict[str, Call]:
    """The batch norms whose statistics are running ones, by the module that holds all their tensors."""
    norms = {}
    for call in program.calls:
        if call.name != "batch_norm" or not isinstance(running := call.arguments["running_mean"], Ref):
            continue
        name = running.name.rpartition(".")[0]
        tensors = {leaf: call.arguments[leaf] for leaf in ("weight", "bias", "running_mean", "running_var")}
        expected = {leaf: Ref(f"{name}.{leaf}") for leaf in tensors}
        plain = all(tensor in (expected[leaf], None) for leaf, tensor in tensors.items())
        if plain and (tensors["weight"] is None) == (tensors["bias"] is None) and not call.arguments["training"]:
            norms[name] = call
    return norms
