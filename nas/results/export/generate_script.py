"""The scripts beside exported language models, which continue texts."""

from __future__ import annotations

import json

from nas.results.export.translate_script import translate_script
from supernets.data import BlockFormat, PairFormat

_SCRIPT = '''"""Continues texts: python {name} "Once upon a time" ["To be" ...]. Needs onnxruntime, numpy and tokenizers."""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
PREFILL, STEP = (
    onnxruntime.InferenceSession(HERE / name, providers=["CPUExecutionProvider"])
    for name in ({prefill}, {step})
)
CACHE = [given.name for given in STEP.get_inputs() if given.name.startswith("past")]
SEPARATOR = {separator}  # {separator_token}: the token before and after each text
POSITIONS = {positions}  # the most tokens of a text
TOKENIZER = Tokenizer.from_file(str(HERE / {tokenizer}))
TOKENIZER.encode_special_tokens = True  # those that are written in a text are words like others


{reading}

def generate(texts, tokens={most}, choose=lambda logits: logits.argmax(axis=1)):
    """The texts with what follows them: at most `tokens` tokens each, which `choose` takes from logits (n, vocabulary)."""
    prompts = [[SEPARATOR, *TOKENIZER.encode(text, add_special_tokens=False).ids][-POSITIONS:] for text in texts]
    longest = max(map(len, prompts))
    padding = np.array([longest - len(prompt) for prompt in prompts])  # at the beginnings
    ids = np.array([[SEPARATOR] * n + prompt for n, prompt in zip(padding, prompts)])
    new, read = ids, Reading(padding, min(POSITIONS, longest + tokens))
    for _ in range(min(tokens, POSITIONS - longest + 1)):
        new = choose(read(new)).reshape(-1, 1)
        ids = np.concatenate([ids, new], axis=1)
        if (ids[:, longest:] == SEPARATOR).any(axis=1).all():
            break
    return [TOKENIZER.decode(until_end(row[n:].tolist(), longest - n)) for n, row in zip(padding, ids)]


def until_end(ids, prompt):
    """The tokens up to the separator after the prompt."""
    return ids[: ids.index(SEPARATOR, prompt)] if SEPARATOR in ids[prompt:] else ids


def sampler(temperature, top_k, seed):
    """Chooses a token at random by its probability at a temperature, among the `top_k` likeliest (0: among all)."""
    rng = np.random.default_rng(seed)

    def choose(logits):
        if top_k:
            logits = np.where(logits < np.sort(logits)[:, -top_k:][:, :1], -np.inf, logits)
        return (logits / temperature + rng.gumbel(size=logits.shape)).argmax(axis=1)

    return choose


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--tokens", type=int, default={most}, help="the most to add to each text")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default): the likeliest token each time")
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    how = {{"choose": sampler(given.temperature, given.top_k, given.seed)}} if given.temperature > 0 else {{}}
    print(*generate(given.texts, given.tokens, **how), sep="\\n")
'''
_COPYING = '''class Reading:
    """What the models have read of some texts; each step returns a longer cache of keys and values."""

    def __init__(self, padding, room):
        self.padding, self.cache = padding, []

    def __call__(self, ids):
        """The logits of the token after these: of prompts at first, then of one token of each text."""
        given = {"ids": ids, "padding": self.padding, **dict(zip(CACHE, self.cache))}
        logits, *self.cache = (STEP if self.cache else PREFILL).run(None, given)
        return logits
'''
_IN_PLACE = '''class Reading:
    """What the models have read of some texts; steps write keys and values into the memory of the cache."""

    def __init__(self, padding, room):
        self.padding, self.room, self.filled, self.memory, self.step = padding, room, 0, [], STEP.io_binding()

    def __call__(self, ids):
        """The logits of the token after these: of prompts at first, then of one token of each text."""
        given = {"ids": ids, "padding": self.padding}
        if not self.memory:
            logits, *cache = PREFILL.run(None, given)
            self.filled = ids.shape[1]
            self.allocate(cache)
            return logits
        for name, array in {**given, "filled": np.array([self.filled])}.items():
            self.step.bind_cpu_input(name, array)
        STEP.run_with_iobinding(self.step)
        self.filled += 1
        return self.step.get_outputs()[-1].numpy()

    def allocate(self, cache):
        """Gives each key and value the room for all tokens, as input and output of steps."""
        for name, own in zip(CACHE, cache):
            memory = np.zeros((*own.shape[:2], self.room, own.shape[3]), own.dtype)
            memory[:, :, : own.shape[2]] = own
            self.memory.append(onnxruntime.OrtValue.ortvalue_from_numpy(memory))
            self.step.bind_ortvalue_input(name, self.memory[-1])
            self.step.bind_ortvalue_output(name.replace("past", "present"), self.memory[-1])
        self.step.bind_output("logits")
'''
_TRANSFORMERS = '''"""Continues texts, greedily: python {name} "Once upon a time" ["To be" ...]. Needs transformers."""

import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, {loader}

HERE = Path(__file__).resolve().parent
NETWORK, TOKENIZER = {loader}.from_pretrained(HERE).eval(), AutoTokenizer.from_pretrained(HERE)
SEPARATOR, POSITIONS = TOKENIZER.bos_token_id, NETWORK.config.max_position_embeddings

for text in sys.argv[1:]:
    ids = torch.tensor([[SEPARATOR, *TOKENIZER.encode(text, add_special_tokens=False)][-POSITIONS:]])
    found = NETWORK.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=min({most}, POSITIONS + 1 - ids.shape[1]),
        do_sample=False, pad_token_id=SEPARATOR,
    )
    print(TOKENIZER.decode(found[0], skip_special_tokens=True))
'''
_MAX_TOKENS = 64
"""Added to a text by default."""


def generate_script(
    format: BlockFormat, *, name: str, models: tuple[str, str], tokenizer: str, positions: int, in_place: bool
) -> str:
    """The script beside the two ONNX models by which a language model is served; of pairs, see `translate_script`.

    Args:
        format: Format of the texts.
        name: Name of the script.
        models: Names of the files of prompts and of steps.
        tokenizer: Name of the tokenizer's file.
        positions: Maximum number of tokens of a text.
        in_place: True if steps write into the cache.
    """
    if isinstance(format, PairFormat):
        return translate_script(format, name=name, models=models, tokenizer=tokenizer)
    prefill, step, of_tokenizer = map(json.dumps, (*models, tokenizer))
    return _SCRIPT.format(
        name=name,
        prefill=prefill,
        step=step,
        tokenizer=of_tokenizer,
        separator=format.separator,
        separator_token=format.separator_token,
        positions=positions,
        most=_MAX_TOKENS,
        reading=_IN_PLACE if in_place else _COPYING,
    )


def transformers_generate_script(loader: str, *, name: str) -> str:
    """The script in a folder of the transformers library.

    Args:
        loader: the class that loads the folder.
        name: its own.
    """
    return _TRANSFORMERS.format(name=name, loader=loader, most=_MAX_TOKENS)
