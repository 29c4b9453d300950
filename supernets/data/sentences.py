"""Turns split sentences into a data set of token ids."""

from __future__ import annotations

import math

import torch

from supernets.data.options import TextOptions
from supernets.data.parts import DataSet, Part, TextFormat
from supernets.data.source import Examples, Source
from supernets.data.splitting import Split
from supernets.data.tokenizing import Encoded, SentenceTokenizer


def tokenized(name: str, source: Source, split: Split, options: TextOptions) -> DataSet:
    """The data set of split sentences; a tokenizer that is trained here sees the training part only.

    Raises:
        DataError: the tokenizer cannot be used, a sentence cannot be tokenized, or they take too much memory.
    """
    if options.tokenizer is not None:
        tokenizer = SentenceTokenizer.load(options.tokenizer, max_tokens=options.max_tokens)
    else:
        sentences = split.train.inputs.tolist()
        tokenizer = SentenceTokenizer.train(sentences, vocabulary=options.vocabulary, max_tokens=options.max_tokens)
    encoded = [_encoded(tokenizer, part, source.where) for part in split]
    parts = [
        Part.of(found.ids, torch.from_numpy(part.labels), tokenizer.padding)
        for part, found in zip(split, encoded, strict=True)
    ]
    train, validation, test = parts
    return DataSet(
        name, train, validation, test, source.class_names,
        TextFormat(
            vocabulary=tokenizer.vocabulary,
            padding=tokenizer.padding,
            max_tokens=options.max_tokens,
            tokenizer=tokenizer.json,
            typical_tokens=math.ceil(validation.lengths().double().mean().item()),
            n_cut=sum(int(found.cut.sum()) for found in encoded),
        ),
    )  # fmt: skip


def _encoded(tokenizer: SentenceTokenizer, part: Examples, where: str) -> Encoded:
    """The token ids of a part's sentences."""
    names = [f"{where}: {part.name(i)}" for i in range(len(part))]
    return tokenizer.encode(part.inputs.tolist(), names)
