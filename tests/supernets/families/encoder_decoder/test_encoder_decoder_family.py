"""An elastic encoder-decoder: its forward by hand, padding, and what makes no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from supernets.families.encoder_decoder.encoder_decoder_family import EncoderDecoderFamily
from supernets.families.encoder_decoder.encoder_decoder_network import EncoderDecoder
from supernets.families.encoder_decoder.encoder_decoder_spec import EncoderDecoderSpec
from supernets.sharing.base import Supernet
from supernets.space import Option
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants

VOCABULARY, SEPARATOR, SOURCE, TARGET = 40, 3, 6, 5
SPEC = EncoderDecoderSpec(
    head_size=4, encoder_depth=(3, 4), encoder_width=(12, 16), encoder_heads=(1, 2), encoder_hidden=(10, 16),
    decoder_depth=(1, 2), decoder_width=(8, 20), decoder_heads=(1, 2), decoder_cross_heads=(1, 3), decoder_hidden=(8, 14),
    decoder_attended=(1, 2, 3),
)  # fmt: skip
SIZES: dict[str, Any] = {"vocabulary": VOCABULARY, "separator": SEPARATOR, "source": SOURCE, "target": TARGET}
FAMILY = EncoderDecoderFamily(SPEC, **SIZES)


def pairs(n: int = 16, tokens: int = TARGET) -> Tensor:
    """Random ids, with sources of 1 to `SOURCE` tokens, padded."""
    ids = torch.randint(4, VOCABULARY, (n, SOURCE + tokens), generator=torch.Generator().manual_seed(0))
    lengths = 1 + torch.arange(n)[:, None] * 5 % SOURCE
    ids[:, :SOURCE].masked_fill_(torch.arange(SOURCE) >= lengths, SEPARATOR)
    ids[:, SOURCE] = SEPARATOR
    return ids


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return invariants.randomised(make_supernet(FAMILY))


def handwritten(weights: Mapping[str, Tensor], values: Mapping[str, Option], ids: Tensor) -> Tensor:
    """The family's forward by products of matrices alone, pair by pair without padding, and head by head."""

    def norm(x: Tensor, name: str) -> Tensor:
        return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + 1e-5) * weights[f"{name}.weight"]

    def turned(x: Tensor) -> Tensor:
        angles = torch.arange(len(x))[:, None] / 10000 ** torch.tensor([0.0, 0.5])
        pairs = torch.complex(x[:, :2], x[:, 2:]) * torch.exp(1j * angles)
        return torch.cat([pairs.real, pairs.imag], dim=1)

    def attention(x: Tensor, read: Tensor, name: str, heads: int, *, rotary: bool, causal: bool = False) -> Tensor:
        found = []
        for head in range(heads):
            own = slice(head * 4, head * 4 + 4)
            query, key, value = (
                inputs @ weights[f"{name}.{part}.weight"][own].T
                for inputs, part in ((x, "query"), (read, "key"), (read, "value"))
            )
            if rotary:
                query, key = turned(query), turned(key)
            later = torch.full((len(x), len(read)), -1e9).triu(1) if causal else 0.0
            found.append(torch.softmax(query @ key.T / 2 + later, dim=1) @ value)
        return torch.cat(found, dim=1) @ weights[f"{name}.project.weight"].T

    def mlp(x: Tensor, name: str) -> Tensor:
        gate, up, down = (weights[f"{name}.{part}.weight"].T for part in ("gate", "up", "down"))
        gated = x @ gate
        return (gated / (1 + torch.exp(-gated)) * (x @ up)) @ down

    out = []
    for row in ids:
        source, target = row[:SOURCE], row[SOURCE:]
        x, outputs = weights["encoder.embedding.words.weight"][source[source != SEPARATOR]], []
        for i in range(int(values["encoder.depth"])):
            name, heads = f"encoder.layers.{i}", int(values[f"encoder.layer{i}.heads"])
            first = norm(x, f"{name}.norm1")
            x = x + attention(first, first, f"{name}.attention", heads, rotary=True)
            x = x + mlp(norm(x, f"{name}.norm2"), f"{name}.mlp")
            outputs.append(norm(x, "encoder.norm"))
        words = weights["decoder.embedding.words.weight"]
        y = words[target]
        for i in range(int(values["decoder.depth"])):
            name, chosen = f"decoder.layers.{i}", f"decoder.layer{i}"
            first = norm(y, f"{name}.norm1")
            heads, cross = int(values[f"{chosen}.heads"]), int(values[f"{chosen}.cross_heads"])
            y = y + attention(first, first, f"{name}.attention", heads, rotary=True, causal=True)
            read = torch.cat(outputs[len(outputs) - int(values[f"{chosen}.attended"]) :])
            y = y + attention(norm(y, f"{name}.norm3"), read, f"{name}.cross", cross, rotary=False)
            y = y + mlp(norm(y, f"{name}.norm2"), f"{name}.mlp")
        out.append(norm(y, "decoder.head.norm") @ words.T)
    return torch.stack(out)


@torch.no_grad()
def test_what_pads_a_source_or_follows_a_token_changes_nothing(supernet: Supernet) -> None:
    network, ids = supernet.extract(supernet.space.largest), pairs()
    ids[:, SOURCE - 1] = SEPARATOR
    shorter = torch.cat([ids[:, : SOURCE - 1], ids[:, SOURCE:-1]], dim=1)
    assert isinstance(network, EncoderDecoder)
    whole = network(ids)
    network.source = SOURCE - 1
    assert invariants.relative(network(shorter), whole[:, :-1]) <= invariants.RELATIVE


def test_dimensions_that_make_no_network_are_rejected() -> None:
    with raises("space.invalid-dimension", "head_size: ", "even number", "5"):
        replace(SPEC, head_size=5)
    with raises("space.invalid-dimension", "decoder_attended: ", "read 3 encoder layers", "at most 2"):
        replace(SPEC, encoder_depth=(2, 4))
