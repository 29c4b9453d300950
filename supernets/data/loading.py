"""Loads a data set by its name: source, split, normalise."""

from __future__ import annotations

from pathlib import Path

from supernets.data.digits import digits
from supernets.data.fashion_mnist import fashion_mnist
from supernets.data.image_folder import image_folder
from supernets.data.parts import DataSet, ImageFormat
from supernets.data.pixels import check_memory, fit, normalise, statistics
from supernets.data.source import Source
from supernets.data.splitting import Split, split
from supernets.errors import DataError

NAMES = ("digits", "fashion-mnist", "image-folder")


def load_data(
    name: str,
    *,
    path: Path | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    validation: int | float | None = None,
    test: int | float | None = None,
    seed: int = 0,
) -> DataSet:
    """A data set in memory, as three parts that never mix, normalised by the training part's mean and deviation.

    Args:
        name: ``digits`` (scikit-learn's 1,797 images of 8 x 8), ``fashion-mnist`` (70,000 of 28 x 28: the files in
            `path`, else Debian's package, else a download) or ``image-folder`` (the user's own in `path`).
        image_size: pixels to resize to; None keeps the size that all images have.
        channels: 1 or 3; None keeps what they have.
        validation, test: a number of images, or a share (below 1), to take from the training images; None for the data
            set's own way. A data set that has such a part itself refuses another.
        seed: of the split, at least 0; the parts depend on it and on the data alone.

    Raises:
        DataError: unknown name; files missing, damaged or unfit to train on; the split cannot be made.
    """
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size={image_size}: expected a number of pixels, at least 1")
    if channels not in (None, 1, 3):
        raise DataError(f"channels={channels}: expected 1 (grey) or 3 (colour)")
    source = _source(name, path, image_size, channels)
    n_channels, native_size = source.train.inputs.shape[1:3]
    size, n_channels = image_size or native_size, channels or n_channels
    n_images = sum(len(part) for part in (source.train, source.validation, source.test) if part is not None)
    check_memory(n_images, channels=n_channels, image_size=size, where=source.where)
    examples = split(source, validation=validation, test=test, seed=seed)
    fitted = Split(*(fit(part, max_value=source.max_value, image_size=size, channels=n_channels) for part in examples))
    max_value = source.max_value if size == native_size else 255  # resizing scales to bytes
    mean, std = statistics(fitted.train.inputs, max_value)
    train, val, unseen = (normalise(part, max_value=max_value, mean=mean, std=std) for part in fitted)
    return DataSet(name, train, val, unseen, source.class_names, ImageFormat(mean, std, size, n_channels))


def _source(name: str, path: Path | None, image_size: int | None, channels: int | None) -> Source:
    match name:
        case "digits":
            if path is not None:
                raise DataError(f"digits ships with scikit-learn and has no files; got path={path}, leave it out")
            return digits()
        case "fashion-mnist":
            return fashion_mnist(path)
        case "image-folder":
            if path is None:
                raise DataError("image-folder needs a path: the folder that holds one folder of images for each class")
            return image_folder(path, image_size=image_size, channels=channels)
        case _:
            raise DataError(f"unknown data set {name!r}; expected one of {', '.join(NAMES)}")
