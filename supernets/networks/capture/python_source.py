"""Writes a captured network as Python: a module of torch's layers and calls, which needs torch alone."""

from __future__ import annotations

import json
import keyword
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import nn

from supernets.errors import CaptureError
from supernets.networks.capture.program import BATCH, Argument, Call, Program, Ref, Size
from supernets.networks.operations import operation, registered
from supernets.networks.own_operations import NAMESPACE
from supernets.space.axes import Concat, Dim, axes_in

CLASS = "Network"
_PART = '''class Part(nn.Module):
    """Holds layers and tensors by name."""

    def __getitem__(self, name: int | str) -> Any:
        return next(own[str(name)] for own in (self._modules, self._parameters, self._buffers) if str(name) in own)


def put(part: nn.Module, path: str, value: nn.Module | Tensor) -> None:
    """Places a layer, a parameter or a buffer at a path, such as ``blocks.0.norm``; it may have the name of a method."""
    *outer, name = path.split(".")
    for own in outer:
        part = part._modules.setdefault(own, Part())
    kinds = (part._modules, nn.Module), (part._parameters, nn.Parameter), (part._buffers, Tensor)
    next(own for own, kind in kinds if isinstance(value, kind))[name] = value
'''
_NETWORK = '''class {name}(Part):
    """{about}"""

    def __init__(self) -> None:
        super().__init__()
{parts}

    def forward(self, {inputs}) -> {returned}:
{lines}
        return {outputs}
'''
_ATTRIBUTES = nn.Module()
"""Its attributes hide modules of the same names; a name that begins with two underscores is another one in a class."""
_NUMBERED = re.compile(r"(.*_)?\d+")
_RESERVED = frozenset(("self", "n", "x", "torch", "nn", "F", "Any", "Tensor", "len", "slice"))


def source_of(program: Program, *, about: str) -> str:
    """The text of two classes, `Part` and `Network`; it expects ``torch``, ``nn``, ``F``, ``Any`` and ``Tensor``.

    The state of the network has the names of the program's tensors.

    Args:
        program: specialised, so that sizes depend on the batch alone.
        about: one line on the network.
    """
    layers = _calls_by_layer(program)
    runs = {id(call): layer.path for layer, calls in layers.items() for call in calls}
    owned = {name for layer in layers for name in layer.tensors}
    parts = [f"put(self, {quoted(layer.path)}, {layer.constructor})" for layer in layers]
    for name in program.tensors:
        if name not in owned:
            spec = program.values[name]
            kind = "" if spec.dtype == "float32" else f", dtype=torch.{spec.dtype}"
            zeros = f"torch.zeros({spec.shape}{kind})"
            parts.append(
                f"put(self, {quoted(name)}, {f'nn.Parameter({zeros})' if name in program.trainable else zeros})"
            )
    names = _variables(program)
    lines, layer_before = [], ""
    if any(BATCH in axes_in(dim) for call in program.calls for dim in call.sizes()):
        lines.append(f"n = len({names[program.inputs[0]]})")
    for call in program.calls:
        part = _part(call.module)
        if part != layer_before and part:
            lines.append(f"# {part}")
        layer_before = part
        texts = {name: _text(argument, names) for name, argument in call.arguments.items()}
        path = runs.get(id(call))
        value = (
            f"{access(path)}({texts['indices' if call.name == 'embedding' else 'input']})"
            if path
            else _call_text(call, texts)
        )
        targets = [names.get(name, "_") for name in call.outputs]
        lines.append(f"{', '.join(targets)} = {value}{'[0]' if len(targets) == 1 and _returns_several(call) else ''}")
    outputs = [names[name] for name in program.outputs]
    return (
        _PART
        + "\n\n"
        + _NETWORK.format(
            name=CLASS,
            about=about,
            parts=_indented(parts),
            lines=_indented(lines),
            outputs=", ".join(outputs),
            inputs=", ".join(f"{names[name]}: Tensor" for name in program.inputs),
            returned="Tensor" if len(outputs) == 1 else "tuple[Tensor, ...]",
        )
    )


def _part(module: str) -> str:
    """A module's path up to the first part that is numbered, as layers in lists are."""
    parts = module.split(".")
    last = next((i for i, part in enumerate(parts) if _NUMBERED.fullmatch(part)), 0)
    return ".".join(parts[: last + 1])


def access(path: str) -> str:
    """The expression for a layer or tensor in a method of the network."""
    expression = "self"
    for part in path.split("."):
        plain = part.isidentifier() and part.isascii() and not keyword.iskeyword(part)
        plain = plain and not part.startswith("__") and not hasattr(_ATTRIBUTES, part)
        expression += (
            f".{part}" if plain else f"[{part}]" if part.isdecimal() and str(int(part)) == part else f"[{quoted(part)}]"
        )
    return expression


def quoted(text: str) -> str:
    """A text as Python, in double quotes."""
    return json.dumps(text)


def _indented(lines: list[str]) -> str:
    return "\n".join(f"        {line}" for line in lines) or "        pass"


def _variables(program: Program) -> dict[str, str]:
    """The expression of each value: ``x`` for what the next call alone reads, else a name after its operation."""
    consumers = program.consumers()
    outputs = set(program.outputs)
    names: dict[str, str] = {name: access(name) for name in program.tensors}
    used = set(_RESERVED)

    def assign_name(value: str, wanted: str) -> None:
        plain = "".join(letter if letter.isalnum() else "_" for letter in wanted).strip("_") or "value"
        plain = f"_{plain}" if plain[0].isdigit() or keyword.iskeyword(plain) else plain
        names[value] = next(candidate for i in count() if (candidate := f"{plain}_{i}" if i else plain) not in used)
        used.add(names[value])

    for i, name in enumerate(program.inputs):
        if consumers.get(name) == [0] and len(program.inputs) == 1:
            names[name] = "x"
        else:
            assign_name(name, f"inputs_{i}" if len(program.inputs) > 1 else "inputs")
    for index, call in enumerate(program.calls):
        for name in filter(None, call.outputs):
            if len(call.outputs) == 1 and name not in outputs and consumers.get(name) == [index + 1]:
                names[name] = "x"
            else:
                assign_name(name, name)
    return names


def _text(argument: Argument, names: Mapping[str, str]) -> str:
    """An argument as Python."""
    match argument:
        case Ref(name):
            return names[name]
        case Size(dim):
            return _size(dim)
        case tuple():
            return f"[{', '.join(_text(part, names) for part in argument)}]"
        case float() if argument != argument or argument in (float("inf"), float("-inf")):
            return f'float("{argument}")'
        case str() if argument.startswith("dtype:"):
            return f"torch.{argument.removeprefix('dtype:')}"
    return quoted(argument) if isinstance(argument, str) else repr(argument)


def _size(dim: Dim) -> str:
    """A size that depends on the batch, ``n``."""
    if isinstance(dim, int):
        return str(dim)
    if isinstance(dim, str):
        if dim != BATCH:
            raise CaptureError(f"the size {dim} is not fixed", code="capture.failed")
        return "n"
    if isinstance(dim, Concat):
        return f"({' + '.join(map(_size, dim.parts))})"
    if not isinstance(dim, tuple):
        raise CaptureError(f"the size {dim} is not fixed", code="capture.failed")
    factors = [_size(part) for part in dim if part != 1]
    return " * ".join(factors) or "1"


_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_METHODS = frozenset(("split", "unflatten"))
"""Methods that are written in Python, with the arguments of their operations."""
_FUNCTIONS = frozenset(
    (
        "hardswish",
        "hardsigmoid",
        "hardtanh",
        "silu",
        "gelu",
        "mish",
        "relu6",
        "leaky_relu",
        "glu",
        "avg_pool2d",
        "max_pool2d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "avg_pool1d",
        "pad",
        "linear",
        "scaled_dot_product_attention",
    )
)
"""Functions of `torch.nn.functional` with the arguments of their operations, in their order."""
_END = 2**62
"""The end of a slice that has none."""


def _call_text(call: Call, texts: Mapping[str, str]) -> str:
    """The expression of a call.

    Args:
        texts: Texts of its arguments, by name.
    """
    argument_names = list(texts)
    if (
        call.name in _SIGNS
        and len(argument_names) > 1
        and texts.get("alpha", "1") == "1"
        and "rounding_mode" not in texts
    ):
        return f"{texts[argument_names[0]]} {_SIGNS[call.name]} {texts[argument_names[1]]}"
    if call.op == "aten.index.Tensor":
        indices: Any = call.arguments["indices"]
        shown = texts["indices"][1:-1].split(", ")
        return f"{texts['self']}[{', '.join(':' if i is None else s for i, s in zip(indices, shown, strict=True))}]"
    if call.op == "aten.slice.Tensor" and isinstance(slice_text := _slice(call, texts), str):
        return slice_text
    if call.op.startswith(f"{NAMESPACE}."):
        raise CaptureError(
            f"the operation {call.name} is this project's own, and torch alone has none such; export the network as ONNX",
            code="capture.unknown-operation",
        )
    schema = operation(call)._schema
    method = getattr(torch.Tensor, call.name, None)
    if argument_names[0] == "self" and (isinstance(method, types.MethodDescriptorType) or call.name in _METHODS):
        return f"{texts['self']}.{call.name}({_argument_list(schema, texts, skip=1)})"
    if call.name in _FUNCTIONS:
        return f"F.{call.name}({_argument_list(schema, texts, names=False)})"
    if isinstance(getattr(torch, call.name, None), types.BuiltinFunctionType):
        return f"torch.{call.name}({_argument_list(schema, texts)})"
    return f"torch.ops.{call.op}({_argument_list(schema, texts)})"


def _returns_several(call: Call) -> bool:
    """Returns whether the operation returns a tuple or a list."""
    returns = registered(call)._schema.returns
    return len(returns) > 1 or isinstance(returns[0].type, torch.ListType)


def _slice(call: Call, texts: Mapping[str, str]) -> str | None:
    """An expression with brackets; None where the dimension is counted from the end."""
    dim, end = call.arguments["dim"], call.arguments.get("end")
    if not isinstance(dim, int) or dim < 0:
        return None
    start = "" if texts.get("start") in (None, "None", "0") else texts["start"]
    stop = "" if end is None or (isinstance(end, int) and end >= _END) else texts["end"]
    step = "" if texts.get("step", "1") == "1" else f":{texts['step']}"
    return f"{texts['self']}[{':, ' * dim}{start}:{stop}{step}]"


def _argument_list(schema: Any, texts: Mapping[str, str], *, skip: int = 0, names: bool = True) -> str:
    """The arguments without those at their defaults.

    Args:
        names: True if arguments after one that is left out may be given by name; else none before them is left out.
    """
    arguments = [(argument, texts[argument.name]) for argument in schema.arguments if argument.name in texts][skip:]
    needed = [not argument.has_default_value() or repr(argument.default_value) != text for argument, text in arguments]
    last = max((i for i, need in enumerate(needed) if need and not arguments[i][0].kwarg_only), default=-1)
    parts, positional = [], True
    for i, (argument, text) in enumerate(arguments):
        if argument.kwarg_only:
            if needed[i]:
                parts.append(f"{argument.name}={text}")
        elif needed[i] or (not names and i <= last):
            parts.append(text if positional else f"{argument.name}={text}")
        else:
            positional = False
    return ", ".join(parts)


@dataclass(frozen=True)
class _Layer:
    """A layer of `torch.nn`.

    Attributes:
        path: its place in the network.
        constructor: the expression that makes it.
        tensors: Tensors of its state, by their names in the program.
    """

    path: str
    constructor: str
    tensors: tuple[str, ...]


def _calls_by_layer(program: Program) -> dict[_Layer, list[Call]]:
    """The layers with the calls that run them: calls whose tensors are all of one module, and read by calls like it alone."""
    readers = program.consumers()
    children: dict[str, set[str]] = {}
    for name in program.tensors:
        parts = name.split(".")
        for i in range(len(parts)):
            children.setdefault(".".join(parts[:i]), set()).add(name)
    calls_by_layer: dict[_Layer, list[Call]] = {}
    for call in program.calls:
        layer = _layer(call, program)
        if layer is not None and layer not in calls_by_layer:
            calls = [program.calls[i] for i in dict.fromkeys(i for name in layer.tensors for i in readers[name])]
            if children[layer.path] == set(layer.tensors) and all(_layer(c, program) == layer for c in calls):
                calls_by_layer[layer] = calls
    return calls_by_layer


def _layer(call: Call, program: Program) -> _Layer | None:
    """The layer that a call runs, if its tensors are those of one."""
    weight = call.arguments.get("weight")
    if call.name not in _LAYERS or not isinstance(weight, Ref) or weight.name not in program.trainable:
        return None
    path = weight.name.rpartition(".")[0]
    arguments = ((key, call.arguments.get(key)) for key in ("weight", "bias", "running_mean", "running_var"))
    tensors = {f"{path}.{key}": argument.name for key, argument in arguments if isinstance(argument, Ref)}
    if any(expected != name or name not in program.tensors for expected, name in tensors.items()):
        return None
    constructor = _LAYERS[call.name](call, program)
    return None if constructor is None else _Layer(path, constructor, tuple(tensors))


def _constructor(kind: str, *sizes: object, **options: tuple[object, object]) -> str:
    """A constructor's call; each option has its value and torch's default."""
    keywords = [f"{key}={value!r}" for key, (value, default) in options.items() if value != default]
    return f"nn.{kind}({', '.join([*map(repr, sizes), *keywords])})"


def _shape(call: Call, program: Program, key: str) -> tuple[int, ...]:
    argument = call.arguments[key]
    return program.values[argument.name].shape if isinstance(argument, Ref) else ()


def _single_if_equal(value: Any) -> Any:
    """One number for equal ones."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _convolution(call: Call, program: Program) -> str | None:
    weight, arguments = _shape(call, program, "weight"), call.arguments
    n = len(weight) - 2
    groups: Any = arguments["groups"]
    options = {
        "stride": (_single_if_equal(arguments["stride"]), 1),
        "padding": (_single_if_equal(arguments["padding"]), 0),
        "dilation": (_single_if_equal(arguments["dilation"]), 1),
        "groups": (groups, 1),
        "bias": (arguments["bias"] is not None, True),
    }
    if call.name.startswith("conv_transpose"):
        options["output_padding"] = (_single_if_equal(arguments["output_padding"]), 0)
        return _constructor(
            f"ConvTranspose{n}d", weight[0], weight[1] * groups, _single_if_equal(weight[2:]), **options
        )
    return _constructor(f"Conv{n}d", weight[1] * groups, weight[0], _single_if_equal(weight[2:]), **options)


def _linear(call: Call, program: Program) -> str | None:
    outputs, inputs = _shape(call, program, "weight")
    return _constructor("Linear", inputs, outputs, bias=(call.arguments["bias"] is not None, True))


def _batch_norm(call: Call, program: Program) -> str | None:
    arguments = call.arguments
    if (
        arguments["training"]
        or arguments["bias"] is None
        or arguments["running_mean"] is None
        or arguments["running_var"] is None
    ):
        return None
    kind = {4: "BatchNorm2d", 5: "BatchNorm3d"}.get(len(_shape(call, program, "input")), "BatchNorm1d")
    (size,) = _shape(call, program, "weight")
    return _constructor(kind, size, eps=(arguments["eps"], 1e-5), momentum=(arguments["momentum"], 0.1))


def _layer_norm(call: Call, program: Program) -> str | None:
    arguments = call.arguments
    shape = (
        _single_if_equal(arguments["normalized_shape"])
        if len(_shape(call, program, "weight")) == 1
        else arguments["normalized_shape"]
    )
    return _constructor("LayerNorm", shape, eps=(arguments["eps"], 1e-5), bias=(arguments["bias"] is not None, True))


def _group_norm(call: Call, program: Program) -> str | None:
    arguments = call.arguments
    (size,) = _shape(call, program, "weight")
    return (
        None
        if arguments["bias"] is None
        else _constructor("GroupNorm", arguments["num_groups"], size, eps=(arguments["eps"], 1e-5))
    )


def _embedding(call: Call, program: Program) -> str | None:
    padding: Any = call.arguments["padding_idx"]
    return _constructor(
        "Embedding", *_shape(call, program, "weight"), padding_idx=(padding if padding >= 0 else None, None)
    )


_LAYERS: Mapping[str, Callable[[Call, Program], str | None]] = {
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "embedding": _embedding,
    **{f"conv{kind}{n}d": _convolution for kind in ("", "_transpose") for n in (1, 2, 3)},
}
