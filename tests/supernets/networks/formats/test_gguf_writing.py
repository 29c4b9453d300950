"""GGUF files of decoders, read back: half precision keeps weights of half precision, and 8 bits keep them nearly."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_pretrained import read_decoder_config
from supernets.families.decoder.reading_back import read_back
from supernets.families.decoder.writing import library_network
from supernets.networks.formats.gguf_file import open_gguf
from supernets.networks.formats.gguf_tokenizer import gguf_tokenizer
from supernets.networks.formats.gguf_writing import layers_of, write_gguf
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import SKIPS, SPEC, texts
from tests.supernets.families.decoder.test_writing import differing
from tests.supernets.networks.formats.test_gguf_tokenizer import TEXTS, trained

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")
    for package in ("gguf", "transformers")
]
NUMBERS: dict[str, Any] = {"head_size": 8, "width": (32, 64), "activation": "silu"}
WIDE = replace(SPEC, **NUMBERS, hidden=(32, 64))
SIZES: dict[str, Any] = {"vocabulary": 512, "positions": 12, "tokens": 9}
GEMMA = replace(WIDE, norms="both", activation="gelu-tanh", heads=(4,), queries=(2,))
CAPPED: dict[str, Any] = {"embedding_scale": 8.0, "attention_cap": 2.0, "logit_cap": 3.0}
LOCAL: dict[str, Any] = {"embedding_scale": 8.0, "local_theta": 500.0, "scaling": (2.0,)}
DIFFERING = {"layer1_heads": 0, "layer0_queries": 0, "layer2_hidden": 0}


@pytest.fixture(scope="module")
def tokenizer() -> str:
    return trained(pre_tokenizers.ByteLevel(add_prefix_space=False)).to_str()


def written(family: DecoderFamily, genes: dict[str, int], tokenizer: str, folder: Path, quantisation: Any) -> Any:
    """A network of weights in half precision, what it computes for some texts, and what its file computes."""
    architecture = differing(family, **genes)
    network = invariants.randomised(make_supernet(family)).extract(architecture).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half())
    separator: dict[str, Any] = {"separator": 1, "separator_token": "<|im_end|>"}
    described = library_network(family, architecture, network.state_dict(), tokenizer=tokenizer, **separator)
    path = folder / "network.gguf"
    write_gguf(path, described.settings, described.tensors, tokenizer, quantisation=quantisation, facts={"name": "n"})
    with torch.no_grad():
        return described, network(texts()), read_back(path, family, architecture, network)(texts())


@pytest.mark.parametrize(
    ("family", "genes", "architecture"),
    [
        (DecoderFamily(WIDE, **SIZES, theta=500.0), {}, "llama"),
        (DecoderFamily(WIDE, **SIZES, scaling=(2.0,)), DIFFERING, "deci"),
        (DecoderFamily(replace(WIDE, qkv_bias=True, tied=False), **SIZES), {}, "qwen2"),
        (DecoderFamily(replace(WIDE, qkv_bias=True, tied=False), **SIZES), DIFFERING, "deci"),
        (DecoderFamily(replace(WIDE, activation="gelu-tanh"), **SIZES, embedding_scale=8.0), {}, "gemma"),
        (
            DecoderFamily(replace(WIDE, layout="gpt2", queries=(1,), heads=(8,), activation=None), **SIZES),
            {},
            "gpt2",
        ),
        (DecoderFamily(replace(SKIPS.spec, **NUMBERS), **SIZES), {"layer0_heads": 0, "layer2_hidden": 0}, "deci"),
        (DecoderFamily(replace(SKIPS.spec, **NUMBERS), **SIZES), {f"layer{i}_hidden": 0 for i in range(3)}, "deci"),
        (DecoderFamily(replace(WIDE, qk_norm="head", tied=False), **SIZES), {}, "qwen3"),
        (DecoderFamily(replace(WIDE, depth=(4,)), **SIZES, unturned=(3,)), {}, "smollm3"),
        (DecoderFamily(WIDE, **SIZES, rotary_channels=4, windows=(5, 5, 5)), {}, "phi3"),
        (
            DecoderFamily(replace(WIDE, norms="after", qk_norm="whole", heads=(8,), queries=(1,)), **SIZES),
            {},
            "olmo2",
        ),
        (DecoderFamily(GEMMA, **SIZES, **CAPPED, windows=(5, 0, 5)), {}, "gemma2"),
        (DecoderFamily(replace(GEMMA, qk_norm="head"), **SIZES, **LOCAL, windows=(5, 5, 5)), {}, "gemma3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_have_the_network_and_its_tokenizer(
    family: DecoderFamily, genes: dict[str, int], architecture: str, tokenizer: str, tmp_path: Path
) -> None:
    described, expected, came = written(family, genes, tokenizer, tmp_path, "F16")
    assert (came - expected).abs().max() <= 1e-5 * expected.std()
    path = tmp_path / "network.gguf"
    assert open_gguf(path).fields["general.architecture"].contents() == architecture
    assert open_gguf(path).settings.get("per_layer_config") == described.settings.get("per_layer_config")
    again, original = Tokenizer.from_str(gguf_tokenizer(path)), Tokenizer.from_str(tokenizer)
    assert [again.encode(text).ids for text in TEXTS] == [original.encode(text).ids for text in TEXTS]
    if architecture == "deci":
        with raises("pretrained.unusable", "its layers differ in their sizes"):
            read_decoder_config(path)


def test_weights_of_8_bits_are_nearly_those_written(tokenizer: str, tmp_path: Path) -> None:
    _, expected, came = written(DecoderFamily(WIDE, **SIZES), DIFFERING, tokenizer, tmp_path, "Q8_0")
    assert 0 < (came - expected).abs().max() <= 0.5 * expected.std()


def test_parts_that_llama_cpp_cannot_skip_are_zeros() -> None:
    """It reads the size of heads from the first layer, and leaves out the attention of a layer without an MLP."""
    sizes = {"num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 64}
    layers = {"0": {"skip": ["attention"]}, "1": {"skip": ["mlp"]}, "2": {"skip": ["attention"]}}
    found = layers_of({"num_hidden_layers": 4, **sizes, "per_layer_config": layers})
    assert [tuple(layer.values()) for layer in found] == [(1, 1, 64), (6, 3, 32), (0, 0, 64), (6, 3, 64)]


def test_networks_and_tokenizers_without_a_name_in_gguf_are_refused(tokenizer: str, tmp_path: Path) -> None:
    gemma = DecoderFamily(replace(WIDE, activation="gelu-tanh"), **SIZES, embedding_scale=8.0)
    with raises("export.no-such-architecture", "kind gemma whose layers differ", "export the format transformers"):
        written(gemma, DIFFERING, tokenizer, tmp_path, "F16")
    for family, problem in (
        (DecoderFamily(replace(WIDE, activation="gelu"), **SIZES), "kind llama with gelu"),
        (DecoderFamily(WIDE, **SIZES, windows=(5, 5, 5)), "llama has no windows, and this network has one of 5"),
        (DecoderFamily(WIDE, **SIZES, unturned=(1,)), "smollm3 has positions in all but the last of every 4 layers"),
        (
            DecoderFamily(GEMMA, **SIZES, **CAPPED, windows=(0, 5, 5)),
            "gemma2 has windows in all but the last of every 2 layers",
        ),
        (DecoderFamily(GEMMA, **SIZES, **CAPPED | {"logit_cap": 0.0}), "gemma2 bounds scores and logits"),
        (DecoderFamily(replace(WIDE, norms="after", qk_norm="whole"), **SIZES), "olmo2 divides the width"),
    ):
        with raises("export.no-such-architecture", problem, "export the format transformers"):
            written(family, {}, tokenizer, tmp_path, "F16")
    unigram = Tokenizer(models.Unigram([("a", -1.0)], unk_id=0)).to_str()
    with raises("export.no-such-architecture", "of the kind Unigram", "pairs of bytes"):
        written(DecoderFamily(WIDE, **SIZES), {}, unigram, tmp_path, "F16")
    other = json.dumps({**json.loads(tokenizer), "pre_tokenizer": {"type": "Whitespace"}})
    with raises("export.no-such-architecture", "in a way without a name"):
        written(DecoderFamily(WIDE, **SIZES), {}, other, tmp_path, "F16")
