"""Small random encoders of sentences in folders of the transformers library, with the tokenizer of some sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from supernets.data.tokenizing import SentenceTokenizer

TOKENS, LAYERS = 24, 2
SENTENCES = (
    "the cat sat on the mat", "a dog and a cat sat in the garden", "rain fell on the garden", "the dog ran in the rain",
)  # fmt: skip
_SIZES = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 64}
_OF_DISTILBERT = {"dim": 32, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 64}
KINDS = {"Bert": _SIZES, "Roberta": _SIZES, "DistilBert": _OF_DISTILBERT, "Electra": {**_SIZES, "embedding_size": 32}}


def tokenizer(max_tokens: int = TOKENS) -> SentenceTokenizer:
    """A tokenizer that is trained on the sentences."""
    return SentenceTokenizer.train(SENTENCES, vocabulary=100, max_tokens=max_tokens)


def saved(folder: Path, kind: str = "Bert", *, head: str = "Model", **options: Any) -> nn.Module:
    """A random encoder, far from its tame initial weights, in the folder, with a tokenizer.

    Args:
        kind: one of `KINDS`.
        head: the end of its class's name.
    """
    import transformers

    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    own = tokenizer()
    sizes = {"vocab_size": own.vocabulary, "pad_token_id": own.padding, "max_position_embeddings": TOKENS + 4}
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **KINDS[kind], **options})
    network: nn.Module = getattr(transformers, f"{kind}{head}")(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape))
    network.save_pretrained(folder)  # type: ignore[operator]
    (folder / "tokenizer.json").write_text(own.json)
    return network
