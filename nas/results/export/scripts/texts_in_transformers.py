"""Continues texts, greedily: python predict.py "Once upon a time" ["To be" ...]. Needs transformers."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import transformers

MAX_TOKENS = 64
"""Added to a text."""


def main() -> None:
    """Prints the texts of the command line with what follows them."""
    folder = Path(__file__).resolve().parent
    has_own_layers = (folder / "modeling_heterogeneous.py").is_file()
    network = transformers.AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=has_own_layers
    )  # in evaluation mode
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    separator, positions = tokenizer.bos_token_id, network.config.max_position_embeddings
    for text in sys.argv[1:]:
        ids = torch.tensor([[separator, *tokenizer.encode(text, add_special_tokens=False)][-positions:]])
        continued = network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=min(MAX_TOKENS, positions + 1 - ids.shape[1]),
            do_sample=False,
            pad_token_id=separator,
        )
        print(tokenizer.decode(continued[0], skip_special_tokens=True))


if __name__ == "__main__":
    main()
