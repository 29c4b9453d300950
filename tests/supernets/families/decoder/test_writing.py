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
from supernets.families.decoder.reading_back import read_back
from supernets.families.decoder.writing import write_decoder
from supernets.networks.formats.model_folder import DECODERS
from supernets.networks.formats.pretrained import CONFIG
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import GEMMA, GPT2, LLAMA, SCALED, SIZES, SKIPS, SPEC, texts
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
        "export.no-such-architecture", "attention experts", "has 2 in a layer", "choose one with 1", "export ONNX"
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


def differing(family: DecoderFamily, **genes: int) -> Architecture:
    """The largest architecture but for these genes, by the names of choices with _ in place of the point."""
    names, largest = [choice.name for choice in family.space.choices], list(family.space.largest.genes)
    for name, gene in genes.items():
        largest[names.index(name.replace("_", ".", 1))] = gene
    return family.space.canonical(largest)


@pytest.mark.parametrize(
    ("family", "genes", "sizes"),
    [
        (LLAMA, {"layer2_hidden": 1}, {"2": {"intermediate_size": 16}}),
        (
            BIASED,
            {"layer1_heads": 0, "layer0_queries": 0},
            {"0": {"num_attention_heads": 3}, "1": {"num_attention_heads": 2, "num_key_value_heads": 1}},
        ),
        (EXPERTS, {"layer1_experts": 0}, {"1": {"num_local_experts": 2}}),
        (SKIPS, {"layer0_heads": 0, "layer2_hidden": 0}, {"0": {"skip": ["attention"]}, "2": {"skip": ["mlp"]}}),
        (SKIPS, {f"layer{i}_hidden": 0 for i in range(3)}, {str(i): {"skip": ["mlp"]} for i in range(3)}),
    ],
    ids=["llama", "qwen2", "mixtral", "skipped parts", "no MLP"],
)
def test_layers_that_differ_are_loaded_and_continue_texts_with_a_cache(
    family: DecoderFamily, genes: dict[str, int], sizes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    check_layers(make_supernet(family), differing(family, **genes), sizes, tmp_path)


@pytest.mark.parametrize("kind", ["qwen3", "smollm3", "phi3", "olmo2", "gemma2", "gemma3_text"])
def test_layers_that_differ_have_windows_positions_and_bounds(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    saved(kind, tmp_path / "original")
    config = read_decoder_config(tmp_path / "original")
    spec = replace(config.space(), hidden=(0, *config.space().hidden))
    family = DecoderFamily(spec, tokens=8, **config.fixed)
    genes = {"layer1_hidden": 1, "layer2_hidden": 0}
    sizes = {"1": {"intermediate_size": spec.hidden[1]}, "2": {"skip": ["mlp"]}}
    check_layers(make_supernet(family), differing(family, **genes), sizes, tmp_path)


@torch.no_grad()
def check_layers(supernet: Supernet, architecture: Architecture, sizes: Any, tmp_path: Path) -> None:
    """Compares a network of randomised weights, whose layers differ, with what the library makes of its folder."""
    from transformers import AutoModelForCausalLM

    family = supernet.family
    assert isinstance(family, DecoderFamily)
    network = invariants.randomised(supernet).extract(architecture)
    written = write_decoder(tmp_path / "network", family, architecture, network.state_dict(), **TOKENIZER)
    assert written.settings["per_layer_config"] == sizes
    assert len(written.texts["modeling_heterogeneous.py"].splitlines()) <= 120
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "network", trust_remote_code=True).eval()
    expected = network(texts())
    assert (theirs(texts()).logits - expected).abs().max() <= 1e-5 * expected.std()
    ids, padded = texts(1, 4), torch.cat([torch.full((1, 2), 3), texts(1, 4)], dim=1)
    for prompt, mask in ((ids, torch.ones(1, 4)), (padded, torch.tensor([[0, 0, 1, 1, 1, 1]]))):
        made = theirs.generate(prompt, attention_mask=mask.long(), max_new_tokens=6, eos_token_id=None, pad_token_id=3)
        for token in made[0, prompt.shape[1] :]:
            assert token == network(ids)[0, -1].argmax()
            ids = torch.cat([ids, token.view(1, 1)], dim=1)
        ids = texts(1, 4)
    with raises("pretrained.unusable", "its layers differ in their sizes"):
        read_decoder_config(tmp_path / "network")
    again = read_back(tmp_path / "network", family, architecture, network)
    assert torch.equal(again(texts()), expected)


def test_a_gpt2_whose_layers_differ_is_refused(tmp_path: Path) -> None:
    with raises("export.no-such-architecture", "no GPT-2 whose layers differ"):
        write_decoder(tmp_path, GPT2, differing(GPT2, width=0, layer1_hidden=0), {}, **TOKENIZER)
