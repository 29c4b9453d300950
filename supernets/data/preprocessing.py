"""Preprocessing of images, sentences and rows of numbers: one description that training, exports and written scripts share.

Exports copy the source of `decode`, `square`, `centre`, `letterbox`, `letterbox_window`, `normalised` and `standardised`, and
of `supernets.data.tokenizing.configure`, into a script.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps

Resizing = Literal["pillow", "letterbox", "pillow-in-one-call", "torch"]
"""The method by which images are resized: by `square`; by `letterbox` (data of boxes and masks); or as in version 0.1, by
`square_in_one_call` (image folders) or by torch (digits and fashion-mnist)."""

PLAIN = "bilinear"
"""The interpolation of images without one of their own."""


def decode(image: Image.Image, channels: int) -> Image.Image:
    """An image upright by its EXIF orientation, without alpha, as grey (1 channel) or RGB (3), of 8 bits a channel.

    Levels of grey from 0 to 65535 are scaled to 0 to 255, and rounded.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # a conversion by Pillow would clip
        deep = np.asarray(image)
        if image.mode == "F" or deep.min() < 0 or deep.max() > 65535:
            raise ValueError(f"mode {image.mode}: expected at most 16 bits a channel; convert the image")
        image = Image.fromarray(((deep.astype(np.int64) + 128) // 257).astype(np.uint8))
    if "transparency" in image.info:  # Pillow warns if it is dropped from a palette in one step
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")


def square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The centred square of an image, resized (bilinear, antialiased), rows before columns: (channels, size, size)."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    bilinear = Image.Resampling.BILINEAR
    # In two calls: the order within one, and so the rounding, differs between versions of Pillow.
    image = image.resize((size, image.height), bilinear, box=(left, 0, left + side, image.height))
    image = image.resize((size, size), bilinear, box=(0, top, size, top + side))
    return np.asarray(image).reshape(size, size, -1).transpose(2, 0, 1)


def centre(image: Image.Image, size: int, crop: float, interpolation: str) -> NDArray[np.uint8]:
    """The centre of an image whose short side is resized to ``size / crop`` pixels, antialiased: (channels, size, size).

    Sizes are those of torchvision's Resize and CenterCrop and of timm; only what is taken is computed.
    """
    method, short = Image.Resampling[interpolation.upper()], min(image.size)
    boxes = []
    for side in image.size:
        resized = int(size / crop + 1e-6) * side // short
        first = round((resized - size) / 2)
        boxes.append((first * side / resized, (first + size) * side / resized))
    (left, right), (top, bottom) = boxes
    image = image.resize((size, image.height), method, box=(left, 0, right, image.height))
    image = image.resize((size, size), method, box=(0, top, size, bottom))
    return np.asarray(image).reshape(size, size, -1).transpose(2, 0, 1)


def letterbox_window(width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """The place of a whole image in a letterboxed square of `size` pixels: left, top, width and height, in pixels.

    The long side becomes `size`, the short one is rounded, and at least 1; of an odd margin the smaller half is on the left and
    at the top. A point (x, y) of the image is at ``(left + x * new_width / width, top + y * new_height / height)``.
    """
    long = max(width, height)
    new_width, new_height = (max(1, (2 * side * size + long) // (2 * long)) for side in (width, height))
    return (size - new_width) // 2, (size - new_height) // 2, new_width, new_height


def letterbox(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The whole image in a grey square (114), resized (bilinear, antialiased), rows before columns: (channels, size, size)."""
    left, top, width, height = letterbox_window(*image.size, size)
    bilinear = Image.Resampling.BILINEAR
    image = image.resize((width, image.height), bilinear).resize((width, height), bilinear)
    pixels = np.asarray(image).reshape(height, width, -1)
    out = np.full((size, size, pixels.shape[2]), 114, dtype=np.uint8)
    out[top : top + height, left : left + width] = pixels
    return out.transpose(2, 0, 1)


def square_in_one_call(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The square of an image, resized in the order of Pillow's version: some bytes of tall images differ by 1 since Pillow
    13."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.asarray(image).reshape(size, size, -1).transpose(2, 0, 1)


def normalised(pixels: NDArray[np.uint8], levels: int, mean: ArrayLike, std: ArrayLike) -> NDArray[np.float32]:
    """The inputs of a network for bytes (..., channels, height, width)."""
    level = np.round(np.arange(256) * levels / 255) / levels
    table: NDArray[np.float32] = ((level - np.reshape(mean, (-1, 1))) / np.reshape(std, (-1, 1))).astype(np.float32)
    inputs = np.empty(pixels.shape, dtype=np.float32)
    images = pixels.reshape(-1, *pixels.shape[-3:])
    for image, image_inputs in zip(images, inputs.reshape(images.shape), strict=True):
        for channel, values in enumerate(np.broadcast_to(table, (len(image), 256))):
            np.take(values, image[channel], out=image_inputs[channel], mode="clip")  # in place only with this mode
    return inputs


def standardised(rows: ArrayLike, mean: ArrayLike, std: ArrayLike) -> NDArray[np.float32]:
    """The inputs of a network for rows of numbers (n, columns)."""
    scaled: NDArray[np.float32] = ((np.asarray(rows, dtype=np.float64) - np.asarray(mean)) / np.asarray(std)).astype(
        np.float32
    )
    return scaled


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """The preprocessing of the images of a data set, from a decoded file to the input of a network.

    Attributes:
        mean, std: Mean and deviation of each channel on the scale from 0 to 1, by default the training part's; inputs are
            ``(pixel - mean) / std``.
        image_size: height and width in pixels.
        levels: number of steps from black to white: ``pixel = round(byte * levels / 255) / levels``.
        resizing: The method by which the images were resized.
        crop, interpolation: Settings of `centre` for the images of files; those of arrays are resized whole by `square`.
    """

    noun: ClassVar[str] = "image"

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    channels: int
    levels: int = 255
    resizing: Resizing = "pillow"
    crop: float = 1.0
    interpolation: str = PLAIN

    @property
    def of_square(self) -> bool:
        """True if images are resized by `square`, and not by `centre` or `letterbox`."""
        return self.resizing != "letterbox" and self.crop == 1 and self.interpolation == PLAIN

    def resized(self, image: Image.Image) -> NDArray[np.uint8]:
        """The bytes of a decoded image, (channels, image_size, image_size)."""
        if self.resizing == "letterbox":
            return letterbox(image, self.image_size)
        if self.of_square:
            return square(image, self.image_size)
        return centre(image, self.image_size, self.crop, self.interpolation)

    def inputs(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The inputs of a network for bytes (..., channels, height, width)."""
        return normalised(pixels, self.levels, self.mean, self.std)

    def to_json(self) -> dict[str, Any]:
        """The description in words and numbers, for manifests; in the order of the steps."""
        return {
            "kind": "image",
            "orientation": "upright, by the EXIF orientation",
            "alpha": "dropped, without blending",
            "bits": "8 a channel; grey of 16 bits is scaled: (level + 128) // 257",
            "channel_order": "L" if self.channels == 1 else "RGB",
            "grey": "(19595 R + 38470 G + 7471 B + 32768) // 65536",
            "crop": "the centred square with the side of the short side, before resizing; offsets are rounded down",
            "resized_side": "both sides of the square, so the short side of the image",
            "size": [self.image_size, self.image_size],
            "filter": self.interpolation,
            "antialias": self.interpolation != "nearest",
            "resizing": self.resizing,
            "order": "rows first, then columns, each rounded to bytes",
            "levels": self.levels,
            "scale": "pixel = round(byte * levels / 255) / levels; input = (pixel - mean) / std in float64, as float32",
            "mean": list(self.mean),
            "std": list(self.std),
            "layout": "batch, channel, row, column",
            **self._placement(),
        }

    def _placement(self) -> dict[str, Any]:
        """The facts of images that are not resized by `square`."""
        if self.resizing == "letterbox":
            return self._letterbox()
        return {} if self.of_square else self._centre()

    def _letterbox(self) -> dict[str, Any]:
        return {
            "crop": "none: the whole image, its aspect ratio kept",
            "resized_side": "the long side; the short one in proportion, rounded to the nearest, halves up, at least 1",
            "padding": 114,
            "padding_side": "both sides of the short side; of an odd number of pixels the smaller half on the left or top",
        }

    def _centre(self) -> dict[str, Any]:
        short = int(self.image_size / self.crop + 1e-6)
        return {
            "crop": "the centre of the resized image, round((side - size) / 2) from its left and its top",
            "resized_side": f"the short side, to {short}; the long one in proportion, rounded down",
            "crop_share": self.crop,
        }


@dataclass(frozen=True, slots=True)
class TextFormat:
    """The preprocessing of the sentences of a data set, from text to the input of a network.

    Attributes:
        vocabulary: number of different tokens: every id is below it.
        padding: the token that fills up short sentences.
        max_tokens: the most that a sentence may have; longer ones were cut.
        tokenizer: the tokenizer's whole description, as a ``tokenizer.json`` has it.
        typical_tokens: the mean length of the validation part's sentences, rounded up; costs are counted for it.
        padding_token: the text of `padding`.
        special_tokens: those that the tokenizer adds to a sentence, in their order.
        n_cut: number of sentences, of all parts, that were longer than `max_tokens`.
    """

    noun: ClassVar[str] = "sentence"

    vocabulary: int
    padding: int
    max_tokens: int
    tokenizer: str
    typical_tokens: int
    padding_token: str
    special_tokens: tuple[str, ...]
    n_cut: int = 0

    def to_json(self) -> dict[str, Any]:
        """The description in words and numbers, for manifests; in the order of the steps."""
        return {
            "kind": "sentence",
            "white_space": "stripped at both ends",
            "tokenizer": "the file .tokenizer.json beside the model; special tokens in a sentence are split like other words",
            "special_tokens": list(self.special_tokens),
            "max_tokens": self.max_tokens,
            "truncation": "at the end; the special tokens are kept and count",
            "padding": self.padding,
            "padding_token": self.padding_token,
            "padding_side": "at the end, to the longest sentence of a batch",
            "vocabulary": self.vocabulary,
            "layout": "batch, token",
        }


@dataclass(frozen=True, slots=True)
class RowFormat:
    """The preprocessing of rows of numbers, from a table's cells to the input of a network.

    Attributes:
        columns: names of the numbers of a row, in their order.
        mean, std: Mean and deviation of each column in the training part; inputs are ``(number - mean) / std``.
    """

    noun: ClassVar[str] = "row"

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """The description in words and numbers, for manifests."""
        return {
            "kind": "row",
            "columns": list(self.columns),
            "scale": "input = (number - mean) / std in float64, as float32",
            "mean": list(self.mean),
            "std": list(self.std),
            "layout": "batch, column",
        }


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """The preprocessing of documents for language models, from text to the input of a network.

    Attributes:
        vocabulary: number of different tokens: every id is below it.
        separator: the token before and after each document.
        separator_token: its text.
        block: tokens of a block.
        tokenizer: the tokenizer's whole description, as a ``tokenizer.json`` has it.
    """

    noun: ClassVar[str] = "text"

    vocabulary: int
    separator: int
    separator_token: str
    block: int
    tokenizer: str

    def to_json(self) -> dict[str, Any]:
        """The description in words and numbers, for manifests."""
        return {
            "kind": "text",
            "tokenizer": "the file .tokenizer.json beside the model; special tokens in a text are split like other words",
            "separator": self.separator,
            "separator_token": self.separator_token,
            "block": self.block,
            "vocabulary": self.vocabulary,
            "layout": "batch, token",
        }


@dataclass(frozen=True, slots=True)
class PairFormat(BlockFormat):
    """The preprocessing of pairs of texts: a block is a target, with the separator before and after it, after its source.

    Attributes:
        source: tokens of a source, padded at its end with the separator; the first ones of an input.
        typical_tokens: the mean number of a target's tokens in the validation part, with the separator after it, rounded up.
    """

    noun: ClassVar[str] = "pair"

    source: int
    typical_tokens: int

    def to_json(self) -> dict[str, Any]:
        """The description in words and numbers, for manifests."""
        pair_keys = {"kind": "pair", "source": self.source, "source_padding": "at the end, with the separator"}
        return {**BlockFormat.to_json(self), **pair_keys}


Format = ImageFormat | TextFormat | RowFormat | BlockFormat
