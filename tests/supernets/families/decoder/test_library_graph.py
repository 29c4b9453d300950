"""Decoders as one graph that reads prompts and takes steps, compared with torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import torch

from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.library_graph import lower_library_graph
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import SIZES, SKIPS, texts
from tests.supernets.families.decoder.test_writing import differing


@torch.no_grad()
def test_prompts_with_padding_and_steps_compute_what_torch_does() -> None:
    family = DecoderFamily(replace(SKIPS.spec, head_size=8), **SIZES)
    architecture = differing(family, layer0_heads=0, layer1_heads=0, layer2_hidden=0)
    network = invariants.randomised(make_supernet(family)).extract(architecture).eval()
    session = onnxruntime.InferenceSession(lower_library_graph(network), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    assert names[:2] == ["input_ids", "attention_mask"]
    assert names[2::2] == ["past_key_values.0.key", "past_key_values.1.key"]  # of the two layers with attention
    # All caches have the heads of the largest, which libraries expect.
    assert {tuple(entry.shape[1::2]) for entry in session.get_inputs()[2:]} == {(3, 8)}
    ids, mask = texts(2, 9).numpy(), np.ones((2, 9), np.int64)
    mask[1, :3] = 0
    cache = {name: np.zeros((2, 3, 0, 8), np.float32) for name in names[2:]}
    expected = network(texts(2, 9)), network(texts(2, 9)[1:, 3:])
    first, *present = session.run(None, {"input_ids": ids[:, :6], "attention_mask": mask[:, :6], **cache})
    cache = dict(zip(cache, present, strict=True))
    second, *_ = session.run(None, {"input_ids": ids[:, 6:], "attention_mask": mask, **cache})
    logits = torch.from_numpy(np.concatenate([first, second], axis=1))
    assert (logits[0] - expected[0][0]).abs().max() <= 1e-4 * expected[0].std()
    assert (logits[1, 3:] - expected[1][0]).abs().max() <= 1e-4 * expected[1].std()
