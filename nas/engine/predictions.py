"""The predictions that a run keeps of its best networks: outputs for some validation images, and tables of all of them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from nas.engine.store.folder import write_atomically
from nas.errors import StoreError
from supernets.files import ZIP_ERRORS

FORMAT = 1
"""Version of the file's format."""
MAX_NETWORKS = 12
"""Networks whose predictions are kept, beside the largest one; evenly spaced along a larger front."""
_MAX_BYTES = 2**28
"""Size of an unpacked file that is read at most."""
Kind = Literal["boxes", "masks"]


@dataclass(frozen=True, eq=False, slots=True)
class Predictions:
    """Outputs of networks for some validation images, and tables of the whole validation part.

    Attributes:
        kind: Kind of the labels: ``boxes`` or ``masks``.
        classes: Names of the classes.
        side: Width and height of the networks' input, in pixels.
        n_examples: Number of validation images.
        networks: Keys of the networks; the last one is the largest of the space.
        names: Names of the images that are shown, k of them, or none.
        images: JPEG files of these images.
        labels: Boxes (k, boxes, 8) or masks (k, side, side), as `supernets.data.targets` defines them.
        outputs: Scored outputs (networks, k, ...): detections (..., detections, 6), float32, or class maps (..., side, side).
        tables: By name, (networks, ...), as the task's `illustrated` states them.

    Raises:
        ValueError: The arrays do not fit each other.
    """

    kind: Kind
    classes: tuple[str, ...]
    side: int
    n_examples: int
    networks: tuple[str, ...]
    names: tuple[str, ...]
    images: tuple[bytes, ...]
    labels: NDArray[Any]
    outputs: NDArray[Any]
    tables: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        n, k, classes = len(self.networks), len(self.images), len(self.classes)
        maps, boxes = (self.side, self.side), (self.labels.shape[1], 8)
        output = (self.outputs.shape[2], 6) if self.kind == "boxes" and self.outputs.ndim == 4 else maps
        by_class: dict[str, tuple[int, ...]] = {"confusion": (classes, classes)}
        if self.kind == "boxes":
            by_class = {"precision": (2, classes, 101), "average_precision": (4, classes), "labelled": (classes,)}
        shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
            "labels": (self.labels.shape, (k, *(boxes if self.kind == "boxes" else maps))),
            "outputs": (self.outputs.shape, (n, k, *output)),
            **{name: (self.tables[name].shape, (n, *shape)) for name, shape in by_class.items()},
        }
        for name, (shape, expected) in shapes.items():
            if shape != expected:
                raise ValueError(f"{name} has the shape {shape}, expected {expected}")
        if not n or not k or len(set(self.networks)) != n or len(self.names) not in (0, k):
            raise ValueError(f"{n} networks, {k} images and {len(self.names)} names do not fit")
        if self.kind == "boxes":
            values = np.concatenate([self.labels[..., :5].ravel(), self.outputs.ravel()])
            labels, detected = self.labels[..., 0], self.outputs[..., 5]
            lowest = -1
        else:
            values, labels, detected = np.zeros(1), self.labels[self.labels != 255], self.outputs
            lowest = 0
        if not np.isfinite(values).all():
            raise ValueError("a box is not finite")
        for values in (labels, detected):
            if values.size and not (lowest <= values.min() and values.max() < classes):
                raise ValueError(f"classes from {values.min():g} to {values.max():g}, expected below {classes}")

    def place(self, network: str) -> int | None:
        """The position of a network by its key; None if it has no predictions here."""
        return self.networks.index(network) if network in self.networks else None

    @property
    def largest(self) -> int:
        """The position of the largest network."""
        return len(self.networks) - 1

    def write(self, path: Path) -> None:
        """Writes a compressed archive of numpy arrays; `StoreError` where it cannot be written."""
        facts = {name: getattr(self, name) for name in _FACTS} | {"format": FORMAT}
        arrays = {
            "facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
            "labels": self.labels,
            "outputs": self.outputs,
            **{f"image-{i}": np.frombuffer(image, dtype=np.uint8) for i, image in enumerate(self.images)},
            **{f"table-{name}": table for name, table in self.tables.items()},
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **cast(dict[str, Any], arrays))
        write_atomically(path, buffer.getvalue())

    @classmethod
    def read(cls, path: Path) -> Predictions | None:
        """The predictions in a file that `write` has written; None where there is none.

        Raises:
            StoreError: The file is damaged, or of another version.
        """
        if not path.is_file():
            return None
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > _MAX_BYTES:
                raise ValueError(f"{size:,} bytes, expected at most {_MAX_BYTES:,}")
            with np.load(path, allow_pickle=False) as archive_arrays:
                return cls._parsed(dict(archive_arrays))
        except (OSError, KeyError, TypeError, AttributeError, IndexError, *ZIP_ERRORS) as error:
            message = (
                f"{path}: not readable as predictions ({_line(error)}); remove it, the run's results do not need it"
            )
            raise StoreError(message, code="predictions.damaged") from None

    @classmethod
    def _parsed(cls, arrays: Mapping[str, NDArray[Any]]) -> Predictions:
        facts = json.loads(arrays["facts"].astype(np.uint8).tobytes())
        if facts.get("format") != FORMAT:
            raise ValueError(f"format {facts.get('format')!r}, expected {FORMAT}")
        kind, side, n_examples = facts["kind"], facts["side"], facts["n_examples"]
        lists = [facts[name] for name in ("classes", "networks", "names")]
        is_text = all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists)
        if not is_text or kind not in get_args(Kind) or type(side) is not int or type(n_examples) is not int:
            raise ValueError("its facts are of other kinds")
        images = [
            arrays[f"image-{i}"].astype(np.uint8).tobytes() for i in range(sum(n.startswith("image-") for n in arrays))
        ]
        prefix = "table-"
        tables = {name.removeprefix(prefix): table for name, table in arrays.items() if name.startswith(prefix)}
        classes, networks, names = map(tuple, lists)
        return cls(
            kind, classes, side, n_examples, networks, names, tuple(images), arrays["labels"], arrays["outputs"], tables
        )


_FACTS = [f.name for f in fields(Predictions) if f.name not in ("images", "labels", "outputs", "tables")]


def _line(error: Exception) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
