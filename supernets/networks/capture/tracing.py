"""Captures a module's forward as a `Program`: recorded, with constants folded and in-place calls replaced."""

from __future__ import annotations

import gc
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from threading import RLock
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.fx.node import map_arg

from supernets.errors import CaptureError
from supernets.networks.capture.batch_independence import repeated_for_batches, without_row_numbers
from supernets.networks.capture.diagnosis import check_module, reason
from supernets.networks.capture.module_call import evaluating, quiet, tensors_of, using_onednn
from supernets.networks.capture.program import Argument, Call, Program, Ref, ValueSpec, needed_calls
from supernets.networks.capture.recorder import Trace, record
from supernets.networks.capture.traced_graph import (
    MutatedViewError,
    changes_others,
    operation_out_of_place,
    remove_whole_slices,
    trace_without_mutations,
)
from supernets.networks.live_subnets import tensors_in
from supernets.networks.own_operations import recording

ModuleCall = Callable[..., Any]
"""Calls a module, its first argument, with inputs."""
_CAPTURES = RLock()
"""Held by a capture: torch keeps in globals that it is traced, and fails where two threads export at once."""
_MODULE = "model"
"""The attribute of `_Flat` that holds the user's module; a prefix of all names in the trace."""
_OF_FILES = "/supernets/networks/onnx_models/"
_OPERATOR = re.compile(r"aten\.__(and|or|xor)__\.")
"""Python's operators, which have the arguments of the functions."""
_RANDOM = frozenset(
    ("rand", "randn", "rand_like", "randn_like", "randint", "bernoulli", "multinomial", "normal", "randperm")
)
_IDENTITY = frozenset(("dropout", "feature_dropout", "alpha_dropout", "detach", "lift_fresh_copy", "alias", "lift"))
"""Operations that return their first argument in evaluation mode."""
_CREATED = frozenset(("new_zeros", "new_ones", "new_full"))
"""Operations that read only the type of a value."""


@dataclass(frozen=True)
class Captured:
    """A program with the tensors of the module that it was captured from, by name; constants included."""

    program: Program
    tensors: Mapping[str, Tensor] = field(repr=False)


class _Flat(nn.Module):
    """The user's module with its outputs as a tuple of tensors.

    Args:
        decided: True if an output may be what a network decides, a class for each pixel, which has no gradient.
    """

    def __init__(self, model: nn.Module, call: ModuleCall | None, *, decided: bool = False) -> None:
        super().__init__()
        self.model, self.call, self.decided = model, call, decided

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        with using_onednn():
            outputs = self.model(*inputs) if self.call is None else self.call(self.model, *inputs)
        if self.decided and isinstance(outputs, Tensor) and outputs.dtype == torch.uint8:
            return (outputs,)
        if not (tensors := tuple(tensors_of(outputs))):
            kind = f"a tensor of {outputs.dtype}" if isinstance(outputs, Tensor) else type(outputs).__name__
            raise CaptureError(
                f"its forward returns {kind}; expected a tensor of floating-point numbers, or a list, tuple, "
                "mapping or dataclass with some",
                code="capture.outputs",
            )
        return tensors


def capture(module: nn.Module, inputs: Sequence[Tensor], *, call: ModuleCall | None = None) -> Captured:
    """The module's forward in evaluation mode as data; the module keeps its mode.

    Args:
        inputs: an example with a batch of at least 2 (the first dimension of each), on the CPU.
        call: Function of the module and the inputs that is captured in place of the module's forward.

    Raises:
        CaptureError: the forward depends on values of its data, or has operations that cannot be captured; the message
            names the place.
    """
    batches = {len(tensor) for tensor in inputs if tensor.ndim}
    if len(batches) != 1 or min(batches) < 2:
        raise CaptureError(
            f"expected inputs of one batch size of at least 2, got the shapes {[tuple(t.shape) for t in inputs]}",
            code="capture.example",
        )
    check_module(module, inputs, is_called=call is None)
    with _CAPTURES, evaluating(module), torch.no_grad():
        return Captured(*repeated_for_batches(*_read(_Flat(module, call).eval(), tuple(inputs))))


def capture_declared(
    module: nn.Module,
    inputs: Sequence[Tensor],
    input_dims: Sequence[tuple[str, ...]],
    *,
    with_zeros: bool = False,
) -> Captured:
    """The forward of a family's network as data, with each own operation as one call; the module keeps its mode.

    Args:
        module: on any device, `meta` included, which holds no values.
        inputs: on the same device.
        input_dims: Names of each input's dimensions, as in `Program.input_dims`.
        with_zeros: compute with inputs on the CPU, and zeros for a module on `meta`, see `recorder.record`.

    Raises:
        CaptureError: as of `capture`.
    """
    with _CAPTURES, evaluating(module), torch.no_grad(), recording():
        program, tensors = _read(
            _Flat(module, None, decided=True).eval(), tuple(inputs), stateless=True, with_zeros=with_zeros
        )
    return Captured(replace(program, input_dims=tuple(input_dims)), tensors)


def _read(
    flat: _Flat, example: tuple[Tensor, ...], *, stateless: bool = False, with_zeros: bool = False
) -> tuple[Program, dict[str, Tensor]]:
    """The program of a forward, and its tensors by name.

    Args:
        stateless: reject a forward that changes tensors of the module and reads them then.
        with_zeros: as for `recorder.record`.
    """
    reader = _Reader(flat, _recorded(flat, example, with_zeros), example)
    try:
        program, tensors = reader.read()
    except MutatedViewError:
        # Several times the time: only for forwards that change a part of a tensor in place.
        reader = _Reader(flat, trace_without_mutations(_exported(flat, example)), example)
        program, tensors = reader.read()
    changes = [reader.changes[name] for call in program.calls for name in call.outputs if name in reader.changes]
    if changes and stateless:
        raise CaptureError(
            f"the forward changes {changes[0]}, a tensor of the network itself, and reads it then; compute a new tensor",
            code="capture.in-place",
        )
    return program, tensors


def _recorded(flat: _Flat, example: tuple[Tensor, ...], with_zeros: bool) -> Trace:
    """The forward's operations, without slices of all of a tensor."""
    try:
        with quiet(), _without_collection():
            trace = record(flat, example, with_zeros=with_zeros)
    except CaptureError:
        raise
    except Exception as error:  # what the user's forward raises, too
        raise reason(error, flat, example) from error
    remove_whole_slices(trace.graph)
    return trace


def _exported(flat: _Flat, example: tuple[Tensor, ...]) -> ExportedProgram:
    """The forward as torch.export traces it."""
    try:
        with quiet(), _without_collection():
            return torch.export.export(flat, example, strict=False)
    except Exception as error:
        raise reason(error, flat, example) from error


@contextmanager
def _without_collection() -> Iterator[None]:
    """Delays the garbage collector: the first trace imports so many modules that collections take longer than these."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Reader:
    """Turns a traced graph into a program."""

    def __init__(self, flat: _Flat, trace: Trace, example: tuple[Tensor, ...]) -> None:
        self._graph, self._names, self._results = trace.graph, trace.placeholders, trace.results
        self._state = tensors_in(flat.model)
        self._canonical = _canonical_names(self._state)
        self._trainable = {name for name, _ in flat.model.named_parameters()}
        self._batch = len(example[0])
        network_names = {name.partition(".")[0] for name in self._state}
        self._constants_at = next(
            candidate for n in count() if (candidate := "constants" + "_" * n) not in network_names
        )
        self._tensors: dict[str, Tensor] = {}
        self._values: dict[str, ValueSpec] = {}
        self._calls: list[Call] = []
        self._inputs: list[str] = []
        self._value_by_node: dict[fx.Node, str] = {}
        """The value that a node stands for now: an in-place call gives its argument a new one."""
        self.changes: dict[str, str] = {}
        """By value that a call writes into a tensor of the network, that tensor."""
        self._constants: dict[fx.Node, Any] = {}
        """Values of nodes that depend on neither inputs nor parameters."""

    def read(self) -> tuple[Program, dict[str, Tensor]]:
        """The whole graph."""
        outputs: list[str] = []
        for node in self._graph.nodes:
            match node.op:
                case "placeholder":
                    self._placeholder(node)
                case "call_function":
                    self._call(node)
                case "output":
                    results = node.args[0] if isinstance(node.args[0], list | tuple) else [node.args[0]]
                    returned_results = [
                        result for result, returned in zip(results, self._results, strict=True) if returned
                    ]
                    outputs = [cast(Ref, self._argument(result)).name for result in returned_results]
        program = Program(
            inputs=tuple(self._inputs),
            tensors=tuple(self._tensors),
            trainable=frozenset(self._trainable & set(self._tensors)),
            values=self._values,
            calls=needed_calls(self._calls, outputs),
            outputs=tuple(outputs),
            batch=self._batch,
            aliases={name: canonical for name, canonical in self._canonical.items() if name != canonical},
        )
        program = _without_unread(without_row_numbers(program, self._tensors))
        return program, {name: self._tensors[name].detach() for name in program.tensors}

    def _placeholder(self, node: fx.Node) -> None:
        kind, content = self._names[node.name]
        if kind == "constant":
            self._constants[node] = content
        elif kind == "tensor":
            name = self._canonical[content.removeprefix(f"{_MODULE}.")]
            self._add_tensor(name, self._state[name])
            self._value_by_node[node] = name
        else:
            self._value_by_node[node] = f"%{node.name}"
            self._inputs.append(self._value_by_node[node])
            self._values[self._value_by_node[node]] = ValueSpec.of(node.meta["val"])

    def _add_tensor(self, name: str, tensor: Tensor) -> None:
        self._tensors[name] = tensor
        self._values[name] = ValueSpec.of(tensor)

    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            self._item(node)
            return
        target = cast(Any, node.target)
        if not isinstance(target, torch._ops.OpOverload):
            if all(arg in self._constants for arg in node.all_input_nodes):
                self._constants[node] = target(*self._real(node.args), **self._real(node.kwargs))
                return
            text = f"{getattr(target, '__name__', target)} computes a shape from data, or is no operation of tensors{_at(node)}"
            raise CaptureError(f"{text}; use operations on whole tensors there", code="capture.data-dependent")
        name = target.name().split("::")[-1].split(".")[0]
        if name in _RANDOM and not (target._schema.arguments and name.endswith("_like")):
            raise CaptureError(f"{name} draws random numbers in evaluation mode{_at(node)}", code="capture.random")
        if name in _CREATED:
            self._constants[node] = _created_tensor(name, node)
            return
        if all(arg in self._constants for arg in node.all_input_nodes):
            self._constants[node] = target(*self._real(node.args), **self._real(node.kwargs))
            return
        if name.removesuffix("_") in _IDENTITY:
            if "dropout" in name and node.args[2]:
                raise CaptureError(
                    f"{name} drops units in evaluation mode, too{_at(node)}; pass training=self.training",
                    code="capture.random",
                )
            self._value_by_node[node] = self._value_by_node[cast(fx.Node, node.args[0])]
            return
        out_of_place = operation_out_of_place(target, _at(node))
        arguments = self._arguments(out_of_place, node)
        value = node.meta.get("val")
        results = value if isinstance(value, list | tuple) else [value]
        names = []
        for index, result in enumerate(results):
            value_name = f"%{node.name}" + (f".{index}" if isinstance(value, list | tuple) else "")
            names.append(value_name if isinstance(result, Tensor) else "")
            if isinstance(result, Tensor):
                self._values[value_name] = self._spec_of(result, node)
        self._value_by_node[node] = names[0] if not isinstance(value, list | tuple) else f"%{node.name}"
        op = _OPERATOR.sub(r"aten.bitwise_\1.", str(out_of_place))
        if op == "aten.to.device":  # a program runs on the device of its tensors
            op, arguments = "aten.to.dtype", {key: argument for key, argument in arguments.items() if key != "device"}
        elif op in ("aten.view.default", "aten._unsafe_view.default"):  # strides may differ from the trace's
            op, arguments = "aten.reshape.default", {"self": arguments["self"], "shape": arguments["size"]}
        elif op == "aten.squeeze.default":  # a batch of one example stays a batch
            shape = cast(fx.Node, node.args[0]).meta["val"].shape
            op, arguments = "aten.squeeze.dims", {**arguments, "dim": tuple(i for i, n in enumerate(shape) if n == 1)}
        elif op == "aten._native_batch_norm_legit_no_training.default":  # where changes in place are replaced
            op, names = "aten.batch_norm.default", names[:1]
            arguments = {**arguments, "training": False, "cudnn_enabled": False}
        elif (
            op == "aten.copy.default"
            and len({ValueSpec.of(cast(fx.Node, operand).meta["val"]) for operand in node.args[:2]}) == 1
        ):
            op, arguments = "aten.clone.default", {"self": arguments["src"], "memory_format": None}  # it has a gradient
        self._calls.append(Call(op, arguments, tuple(names), _module(node), _short_place(_place(node))))
        if out_of_place is not target:
            if node.args[0] in self._constants or changes_others(node):
                raise MutatedViewError(
                    f"{name} changes a part of a tensor in place{_at(node)}", code="capture.in-place"
                )
            self._overwrite(cast(fx.Node, node.args[0]), self._value_by_node[node])

    def _spec_of(self, value: Tensor, node: fx.Node) -> ValueSpec:
        if any(isinstance(size, torch.SymInt) for size in value.shape):
            raise CaptureError(
                f"the size of a result depends on the values of the input{_at(node)}; a captured network has the same shapes "
                "for every input: use a mask or torch.where there",
                code="capture.data-dependent",
            )
        return ValueSpec.of(value)

    def _item(self, node: fx.Node) -> None:
        source, index = cast(fx.Node, node.args[0]), node.args[1]
        if source in self._constants:
            self._constants[node] = self._constants[source][index]
        else:
            self._value_by_node[node] = f"{self._value_by_node[source]}.{index}"

    def _overwrite(self, node: fx.Node, name: str) -> None:
        """Gives every node that stands for the same value the new one."""
        if node not in self._value_by_node:
            return
        old = self._value_by_node[node]
        if old in self._state:
            self.changes[name] = old
        for reader, value_name in self._value_by_node.items():
            if value_name == old:
                self._value_by_node[reader] = name

    def _arguments(self, target: Any, node: fx.Node) -> dict[str, Argument]:
        schema = target._schema.arguments
        values = dict(zip((argument.name for argument in schema), node.args, strict=False)) | dict(node.kwargs)
        return {
            argument.name: self._argument(
                values.get(argument.name, argument.default_value if argument.has_default_value() else None)
            )
            for argument in schema
        }

    def _argument(self, value: object) -> Argument:
        match value:
            case fx.Node() if value in self._constants:
                return self._constant(value)
            case fx.Node():
                if isinstance(value.meta.get("val"), torch.SymFloat | torch.SymInt | torch.SymBool):
                    raise CaptureError(
                        f"a number is read from a tensor, as item() or float() does{_at(value)}; leave it a tensor",
                        code="capture.data-dependent",
                    )
                return Ref(self._value_by_node[value])
            case None | bool() | int() | float():
                return value
            case torch.dtype():
                return f"dtype:{str(value).removeprefix('torch.')}"
            case torch.layout() | torch.memory_format() | torch.device():
                return None
            case str():
                return value
            case list() | tuple():
                return tuple(self._argument(part) for part in value)
        raise CaptureError(f"an argument of the type {type(value).__name__} cannot be captured", code="capture.failed")

    def _constant(self, node: fx.Node) -> Argument:
        value = self._constants[node]
        if not isinstance(value, Tensor):
            return cast(Argument, value)
        name = f"{self._constants_at}.of_{node.name}"  # a name like "to" would be that of a module's method
        if name not in self._tensors:
            self._add_tensor(name, value.detach().clone().contiguous())
        return Ref(name)

    def _real(self, value: Any) -> Any:
        return map_arg(value, lambda node: self._constants[node])


def _created_tensor(name: str, node: fx.Node) -> Tensor:
    """The tensor that a call creates from sizes alone."""
    value = node.meta["val"]
    fill = node.args[2] if name == "new_full" else float(name == "new_ones")
    return torch.full(tuple(map(int, value.shape)), cast(float, fill), dtype=value.dtype)


def _canonical_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """The first name of the same tensor, by name in the state."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}


def _without_unread(program: Program) -> Program:
    """The program without values that no call has."""
    used_names = {*program.inputs, *program.outputs}
    for call in program.calls:
        used_names.update(call.reads(), (name for name in call.outputs if name))
    tensors = tuple(name for name in program.tensors if name in used_names)
    return replace(
        program,
        tensors=tensors,
        trainable=program.trainable & set(tensors),
        values={name: spec for name, spec in program.values.items() if name in used_names},
        aliases={alias: name for alias, name in program.aliases.items() if name in tensors},
    )


def _module(node: fx.Node) -> str:
    return str(node.meta["module"]).removeprefix(_MODULE).removeprefix(".")


def _place(node: fx.Node) -> str:
    place = str(node.meta.get("place", ""))
    return "" if _OF_FILES in place else place  # of a file without code: the module is the place


def _short_place(place: str) -> str:
    """A place with the last folder and the file alone: a captured network may be handed on."""
    return "/".join(place.rsplit("/", 2)[-2:])


def _at(node: fx.Node) -> str:
    place = _place(node)
    return f" (at {place})" if place else ""
