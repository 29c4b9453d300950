"""Distillation of a network from another for a given time, for `tests.benchmarks.decoder_oneshot`."""

from __future__ import annotations

import time

import torch

from supernets.data import Part, batches
from supernets.families.decoder.network import Decoder
from supernets.tasks.language_modelling import LanguageModelling

BATCH, RATE, WARM_UP = 4, 3e-4, 0.1
"""Blocks of a step; the peak learning rate, and the share of the time in which it rises, before it falls to zero."""


def distil(network: Decoder, teacher: Decoder, text: Part, *, minutes: float) -> int:
    """Trains all weights of a network, in place, to have a teacher's probabilities; returns the number of steps.

    AdamW without weight decay, gradients clipped to a norm of 1. Minutes are CPU time for each of torch's threads, so that
    what else the machine does takes nothing from a network; the learning rate follows them, a whole schedule for each.
    """
    generator, task = torch.Generator().manual_seed(0), LanguageModelling()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    network.train()
    started, steps = time.process_time(), 0
    while True:
        for ids, _ in batches(text, BATCH, generator=generator):
            elapsed = (time.process_time() - started) / (60 * minutes * torch.get_num_threads())
            if elapsed >= 1:
                network.eval()
                return steps
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, max(elapsed, 0.01) / WARM_UP, (1 - elapsed) / (1 - WARM_UP))
            with torch.no_grad():
                wanted = teacher(ids)
            optimizer.zero_grad()
            task.distance(network(ids), wanted, "kl").backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            steps += 1
