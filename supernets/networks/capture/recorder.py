"""Records what a forward computes: a graph of torch's operations on tensors without values."""

from __future__ import annotations

import operator
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import get_decompositions
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.utils._python_dispatch import TorchDispatchMode

from supernets.errors import CaptureError
from supernets.networks.capture.diagnosis import depends_on_values

_TORCH = f"{Path(torch.__file__).parent}/"
_LAYERS = f"{_TORCH}nn/"
_OWN = (__file__, str(Path(__file__).with_name("tracing.py")))
"""Files whose calls are none of the module's."""
_NUMBERS = frozenset(
    (torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
)
"""Operations that return a value of a tensor as a number."""
_GRID = torch.ops.aten.affine_grid_generator.default
_COMPOSED = frozenset(
    (
        *("absolute", "adjoint", "arccos", "arcsin", "arcsinh", "arctan", "arctanh", "atleast_1d"),
        *("atleast_2d", "atleast_3d", "chain_matmul", "column_stack", "concatenate", "cosine_similarity"),
        *("diff", "divide", "dstack", "feature_alpha_dropout", "fix", "fliplr", "flipud", "float_power"),
        *("ger", "greater", "greater_equal", "hsplit", "hstack", "inner", "kron", "less", "less_equal"),
        *("linalg_matmul", "linalg_norm", "mH", "multiply", "negative", "not_equal", "outer"),
        *("pairwise_distance", "ravel", "row_stack", "special_erf", "special_expit", "special_log1p"),
        *("special_logsumexp", "special_softmax", "subtract", "tensordot", "vsplit", "vstack"),
    )
)
"""Operations that torch composes of others, which have rules."""


@dataclass(frozen=True)
class Trace:
    """A forward as a graph.

    Attributes:
        graph: Calls of torch's operations in their order; nodes have the tensors that they return, which have no values, as
            ``meta["val"]``, and the place in the code and the module that they were called in as ``meta["place"]`` and
            ``meta["module"]``.
        placeholders: By name of a placeholder, its kind, which is ``tensor``, ``constant`` or ``input``, and the name of the
            module's tensor, the constant itself, or the name of the input.
        results: For each output of the graph, True if the forward returned it.
    """

    graph: fx.Graph
    placeholders: Mapping[str, tuple[str, Any]]
    results: tuple[bool, ...]


def record(module: nn.Module, example: tuple[Tensor, ...], *, with_zeros: bool = False) -> Trace:
    """The operations of a module's forward, which returns a tuple of tensors.

    Parameters, buffers and inputs have no values in it; what is computed of neither of them has.

    Args:
        example: Inputs on the device of the module.
        with_zeros: Compute with the example and with zeros for a module on `meta`, which takes less time for small networks.
            The shapes of results must not depend on values.

    Raises:
        CaptureError: The forward depends on a value of a tensor, or computes in half precision by autocast.
        Exception: whatever the forward or torch raises.
    """
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    device = example[0].device
    has_values = device.type != "meta" and not with_zeros
    recorder = _Recorder(FakeTensorMode(allow_non_fake_inputs=True) if has_values else None, _attributes(module))
    parameters = {name: recorder.placeholder("p", name, "tensor", tensor, device) for name, tensor in state.items()}
    inputs = tuple(recorder.placeholder("inputs", str(i), "input", tensor, device) for i, tensor in enumerate(example))
    with ExitStack() as contexts:
        contexts.enter_context(torch.backends.cudnn.flags(enabled=False))  # an argument of normalisations
        contexts.enter_context(torch.autocast("cpu", enabled=False))  # of the caller
        contexts.enter_context(_exporting())
        contexts.enter_context(_attributes_kept(module))
        if "torch._dynamo" in sys.modules:  # compiled parts run as they are written
            contexts.enter_context(torch.compiler.set_stance("force_eager"))
        contexts.enter_context(recorder.followed(module))
        contexts.enter_context(recorder.fake or nullcontext())
        contexts.enter_context(enable_python_dispatcher())
        contexts.enter_context(recorder)
        try:
            outputs = torch.func.functional_call(module, parameters, inputs, tie_weights=False)
        finally:
            if recorder.error is not None:  # which the forward may have caught
                raise recorder.error
    recorder.graph.output(tuple(recorder.node_of(tensor) for tensor in outputs))
    return Trace(recorder.graph, recorder.placeholders, (True,) * len(outputs))


@contextmanager
def _exporting() -> Iterator[None]:
    """The context in which libraries take the branches that they have for torch.export."""
    flags = "_is_compiling_flag", "_is_exporting_flag"
    values = [getattr(torch.compiler, flag, False) for flag in flags]
    for flag in flags:
        setattr(torch.compiler, flag, True)
    try:
        yield
    finally:
        for flag, value in zip(flags, values, strict=True):
            setattr(torch.compiler, flag, value)


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """The context after which modules have the attributes, and these the items, that they had before.

    A forward that keeps what it computed would keep tensors without values.
    """
    pending: list[Any] = [vars(submodule) for submodule in module.modules()]
    copies: dict[int, tuple[Any, Any]] = {}
    while pending:
        container = pending.pop()
        if type(container) is tuple:
            pending.extend(container)
        elif id(container) not in copies and type(container) in (dict, OrderedDict, list, set):
            copies[id(container)] = container, copy(container)
            pending.extend(container.values() if isinstance(container, dict) else container)
    try:
        yield
    finally:
        for container, before in copies.values():
            container.clear()
            container.extend(before) if isinstance(container, list) else container.update(before)


class _Recorder(ProxyTorchDispatchMode):
    """Is called with each operation before torch takes it apart: the mode that torch.export uses, without its proxies."""

    # What the mode that it stands for does there imports torch's compiler, for seconds.
    __enter__, __exit__ = TorchDispatchMode.__enter__, TorchDispatchMode.__exit__

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __init__(self, fake: FakeTensorMode | None, attributes: Mapping[int, str]) -> None:
        TorchDispatchMode.__init__(self, torch._C.DispatchKey.PreDispatch)
        self._mode_key = torch._C._TorchDispatchModeKey.PROXY
        self.fake, self._attributes = fake, attributes
        self.graph, self.placeholders = fx.Graph(), dict[str, tuple[str, Any]]()
        self._nodes: dict[int, fx.Node] = {}
        """By id of a tensor; `_kept` keeps the tensors, so that ids stay theirs."""
        self._kept: list[Tensor] = []
        self._constants: dict[fx.Node, Tensor] = {}
        """Values of nodes that depend on neither inputs nor the module's tensors."""
        self._created: dict[tuple[Any, ...], tuple[fx.Node, bool, Any]] = {}
        """Nodes of created tensors by their memory, whether they are constants, and that memory.

        Torch returns a copy of a created tensor to which others refer, and records another operation for it.
        """
        self._modules: list[tuple[nn.Module, str]] = []
        """The modules whose forwards run, with their paths, the outermost first."""
        self.error: CaptureError | None = None
        """The first error that was raised in the forward."""

    def placeholder(self, prefix: str, name: str, kind: str, tensor: Tensor, device: torch.device) -> Tensor:
        """Adds a tensor of the module, or an input; returns what stands for it in the forward, on a device."""
        node = self.graph.placeholder(f"{prefix}_{name}".replace(".", "_"))
        self.placeholders[node.name] = kind, name if kind == "tensor" else node.name
        self._add(node, tensor)
        if self.fake is not None:
            tensor = self.fake.from_tensor(tensor)
        elif tensor.is_meta and device.type != "meta":
            tensor = torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
        self._add(node, tensor)
        return tensor

    def node_of(self, tensor: Tensor) -> fx.Node:
        """The node that a tensor is the result of; a new one of a constant."""
        node = self._nodes.get(id(tensor))
        if node is None and (memory := _memory(tensor)) in self._created:
            node, is_constant, _ = self._created.pop(memory)
            self._add(node, tensor, is_constant=is_constant)
        elif node is None and isinstance(tensor, FakeTensor):
            raise RuntimeError(
                "an operation reads a tensor that no recorded operation has returned, as .data does; write .detach() for .data"
            )
        elif node is None:
            node = self.graph.placeholder(self._attributes.get(id(tensor), "constant"))
            with unset_fake_temporarily():  # calls of the forward may change either copy
                value, self._constants[node] = tensor.detach().clone(), tensor.detach().clone()
            self.placeholders[node.name] = "constant", value
            self._add(node, tensor)
        return node

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _GRID:  # which has the size of the batch as a number
            with self:
                return get_decompositions([_GRID])[_GRID](*args, **kwargs)
        if func.namespace == "aten" and func.overloadpacket.__name__.removesuffix("_") in _COMPOSED:
            with self:
                return func.decompose(*args, **kwargs)
        place = _place(sys._getframe(1))
        tensors: list[Tensor] = []
        _mapped((args, kwargs), tensors.append)
        if any(map(torch._C._functorch.is_functorch_wrapped_tensor, tensors)):
            return self._transformed(func, args, kwargs, tensors, place)
        if torch.is_autocast_enabled("cpu"):
            text = (
                f"a part of its forward is in {torch.get_autocast_dtype('cpu')}, by torch.autocast{_at(place)}; captured "
                "networks are in float32: remove it there, or pass enabled=False"
            )
            raise self._noted(CaptureError(text, code="capture.model-unusable"))
        node_args, node_kwargs = _mapped((args, kwargs), self.node_of)
        operation = func.overloadpacket.__name__
        name = self.graph._target_to_str(operation)
        node = self.graph.create_node("call_function", func, node_args, node_kwargs, name=name)
        node.meta.update(place=place, module=self._modules[-1][1] if self._modules else "")
        changed = _changed(func, args, kwargs)
        if is_constant := all(source in self._constants for source in node.all_input_nodes):
            args, kwargs = _mapped((args, kwargs), lambda tensor: self._constants[self._nodes[id(tensor)]])
            with unset_fake_temporarily():
                result = func(*args, **kwargs)
        elif func in _NUMBERS or torch.Tag.data_dependent_output in func.tags:
            raise self._noted(depends_on_values(_at(place)))
        else:
            result = func(*args, **kwargs)
        if isinstance(result, Tensor) and (not node.all_input_nodes or operation.endswith("_like")):
            self._created[_memory(result)] = node, is_constant, result.untyped_storage()
        else:
            self._add(node, result, is_constant=is_constant)
        if isinstance(changed, Tensor) and isinstance(result, Tensor):
            self._nodes[id(changed)] = node
        return result

    def _transformed(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], tensors: list[Tensor], place: str
    ) -> Any:
        """What an operation returns inside torch.vmap, of constants alone: its result outside is a new constant."""
        for tensor in tensors:
            while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
                tensor = torch._C._functorch.get_unwrapped(tensor)
            if self.fake is None or isinstance(tensor, FakeTensor):
                text = f"a part of its forward is called by torch.vmap or torch.func{_at(place)}"
                raise self._noted(CaptureError(f"{text}; use operations on whole tensors there", code="capture.failed"))
        with unset_fake_temporarily():
            return func(*args, **kwargs)

    def _noted(self, error: CaptureError) -> CaptureError:
        self.error = self.error or error
        return self.error

    def _add(self, node: fx.Node, result: Any, *, is_constant: bool = False) -> None:
        """Notes what a node returned."""
        node.meta["val"] = result
        if is_constant:
            self._constants[node] = result
        if isinstance(result, Tensor):
            self._nodes[id(result)] = node
            self._kept.append(result)
        elif isinstance(result, tuple | list):
            for i, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._add(self.graph.call_function(operator.getitem, (node, i)), part, is_constant=is_constant)

    @contextmanager
    def followed(self, module: nn.Module) -> Iterator[None]:
        """The context in which the recorder knows which submodule runs."""
        paths: dict[nn.Module, list[str]] = {}
        for path, submodule in module.named_modules(remove_duplicate=False):
            paths.setdefault(submodule, []).append(path)
        handles = []
        try:
            for submodule, names in paths.items():
                with suppress(RuntimeError):  # of a scripted module, which takes no hooks
                    handles.append(submodule.register_forward_pre_hook(self._entering(names), prepend=True))
                    handles.append(submodule.register_forward_hook(self._leaving()))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, names: list[str]) -> Callable[..., None]:
        """Notes a call of a module, whose names are used one after another, as it is called in one place after another."""
        left = deque(names)

        def enter(module: nn.Module, *_: object) -> None:
            self._modules.append((module, left.popleft() if len(left) > 1 else left[0]))

        return enter

    def _leaving(self) -> Callable[..., None]:
        """Notes that a module has returned; a function, which copies of the module share."""

        def leave(module: nn.Module, *_: object) -> None:
            while self._modules and self._modules.pop()[0] is not module:
                pass  # the forward of a submodule raised, and its caller went on

        return leave


def _attributes(module: nn.Module) -> dict[int, str]:
    """Names for the tensors that are plain attributes of modules, by id."""
    return {
        id(value): f"c_{path}_{key}".replace(".", "_")
        for path, submodule in module.named_modules()
        for key, value in vars(submodule).items()
        if isinstance(value, Tensor)
    }


def _changed(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The argument that an operation changes and returns; None where there is none, or several."""
    parameters = func._schema.arguments
    changed = [p.name for p in parameters if p.alias_info is not None and p.alias_info.is_write]
    values = {**dict(zip((p.name for p in parameters), args, strict=False)), **kwargs}
    return values.get(changed[0]) if len(changed) == 1 else None


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """The memory of a tensor and where it lies there."""
    if tensor.layout is not torch.strided:
        return (id(tensor),)
    place = tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype
    return tensor.untyped_storage()._cdata, *place


def _mapped(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Arguments of an operation with something else in place of tensors."""
    match value:
        case Tensor():
            return function(value)
        case list() | tuple():
            return type(value)(_mapped(part, function) for part in value)
        case dict():
            return {key: _mapped(part, function) for key, part in value.items()}
    return value


def _place(frame: FrameType | None) -> str:
    """``FILE:LINE`` of the innermost call in code that is not torch's; in a layer of torch called by others of torch, there."""
    of_layer = ""
    while frame is not None and frame.f_code is not record.__code__:
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, *_OWN)):
            return f"{file}:{frame.f_lineno}"
        if not of_layer and file.startswith(_LAYERS):
            of_layer = f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return of_layer


def _at(place: str) -> str:
    return f" (at {place})" if place else ""
