"""Opens an ONNX file as a user's model: its inputs, its outputs, and the module that runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from supernets.errors import CaptureError
from supernets.networks.capture.user_model import Preprocessing, TokenInputs, UserModel
from supernets.networks.formats.pretrained import CONFIG, TOKENIZER
from supernets.networks.onnx_models.equality import OnnxOriginal
from supernets.networks.onnx_models.onnx_file import Graph, Input, OnnxFile, read_onnx
from supernets.networks.onnx_models.onnx_module import OnnxModule
from supernets.networks.onnx_models.preparation import prepare
from supernets.networks.onnx_models.registry import Node, printable

DEQUANTIZE = "dequantize"
"""The argument that reads weights in whole numbers as real ones."""
_ZEROS = ("token_type_ids", "segment_ids")
_MAX_BATCH = 256
"""The largest batch that a file may be fixed at: each comparison runs all of it."""
_CHANNELS, _MIN_SIZE = (1, 3, 4), 8
"""Channels of images, and the least height and width of images that end with them."""


def open_onnx(path: Path, arguments: Mapping[str, Any] | None = None) -> UserModel:
    """The network of an ONNX file as a model.

    Args:
        arguments: ``{"dequantize": True}`` reads the weights of a quantised file as real numbers.

    Raises:
        CaptureError: the file cannot be read, or has operators or inputs that cannot.
    """
    dequantize = _dequantize(path, arguments or {})
    file = read_onnx(path)
    try:
        return _opened(file, dequantize=dequantize)
    except CaptureError as error:
        raise CaptureError(f"{path}: {printable(str(error))}", code=error.code) from error
    except Exception as error:  # of numpy and torch, for attributes and shapes that operators do not allow
        fault = printable(f"{type(error).__name__}: {str(error)[:200]}")
        raise CaptureError(
            f"{path}: cannot be read as an ONNX model: {fault}", code="capture.onnx-malformed"
        ) from error


def _dequantize(path: Path, arguments: Mapping[str, Any]) -> bool:
    unknown = sorted(arguments.keys() - {DEQUANTIZE})
    value = arguments.get(DEQUANTIZE, False)
    if unknown or not isinstance(value, bool):
        got = f"{unknown[0]}" if unknown else f"{DEQUANTIZE}: {value!r}"
        raise CaptureError(
            f"{path}: arguments: got {got}; an ONNX file has the argument {DEQUANTIZE}, true or false",
            code="job.conflict",
            parameter="arguments",
        )
    return value


def _opened(file: OnnxFile, *, dequantize: bool) -> UserModel:
    graph, notes = file.graph, list[str]()
    quantised = next((node for node in graph.nodes if node.op in ("QuantizeLinear", "DequantizeLinear")), None)
    if quantised is not None and not dequantize:
        raise CaptureError(
            f"{quantised.title}: its numbers are quantised; arguments: {{{DEQUANTIZE}: true}} reads them as real numbers, "
            "without the rounding of activations",
            code="capture.unknown-operation",
        )
    inputs = _Inputs.of(graph)
    graph, softmax = _without_softmax(graph)
    if softmax is not None:
        notes.append(
            "the softmax at its end is left out: the outputs of networks here are logits; softmax of them gives the file's"
        )
    batch = inputs.main.shape[0] if inputs.main.shape else None
    if batch is not None:
        if batch > _MAX_BATCH:
            raise CaptureError(
                f"its batch is fixed at {batch}; expected at most {_MAX_BATCH}, or a dynamic one",
                code="capture.example",
            )
        notes.append(f"its batch is fixed at {batch}; it is read as one of any size")
    if inputs.is_channels_last:
        notes.append("its images are height x width x channels; here they are channels x height x width")
    if file.half:
        notes.append("weights of half precision were converted to float32")
    prepared = prepare(graph, fixed_batch=batch)
    module = OnnxModule(
        prepared,
        main=inputs.main,
        mask=inputs.mask,
        zeros=inputs.zeros,
        fixed_batch=batch,
        is_channels_last=inputs.is_channels_last,
    ).eval()
    original = OnnxOriginal(file, inputs.names, fixed_batch=batch, is_quantised=dequantize and quantised is not None,
                            softmax=softmax)  # fmt: skip
    model = UserModel(str(file.path), module, notes=tuple(notes), original=original)
    shape = inputs.shape
    if inputs.is_tokens:
        return replace(model, tokens=_tokens(file, prepared.graph, module, inputs), input_shape=shape)
    if shape is not None and len(shape) == 3 and shape[1] == shape[2]:
        return replace(model, preprocessing=Preprocessing(shape[1], shape[0]), input_shape=shape)
    known = inputs.main.shape
    channels = known[3 if inputs.is_channels_last else 1] if known is not None and len(known) == 4 else None
    return replace(model, preprocessing=Preprocessing(None, channels), input_shape=shape)


@dataclass(frozen=True)
class _Inputs:
    """The inputs of a file by their roles.

    Attributes:
        mask: Name of the input that marks tokens which are no padding.
        zeros: Names of the inputs that are zeros.
    """

    main: Input
    mask: str | None
    zeros: tuple[str, ...]

    @classmethod
    def of(cls, graph: Graph) -> _Inputs:
        """The roles of a graph's inputs.

        Raises:
            CaptureError: there are none, or several that are no masks and kinds of tokens.
        """
        read = set(_names(graph))
        inputs = [value for value in graph.inputs if value.name in read]
        mask = next((value.name for value in inputs if value.name.endswith("attention_mask")), None)
        zeros = tuple(value.name for value in inputs if value.name.endswith(_ZEROS))
        main = [value for value in inputs if value.name != mask and value.name not in zeros]
        if len(main) != 1:
            names = ", ".join(value.name[:60] for value in main[:5]) or "none"
            raise CaptureError(
                f"it has the inputs {names}; expected one (beside attention_mask and token_type_ids), whose first dimension "
                "is the batch",
                code="capture.example",
            )
        if main[0].shape is not None and not main[0].shape:
            raise CaptureError(f"its input {main[0].name[:60]} is a number; expected a batch", code="capture.example")
        if main[0].dtype not in ("float32", "float64", "float16", "int64", "int32"):
            raise CaptureError(
                f"its input {main[0].name[:60]} is of the type {main[0].dtype}; expected real numbers, or whole ones of tokens",
                code="capture.example",
            )
        return cls(main[0], mask, zeros)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all inputs, the main one first, then the mask."""
        return (self.main.name, *([self.mask] if self.mask else []), *self.zeros)

    @property
    def is_tokens(self) -> bool:
        return self.main.dtype.startswith("int")

    @property
    def is_channels_last(self) -> bool:
        """True if images end with their channels, as those of TensorFlow do."""
        shape = self.main.shape
        return (
            shape is not None
            and len(shape) == 4
            and shape[3] in _CHANNELS
            and all(size is None or size >= _MIN_SIZE for size in shape[1:3])
            and not self.is_tokens
        )

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of an example, with channels first; None if some size is dynamic."""
        sizes = self.main.shape
        if sizes is None or any(size is None for size in sizes[1:]):
            return None
        shape = tuple(size for size in sizes[1:] if size is not None)
        return (shape[-1], *shape[:-1]) if self.is_channels_last else shape


def _names(graph: Graph) -> Iterator[str]:
    """The names of all values that nodes read."""
    yield from graph.outputs
    for node in graph.nodes:
        yield from node.inputs
        for branch in node.attributes.values():
            if isinstance(branch, Graph):
                yield from _names(branch)


def _without_softmax(graph: Graph) -> tuple[Graph, Node | None]:
    """The graph without a softmax over classes that is its only output, and the softmax; None where it has none."""
    producer = {name: node for node in graph.nodes for name in node.outputs}
    node = producer.get(graph.outputs[0]) if len(graph.outputs) == 1 else None
    while node is not None and node.op == "Identity" and node.inputs:
        node = producer.get(node.inputs[0])
    if node is None or node.op != "Softmax" or node.domain or not node.inputs:
        return graph, None
    if node.attributes.get("axis", -1 if node.version >= 13 else 1) not in (-1, 1):
        return graph, None
    return replace(graph, outputs=[node.inputs[0]]), node


def _tokens(file: OnnxFile, graph: Graph, module: OnnxModule, inputs: _Inputs) -> TokenInputs:
    """How sentences are read; their padding and tokenizer are of files beside the model."""
    config, folder = {}, file.path.parent
    if (folder / CONFIG).is_file():
        try:
            config = json.loads((folder / CONFIG).read_bytes())
        except (OSError, ValueError):
            raise CaptureError(f"{folder / CONFIG} cannot be read as JSON", code="capture.onnx-malformed") from None
    padding = config.get("pad_token_id") if isinstance(config, dict) else None
    tokenizer = folder / TOKENIZER
    return TokenInputs(
        vocabulary=_vocabulary(graph, module, inputs.main.name),
        padding=padding if isinstance(padding, int) else 0,
        masked=inputs.mask is not None,
        max_tokens=None,
        tokenizer=tokenizer if tokenizer.is_file() else None,
    )


def _vocabulary(graph: Graph, module: OnnxModule, name: str) -> int:
    """The number of rows of the table that token ids select from."""
    names = {name}
    for node in graph.nodes:
        if node.op != "Gather" and not names.isdisjoint(node.inputs):  # e.g. casts, and sums that shift ids
            names.update(node.outputs)
        reads_tokens = node.op == "Gather" and len(node.inputs) > 1 and node.inputs[1] in names
        if reads_tokens and (table := module.parameter_of(node.inputs[0])) is not None:
            return len(table)
    raise CaptureError(f"no table of embeddings is read with the token ids of {name[:60]}", code="capture.example")
