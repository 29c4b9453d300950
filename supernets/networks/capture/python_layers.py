"""The calls of a captured network that are layers of `torch.nn`, with the constructor of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from supernets.networks.capture.program import Call, Program, Ref


@dataclass(frozen=True)
class LayerSource:
    """A layer of `torch.nn`.

    Attributes:
        constructor: the expression that makes it.
        tensors: Tensors of its state, by their names in the program.
        calls: Calls that run it.
    """

    constructor: str
    tensors: tuple[str, ...]
    calls: tuple[Call, ...]


def layers_of(program: Program) -> dict[str, LayerSource]:
    """The layers by their paths: calls whose tensors are all of one module, and read by calls like it alone."""
    readers = program.consumers()
    children: dict[str, set[str]] = {}
    for name in program.tensors:
        parts = name.split(".")
        for i in range(len(parts)):
            children.setdefault(".".join(parts[:i]), set()).add(name)
    layers: dict[str, LayerSource] = {}
    for call in program.calls:
        path, source = _layer(call, program)
        if source is None or path in layers:
            continue
        constructor, tensors = source
        calls = tuple(program.calls[i] for i in dict.fromkeys(i for name in tensors for i in readers[name]))
        if children[path] == set(tensors) and all(_layer(reader, program) == (path, source) for reader in calls):
            layers[path] = LayerSource(constructor, tensors, calls)
    return layers


def _layer(call: Call, program: Program) -> tuple[str, tuple[str, tuple[str, ...]] | None]:
    """The path of a call's tensors, with the constructor and the tensors if they are those of a layer."""
    make = _LAYERS.get(call.name)
    weight = call.arguments.get("weight")
    if make is None or not isinstance(weight, Ref) or weight.name not in program.trainable:
        return "", None
    path, _, leaf = weight.name.rpartition(".")
    tensor_names = [
        argument.name for key, argument in call.arguments.items() if key in _STATE_KEYS and isinstance(argument, Ref)
    ]
    key_by_name = {f"{path}.{key}": key for key in _STATE_KEYS}
    if (
        leaf != "weight"
        or not path
        or any(name not in key_by_name or name not in program.tensors for name in tensor_names)
    ):
        return "", None
    if any(call.arguments.get(key_by_name[name]) != Ref(name) for name in tensor_names):
        return "", None
    constructor = make(call, program)
    return path, None if constructor is None else (constructor, tuple(tensor_names))


_STATE_KEYS = ("weight", "bias", "running_mean", "running_var")


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
