"""The file of a run's predictions: what is written is read, and damaged files are refused in a line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.engine.predictions import Predictions
from nas.errors import StoreError
from tests.nas.results.made_predictions import made_predictions

Arrays = dict[str, NDArray[Any]]


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_what_is_written_is_read(kind: Literal["boxes", "masks"], tmp_path: Path) -> None:
    written = made_predictions(kind).predictions
    written.write(tmp_path / "predictions.npz")
    read = Predictions.read(tmp_path / "predictions.npz")
    assert read is not None
    for field in fields(Predictions):
        np.testing.assert_equal(getattr(read, field.name), getattr(written, field.name))
    assert read.outputs.dtype == written.outputs.dtype
    assert (tmp_path / "predictions.npz").stat().st_size < 200_000


def test_a_missing_file_is_no_error(tmp_path: Path) -> None:
    assert Predictions.read(tmp_path / "predictions.npz") is None


def _changed_fact(name: str, value: object) -> Callable[[Arrays], Arrays]:
    def change(arrays: Arrays) -> Arrays:
        facts = json.loads(arrays["facts"].tobytes()) | {name: value}
        return arrays | {"facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)}

    return change


def _changed(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {name: change(arrays[name])}


def _set(value: float, column: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        array = array.copy()
        array[..., 0, column] = value
        return array

    return change


CHANGES: dict[str, Callable[[Arrays], Arrays]] = {
    "no facts": lambda arrays: {name: array for name, array in arrays.items() if name != "facts"},
    "facts are no JSON": lambda arrays: arrays | {"facts": np.arange(9, dtype=np.uint8)},
    "facts are a list": lambda arrays: arrays | {"facts": np.frombuffer(b"[]", dtype=np.uint8)},
    "a later format": _changed_fact("format", 2),
    "another kind": _changed_fact("kind", "poses"),
    "classes are no list": _changed_fact("classes", "shirt"),
    "too few classes": _changed_fact("classes", ["shirt"]),
    "side is a text": _changed_fact("side", "64"),
    "too few networks": _changed_fact("networks", ["0-0"]),
    "one network twice": _changed_fact("networks", ["0-0", "0-0", "1-0"]),
    "no image": lambda arrays: {name: array for name, array in arrays.items() if not name.startswith("image-")},
    "one image less": lambda arrays: {name: array for name, array in arrays.items() if name != "image-5"},
    "no labels": lambda arrays: {name: array for name, array in arrays.items() if name != "labels"},
    "no table": lambda arrays: {name: array for name, array in arrays.items() if name != "table-precision"},
    "labels of seven columns": _changed("labels", lambda array: array[..., :7]),
    "labels without axes": _changed("labels", lambda array: array.ravel()),
    "outputs of texts": _changed("outputs", lambda array: array.astype(str)),
    "a class beyond the last": _changed("labels", _set(10, 0)),
    "a detected class beyond the last": _changed("outputs", _set(10, 5)),
    "a box of NaN": _changed("outputs", _set(np.nan, 0)),
    "an infinite box": _changed("labels", _set(np.inf, 1)),
    "objects": lambda arrays: arrays | {"labels": np.array([{}], dtype=object)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_of_other_content_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    made_predictions("boxes").predictions.write(path)
    with np.load(path) as arrays:
        changed = CHANGES[name](dict(arrays))
    np.savez(path, **changed)  # type: ignore[arg-type]
    _assert_refused(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused_in_a_line(share: float, tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    made_predictions("masks").predictions.write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    _assert_refused(path)


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "predictions.npz"
    made_predictions("boxes").predictions.write(path)
    monkeypatch.setattr("nas.engine.predictions._MAX_BYTES", 1000)
    _assert_refused(path)


def test_an_array_alone_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    (tmp_path / "predictions.npz").write_bytes(file.getvalue())
    _assert_refused(tmp_path / "predictions.npz")


def _assert_refused(path: Path) -> None:
    with pytest.raises(StoreError) as refusal:
        Predictions.read(path)
    assert refusal.value.code == "predictions.damaged"
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
