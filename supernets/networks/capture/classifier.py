"""Replaces the last layers of models, for data of another number of classes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from supernets.errors import CaptureError
from supernets.networks.capture.captured_model import CapturedModel, capture_model
from supernets.networks.capture.execution import with_shapes
from supernets.networks.capture.program import Call, Program, Ref, ValueSpec
from supernets.networks.capture.user_model import UserModel

_LAYERS = frozenset(("linear", "conv1d", "conv2d"))
_BETWEEN = frozenset(
    (
        "relu",
        "hardtanh",
        "silu",
        "gelu",
        "hardswish",
        "log_softmax",
        "softmax",
        "sigmoid",
        "flatten",
        "squeeze",
        "mean",
        "adaptive_avg_pool2d",
        "avg_pool2d",
        "contiguous",
        "clone",
        "to",
        "reshape",
        "view",
        "upsample_bilinear2d",
        "upsample_nearest2d",
        "upsample_bicubic2d",
    )
)
"""Operations between the last layer and the outputs."""


def with_outputs(model: CapturedModel, n: int, *, seed: int, of_pixels: bool = False) -> CapturedModel:
    """The model with `n` outputs: itself where it has them, else with a fresh last layer, of which its notes speak.

    Args:
        n: Number of outputs, one for each class.
        seed: Seed of the fresh layer's weights.
        of_pixels: True if there is an output for each class at each pixel of the image.

    Raises:
        CaptureError: the model has other than one output of a number for each class, or its last layer is not found.
    """
    program = model.program
    shape = model.outputs[0].shape
    sides = model.input_shape[1:] if of_pixels else ()
    if len(model.outputs) != 1 or len(shape) < 2 or shape[2:] != sides:
        output_shapes = ", ".join(" x ".join(map(str, spec.shape)) for spec in model.outputs)
        expected = " x ".join(["batch", "classes", *map(str, sides)])
        raise CaptureError(
            f"{model.name} has the outputs {output_shapes} for a batch of {program.batch}; expected one of {expected}: "
            "name a function that returns a module with such an output",
            code="capture.outputs",
        )
    if shape[1] == n:
        return model
    call = _last_layer(program)
    if call is None or not _has_untied_tensors(program, call):
        raise _outputs_error(model.name, shape[1], n)
    changed: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(seed)
    for key in ("weight", "bias"):
        if isinstance(reference := call.arguments.get(key), Ref):
            old = model.tensors[reference.name]
            weight = model.tensors[_name(call.arguments["weight"])]
            bound = 1 / math.sqrt(max(1, weight[0].numel()))  # as torch.nn.Linear's
            new = torch.rand(n, *old.shape[1:], generator=generator) * 2 * bound - bound
            changed[reference.name] = new.to(old.dtype)
    specs = {name: ValueSpec(tuple(t.shape), program.values[name].dtype) for name, t in changed.items()}
    try:
        resized_program = with_shapes(program, specs)
    except CaptureError:
        raise _outputs_error(model.name, shape[1], n) from None
    if resized_program.values[program.outputs[0]].shape != (program.batch, n, *sides):
        raise _outputs_error(model.name, shape[1], n)
    layer = _name(call.arguments["weight"]).rpartition(".")[0]
    note = f"{layer} has {shape[1]} outputs and the data {n} classes: it is replaced by a fresh layer of {n}"
    return replace(
        model,
        program=resized_program,
        tensors={**model.tensors, **changed},
        notes=(*model.notes, note),
        fresh=(*(fresh_layer for fresh_layer in model.fresh if fresh_layer != layer), layer),
    )


def with_classes(model: UserModel | CapturedModel, classes: int, *, seed: int) -> UserModel | CapturedModel:
    """A detector or segmenter of torchvision for a number of classes: itself where it has it, else built again, with all
    weights whose shapes stay the same, and fresh layers for the others, of which its notes speak.

    Args:
        model: with its facts (``dense``); others are returned as they are.
        classes: Number of classes of the data.
        seed: Seed of the fresh layers' weights.

    Raises:
        CaptureError: torchvision is not installed, or it builds the model in another way than when it was captured.
    """
    if model.dense is None or model.dense.classes == classes:
        return model
    dense = replace(model.dense, classes=classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = dense.module(dense.build())
    state = dict(model.module.state_dict() if isinstance(model, UserModel) else model.tensors)
    if isinstance(model, CapturedModel):
        state |= {alias: model.tensors[name] for alias, name in model.program.aliases.items()}
    expected = module.state_dict()
    fitting = {
        name: state[name] for name, tensor in expected.items() if name in state and state[name].shape == tensor.shape
    }
    module.load_state_dict({**expected, **fitting})
    layers = dict.fromkeys(name.rpartition(".")[0] for name, _ in module.named_parameters() if name not in fitting)
    note = f"it has outputs for {model.dense.classes} classes and the data {classes}: {', '.join(layers)} " + (
        "are replaced by fresh layers" if len(layers) > 1 else "is replaced by a fresh layer"
    )
    fresh = tuple(dict.fromkeys((*model.fresh, *layers)))
    adapted = UserModel(model.name, module, model.preprocessing, notes=(*model.notes, note), fresh=fresh, dense=dense)
    return adapted if isinstance(model, UserModel) else capture_model(adapted, adapted.example(model.input_shape))


def _name(argument: Any) -> str:
    return argument.name if isinstance(argument, Ref) else ""


def _last_layer(program: Program) -> Call | None:
    """The layer from which the outputs follow by operations on its values alone."""
    producer = {name: call for call in program.calls for name in call.outputs}
    call = producer.get(program.outputs[0])
    while call is not None and call.name in _BETWEEN:
        call = producer.get(next(call.reads(), ""))
    if call is None or call.name not in _LAYERS or _name(call.arguments["weight"]) not in program.trainable:
        return None
    return call


def _has_untied_tensors(program: Program, call: Call) -> bool:
    """Returns whether no other call reads the layer's tensors."""
    consumers = program.consumers()
    return all(len(consumers[_name(call.arguments[key])]) == 1 for key in ("weight", "bias") if call.arguments.get(key))


def _outputs_error(name: str, n: int, wanted: int) -> CaptureError:
    return CaptureError(
        f"{name} has {n} outputs and the data {wanted} classes, and its last layer cannot be replaced; give the model {wanted} "
        f"outputs itself, e.g. by supernet.arguments: {{num_classes: {wanted}}}",
        code="capture.outputs",
    )
