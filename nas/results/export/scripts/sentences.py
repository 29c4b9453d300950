"""Predicts for the sentences on its command line, by the network beside it.

Needs numpy and tokenizers, and onnxruntime for ONNX models, or torch and transformers for a folder of that library.
The preprocessing is the one that the network was trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from nas.results.export.scripts.prediction import Network, arguments, network_beside, predict
from supernets.data.tokenizing import configure


def preprocessor(network: Network) -> Callable[[str], NDArray[np.int64]]:
    """A function from a sentence to the network's input, a batch of 1, which needs no padding."""
    tokenizer = configure(Tokenizer.from_file(str(network.tokenizer)), network.how["max_tokens"])

    def preprocess(sentence: str) -> NDArray[np.int64]:
        return np.array([tokenizer.encode(sentence.strip()).ids], dtype=np.int64)

    return preprocess


if __name__ == "__main__":
    sentences = arguments(__doc__, "SENTENCE")
    beside = network_beside(Path(__file__))
    predict(beside, sentences, preprocessor(beside))
