"""Data sets as three parts that never mix: `load_data` reads a source, splits it, and turns its examples into tensors.

A source (`digits`, `fashion_mnist`, `image_folder`, `text_classification`) gives a `source.Source`; `splitting` makes three
parts of its examples without looking at what they are; `pixels` turns images into tensors, `sentences` texts, by a tokenizer
(`tokenizing`). Data of another kind has its place beside these two.
"""

from supernets.data.batching import augment, batches, by_length, typical_batches
from supernets.data.loading import NAMES, load_data
from supernets.data.options import ImageOptions, TextOptions
from supernets.data.parts import DataSet, ImageFormat, Part, TextFormat, head

__all__ = [
    "NAMES", "DataSet", "ImageFormat", "ImageOptions", "Part", "TextFormat", "TextOptions", "augment", "batches", "by_length",
    "head", "load_data", "typical_batches",
]  # fmt: skip
