"""How a user's module is called: in evaluation mode, without what torch prints, and the tensors among its outputs."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

_LOGGERS = ("torch.export", "torch.fx.experimental.symbolic_shapes", "torch._subclasses.fake_tensor")


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch prints while it traces: of a failure, `diagnosis.reason` states what matters."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for name in levels:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, without attention's fused call in it, which hides its parts."""
    training = [submodule for submodule in module.modules() if submodule.training]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    module.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for submodule in training:
            submodule.training = True


@contextmanager
def using_onednn() -> Iterator[None]:
    """The context in which LSTMs use oneDNN, which torch.export switches off.

    Without it, torch before 2.13 adds a dimension to the last states of LSTMs in traces.
    """
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(True)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)


def tensors_of(outputs: object) -> Iterator[Tensor]:
    """The floating-point tensors of a module's outputs: alone, in a sequence, mapping or dataclass (nested ones too)."""
    if isinstance(outputs, Tensor) and outputs.is_floating_point():
        yield outputs
    for part in parts_of(outputs) or ():
        yield from tensors_of(part)


def parts_of(outputs: object) -> list[Any] | None:
    """The values of a sequence, mapping or dataclass; None for anything else."""
    if isinstance(outputs, Mapping):
        return list(outputs.values())
    if is_dataclass(outputs) and not isinstance(outputs, type):
        return [getattr(outputs, field.name) for field in fields(outputs)]
    return list(outputs) if isinstance(outputs, list | tuple) else None
