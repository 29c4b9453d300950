"""Batch-norm statistics of an extracted subnet, taken anew from training images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Replaces the running statistics of every batch norm by the average over `batches`; returns the module in eval mode.

    Each batch weighs what it has of the inputs, so that a small rest counts for no more than it is. A rest of one is left
    out: batch norm learns nothing from one, and refuses it where one pixel is left of an image.

    A subnet's statistics differ from the supernet's, so this precedes every accuracy, latency and export. Only the batch
    norms are in training mode meanwhile. A module without batch norms is returned unchanged. It is done on one thread,
    whatever torch has been granted: another number gives statistics that differ in their last bits, which is enough for a
    quantised network to answer some images otherwise.

    Args:
        module: an extracted one (a live subnet shares its statistics with the supernet).
        batches: inputs, each (n, ...); the same ones for every subnet.
    """
    module.eval()
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return module
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    n_seen = 0
    try:
        for inputs in batches:
            if n_seen and len(inputs) == 1:
                continue
            n_seen += len(inputs)
            for norm in norms:
                norm.momentum = len(inputs) / n_seen  # which makes a running average a plain one over all inputs
            module(inputs)
    finally:
        torch.set_num_threads(threads)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.eval()
    return module
