"""The models by which an exported language model is served: compared with torch, and a script that generates text with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hardware_profiles.runtime import run_model
from nas.errors import ExportFailedError
from nas.export.model_checks import MAX_PARITY
from supernets.data import BlockFormat
from supernets.families.decoder.serving import IDS, PADDING

MOST_TOKENS = 64
"""Generated for the comparison, and by the script."""
_SCRIPT = '''"""Continues a text, greedily: python {name} "Once upon a time". Needs onnxruntime, numpy and tokenizers."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
TOKENIZER = Tokenizer.from_file(str(HERE / {tokenizer}))
PREFILL, STEP = (onnxruntime.InferenceSession(HERE / name) for name in {models})
CACHE, PADDING = [own.name for own in STEP.get_inputs()[2:]], np.zeros(1, np.int64)

ids = [{separator}, *TOKENIZER.encode(sys.argv[1], add_special_tokens=False).ids][-{prompt}:]
logits, *cache = PREFILL.run(None, {{"ids": np.array([ids]), "padding": PADDING}})
for _ in range({most}):
    ids.append(int(logits.argmax()))
    if ids[-1] == {separator} or len(ids) > {positions}:
        break
    logits, *cache = STEP.run(None, {{"ids": np.array([ids[-1:]]), "padding": PADDING, **dict(zip(CACHE, cache))}})
print(TOKENIZER.decode(ids))
'''


def served_parity(module: nn.Module, models: Mapping[str, bytes], texts: NDArray[Any], *, positions: int) -> float:
    """The largest difference between the logits of the models and torch's, over the deviation of torch's, while both continue
    the first halves of texts greedily, by at most `MOST_TOKENS` tokens.

    Args:
        texts: (n, tokens), int64.
        positions: the most tokens of a text.

    Raises:
        ExportFailedError: it is above `MAX_PARITY`.
        ModelError: the runtime rejects a model.
    """
    ids = torch.from_numpy(texts[:, : max(1, texts.shape[1] // 2)])
    padding, worst = np.zeros(len(ids), np.int64), 0.0
    names, cache = [f"past.{i}.{kind}" for i in range(positions) for kind in ("key", "value")], list[NDArray[Any]]()
    for step in range(min(MOST_TOKENS, positions - ids.shape[1] + 1)):
        new = ids if step == 0 else ids[:, -1:]
        given = {IDS: new.numpy(), PADDING: padding, **dict(zip(names, cache, strict=False))}
        found, *cache = run_model(models["step" if step else "prefill"], given)
        with torch.no_grad():
            expected = module.eval()(ids)[:, -1]
        worst = max(worst, float((torch.from_numpy(found) - expected).abs().max() / expected.std()))
        if not worst <= MAX_PARITY:
            message = (
                f"differ from torch's by {worst:.2g} of their deviation (at most {MAX_PARITY:g}) after {step} tokens"
            )
            raise ExportFailedError(f"the exported models' outputs {message}", code="export.outputs-differ")
        ids = torch.cat([ids, expected.argmax(1, keepdim=True)], dim=1)
    return worst


def generate_script(format: BlockFormat, *, name: str, models: tuple[str, str], tokenizer: str, positions: int) -> str:
    """The script beside the models.

    Args:
        name: its own.
        models: names of the files of prompts and of steps.
        tokenizer: name of the tokenizer's file.
        positions: the most tokens of a text.
    """
    return _SCRIPT.format(
        name=name, models=json.dumps(models), tokenizer=json.dumps(tokenizer), separator=format.separator,
        prompt=positions, positions=positions, most=MOST_TOKENS,
    )  # fmt: skip
