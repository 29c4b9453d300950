"""Writes a captured network as Python: a module of torch's layers and calls, which needs torch alone."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Mapping
from itertools import count

from torch import nn

from supernets.errors import CaptureError
from supernets.networks.capture.program import BATCH, Argument, Program, Ref, Size
from supernets.networks.capture.python_calls import call_text, returns_several
from supernets.networks.capture.python_layers import layers_of
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
    layers = layers_of(program)
    runs = {id(call): path for path, layer in layers.items() for call in layer.calls}
    owned = {name for layer in layers.values() for name in layer.tensors}
    parts = [f"put(self, {quoted(path)}, {layer.constructor})" for path, layer in layers.items()]
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
            else call_text(call, texts)
        )
        targets = [names.get(name, "_") for name in call.outputs]
        lines.append(f"{', '.join(targets)} = {value}{'[0]' if len(targets) == 1 and returns_several(call) else ''}")
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
