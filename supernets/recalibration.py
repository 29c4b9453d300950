"""Recomputation of the batch-norm statistics of extracted subnets."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Replaces the running statistics of every batch norm by averages over `batches`; returns the module in eval mode.

    A subnet's statistics differ from the supernet's, so do this before every evaluation, latency measurement and export.
    Batches are weighted by their sizes; a later batch of one input is skipped, because batch norm rejects it if one pixel of
    an image is left. Always runs on one thread: other numbers change the last bits of the statistics, which can change
    predictions of a quantised network.

    Args:
        module: an extracted one (a live subnet shares its statistics with the supernet).
        batches: inputs, each (n, ...); use the same ones for every subnet.
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
                norm.momentum = len(inputs) / n_seen  # turns the running average into the mean over all inputs
            module(inputs)
    finally:
        torch.set_num_threads(threads)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.eval()
    return module
