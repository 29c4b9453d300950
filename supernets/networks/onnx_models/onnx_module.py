"""The network of an ONNX file as a torch module, which runs its nodes one after the other by torch's functions."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from supernets.errors import CaptureError
from supernets.networks.capture.module_call import tensors_of
from supernets.networks.onnx_models.onnx_file import Graph, Input
from supernets.networks.onnx_models.preparation import PreparedGraph, compute
from supernets.networks.onnx_models.registry import OPERATORS, Node, OperatorCall, Value, compute_known


class _Scope(nn.Module):
    """A module of the network that the file was written of: its parameters, and a call that runs a node in its name."""

    def forward(self, call: OperatorCall) -> Any:
        function = OPERATORS[call.node.domain, call.node.op]
        if call.is_known:
            return compute(call, partial(compute_known, function))
        return compute(call, function)


class OnnxModule(nn.Module):
    """The network of a file.

    Args:
        main: The input that examples are passed as.
        others: Further inputs of token ids: their values are ones (a mask of no padding) or zeros.
        fixed_batch: Number of examples that the file is of; None if any number is possible.
        is_channels_last: True if the file's images are (n, height, width, channels); the module's are channels first.
    """

    def __init__(
        self,
        prepared: PreparedGraph,
        *,
        main: Input,
        mask: str | None = None,
        zeros: tuple[str, ...] = (),
        fixed_batch: int | None = None,
        is_channels_last: bool = False,
    ) -> None:
        super().__init__()
        self._graph, self._constants = prepared.graph, prepared.constants
        self._main, self._mask, self._zeros = main, mask, zeros
        self._fixed_batch, self._is_channels_last = fixed_batch, is_channels_last
        self._paths: dict[str, tuple[str, str]] = {}
        paths = [path for tensors in (prepared.parameters, prepared.buffers) for path, _ in tensors.values()]
        for path in (*(node.path for node in prepared.graph.nodes), *(path.rpartition(".")[0] for path in paths)):
            self._scope(path)
        for tensors, is_trained in ((prepared.parameters, True), (prepared.buffers, False)):
            for name, (path, array) in tensors.items():
                scope_path, _, attribute = path.rpartition(".")
                scope, tensor = self._scope(scope_path), torch.from_numpy(array.astype(np.float32))
                while attribute in {*scope._modules, *scope._parameters, *scope._buffers}:
                    attribute += "_"
                if is_trained:
                    scope.register_parameter(attribute, nn.Parameter(tensor))
                else:
                    scope.register_buffer(attribute, tensor)
                self._paths[name] = (scope_path, attribute)

    def _scope(self, path: str) -> nn.Module:
        """The module of a path, which is made where it is missing."""
        scope: nn.Module = self
        for part in path.split(".") if path else ():
            if part not in scope._modules:
                scope.add_module(part, _Scope())
            scope = scope._modules[part]  # type: ignore[assignment]
        return scope

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Any:
        values = self.values(x, attention_mask)
        tensors = [values[name] for name in self._graph.outputs if isinstance(values[name], Tensor)]
        return tensors[0] if len(tensors) == 1 else tuple(tensors)

    @property
    def nodes(self) -> list[Node]:
        """The nodes in the order in which they run."""
        return self._graph.nodes

    def parameter_of(self, name: str) -> Tensor | None:
        """The parameter of a value of the file; None if it is none."""
        if name not in self._paths:
            return None
        path, attribute = self._paths[name]
        return cast(Tensor, getattr(self.get_submodule(path), attribute))

    def file_inputs(self, x: Tensor, attention_mask: Tensor | None = None) -> list[Tensor]:
        """The inputs of the file: the main one, the mask, and zeros.

        Raises:
            CaptureError: the input has other sizes than the file is fixed at.
        """
        inputs = [x.movedim(1, -1) if self._is_channels_last else x]
        sizes, expected = inputs[0].shape, self._main.shape
        if expected is not None and (
            len(sizes) != len(expected) or any(b not in (None, a) for a, b in zip(sizes[1:], expected[1:], strict=True))
        ):
            texts = [" x ".join("?" if n is None else str(n) for n in shape[1:]) for shape in (expected, tuple(sizes))]
            raise CaptureError(
                f"the file takes inputs of {texts[0]}, and got {texts[1]}; give it inputs of that size, or export it with "
                "dynamic ones",
                code="capture.example",
            )
        if self._mask is not None:
            inputs.append(torch.ones_like(x) if attention_mask is None else attention_mask)
        return inputs + [torch.zeros_like(x) for _ in self._zeros]

    def file_outputs(self, x: Tensor, attention_mask: Tensor | None = None) -> list[Tensor]:
        """The outputs of real numbers, in the order of the file."""
        return list(tensors_of(self(x, attention_mask)))

    def values(self, x: Tensor, attention_mask: Tensor | None = None) -> dict[str, Value]:
        """All values of the graph, by name."""
        values: dict[str, Value] = dict(self._constants)
        values.update(
            (name, getattr(self.get_submodule(path), attribute)) for name, (path, attribute) in self._paths.items()
        )
        names = (self._main.name, *([self._mask] if self._mask else []), *self._zeros)
        values.update(zip(names, self.file_inputs(x, attention_mask), strict=True))
        self._run(self._graph, values, len(x))
        return values

    def _run(self, graph: Graph, values: dict[str, Value], batch: int) -> None:
        for node in graph.nodes:
            if node.op == "If":
                results = self._branch(node, values, batch)
            else:
                scope = self.get_submodule(node.path) if node.path else self
                inputs = [self._value(name, node, values) for name in node.inputs]
                call = OperatorCall(node, inputs, batch=batch, fixed_batch=self._fixed_batch)
                results = scope(call) if isinstance(scope, _Scope) else _Scope.forward(scope, call)  # type: ignore[arg-type]
            results = results if isinstance(results, tuple | list) else (results,)
            values.update((name, result) for name, result in zip(node.outputs, results, strict=False) if name)

    def _branch(self, node: Node, values: dict[str, Value], batch: int) -> list[Value]:
        """The results of the branch that a known condition selects."""
        call = OperatorCall(node, [self._value(name, node, values) for name in node.inputs])
        branch = call.attribute("then_branch" if bool(call.known(0).reshape(())) else "else_branch")
        if not isinstance(branch, Graph):
            raise CaptureError(f"{node.title} lacks a branch", code="capture.onnx-malformed")
        inner = values | branch.constants
        self._run(branch, inner, batch)
        return [self._value(name, node, inner) for name in branch.outputs]  # type: ignore[misc]

    def _value(self, name: str, node: Node, values: dict[str, Value]) -> Value | None:
        if not name:
            return None
        if name not in values:
            raise CaptureError(
                f"{node.title} reads {name[:100]}, which no node before it makes", code="capture.onnx-malformed"
            )
        return values[name]
