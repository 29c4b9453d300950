"""Loads weights of the user's into a model, with the first differences where they are of another one."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from supernets.errors import CaptureError
from supernets.networks.capture.program import product_text

_MOST = 10
"""Differences that an error lists."""
_WRAPPERS = ("state_dict", "model", "model_state_dict", "module")
_PREFIX = re.compile(r"(module|_orig_mod)\.")
"""Before the names of a network that `torch.nn.DataParallel` or `torch.compile` holds."""
_COUNT = "num_batches_tracked"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file: safetensors, or what `torch.save` wrote of a state (no code in it is run).

    Raises:
        CaptureError: it is missing, or neither of these.
    """
    try:
        if path.suffix == ".safetensors":
            content: object = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CaptureError(f"{path}: there is no such file of weights", code="capture.weights-unusable") from None
    except (
        Exception
    ) as error:  # of either library, or pickle's UnpicklingError, which torch raises for code in the file
        raise _unreadable(path, error) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CaptureError(
            f"{path}: expected the tensors of a model by name (its state_dict)", code="capture.weights-unusable"
        )
    return {str(name): tensor for name, tensor in content.items()}


def matching(
    expected: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    optional_names: Collection[str] = (),
) -> dict[str, Tensor]:
    """The tensors for each expected one, of its type.

    Args:
        expected: Tensors of the model, by name in its state.
        tensors: Tensors of a file, by name; prefixes of wrappers are removed.
        source: Name of the file, for errors.
        optional_names: Further names that the file may have.

    Raises:
        CaptureError: the names or shapes differ; the first ten differences are listed.
    """
    accepted_names = {*expected, *optional_names}
    tensors = {_plain(name, accepted_names): tensor for name, tensor in tensors.items()}
    differences = [
        f"{name}: missing, expected {product_text(tensor.shape)}"
        for name, tensor in expected.items()
        if name not in tensors and not name.endswith(_COUNT)
    ]
    differences += [
        f"{name}: {product_text(tensors[name].shape)}, expected {product_text(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    differences += [
        f"{name}: {product_text(tensor.shape)}, the model has no such tensor"
        for name, tensor in tensors.items()
        if name not in accepted_names and not name.endswith(_COUNT)
    ]
    if differences:
        more = f"\n  and {len(differences) - _MOST} more" if len(differences) > _MOST else ""
        listed = "".join(f"\n  {text}" for text in differences[:_MOST])
        raise CaptureError(
            f"{source}: the weights are of another model ({len(differences)} differences); name the model that they were "
            f"saved from, with its arguments:{listed}{more}",
            code="capture.other-weights",
        )
    return {name: tensors[name].to(tensor.dtype) if name in tensors else tensor for name, tensor in expected.items()}


def _plain(name: str, accepted_names: Collection[str]) -> str:
    """A name without the prefixes of wrappers; a model's own module may be named like them."""
    while name not in accepted_names and (prefix := _PREFIX.match(name)):
        name = name[prefix.end() :]
    return name


def _unreadable(path: Path, error: Exception) -> CaptureError:
    reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    return CaptureError(
        f"{path}: cannot be read as weights ({reason}); expected a .safetensors file, or a state_dict that torch.save wrote",
        code="capture.weights-unusable",
    )
