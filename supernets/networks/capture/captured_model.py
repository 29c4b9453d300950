"""A captured model with what is known of it, and its file: a program, tensors and preprocessing, no code."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from supernets.errors import CaptureError
from supernets.files import ZIP_ERRORS, check_regular, write_atomically
from supernets.networks.capture.comparison import compare
from supernets.networks.capture.diagnosis import unregistered
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.execution import check_shapes
from supernets.networks.capture.inference import remedy
from supernets.networks.capture.program import Program, ValueSpec
from supernets.networks.capture.program_json import program_from_json, program_to_json
from supernets.networks.capture.torchvision_dense import DenseModel
from supernets.networks.capture.tracing import capture
from supernets.networks.capture.user_model import NO_PREPROCESSING, Preprocessing, UserModel
from supernets.networks.operations import RULES

_FORMAT, _VERSION = "subnet-nas/capture", 1
_INDEX, _TENSORS = "program.json", "tensors.safetensors"
_MOST_BYTES = {_INDEX: 2**25, _TENSORS: 2**35}
"""The largest size of each member; the program of the largest models has some MiB."""
_END, _END_64, _MOST_DIRECTORY = 22, 98, 4096
"""Bytes of a zip archive's end, with and without its 64-bit records, and of the directory of its members at most."""


@dataclass(frozen=True)
class CapturedModel:
    """A model as data.

    Attributes:
        name: Name of the model that it was captured from.
        tensors: Tensors of its program, by name.
        unused: Parameters of the model that its forward does not read.
        notes: Changes that were made to the model, one sentence each.
        fresh: Layers whose weights are new, where they were replaced for other outputs.
        state: Names of the model's whole state, which a file of its weights has; empty in files of earlier versions.
        difference: Largest difference from the outputs of the model's module for a batch of 3, relative to their scale; None
            where the module is not at hand.
        dense: Facts of a detector or segmenter of torchvision; None for other models.
    """

    name: str
    program: Program
    tensors: Mapping[str, Tensor] = field(repr=False)
    preprocessing: Preprocessing = NO_PREPROCESSING
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    state: frozenset[str] = frozenset()
    difference: float | None = None
    dense: DenseModel | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the first input, without the batch."""
        return self.program.values[self.program.inputs[0]].shape[1:]

    @property
    def head(self) -> dict[str, Any] | None:
        """The facts of the head of a detector, see `supernets.tasks.detection.heads`; None for other models."""
        if self.dense is None or not self.dense.is_detector:
            return None
        kind = "torchvision-two-stage" if self.dense.has_two_stages else "torchvision"
        return {"kind": kind, **self.dense.to_json(), "image_size": self.input_shape[-1]}

    @property
    def outputs(self) -> tuple[ValueSpec, ...]:
        """The shapes of its outputs."""
        return tuple(self.program.values[name] for name in self.program.outputs)


def capture_model(model: UserModel, x: Tensor) -> CapturedModel:
    """A user's model as data.

    Args:
        x: an example of its input, with a batch of at least 2.

    Raises:
        CaptureError: the example is no tensor, or the forward cannot be captured, or depends on the size of the batch.
    """
    module = model.module
    if not isinstance(x, Tensor):
        parts = f" of {len(x)}" if isinstance(x, list | tuple | dict) else ""
        raise CaptureError(
            f"{model.name}: the example is a {type(x).__name__}{parts}; expected one tensor whose first dimension is a batch "
            "of at least 2: a network here has one input, so wrap a module that takes several in one that splits a tensor",
            code="capture.example",
        )
    try:
        with redirect_stdout(sys.stderr):  # what a user's forward prints is no data of a command
            captured = capture(module, [x], call=None if model.tokens is None else model.call)
            compared = compare(module, captured, x, model.call)
            original_notes = model.check_original(x)
    except CaptureError as error:
        raise CaptureError(
            f"{model.name}, with an input of {' x '.join(map(str, x.shape[1:]))}: {error}", code=error.code
        ) from error
    used = {*captured.program.tensors, *captured.program.aliases}
    unused = tuple(name for name, _ in module.named_parameters() if name not in used)
    notes = [*model.notes, *compared.notes, *original_notes]
    notes += [
        f"{name} holds modules or parameters that torch does not see there: their weights are constants, which are not "
        "trained; make it an nn.ModuleList, ModuleDict, ParameterList or ParameterDict"
        for name in unregistered(module)
    ]
    program = replace(captured.program, padding=None if model.tokens is None else model.tokens.padding)
    return CapturedModel(
        model.name,
        program,
        captured.tensors,
        model.preprocessing,
        unused,
        tuple(notes),
        model.fresh,
        frozenset(module.state_dict()),
        compared.difference,
        model.dense,
    )


def captured_for(model: UserModel | CapturedModel, shape: tuple[int, ...] | None) -> CapturedModel:
    """A model as data, for inputs of a shape: a captured one is returned as it is.

    Args:
        shape: without the batch; None for the model's own.

    Raises:
        CaptureError: the model's own shape is not known, its forward cannot be captured, or it was with another shape.
    """
    if isinstance(model, UserModel):
        return capture_model(model, model.example(shape))
    if shape not in (None, model.input_shape):
        sizes = ["x".join(map(str, dims)) for dims in (shape or (), model.input_shape)]
        raise CaptureError(
            f"input {sizes[0]}: {model.name} was captured with {sizes[1]}; capture the model again with the other size",
            code="job.conflict",
            parameter="input",
        )
    return model


def check_operations(model: CapturedModel) -> None:
    """Raises `CaptureError` for an operation without a rule, which no file of a captured model may have."""
    for call in model.program.calls:
        if call.name not in RULES:
            where = f" in {call.module}" * bool(call.module) + f" (at {call.place})" * bool(call.place)
            raise CaptureError(
                f"{model.name}: the operation {call.name}{where} has no rule{remedy(call)}, and could not be read back or "
                "exported; write it with other operations of torch; an inspection of the model lists those without a rule",
                code="capture.unknown-operation",
            )


def save_capture(path: Path, model: CapturedModel) -> None:
    """Writes a captured model as one file, atomically.

    Raises:
        CaptureError: it cannot be written, or has an operation without a rule.
    """
    check_operations(model)
    index = {
        "format": _FORMAT,
        "version": _VERSION,
        "model": model.name,
        "program": program_to_json(model.program),
        "preprocessing": model.preprocessing.to_json(),
        "unused": list(model.unused),
        "notes": list(model.notes),
        "fresh": list(model.fresh),
        "state": sorted(model.state),
        **({} if model.dense is None else {"dense": model.dense.to_json()}),
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        parts = {
            _INDEX: json.dumps(index).encode(),
            _TENSORS: save({name: tensor.detach().contiguous() for name, tensor in model.tensors.items()}),
        }
        for name, data in parts.items():
            file.writestr(zipfile.ZipInfo(name), data)  # without the time: equal models make equal files
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        text = f"{path} cannot be written: {error.strerror}; free space there, or choose another path"
        raise CaptureError(text, code="capture.unwritable") from None


def load_capture(path: Path) -> CapturedModel:
    """The model that `save_capture` wrote; a stranger may have written the file, and nothing in it is trusted.

    Raises:
        CaptureError: it is missing, malformed or too large, its tensors are not those of its program, or a call of it does
            not run.
    """
    parts = _parts(path)
    try:
        index = json.loads(parts[_INDEX])
        if index["format"] != _FORMAT or index["version"] != _VERSION:
            raise _unreadable(path, f"format {index['format']!r}, version {index['version']!r}")
        tensors = load(parts[_TENSORS])
        preprocessing = Preprocessing.from_json(index["preprocessing"])
        texts = {key: index.get(key, []) for key in ("unused", "notes", "fresh", "state")}
        unused, notes, fresh, state = (
            tuple(str(text)[:1000] for text in entries[:100_000]) for entries in texts.values()
        )
        name, data = str(index["model"])[:1000], index["program"]
        dense = None if index.get("dense") is None else DenseModel.from_json(index["dense"])
    except (KeyError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise _unreadable(path, repr(error)[:200]) from None
    program = program_from_json(data)
    for tensor in program.tensors:
        spec = program.values[tensor]
        if tensor not in tensors or ValueSpec.of(tensors[tensor]) != spec:
            raise _unreadable(path, f"the tensor {tensor} is not {' x '.join(map(str, spec.shape))} of {spec.dtype}")
    check_shapes(program)
    try:
        infer_axes(program)
    except Exception as error:  # rules expect the arguments that torch's operations have
        raise _unreadable(path, repr(error)[:200]) from error
    program_tensors = {tensor: tensors[tensor] for tensor in program.tensors}
    return CapturedModel(
        name, program, program_tensors, preprocessing, unused, notes, fresh, frozenset(state), dense=dense
    )


def with_tensors(model: CapturedModel, tensors: Mapping[str, Tensor]) -> CapturedModel:
    """The model with other values of some of its tensors."""
    return replace(model, tensors={**model.tensors, **tensors})


def _parts(path: Path) -> dict[str, bytes]:
    """The contents of the file's two members."""
    try:
        check_regular(path)
        _check_directory(path)
        with zipfile.ZipFile(path) as file:
            infos = file.infolist()
            if sorted(info.filename for info in infos) != sorted(_MOST_BYTES):
                raise _unreadable(path, f"expected the members {' and '.join(_MOST_BYTES)}")
            for info in infos:  # members are stored as they are, so that none is larger than the file
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > _MOST_BYTES[info.filename]:
                    raise _unreadable(path, f"the member {info.filename} is compressed or too large")
            return {info.filename: file.read(info) for info in infos}
    except FileNotFoundError:
        raise CaptureError(
            f"{path}: there is no such file; expected a captured model", code="capture.unknown-model"
        ) from None
    except (OSError, *ZIP_ERRORS) as error:
        raise _unreadable(path, str(error)[:200]) from None


def _check_directory(path: Path) -> None:
    """Raises `CaptureError` unless the archive lists a few members: its reader makes an object of each.

    The layout of the end is that of APPNOTE.TXT 4.3.14 to 4.3.16, without a comment.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_64))
        tail = file.read()
    end = tail[-_END:]
    if len(end) < _END or not end.startswith(b"PK\x05\x06") or end[-2:] != b"\0\0":
        raise _unreadable(path, "it does not end as a zip archive")
    sizes = [int.from_bytes(end[12:16], "little")]
    if tail[-42:-38] == b"PK\x06\x07":
        sizes = [size for size in sizes if size != 2**32 - 1] + [int.from_bytes(tail[-58:-50], "little")]
    if max(sizes) > _MOST_DIRECTORY:
        raise _unreadable(path, f"its directory has {max(sizes)} bytes")


def _unreadable(path: Path, fault: str) -> CaptureError:
    return CaptureError(
        f"{path}: cannot be read as a captured model ({fault}); capture the model again",
        code="capture.malformed",
    )
