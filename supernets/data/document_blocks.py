"""Packs documents into blocks of tokens, for language models."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np
import torch

from supernets.data.in_memory import DataSet, Part
from supernets.data.kept_tokens import KeptTokens
from supernets.data.labelled_examples import Examples, Source, malformed
from supernets.data.multiple_choice import choice_part, read_questions
from supernets.data.options import DocumentOptions
from supernets.data.preprocessing import BlockFormat
from supernets.data.splitting import Split
from supernets.data.tokenizing import DocumentTokenizer, tokenizer_for
from supernets.data.vocabulary import choose_tokens, cut_tokenizer, cut_vocabulary

NOTHING = -1
"""The number of the document of positions that fill the last block."""


def block_data_set(name: str, source: Source, split: Split, options: DocumentOptions) -> DataSet:
    """The data set of split documents; a tokenizer that is trained here sees the training part only.

    A part's documents, in their order, are one sequence of tokens: the separator, a document, the separator, and so on. Its
    blocks overlap by one token, so that each token but the first separator is predicted once. Inputs are (n, block). Labels are
    (n, block - 1, 3): the next token, the number of its document and the bytes of text that it has; `NOTHING` is the document
    where a block is filled up. Questions on which networks are scored belong to the validation and the test part.

    Where the options cut the tokenizer's vocabulary, the data set has the tokens of the largest of them.

    Raises:
        DataError: the tokenizer or the questions cannot be used, or the training part is shorter than a block.
    """
    texts = split.train.inputs.tolist()
    tokenizer = tokenizer_for(texts, options)
    if options.kept is None:
        return _tokenized(name, source, split, options, tokenizer)
    kept_tokens = (
        options.kept
        if isinstance(options.kept, KeptTokens)
        else choose_tokens(tokenizer, texts, options.kept, source.where)
    )
    tokenizers = [cut_tokenizer(tokenizer, kept_tokens.tokens[:size]) for size in kept_tokens.sizes]
    effect = cut_vocabulary(tokenizer, kept_tokens, tokenizers, split.validation.inputs.tolist(), source.where)
    return replace(_tokenized(name, source, split, options, tokenizers[-1]), vocabulary=effect)


def _tokenized(
    name: str, source: Source, split: Split, options: DocumentOptions, tokenizer: DocumentTokenizer
) -> DataSet:
    """The data set in a tokenizer's tokens."""
    questions = {} if options.choices is None else read_questions(options.choices, encoding=options.encoding)
    choices = {part: choice_part(members, tokenizer, block=options.block) for part, members in questions.items()}
    train, validation, test = (
        _packed(examples, tokenizer, options.block, source.where, questions=choices.get(part))
        for part, examples in split._asdict().items()
    )
    if len(train) < 2:
        n = int((train.labels[..., 1] != NOTHING).sum())
        expected = f"expected at least two blocks of {options.block}; add text, or lower max_tokens"
        raise malformed(f"{source.where}: the training part has {n} tokens; {expected}")
    format = BlockFormat(
        vocabulary=tokenizer.vocabulary,
        separator=tokenizer.separator,
        separator_token=tokenizer.separator_token,
        block=options.block,
        tokenizer=tokenizer.json,
    )
    return DataSet(name, train, validation, test, (), format, targets=source.targets)


def _packed(
    examples: Examples, tokenizer: DocumentTokenizer, block: int, where: str, *, questions: Part | None
) -> Part:
    ids, documents, sizes = array("q", [tokenizer.separator]), array("q"), array("q")
    for number, text in enumerate(examples.inputs.tolist()):
        tokens, bytes_each = tokenizer.encode(text, f"{where}: {examples.name(number)}")
        ids.extend([*tokens, tokenizer.separator])
        sizes.extend([*bytes_each, len(text.encode()) - sum(bytes_each)])
        documents.extend([number] * (len(tokens) + 1))
    n = -(-len(documents) // (block - 1))
    spare = n * (block - 1) - len(documents)
    sequence = np.concatenate([np.frombuffer(ids, np.int64), np.full(spare, tokenizer.separator)])
    starts = np.arange(n)[:, None] * (block - 1)
    inputs = sequence[starts + np.arange(block)]
    labels = np.stack(
        [
            inputs[:, 1:],
            np.concatenate([np.frombuffer(documents, np.int64), np.full(spare, NOTHING)]).reshape(n, block - 1),
            np.concatenate([np.frombuffer(sizes, np.int64), np.zeros(spare, np.int64)]).reshape(n, block - 1),
        ],
        axis=2,
    )
    return Part.of(torch.from_numpy(inputs), torch.from_numpy(labels), questions=questions)
