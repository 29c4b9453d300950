"""Stores uploaded ONNX models after a check of their format; nothing of them is run or unpickled here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

from nas.errors import JobError
from nas.service.settings import Limits
from nas.service.uploads.storage_checks import check_disk_space, check_upload_size, size_of, write_upload

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_IR_VERSION, _GRAPH = 1, 7
_MAX_FIELDS = 10_000


def keep_model(model: BinaryIO, folder: Path, limits: Limits) -> Path:
    """The path of a copy in a new folder of its own, where the model can refer to no other file as its weights.

    Raises:
        JobError: it is no ONNX model.
        TooLargeError: it exceeds the limit of uploads.
        StoreError: the disk is nearly full.
    """
    check_upload_size(size_of(model), limits, "model")
    if not is_onnx(model):
        text = "this is no ONNX model; expected a file as torch.onnx.export or onnx.save writes it"
        raise JobError(text, code="model.invalid", fields=[("model", text)])
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    try:
        check_disk_space(folder)
        write_upload(model, path)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return path


def is_onnx(file: BinaryIO) -> bool:
    """True if a file is a protobuf message with the two fields that every ONNX model has; its contents are not read.

    A message is a sequence of fields, each a tag (field number and wire type) and a value whose length follows from the type
    or a prefix (https://protobuf.dev/programming-guides/encoding), so that values can be skipped.
    """
    size, fields = size_of(file), set[int]()
    for _ in range(_MAX_FIELDS):
        if file.tell() == size:
            return {_IR_VERSION, _GRAPH} <= fields
        tag = _varint(file)
        if tag is None or tag >> 3 == 0:
            return False
        field, kind = tag >> 3, tag & 7
        expected = {_IR_VERSION: _VARINT, _GRAPH: _BYTES}
        if expected.get(field, kind) != kind:
            return False
        fields.add(field)
        if kind == _VARINT:
            length = 0 if _varint(file) is not None else None
        elif kind == _BYTES:
            length = _varint(file)
        else:
            length = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if length is None or length > size - file.tell():
            return False
        file.seek(length, os.SEEK_CUR)
    return False


def _varint(file: BinaryIO) -> int | None:
    """An integer in groups of seven bits, the lowest first; None where the file has none."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
