"""Checks an uploaded pretrained network: its settings, its tensors, of which nothing is unpickled, and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supernets.data.tokenizing import SentenceTokenizer, read_tokenizer
from supernets.families.registry import FAMILIES
from supernets.networks.formats.model_folder import family_of
from supernets.networks.formats.pretrained import GGUF

_TOKENS = 128
"""Tokens of a sentence, for the check of a tokenizer."""


def read_pretrained(request: Mapping[str, Any]) -> dict[str, Any]:
    """The family of a pretrained network, its number of parameters, and its place in the folder ("" for the folder).

    Args:
        request: The fields of `nas.service.uploads.content_check.UploadedContent`.

    Raises:
        CheckpointError: the files are missing, cannot be read, or are not those of a network that a family is made of.
        DataError: the tokenizer is missing or cannot be used.
    """
    folder = Path(request["folder"])
    files = sorted(folder.glob(f"*{GGUF}"))
    path = files[0] if files else folder
    family = family_of(path)
    description = FAMILIES[family]
    network = description.pretrained_config(path).read(path)
    if description.data == "sentences":
        SentenceTokenizer.load(path, max_tokens=_TOKENS)
    elif description.data == "texts":
        read_tokenizer(path)  # jobs may name its separator
    parameters = sum(tensor.numel() for tensor in network.tensors.values())
    return {"family": family, "parameters": parameters, "place": path.name if files else ""}
