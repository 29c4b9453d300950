"""The script beside an exported encoder-decoder, which writes the targets of sources."""

from __future__ import annotations

import json

from supernets.data import PairFormat

_SCRIPT = '''"""Writes the targets of sources: python {name} SOURCE [SOURCE ...]. Needs onnxruntime, numpy and tokenizers."""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
FIRST, STEP = (
    onnxruntime.InferenceSession(HERE / name, providers=["CPUExecutionProvider"])
    for name in ({first}, {step})
)
CACHE = [given.name for given in STEP.get_inputs() if given.name.startswith(("past", "memory"))]
SEPARATOR = {separator}  # {separator_token}: the token before and after each target, and the padding of sources
LONGEST, MOST = {longest}, {most}  # tokens of a source in the data, and of a target
TOKENIZER = Tokenizer.from_file(str(HERE / {tokenizer}))
TOKENIZER.encode_special_tokens = True  # those that are written in a text are words like others


def translate(sources):
    """The target of each source: the likeliest token each time, at most MOST of them; "" for an empty source."""
    ids = [TOKENIZER.encode(text.strip(), add_special_tokens=False).ids for text in sources]
    longest = max([1, *map(len, ids)])
    if longest > LONGEST:
        print(f"warning: a source has {{longest}} tokens; those in the data have at most {{LONGEST}}", file=sys.stderr)
    given = {{"source": np.array([own + [SEPARATOR] * (longest - len(own)) for own in ids], np.int64)}}
    new = np.full((len(ids), 1), SEPARATOR, np.int64)
    found, cache = [], []
    while len(found) < MOST and not (found and (np.hstack(found) == SEPARATOR).any(axis=1).all()):
        logits, *own = (STEP if cache else FIRST).run(None, {{"ids": new, **given, **dict(zip(CACHE, cache))}})
        cache = own + cache[len(own) :]  # the keys and values of the source stay
        new = logits.argmax(axis=1)[:, None]
        found.append(new)
    rows = [row + [SEPARATOR] for row in np.hstack(found).tolist()]
    return [TOKENIZER.decode(row[: row.index(SEPARATOR)]) if own else "" for row, own in zip(rows, ids)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+")
    print(*translate(parser.parse_args().sources), sep="\\n")
'''


def translate_script(format: PairFormat, *, name: str, models: tuple[str, str], tokenizer: str) -> str:
    """The script beside the two ONNX models by which an encoder-decoder is served.

    Args:
        name: its own.
        models: names of the files of the first call and of steps.
        tokenizer: name of the tokenizer's file.
    """
    first, step, of_tokenizer = map(json.dumps, (*models, tokenizer))
    return _SCRIPT.format(
        name=name,
        first=first,
        step=step,
        tokenizer=of_tokenizer,
        separator=format.separator,
        separator_token=format.separator_token,
        longest=format.source,
        most=format.block - 1,
    )
