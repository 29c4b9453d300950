"""Images with a mask each: a class for each pixel, as a level of grey, a place in a palette or a colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernets.data.dense.class_table import FILES, UNKNOWN, ClassTable
from supernets.data.dense.faults import Faults
from supernets.data.dense.labelled_images import LabelledImage, part_of
from supernets.data.image_folder import SUFFIXES, opened_image
from supernets.data.labelled_examples import listed, misplaced, missing
from supernets.data.targets import IGNORED
from supernets.errors import DataError

_MASK_SUFFIXES = (".png", ".bmp")
"""Suffixes of masks: formats that keep each pixel."""
_LAYOUT = "images and masks, or train, val and test with these two in each"


def find_masks(path: Path, faults: Faults) -> tuple[list[LabelledImage], dict[Path, Path]]:
    """The images, and the mask of each.

    Args:
        path: The folder of ``images`` and ``masks``; or of ``train``, ``val`` and ``test`` with these two folders in each; or
            ``images`` and ``masks`` have one folder for each part.
        faults: Receives images without a mask and masks without an image.

    Raises:
        DataError: the folder is laid out in another way.
    """
    if not path.is_dir():
        raise missing(f"{path}: {'is a file' if path.exists() else 'does not exist'}; expected a folder with {_LAYOUT}")
    folders = _folders(path)
    images: list[LabelledImage] = []
    masks: dict[Path, Path] = {}
    for part, (image_folder, mask_folder) in folders.items():
        files, mask_files = _by_stem(image_folder, SUFFIXES, faults), _by_stem(mask_folder, SUFFIXES, faults)
        if not files:
            raise misplaced(f"{image_folder}: holds no images; expected {', '.join(SUFFIXES)} files")
        for stem, file in files.items():
            images.append(LabelledImage(file, part, str(file)))
            if stem not in mask_files:
                expected = f"expected {stem}.png in {mask_folder}"
                faults.add(file, f"has no mask; {expected}", image=file, code=missing("").code)
            elif mask_files[stem].suffix.lower() not in _MASK_SUFFIXES:
                expected = f"expected {' or '.join(_MASK_SUFFIXES)}, which keep each pixel's value"
                faults.add(mask_files[stem], f"is a mask in a lossy format; {expected}", image=file)
            else:
                masks[file] = mask_files[stem]
        for stem, file in mask_files.items():
            if stem not in files:
                faults.add(file, f"is of no image; expected {stem} in {image_folder}", code=missing("").code)
    return images, masks


def _folders(path: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of images and of masks of each part."""
    inner = {
        part_of(folder.name): folder for folder in sorted(path.iterdir()) if folder.is_dir() and part_of(folder.name)
    }
    if inner:
        pairs = {part: (folder / "images", folder / "masks") for part, folder in inner.items()}
    else:
        images, masks = path / "images", path / "masks"
        folders = sorted(images.iterdir()) if images.is_dir() else []
        divided = {part_of(folder.name): folder for folder in folders if folder.is_dir() and part_of(folder.name)}
        pairs = {part: (folder, masks / folder.name) for part, folder in divided.items()} or {"train": (images, masks)}
    lacking = [str(folder.relative_to(path)) for pair in pairs.values() for folder in pair if not folder.is_dir()]
    if lacking or "train" not in pairs:
        raise misplaced(f"{path}: has no folder {listed(lacking) or 'train'}; expected {_LAYOUT}")
    return {part: pairs[part] for part in ("train", "validation", "test") if part in pairs}


def _by_stem(folder: Path, suffixes: Sequence[str], faults: Faults) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or file.suffix.lower() not in suffixes:
            continue
        if file.stem in files:
            faults.add(file, f"has the name of {files[file.stem].name}, too; expected one file of a name")
        files.setdefault(file.stem, file)
    return files


class MaskReader:
    """Reads masks as arrays of classes.

    Args:
        table: Values or colours of the classes; None where the values 0, 1, 2 and so on are the classes, and 255 is ignored.
        masks: The mask of each image.
        faults: Receives masks that cannot be read or have other values.
    """

    def __init__(self, table: ClassTable | None, masks: Mapping[Path, Path], faults: Faults) -> None:
        self._table, self._masks, self._faults = table, masks, faults
        self._faulty: set[Path] = set()
        self.class_names = self._names_of_values() if table is None else table.names

    def __call__(self, image: Path) -> NDArray[np.uint8] | None:
        """The mask of an image file, (height, width), of classes and `IGNORED`; None where it has a fault."""
        values = self._values(image)
        if values is None or self._table is None:
            return values
        classes = self._table.lookup[values]
        if classes.min() != UNKNOWN:
            return np.asarray(classes, dtype=np.uint8)
        codes, of_colours = np.unique(values[classes == UNKNOWN]).tolist(), self._table.of_colours
        shown = [str((code >> 16, code >> 8 & 255, code & 255)) if of_colours else str(code) for code in codes]
        text = f"has the {'colours' if of_colours else 'values'} {listed(shown)}"
        self._add(image, f"{text}; expected those of {self._table.file.name}")
        return None

    def _values(self, image: Path) -> NDArray[Any] | None:
        """The value or the colour (as one number) of each pixel, (height, width); None where the mask has a fault."""
        file = self._masks.get(image)
        if file is None or image in self._faulty:
            return None
        try:
            with opened_image(file) as mask:
                mode = mask.mode
                if self._table is not None and self._table.of_colours:
                    colours = np.asarray(mask.convert("RGB"))
                    codes = colours[:, :, 0].astype(np.int32)
                    for channel in (1, 2):
                        codes = codes << 8 | colours[:, :, channel]
                    return codes
                values = np.asarray(mask)
        except DataError as error:
            self._add(image, str(error).removeprefix(f"{file}: ").partition("; ")[0], error.code)
            return None
        if mode not in ("L", "P", "1") and not mode.startswith("I"):
            text = f"has colours (mode {mode}); expected grey or a palette, or {FILES[0]} with the columns name, r, g and b"
        elif values.min() < 0 or values.max() > IGNORED:
            text = f"has values from {values.min()} to {values.max()}; expected 0 to {IGNORED}"
        else:
            return values.astype(np.uint8)
        self._add(image, text)
        return None

    def _add(self, image: Path, text: str, code: str = "data.malformed-labels") -> None:
        """Adds a fault of an image's mask, which is not read again."""
        self._faulty.add(image)
        self._faults.add(self._masks[image], text, image=image, code=code)

    def _names_of_values(self) -> tuple[str, ...]:
        """The values of all masks as names of classes; adds values with gaps between them to the faults."""
        file_by_value: dict[int, Path] = {}
        for image, file in self._masks.items():
            if (values := self._values(image)) is not None:
                present = np.flatnonzero(np.bincount(values.reshape(-1), minlength=IGNORED + 1)).tolist()
                file_by_value = dict.fromkeys(present, file) | file_by_value
        classes = sorted(value for value in file_by_value if value != IGNORED)
        if not self._faulty and (len(classes) < 2 or classes != [*range(len(classes))]):
            got = f"masks have the values {listed([*map(str, sorted(file_by_value))])}"
            last = classes[-1] if classes else IGNORED
            expected = f"expected 0, 1, 2 and so on without a gap, or {FILES[0]} with the columns name and value"
            self._faults.add(file_by_value.get(last, "masks"), f"has the value {last}, and {got}; {expected}")
        return tuple(map(str, range(classes[-1] + 1 if classes else 1)))
