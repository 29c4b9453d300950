"""Continues texts, or writes the targets of sources, by the two ONNX models beside it: python FILE.predict.py TEXT [TEXT ...].

Needs onnxruntime, numpy and tokenizers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from nas.results.export.scripts.prediction import check_model
from nas.results.export.scripts.reading import Reading, session_of

MAX_TOKENS = 64
"""Added to a text by default."""
Choice = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""A function from logits (n, vocabulary) to a token of each text, (n,)."""


def likeliest(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """The likeliest token of each text."""
    return np.asarray(logits.argmax(axis=1))


def sampler(temperature: float, top_k: int, seed: int) -> Choice:
    """Chooses a token at random by its probability at a temperature, among the `top_k` likeliest (0: among all)."""
    rng = np.random.default_rng(seed)

    def choose(logits: NDArray[np.float32]) -> NDArray[np.int64]:
        if top_k:
            logits = np.where(logits < np.sort(logits)[:, -top_k:][:, :1], -np.inf, logits)
        return np.asarray((logits / temperature + rng.gumbel(size=logits.shape)).argmax(axis=1))

    return choose


class TextModel:
    """A language model of two ONNX models, with its tokenizer.

    Args:
        script: Path of this script, after which the files of the model are named.
    """

    def __init__(self, script: Path) -> None:
        name = script.name.removesuffix(".predict.py")
        files = [script.with_name(f"{name}{suffix}") for suffix in (".onnx", ".step.onnx")]
        for file in files:
            check_model(file)
        self._prefill, self._step = (session_of(str(file)) for file in files)
        facts = self._prefill.get_modelmeta().custom_metadata_map
        self.how = json.loads(facts["preprocessing"])
        # The token before and after each text, by which sources are padded, too.
        self._separator: int = self.how["separator"]
        self._positions = int(facts["positions"])  # 0 for a model of sources
        self._tokenizer = Tokenizer.from_file(str(script.with_name(f"{name}.tokenizer.json")))
        self._tokenizer.encode_special_tokens = True  # those that are written in a text are words like others

    def generate(self, texts: Sequence[str], tokens: int = MAX_TOKENS, choose: Choice = likeliest) -> list[str]:
        """The texts with what follows them: at most `tokens` tokens each, which `choose` takes."""
        encoded = [self._tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        prompts = [[self._separator, *ids][-self._positions :] for ids in encoded]
        longest = max(map(len, prompts))
        padding = np.array([longest - len(prompt) for prompt in prompts])  # at the beginnings
        ids = np.array([[self._separator] * n + prompt for n, prompt in zip(padding, prompts, strict=True)])
        reading = Reading(self._prefill, self._step, {"padding": padding}, min(self._positions, longest + tokens))
        continuations = self._continued(ids, reading, min(tokens, self._positions - longest + 1), choose)
        return [self._tokenizer.decode(prompt + new) for prompt, new in zip(prompts, continuations, strict=True)]

    def translate(self, sources: Sequence[str]) -> list[str]:
        """The target of each source: the likeliest token each time; "" for an empty source."""
        encoded = [self._tokenizer.encode(text.strip(), add_special_tokens=False).ids for text in sources]
        longest, max_tokens = max([1, *map(len, encoded)]), self.how["source"]
        if longest > max_tokens:
            problem = f"a source has {longest} tokens; those in the data have at most {max_tokens}"
            print(f"warning: {problem}", file=sys.stderr)
        padded = np.array([ids + [self._separator] * (longest - len(ids)) for ids in encoded], np.int64)
        tokens = self.how["block"] - 1
        reading = Reading(self._prefill, self._step, {"source": padded}, tokens)
        targets = self._continued(np.full((len(encoded), 1), self._separator), reading, tokens, likeliest)
        return [self._tokenizer.decode(target) if ids else "" for ids, target in zip(encoded, targets, strict=True)]

    def _continued(self, ids: NDArray[np.int64], reading: Reading, tokens: int, choose: Choice) -> list[list[int]]:
        """The tokens after each text, at most so many, up to the separator."""
        new, columns = ids, list[NDArray[np.int64]]()
        has_ended = np.zeros(len(ids), bool)
        for _ in range(tokens):
            new = choose(reading(new)).reshape(-1, 1)
            columns.append(new)
            has_ended |= new[:, 0] == self._separator
            if has_ended.all():
                break
        rows = np.hstack([*columns, np.full((len(ids), 1), self._separator)]).tolist()
        return [row[: row.index(self._separator)] for row in rows]


def main() -> None:
    """Prints what the model writes for the texts of the command line."""
    model = TextModel(Path(__file__))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+")
    if "source" in model.how:
        print(*model.translate(parser.parse_args().texts), sep="\n")
        return
    parser.add_argument("--tokens", type=int, default=MAX_TOKENS, help="the most to add to each text")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default): the likeliest token each time")
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    choose = sampler(options.temperature, options.top_k, options.seed) if options.temperature > 0 else likeliest
    print(*model.generate(options.texts, options.tokens, choose), sep="\n")


if __name__ == "__main__":
    main()
