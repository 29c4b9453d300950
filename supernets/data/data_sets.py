"""Loads a data set by its name: source, split, and images normalised, sentences tokenized or rows standardised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from supernets.data.dense.dense_data import TARGETS as DENSE
from supernets.data.dense.dense_data import dense_images, dense_source
from supernets.data.document_blocks import block_data_set
from supernets.data.documents import text_documents
from supernets.data.fashion_mnist import fashion_mnist
from supernets.data.image_folder import image_folder, images_of_folder, resizing_of, spread
from supernets.data.image_memory import check_memory
from supernets.data.image_table import image_table, images_of_table
from supernets.data.in_memory import DataSet, Part
from supernets.data.labelled_examples import (
    Examples,
    OnProgress,
    Source,
    invalid_option,
    missing,
    no_progress,
    wrong_kind,
)
from supernets.data.number_table import number_table, standardisation
from supernets.data.options import DocumentOptions, ImageOptions, RowOptions, TextOptions
from supernets.data.pair_blocks import pair_data_set
from supernets.data.pixels import fit, image_of, normalise, statistics
from supernets.data.preprocessing import ImageFormat, Resizing, RowFormat, TextFormat, decode, standardised
from supernets.data.splitting import Split, split
from supernets.data.targets import BOXES, CLASSES, MASKS
from supernets.data.text_classification import text_classification
from supernets.data.text_pairs import text_pairs
from supernets.data.tokenizing import SentenceTokenizer
from supernets.data.unlabelled import unlabelled_images, unlabelled_images_of, unlabelled_sentences

Options = ImageOptions | TextOptions | RowOptions | DocumentOptions
OptionsT = TypeVar("OptionsT", ImageOptions, TextOptions, RowOptions, DocumentOptions)
_EXAMPLES: Mapping[type[Options], str] = {
    ImageOptions: "images",
    TextOptions: "sentences",
    RowOptions: "rows of numbers",
    DocumentOptions: "documents (text to model)",
}
"""The examples of data sets with these options, for errors."""
_PATHS: Mapping[str, str] = {
    "image-folder": "the folder that holds one folder of images for each class",
    "image-table": "the table that names images and their labels",
    "text-classification": "a table of sentences, or a folder or zip of one text file a class",
    "number-table": "the table of numbers and labels",
    "text": "text files or tables of documents",
    "text-pairs": "tables of pairs",
    "coco": "a .json file of annotations, or a folder with one for each part",
    "yolo": "the folder of data.yaml, images and labels",
    "voc": "the folder of Annotations and JPEGImages",
    "segmentation-folder": "the folder of images and masks",
}
"""What the path of data sets of files leads to."""
NAMES = ("digits", "fashion-mnist", *_PATHS)
_OF_FILES = ("image-folder", "image-table")
"""Data sets of image files, which are resized as they are read."""


def load_data(
    name: str,
    *,
    path: Path | None = None,
    options: Options | None = None,
    validation: int | float | None = None,
    test: int | float | None = None,
    seed: int = 0,
    targets: str = CLASSES,
    on_progress: OnProgress = no_progress,
) -> DataSet:
    """A data set in memory, as three parts that never mix.

    Images are normalised by the mean and deviation of the training part, and sentences tokenized by a tokenizer that is trained
    on it, unless others are given.

    Args:
        name: ``digits`` (scikit-learn's 1,797 images of 8 x 8), ``fashion-mnist`` (70,000 of 28 x 28: the files in
            `path`, else Debian's package, else a download), ``image-folder`` (the user's own in `path`),
            ``image-table`` (the user's own, named in the table `path` with their labels), ``text-classification`` (the
            user's own sentences in `path`), ``number-table`` (the rows of numbers of the table `path`, with a label each),
            ``text`` (the user's own documents in `path`, for language models), ``text-pairs`` (rows of a source and a target
            in the table `path`, for encoder-decoders), ``coco``, ``yolo`` or ``voc`` (images with boxes in these formats), or
            ``segmentation-folder`` (images with masks).
        path: File or folder of the data, as `name` says; required by the user's own data sets. None for ``digits``, which has
            no files, and to look up or download ``fashion-mnist``.
        options: Options of the data set's kind; None for the defaults.
        validation, test: a number of examples, or a share (below 1), to take from the training examples; None for the
            data set's default. It is an error to ask for a part that the data set has itself.
        seed: Seed of the split, at least 0; the parts depend on it and on the data alone.
        targets: the kind of labels that a table has, see `supernets.data.targets`; other data sets have their own, and those of
            boxes or masks are checked against it unless it is the default.
        on_progress: called about once a second while files are read.

    Raises:
        DataError: unknown name; options of another kind; files missing, damaged or unfit to train on; the split cannot be
            made.
    """
    wanted_parts: dict[str, Any] = {"validation": validation, "test": test, "seed": seed}
    match name:
        case "text" | "text-pairs":
            document_options = _options(name, options, DocumentOptions)
            of_text = text_documents, block_data_set
            read_source, make_data_set = of_text if name == "text" else (text_pairs, pair_data_set)
            documents = read_source(_required(name, path), document_options)
            return make_data_set(name, documents, split(documents, **wanted_parts), document_options)
        case "number-table":
            row_options = _options(name, options, RowOptions)
            source, columns = number_table(_required(name, path), row_options, targets)
            return _standardised(name, source, split(source, **wanted_parts), columns)
        case "text-classification":
            text_options = _options(name, options, TextOptions)
            read_sentences = text_classification if text_options.labelled else unlabelled_sentences
            source = read_sentences(_required(name, path), text_options)
            return data_set_of(name, source, options=text_options, **wanted_parts)
        case _:
            image_options = _options(name, options, ImageOptions)
            source = _images(name, path, image_options, on_progress, targets)
            return data_set_of(name, source, options=image_options, **wanted_parts)


def data_set_of(
    name: str,
    source: Source,
    *,
    options: Options | None = None,
    validation: int | float | None = None,
    test: int | float | None = None,
    seed: int = 0,
) -> DataSet:
    """The data set of labelled examples, split and preprocessed as `load_data` does it; arguments and errors as there."""
    if source.of_text:
        text_options = _options(name, options, TextOptions)
        return _tokenized(name, source, split(source, validation=validation, test=test, seed=seed), text_options)
    image_options = _options(name, options, ImageOptions)
    n_channels, native_size = source.train.inputs.shape[1:3]
    size, n_channels = image_options.image_size or native_size, image_options.channels or n_channels
    if source.targets in (BOXES, MASKS) and size != native_size:
        boxes = f"its {source.targets} are those of images of {native_size} pixels a side"
        raise invalid_option(f"{source.where}: image_size={size}: {boxes}; leave it out")
    n_images = sum(len(part) for part in (source.train, source.validation, source.test) if part is not None)
    check_memory(n_images, channels=n_channels, image_size=size, where=source.where)
    examples = split(source, validation=validation, test=test, seed=seed)
    shape: dict[str, Any] = {"image_size": size, "channels": n_channels}
    resizing = _resizing(name, source, image_options, resized=size != native_size)
    fitted = Split(*(fit(part, levels=source.levels, **shape, resizing=resizing) for part in examples))
    levels = source.levels if size == native_size else 255
    mean, std = _normalisation(image_options, n_channels) or statistics(fitted.train.inputs, levels)
    crop_settings = resizing_of(image_options) if name in _OF_FILES and not image_options.as_in_0_1 else {}
    format = ImageFormat(mean, std, **shape, levels=levels, resizing=resizing, **crop_settings)
    train, val, unseen = (normalise(part, format) for part in fitted)
    return DataSet(name, train, val, unseen, source.class_names, format, source.skipped, source.targets)


def some_images(
    name: str,
    path: Path | None,
    *,
    channels: int,
    n: int,
    image_column: str | None = None,
    labelled: bool = True,
    images: Path | None = None,
) -> list[Image.Image]:
    """At most `n` images of a data set as its files have them, decoded but not resized, spread over the training part.

    Args:
        name, path: As in `load_data`.
        channels: 1 (grey) or 3 (colour).
        n: Maximum number of images.
        image_column, labelled, images: As in `ImageOptions`.

    Raises:
        DataError: as `load_data`.
    """
    if name == "image-folder" and path is not None:
        of_folder = images_of_folder if labelled else unlabelled_images_of
        return of_folder(path, channels=channels, n=n)
    if name == "image-table" and path is not None:
        return images_of_table(path, channels=channels, n=n, column=image_column)
    if name in DENSE:
        return dense_images(name, _required(name, path), images=images, channels=channels, n=n)
    return images_of(_images(name, path, ImageOptions(), no_progress, CLASSES), channels=channels, n=n)


def images_of(source: Source, *, channels: int, n: int) -> list[Image.Image]:
    """At most `n` images of labelled examples, grey or in colour, spread over the training part."""
    pixels = source.train.inputs
    return [decode(image_of(pixels[i]), channels) for i in spread(len(pixels), n)]


def _options(name: str, options: Options | None, kind: type[OptionsT]) -> OptionsT:
    """The options of a data set, by default those without a value; raises `DataError` for those of another kind."""
    if options is not None and not isinstance(options, kind):
        got = _EXAMPLES[type(options)]
        raise wrong_kind(f"{name} takes the options of {_EXAMPLES[kind]}, and got those of {got}")
    return options or kind()


def _required(name: str, path: Path | None) -> Path:
    if path is None:
        raise missing(f"{name} needs a path: {_PATHS[name]}")
    return path


def _resizing(name: str, source: Source, options: ImageOptions, *, resized: bool) -> Resizing:
    """The method by which images are resized; `resized` is True if images of arrays have another size than the data set."""
    if source.targets in (BOXES, MASKS):
        return "letterbox"
    if not options.as_in_0_1:
        return "pillow"
    if name in _OF_FILES:
        return "pillow-in-one-call"
    return "torch" if resized else "pillow"


def _normalisation(options: ImageOptions, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The mean and deviation of the options, if they have any."""
    if options.mean is None or options.std is None:
        return None
    if len(options.mean) != channels:
        n = len(options.mean)
        raise invalid_option(
            f"mean and std: {n} numbers each; expected one for each of the images' {channels} channels"
        )
    return options.mean, options.std


def _images(name: str, path: Path | None, options: ImageOptions, on_progress: OnProgress, targets: str) -> Source:
    match name:
        case "digits":
            if path is not None:
                raise invalid_option(f"digits ships with scikit-learn and has no files; got path={path}, leave it out")
            return _digits()
        case "fashion-mnist":
            return fashion_mnist(path)
        case "image-folder":
            read_folder = image_folder if options.labelled else unlabelled_images
            return read_folder(_required(name, path), options, on_progress=on_progress)
        case "image-table":
            return image_table(_required(name, path), options, targets, on_progress=on_progress)
        case "coco" | "yolo" | "voc" | "segmentation-folder":
            return dense_source(name, _required(name, path), options, targets, on_progress=on_progress)
        case _:
            raise invalid_option(f"unknown data set {name!r}; expected one of {', '.join(NAMES)}")


def _digits() -> Source:
    """1,797 grey images of 8 x 8 pixels with values from 0 to 16 (the test set of Alpaydin and Kaynak 1998, UCI)."""
    from sklearn.datasets import load_digits  # importing it takes longer than reading most other data sets

    images, labels = load_digits(return_X_y=True)
    inputs = np.round(images.reshape(-1, 1, 8, 8) * 255 / 16).astype(np.uint8)
    names = tuple(f"digits[{i}]" for i in range(len(labels)))
    return Source("digits", tuple("0123456789"), Examples(inputs, labels.astype(np.int64), names), levels=16)


def _standardised(name: str, source: Source, split: Split, columns: tuple[str, ...]) -> DataSet:
    """The data set of split rows, standardised by the training part."""
    mean, std = standardisation(split.train.inputs)
    train, validation, test = (
        Part.of(torch.from_numpy(standardised(part.inputs, mean, std)), torch.from_numpy(part.labels), names=part.names)
        for part in split
    )
    format = RowFormat(columns, mean, std)
    return DataSet(name, train, validation, test, source.class_names, format, targets=source.targets)


def _tokenized(name: str, source: Source, split: Split, options: TextOptions) -> DataSet:
    """The data set of split sentences; a tokenizer that is trained here sees the training part only."""
    if options.tokenizer is not None:
        tokenizer = SentenceTokenizer.load(options.tokenizer, max_tokens=options.max_tokens)
    else:
        sentences = split.train.inputs.tolist()
        tokenizer = SentenceTokenizer.train(sentences, vocabulary=options.vocabulary, max_tokens=options.max_tokens)
    parts, n_cut = [], 0
    for part in split:
        names = [f"{source.where}: {part.name(i)}" for i in range(len(part))]
        ids, is_cut = tokenizer.encode(part.inputs.tolist(), names)
        parts.append(Part.of(ids, torch.from_numpy(part.labels), tokenizer.padding, names=part.names))
        n_cut += int(is_cut.sum())
    train, validation, test = parts
    return DataSet(
        name,
        train,
        validation,
        test,
        source.class_names,
        TextFormat(
            vocabulary=tokenizer.vocabulary,
            padding=tokenizer.padding,
            max_tokens=options.max_tokens,
            tokenizer=tokenizer.json,
            padding_token=tokenizer.padding_token,
            special_tokens=tokenizer.special_tokens,
            typical_tokens=math.ceil(validation.lengths().double().mean().item()),
            n_cut=n_cut,
        ),
    )
