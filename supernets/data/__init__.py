"""Data sets in memory, as three parts that never mix; `load_data` makes them."""

from supernets.data.batching import augment, batches, by_length, typical_batches
from supernets.data.data_set_protocol import LabelledData, checked_source
from supernets.data.data_sets import NAMES, data_set_of, images_of, load_data, some_images
from supernets.data.in_memory import DataSet, Part, head
from supernets.data.labelled_examples import Examples, OnProgress, Source, no_progress
from supernets.data.options import DocumentOptions, ImageOptions, RowOptions, TextOptions
from supernets.data.preprocessing import BlockFormat, Format, ImageFormat, PairFormat, RowFormat, TextFormat

__all__ = [
    "NAMES",
    "BlockFormat",
    "DataSet",
    "DocumentOptions",
    "Examples",
    "Format",
    "ImageFormat",
    "ImageOptions",
    "LabelledData",
    "OnProgress",
    "PairFormat",
    "Part",
    "RowFormat",
    "RowOptions",
    "Source",
    "TextFormat",
    "TextOptions",
    "augment",
    "batches",
    "by_length",
    "checked_source",
    "data_set_of",
    "head",
    "images_of",
    "load_data",
    "no_progress",
    "some_images",
    "typical_batches",
]
