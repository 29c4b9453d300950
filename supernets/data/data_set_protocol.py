"""The protocol of data sets of plug-ins, and the checks of what they return."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from supernets.data.labelled_examples import Examples, Source, check_characters, malformed
from supernets.data.targets import (
    BOXES,
    CLASSES,
    COLUMNS,
    IGNORED,
    MASKS,
    NUMBERS,
    SETS,
    number_groups,
    present_classes,
    set_groups,
)
from supernets.data.text_classification import MAX_CHARACTERS


class LabelledData(Protocol):
    """A data set of a plug-in, made of the settings of the job.

    The data that it loads are split, preprocessed and identified as those of the shipped data sets; the splits and the digests
    depend on the order of the examples, so that each call must return the same.
    """

    @abstractmethod
    def load(self) -> Source:
        """The labelled examples: `Source` of a name, the names of the classes, and `Examples` to train on.

        Images are (n, c, h, w), uint8, with one channel or three and equal sides; sentences are a list of n texts. Labels are
        (n,): positions in the names of the classes; or finite numbers with ``targets="numbers"``; or (n, labels) of 0 and 1
        with ``targets="sets"``; or boxes (n, boxes, 8) with ``targets="boxes"``, or a class of each pixel (n, side, side),
        uint8, 255 where it is ignored, with ``targets="masks"``, in pixels of these images, see `supernets.data.targets`; or
        numbers (n, ...) of an own kind for which there is a task. Parts of its own for validation
        and test are used as they are; missing parts are taken from the examples to train on.
        """
        ...


def checked_source(source: object, name: str) -> Source:
    """The data that a plug-in loaded, in the form of the shipped data sets: labels by their type, names of all examples, groups
    to split by.

    Args:
        source: The result of `LabelledData.load`.
        name: Name of the plug-in, for errors.

    Raises:
        DataError: it is no `Source`, or its inputs, labels or names are malformed.
    """
    if not isinstance(source, Source):
        raise malformed(f"returned {type(source).__name__}; expected supernets.data.Source")
    classes = tuple(source.class_names)
    printable = all(isinstance(name, str) and name and name.isprintable() for name in classes)
    if not printable or len(set(classes)) != len(classes):
        raise malformed(f"class_names is {source.class_names!r:.200}; expected different printable texts")
    _check_numbers(source)
    parts = {
        part: _checked(examples, source.targets, classes, part)
        for part in ("train", "validation", "test")
        if (examples := getattr(source, part)) is not None or part == "train"
    }
    shapes = {part: _kind(examples) for part, examples in parts.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{part}: {shape}" for part, shape in shapes.items())
        raise malformed(f"its parts have inputs of different kinds ({listed}); expected the same in all")
    noun = "sentence" if source.noun == "image" and parts["train"].inputs.dtype == np.object_ else source.noun
    where = f"{name}: {source.where}" if source.where else name
    return replace(
        source,
        where=where,
        class_names=classes,
        noun=noun,
        train=parts["train"],
        validation=parts.get("validation"),
        test=parts.get("test"),
    )


def _check_numbers(source: Source) -> None:
    for key in ("default_validation", "default_test"):
        value = getattr(source, key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise malformed(f"{key} is {value!r}; expected a number of examples or a share between 0 and 1")
    if isinstance(source.levels, bool) or not isinstance(source.levels, int) or not 1 <= source.levels <= 255:
        raise malformed(f"levels is {source.levels!r}; expected a whole number from 1 to 255")


def _kind(examples: Examples) -> str:
    inputs = examples.inputs
    return "sentences" if inputs.dtype == np.object_ else f"images {'x'.join(map(str, inputs.shape[1:]))}"


def _checked(examples: object, targets: str, classes: Sequence[str], part: str) -> Examples:
    if not isinstance(examples, Examples):
        raise malformed(f"the {part} part is {type(examples).__name__}; expected supernets.data.Examples")
    inputs = _inputs(examples.inputs, part)
    try:
        labels = np.asarray(examples.labels)
    except ValueError:
        raise malformed(f"the labels of the {part} part are ragged; expected an array") from None
    if labels.ndim < 1 or len(labels) != len(inputs):
        n = len(labels) if labels.ndim else "one value in place of"
        raise malformed(f"the {part} part has {len(inputs)} inputs and {n} labels; expected one label for each")
    names = tuple(map(str, examples.names)) or tuple(f"{part}[{i}]" for i in range(len(inputs)))
    if len(names) != len(inputs):
        raise malformed(
            f"the {part} part has {len(inputs)} inputs and {len(names)} names; expected one for each, or none"
        )
    side = inputs.shape[-1] if inputs.ndim == 4 else 0
    labels = _labels(labels, targets, classes, part, side=side)
    return Examples(inputs, labels, names, _groups(examples.strata, labels, targets, part, n_classes=len(classes)))


def _inputs(inputs: object, part: str) -> NDArray[Any]:
    if isinstance(inputs, np.ndarray) and inputs.dtype != np.object_ and inputs.dtype.kind != "U":
        return _images(inputs, part)
    if not isinstance(inputs, list | tuple | np.ndarray):
        expected = "an array of images (n, c, h, w), uint8, or a list of texts"
        raise malformed(f"the inputs of the {part} part are {type(inputs).__name__}; expected {expected}")
    sentences = np.empty(len(inputs), dtype=np.object_)
    for i, text in enumerate(inputs):
        if not isinstance(text, str):
            raise malformed(f"input {i} of the {part} part is {type(text).__name__}; expected a text")
        sentences[i] = text.strip()
        if not 1 <= len(sentences[i]) <= MAX_CHARACTERS:
            state = "is empty" if not sentences[i] else f"has {len(sentences[i])} characters"
            raise malformed(f"text {i} of the {part} part {state}; expected 1 to {MAX_CHARACTERS} characters")
        check_characters(sentences[i], f"text {i} of the {part} part")
    if not len(sentences):
        raise malformed(f"the {part} part is empty; expected at least one example")
    return sentences


def _images(images: NDArray[Any], part: str) -> NDArray[np.uint8]:
    shape = "x".join(map(str, images.shape))
    if images.dtype != np.uint8:
        nan = " with NaN" if images.dtype.kind == "f" and np.isnan(images).any() else ""
        remedy = "expected uint8, from 0 to 255; normalising is done later"
        raise malformed(f"the images of the {part} part are {images.dtype}{nan}; {remedy}")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3] or not images.shape[2]:
        expected = "(n, 1 or 3 channels, side, side); of grey images (n, h, w), take images[:, None]"
        raise malformed(f"the images of the {part} part have the shape {shape}; expected {expected}")
    if not len(images):
        raise malformed(f"the {part} part is empty; expected at least one example")
    return np.ascontiguousarray(images)


def _labels(labels: NDArray[Any], targets: str, classes: Sequence[str], part: str, *, side: int) -> NDArray[Any]:
    where = f"the labels of the {part} part"
    shape = "x".join(map(str, labels.shape))
    if targets == CLASSES:
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            expected = "whole numbers (n,), the positions of their classes in class_names"
            raise malformed(f"{where} are {labels.dtype} of the shape {shape}; expected {expected}")
        if labels.min() < 0 or labels.max() >= len(classes):
            expected = f"0 to {len(classes) - 1}, the positions of the {len(classes)} class_names"
            raise malformed(f"{where} run from {labels.min()} to {labels.max()}; expected {expected}")
        return np.ascontiguousarray(labels, dtype=np.int64)
    if targets == MASKS:
        return _masks(labels, side, len(classes), where)
    if labels.dtype.kind not in "iufb":
        raise malformed(f"{where} are {labels.dtype}; expected numbers")
    values = np.ascontiguousarray(labels, dtype=np.float32)
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
        raise malformed(f"{where} are not all finite numbers, the first at {first}; remove these examples")
    if targets == NUMBERS and values.ndim != 1:
        raise malformed(f"{where} have the shape {shape}; expected one number for each example, (n,)")
    if targets == BOXES and (values.ndim != 3 or not values.shape[1] or values.shape[2] != COLUMNS):
        raise malformed(
            f"{where} have the shape {shape}; expected (n, boxes, {COLUMNS}), with at least one row an image"
        )
    if targets == BOXES and not np.isin(values[:, :, 0], np.arange(-1, len(classes))).all():
        expected = f"0 to {len(classes) - 1}, or -1 in rows that fill up"
        raise malformed(
            f"{where} have classes from {values[:, :, 0].min():g} to {values[:, :, 0].max():g}; expected {expected}"
        )
    if targets == SETS and (values.shape[1:] != (len(classes),) or not np.isin(values, (0, 1)).all()):
        expected = f"0 or 1 for each of the {len(classes)} labels in class_names, (n, {len(classes)})"
        raise malformed(f"{where} have the shape {shape}; expected {expected}")
    return values


def _masks(labels: NDArray[Any], side: int, n_classes: int, where: str) -> NDArray[np.uint8]:
    if labels.dtype != np.uint8 or labels.shape[1:] != (side, side):
        shape = "x".join(map(str, labels.shape))
        raise malformed(f"{where} are {labels.dtype} of the shape {shape}; expected uint8 (n, {side}, {side})")
    if (largest := int(labels[labels != IGNORED].max(initial=0))) >= n_classes:
        raise malformed(
            f"{where} have the class {largest}; expected 0 to {n_classes - 1}, or {IGNORED} for ignored pixels"
        )
    return np.ascontiguousarray(labels)


def _groups(
    strata: object, labels: NDArray[Any], targets: str, part: str, *, n_classes: int
) -> NDArray[np.int64] | None:
    """The groups that parts hold in equal shares; None for classes."""
    if targets == CLASSES:
        return None
    if strata is not None:
        groups = np.asarray(strata)
        if groups.shape != (len(labels),) or groups.dtype.kind not in "iu":
            raise malformed(
                f"the strata of the {part} part are {groups.dtype}; expected a whole number for each example"
            )
        _, dense = np.unique(groups, return_inverse=True)
        return np.asarray(dense.reshape(-1), dtype=np.int64)
    if targets == NUMBERS:
        return number_groups(labels)
    if targets in (BOXES, MASKS):
        return set_groups(present_classes(labels, n_classes).astype(np.float32))
    return set_groups(labels) if targets == SETS else np.zeros(len(labels), dtype=np.int64)
