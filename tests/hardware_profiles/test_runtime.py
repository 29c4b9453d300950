"""Models in this process return each call's outputs, in order, from one session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from hardware_profiles.runtime import run_calls, run_model
from nas.plugins.testing.onnx_networks import declare
from tests.errors import raises
from tests.onnx_networks import identity

LENGTHS = (3, 7, 1)


def two_outputs() -> bytes:
    """Token ids of any length and a float, each given back."""
    ids = declare("ids", ["batch", "length"], TensorProto.INT64)
    return bytes(identity(ids, declare("x", ["batch", 2])).SerializeToString())


def sentences() -> list[Mapping[str, NDArray[np.generic]]]:
    return [
        {"ids": np.arange(2 * n, dtype=np.int64).reshape(2, n), "x": np.full((2, 2), n, np.float32)} for n in LENGTHS
    ]


def test_each_call_has_its_own_outputs_from_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(onnxruntime.InferenceSession):  # type: ignore[misc, unused-ignore]
        def __init__(self, *given: object, **options: object) -> None:
            made.append(self)
            super().__init__(*given, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counted)
    found = run_calls(two_outputs(), iter(sentences()))
    assert len(made) == 1
    assert len(found) == len(LENGTHS)
    for outputs, given in zip(found, sentences(), strict=True):
        for output, array in zip(outputs, given.values(), strict=True):
            np.testing.assert_array_equal(output, array, strict=True)


def test_no_call_returns_no_outputs() -> None:
    assert run_calls(two_outputs(), []) == []


def test_joined_batches_equal_one_call() -> None:
    ids, x = np.arange(20, dtype=np.int64).reshape(5, 4), np.arange(10, dtype=np.float32).reshape(5, 2)
    for size in (None, 1, 2, 5, 8):
        outputs = run_model(two_outputs(), {"ids": ids, "x": x}, batch_size=size)
        for output, given in zip(outputs, (ids, x), strict=True):
            np.testing.assert_array_equal(output, given, strict=True)


def test_errors_of_the_runtime_are_model_errors_and_errors_of_the_caller_are_not() -> None:
    good, bad = sentences()[0], {"ids": np.zeros((2, 3), np.float32), "x": np.zeros((2, 2), np.float32)}
    with raises("model.rejected", onnxruntime.__version__):
        run_calls(two_outputs(), [good, bad])
    with raises("model.rejected", onnxruntime.__version__):
        run_calls(b"no model", [good])

    def broken() -> Iterator[Mapping[str, NDArray[np.generic]]]:
        yield good
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        run_calls(two_outputs(), broken())
