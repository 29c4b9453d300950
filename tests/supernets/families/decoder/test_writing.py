"""Decoders written as folders of the `transformers` library: it loads them, and computes the same logits."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_pretrained import read_decoder_config
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.families.decoder.writing import write_decoder
from supernets.networks.formats.model_folder import DECODERS
from supernets.networks.formats.pretrained import CONFIG
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import GEMMA, GPT2, LLAMA, SCALED, SIZES, SPEC, texts
from tests.supernets.families.decoder.test_decoder_pretrained import ids, saved

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
TOKENIZER: dict[str, Any] = {"tokenizer": "{}", "separator": 3, "separator_token": "<end>"}


def chosen(family: DecoderFamily, **options: float) -> Architecture:
    """The architecture of these options, the same in all layers; by default the largest."""
    names = [choice.name.rpartition(".")[2] for choice in family.space.choices]
    return family.space.canonical(
        [
            choice.options.index(options[name]) if name in options else len(choice.options) - 1
            for name, choice in zip(names, family.space.choices, strict=True)
        ]
    )


@torch.no_grad()
def check(supernet: Supernet, architecture: Architecture, folder: Path, ids: torch.Tensor) -> dict[str, Any]:
    """Compares logits; returns the settings written."""
    from transformers import AutoModelForCausalLM

    family, network = supernet.family, supernet.extract(architecture)
    assert isinstance(family, DecoderFamily)
    write_decoder(folder, family, architecture, network.state_dict(), **TOKENIZER)
    theirs, expected = AutoModelForCausalLM.from_pretrained(folder).eval(), network(ids)
    assert (theirs(ids).logits - expected).abs().max() <= 1e-5 * expected.std()
    config = read_decoder_config(folder)
    again = DecoderFamily(config.space(), tokens=8, **config.fixed)
    read = make_supernet(again, pretrained=config.read(folder).weights(again)).extract(again.space.largest)
    assert (read(ids) - expected).abs().max() <= 1e-5 * expected.std()
    settings: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    return settings


@pytest.mark.parametrize("kind", DECODERS)
def test_a_network_that_was_read_is_written_whole_and_with_fewer_layers(kind: str, tmp_path: Path) -> None:
    saved(kind, tmp_path / "original")
    config = read_decoder_config(tmp_path / "original")
    family = DecoderFamily(config.space(), tokens=8, **config.fixed)
    supernet = make_supernet(family, pretrained=config.read(tmp_path / "original").weights(family))
    for depth in (2, 3):
        settings = check(supernet, chosen(family, depth=depth), tmp_path / str(depth), ids())
        assert settings["model_type"] == kind
        assert settings.get("num_hidden_layers", settings.get("n_layer")) == depth


EXPERTS = DecoderFamily(replace(SPEC, experts=(2, 4), active_experts=(2,)), **SIZES)
NARROW = {"depth": 2, "width": 12, "heads": 2, "queries": 2, "hidden": 16}
SCALED_WORDS = DecoderFamily(replace(SPEC, tied=True, activation="gelu-tanh"), **SIZES, embedding_scale=20**0.5)
BIASED = DecoderFamily(replace(SPEC, qkv_bias=True, tied=False, activation="gelu"), **SIZES, embedding_scale=3.0)


@pytest.mark.parametrize(
    ("family", "options", "kind"),
    [
        (LLAMA, NARROW, "llama"),
        (LLAMA, {**NARROW, "width": 16, "heads": 3}, "mistral"),  # whose heads need not divide the width
        (SCALED, NARROW, "llama"),
        (SCALED_WORDS, {"width": 20}, "gemma"),
        (SCALED_WORDS, NARROW, "llama"),  # Gemma would scale by another number
        (BIASED, NARROW, "qwen2"),
        (GPT2, {"width": 12, "heads": 3, "depth": 1, "hidden": 10}, "gpt2"),
    ],
)
def test_a_smaller_network_is_of_the_class_that_has_its_features(
    family: DecoderFamily, options: dict[str, int], kind: str, tmp_path: Path
) -> None:
    supernet = invariants.randomised(make_supernet(family))
    settings = check(supernet, chosen(family, **options), tmp_path, texts())
    assert (settings["model_type"], settings["eos_token_id"]) == (kind, 3)


def test_experts_are_kept_in_their_order(tmp_path: Path) -> None:
    saved("mixtral", tmp_path / "original")
    config = read_decoder_config(tmp_path / "original")
    family = DecoderFamily(config.space(), tokens=8, **config.fixed)
    supernet = make_supernet(family, pretrained=config.read(tmp_path / "original").weights(family))
    settings = check(supernet, chosen(family, experts=3, active_experts=1, hidden=24), tmp_path / "out", ids())
    assert [settings[key] for key in ("num_local_experts", "num_experts_per_tok", "intermediate_size")] == [3, 1, 24]


def test_a_network_of_equal_tokens_is_written_though_others_of_its_space_have_varying_numbers_of_experts(
    tmp_path: Path,
) -> None:
    spec = replace(SPEC, experts=(2, 4), active_experts=(2,), null_experts=(0, 2), top_p=(0.5, 1))
    family = DecoderFamily(spec, **SIZES)
    supernet = invariants.randomised(make_supernet(family))
    assert check(supernet, chosen(family, null_experts=0), tmp_path / "out", texts())["model_type"] == "mixtral"
    for other in (chosen(family), chosen(family, null_experts=0, top_p=0.5)):
        with raises("export.no-such-architecture", "null experts", "top_p below 1", "export ONNX"):
            write_decoder(tmp_path, family, other, {}, **TOKENIZER)


def test_experts_that_the_library_has_not_are_refused(tmp_path: Path) -> None:
    for feature in ({"gates": "equal"}, {"expert_rank": (4, 8)}, {"routers": "shared"}):
        family = DecoderFamily(replace(SPEC, experts=(2, 4), active_experts=(1, 2), **feature), **SIZES)
        with raises("export.no-such-architecture", "Mixtral", "Qwen2-MoE", "export ONNX"):
            write_decoder(tmp_path, family, chosen(family), {}, **TOKENIZER)


@pytest.mark.parametrize("family", [LLAMA, GPT2, EXPERTS], ids=["llama", "gpt2", "mixtral"])
def test_a_network_of_one_attention_is_written_though_others_of_its_space_have_experts(
    family: DecoderFamily, tmp_path: Path
) -> None:
    family = DecoderFamily(replace(family.spec, attention_experts=(1, 2)), **SIZES)
    options = {"width": 12, "heads": 3, "queries": family.spec.queries[0], "attention_experts": 1}
    check(invariants.randomised(make_supernet(family)), chosen(family, **options), tmp_path / "out", texts())
    with raises(
        "export.no-such-architecture", "attention experts", "has 2 in each", "choose one with 1", "export ONNX"
    ):
        write_decoder(tmp_path, family, chosen(family, **{**options, "attention_experts": 2}), {}, **TOKENIZER)


def test_a_gpt2_with_fewer_heads_is_refused(tmp_path: Path) -> None:
    with raises("export.no-such-architecture", "GPT-2 among its heads", "3 heads of 1 x 4 channels in a width of 16"):
        write_decoder(tmp_path / "out", GPT2, chosen(GPT2, width=16, heads=3), {}, **TOKENIZER)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("family", "error"),
    [
        (GEMMA, "Gemma3ForCausalLM has no layers without positions and bound of attention scores"),
        (replace(SPEC, norms="after"), "LlamaForCausalLM has no norms after attention and MLPs"),
    ],
    ids=["gemma", "olmo"],
)
def test_features_that_no_class_has_are_named(family: DecoderFamily | DecoderSpec, error: str, tmp_path: Path) -> None:
    family = family if isinstance(family, DecoderFamily) else DecoderFamily(family, **SIZES)
    with raises("export.no-such-architecture", error, "export ONNX"):
        write_decoder(tmp_path, family, chosen(family, width=12), {}, **TOKENIZER)


def test_what_differs_between_layers_is_named(tmp_path: Path) -> None:
    names, genes = [choice.name for choice in LLAMA.space.choices], list(LLAMA.space.largest.genes)
    genes[names.index("layer1.heads")], genes[names.index("layer2.hidden")] = 0, 1
    differing = ("the layers [0, 1, 2]", "heads [3, 1, 3] and hidden [28, 28, 16]", "export ONNX")
    with raises("export.no-such-architecture", *differing):
        write_decoder(tmp_path, LLAMA, Architecture(tuple(genes)), {}, **TOKENIZER)
