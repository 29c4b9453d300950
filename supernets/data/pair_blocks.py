"""Tokenizes pairs of texts for encoder-decoders."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import numpy as np
import torch

from supernets.data.document_blocks import NOTHING
from supernets.data.in_memory import DataSet, Part
from supernets.data.labelled_examples import Examples, Source, listed, malformed
from supernets.data.options import DocumentOptions
from supernets.data.preprocessing import PairFormat
from supernets.data.splitting import Split
from supernets.data.tokenizing import DocumentTokenizer, tokenizer_for, unusable

_ADDED = 2
"""Number of separators of a target."""
_Tokens = tuple["array[int]", "array[int]", "array[int]"]
"""Ids of a source, those of its target, and bytes of text of the latter and of the separator after them."""


def pair_data_set(name: str, source: Source, split: Split, options: DocumentOptions) -> DataSet:
    """The data set of split pairs, of one tokenizer for both sides, which is trained on the training part or given.

    Inputs are (n, source + target): a source, padded at its end with the separator, to the longest of all parts; then the
    separator, the target, the separator, and more of it to the longest. Labels are (n, target - 1, 3), int32, as of
    `supernets.data.document_blocks.block_data_set`: each pair is a document, of which the target's tokens are predicted.

    Raises:
        DataError: the tokenizer cannot be used, a text has no tokens or holds the separator, or pairs are longer than the
            options allow.
    """
    tokenizer = tokenizer_for([*split.train.inputs.tolist(), *split.train.labels.tolist()], options)
    parts = split._asdict()
    encoded = {part: _encoded(examples, tokenizer, source.where) for part, examples in parts.items()}
    lengths = {
        part: [(len(first), len(second) + _ADDED) for first, second, _ in pairs] for part, pairs in encoded.items()
    }
    longest = [max(pair[side] for pairs in lengths.values() for pair in pairs) for side in (0, 1)]
    if max(longest) > options.block:
        long = [
            examples.name(i)
            for part, examples in parts.items()
            for i, n in enumerate(lengths[part])
            if max(n) > options.block
        ]
        raise malformed(
            f"{source.where}: {len(long)} pair(s) have more than {options.block} tokens in their source, or in their target "
            f"with the separators before and after it ({listed(long)}); set data.max_tokens to {max(longest)}, or remove them"
        )
    train, validation, test = (
        _packed(encoded[part], examples, tokenizer.separator, longest) for part, examples in parts.items()
    )
    typical = math.ceil(np.mean([n - 1 for _, n in lengths["validation"]]))
    format = PairFormat(
        vocabulary=tokenizer.vocabulary,
        separator=tokenizer.separator,
        separator_token=tokenizer.separator_token,
        block=longest[1],
        tokenizer=tokenizer.json,
        source=longest[0],
        typical_tokens=typical,
    )
    return DataSet(name, train, validation, test, (), format, targets=source.targets)


def _encoded(examples: Examples, tokenizer: DocumentTokenizer, where: str) -> list[_Tokens]:
    encoded = []
    for i, (source, target) in enumerate(zip(examples.inputs.tolist(), examples.labels.tolist(), strict=True)):
        where_it_is = f"{where}: {examples.name(i)}"
        (source_ids, _), (target_ids, sizes) = (tokenizer.encode(text, where_it_is) for text in (source, target))
        for side, tokens in (("source", source_ids), ("target", target_ids)):
            if not tokens:
                raise unusable(
                    f"{where_it_is}: the tokenizer makes no token of the {side}; remove the row, or take another"
                )
            if tokenizer.separator in tokens:
                raise unusable(
                    f"{where_it_is}: the {side} holds the separator {tokenizer.separator_token!r}, which ends a text; name a "
                    "token that is in no text in data.separator"
                )
        # Lists would take nine times the memory.
        encoded.append(
            (array("i", source_ids), array("i", target_ids), array("i", [*sizes, len(target.encode()) - sum(sizes)]))
        )
    return encoded


def _packed(pairs: Sequence[_Tokens], examples: Examples, separator: int, longest: Sequence[int]) -> Part:
    first, second = longest
    inputs = np.full((len(pairs), first + second), separator, dtype=np.int64)
    labels = np.zeros((len(pairs), second - 1, 3), dtype=np.int32)
    labels[..., 1] = NOTHING
    for i, (source, target, sizes) in enumerate(pairs):
        inputs[i, : len(source)] = source
        inputs[i, first + 1 : first + 1 + len(target)] = target
        labels[i, : len(sizes), 1], labels[i, : len(sizes), 2] = i, sizes
    labels[..., 0] = inputs[:, first + 1 :]
    return Part.of(torch.from_numpy(inputs), torch.from_numpy(labels), names=examples.names)
