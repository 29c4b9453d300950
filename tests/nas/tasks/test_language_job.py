"""Language models: from documents to a searched, exported network that continues texts as torch does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from tokenizers import Tokenizer

from nas.engine.store.folder import RunsFolder
from nas.jobs.evaluation.serving_inputs import serving_inputs
from nas.runs.run import Run
from supernets.families.decoder.decoder_serving import lower_prefill, lower_step, lower_step_in_place
from supernets.space import Architecture
from supernets.training.checkpoint import load_checkpoint, make_supernet
from tests.nas.commands import Shell, assert_error
from tests.supernets.data.test_documents import document

JOB: dict[str, Any] = {
    "name": "texts", "task": "language-modelling", "seed": 1,
    "data": {"name": "text", "path": "text.txt", "max_tokens": 80, "vocabulary": 300},
    "supernet": {
        "family": "decoder", "space": {
            "head_size": 8, "depth": [1, 2], "width": [16, 32], "heads": [1, 2], "queries": [1, 2], "hidden": [16, 48],
        },
    },
    "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.01},
    "objectives": ["perplexity", "bits_per_byte", "macs"], "search": {"algorithm": "random", "evaluations": 4},
}  # fmt: skip


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    (tmp_path / "text.txt").write_text("\n\n".join(map(document, range(120))), encoding="utf-8")
    return Shell(tmp_path, capsys, monkeypatch)


def job(shell: Shell, **changes: Any) -> Path:
    return shell.job(yaml.safe_dump({**JOB, **changes}))


def test_a_searched_network_is_exported_and_continues_texts_as_torch(shell: Shell) -> None:
    found = shell.nas("search", job(shell), "--inline")
    assert found.code == 0, found
    report = json.loads(shell.nas("show", "texts-1", "--json").out)
    assert report["scored"] == "perplexity"
    point = report["front"][0]["values"]
    assert 1 < point["perplexity"] < 300
    answer = json.loads(shell.nas("export", "texts-1", "-o", "net.onnx", "--index", "0", "--json").out)
    assert answer["as_measured"] == 1
    assert max(answer["parity"], answer["served_parity"]) < 1e-4
    assert_continued_as_by_torch(shell.folder, answer["key"])


def assert_continued_as_by_torch(folder: Path, key: str) -> None:
    """The exported network's example continues a text as torch does."""
    tokenizer = Tokenizer.from_file(str(folder / "net.tokenizer.json"))
    supernet = load_checkpoint(folder / "runs/texts-1/checkpoint").supernet
    network = supernet.extract(Architecture.parse(key))
    command = [sys.executable, str(folder / "net.predict.py"), "the quick"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    separator = json.loads((folder / "net.json").read_text())["preprocessing"]["separator"]
    ids = [separator, *tokenizer.encode("the quick", add_special_tokens=False).ids]
    for _ in range(64):
        with torch.no_grad():
            ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == separator:
            break
    assert printed == tokenizer.decode(ids) + "\n"


def test_tokens_that_have_as_many_experts_as_they_need_are_searched_and_continued(shell: Shell) -> None:
    routing = {"experts": [2, 4], "active_experts": [2], "top_p": [0.3, 1], "gates": "softmax-all", "routers": "shared"}
    supernet = {"family": "decoder", "space": {**JOB["supernet"]["space"], **routing}}
    objectives = ["perplexity", "active_experts_mean", "macs_mean"]
    assert shell.nas("search", job(shell, supernet=supernet, objectives=objectives), "--inline").code == 0
    report = json.loads(shell.nas("show", "texts-1", "--json").out)
    smallest, largest = report["anchors"]["smallest"], report["anchors"]["largest"]
    assert 1 <= smallest["values"]["active_experts_mean"] < 2
    assert largest["values"]["active_experts_mean"] == 2
    made = shell.nas("export", "texts-1", "-o", "net.onnx", "--select", f"key={smallest['key']}", "--json")
    assert made.code == 0, made
    assert made.data["served_parity"] < 1e-4
    assert_continued_as_by_torch(shell.folder, smallest["key"])


@pytest.mark.slow
def test_a_network_of_uniform_layers_is_one_of_the_transformers_library(shell: Shell) -> None:
    pytest.importorskip("transformers")
    assert shell.nas("search", job(shell), "--inline").code == 0
    report = json.loads(shell.nas("show", "texts-1", "--json").out)
    key = report["anchors"]["largest"]["key"]
    made = shell.nas("export-transformers", "texts-1", "-o", "llama", "--select", f"key={key}", "--json")
    assert made.code == 0, made
    assert made.data["loader"] == f"AutoModelForCausalLM.from_pretrained({str(Path('llama'))!r})"
    assert made.data["checks"]["same_tokens"] > 0
    assert made.data["values"]["perplexity"] == report["anchors"]["largest"]["values"]["perplexity"]
    shell.nas("export", "texts-1", "-o", "net.onnx", "--select", f"key={key}")
    folder, texts = shell.folder, ["the quick", "a <|endoftext|>"]
    printed = [
        subprocess.run(
            [sys.executable, "-W", "ignore", str(script), *texts],
            capture_output=True,
            text=True,
            check=True,
            encoding="utf-8",
        ).stdout
        for script in (folder / "llama" / "predict.py", folder / "net.predict.py")
    ]
    assert printed[0] == printed[1]
    evaluated = Run.open(RunsFolder(folder / "runs"), "texts-1").report.evaluated
    differing = next(p for p in evaluated if p.described.get("layer1.hidden", 16) != p.described["layer0.hidden"])
    made = shell.nas("export-transformers", "texts-1", "-o", "other", "--select", f"key={differing.key}", "--json")
    assert made.code == 0, made
    assert "trust_remote_code=True" in made.data["loader"]
    assert made.data["checks"]["same_tokens"] > 0


def test_experts_that_are_loaded_are_an_objective_and_their_usage_is_shown(shell: Shell) -> None:
    space = {**JOB["supernet"]["space"], "experts": [2, 4], "active_experts": [1, 2], "null_experts": [0, 2]}
    more = {
        "supernet": {"family": "decoder", "space": space}, "serving": {"expert_cache": 2},
        "objectives": ["perplexity", "cache_hit_rate", "resident_mib", "macs_mean"],
        "search": {"algorithm": "random", "evaluations": 3},
    }  # fmt: skip
    assert shell.nas("search", job(shell, **more), "--inline").code == 0
    report = json.loads(shell.nas("show", "texts-1", "--json").out)
    assert report["scored"] == "perplexity"
    values = report["anchors"]["largest"]["values"]
    assert 0 < values["cache_hit_rate"] < 1
    key = report["anchors"]["largest"]["key"]
    used = json.loads(shell.nas("show", "texts-1", "--experts", "--select", f"key={key}", "--json").out)
    assert [own["name"] for own in used["layers"]] == ["layers.0.mlp", "layers.1.mlp"]
    for own in used["layers"]:
        assert len(own["usage"]) == 4
        assert sum(own["usage"]) == pytest.approx(own["mean_active_experts"])
        assert 0 < own["mean_active_experts"] < own["active_experts"] == 2
        assert own["unused"] == [i for i, share in enumerate(own["usage"]) if share == 0]
    printed = shell.nas("show", "texts-1", "--experts").out
    assert "experts of the network" in printed
    assert "layers.0.mlp" in printed
    select = ("--select", f"key={key}")
    drawn = json.loads(shell.nas("plot", "texts-1", "--experts", *select, "--json", "-o", "plots").out)
    assert [Path(path).name for path in drawn["paths"]] == ["experts.png", "experts.svg"]
    assert all((shell.folder / path).is_file() for path in drawn["paths"])
    numbers = {own["active_experts"]: own for own in drawn["numbers"]}
    assert {k: own["searched"] for k, own in numbers.items()} == {1: True, 2: True, 4: False}
    assert drawn["chosen"]["active_experts"] == [2, 2]
    assert drawn["chosen"]["value"] == numbers[2]["value"] == pytest.approx(values["perplexity"], rel=1e-4)
    assert len({own["value"] for own in numbers.values()}) == 3
    refused = shell.nas("show", "texts-1", "--experts", "--failed")
    assert refused.code == 2
    assert "--failed, --steps, --experts" in refused.err


@pytest.mark.slow
def test_prompts_and_steps_are_timed_apart(shell: Shell) -> None:
    objectives = ["perplexity", "time_per_token_ms", "time_to_first_token_ms", "tokens_per_second"]
    more = {
        "objectives": objectives, "serving": {"context_tokens": 40, "batch": 2},
        "search": {"algorithm": "random", "evaluations": 2},
    }  # fmt: skip
    assert shell.nas("plan", (path := job(shell, **more))).code == 0
    assert shell.nas("search", path, "--inline").code == 0
    values = json.loads(shell.nas("show", "texts-1", "--json").out)["anchors"]["largest"]["values"]
    assert values["time_to_first_token_ms@cpu-1-thread"] > values["time_per_token_ms@cpu-1-thread"] > 0
    # Of the same timing.
    rate = values["tokens_per_second@cpu-1-thread"]
    assert rate == pytest.approx(2 * 1000 / values["time_per_token_ms@cpu-1-thread"])


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "cache"), [("cpu-1-thread", "in place"), ("cpu-1-thread-openvino", "copied")])
def test_the_run_and_the_export_state_what_a_step_does_with_the_cache(shell: Shell, profile: str, cache: str) -> None:
    if profile.endswith("openvino"):
        pytest.importorskip("openvino")
    search = {"algorithm": "random", "evaluations": 2}
    path = job(shell, hardware=[profile], objectives=["perplexity", "time_per_token_ms"], search=search)
    found = shell.nas("search", path, "--inline")
    assert found.code == 0, found
    assert shell.nas("export", "texts-1", "-o", "net.onnx", "--index", "0").code == 0
    manifest = json.loads((shell.folder / "net.json").read_text(encoding="utf-8"))
    assert manifest["measured_with"][f"time_per_token_ms@{profile}"]["cache"] == cache
    step = onnx.load(shell.folder / "net.step.onnx").graph
    assert ("GroupQueryAttention" in {node.op_type for node in step.node}) == (cache == "in place")
    command = [sys.executable, str(shell.folder / "net.predict.py"), "the quick"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout.startswith(
        "the"
    )


def test_precisions_are_searched_and_exported_as_they_were_scored(shell: Shell) -> None:
    objectives = ["perplexity", "model_mib", "kv_cache_mib"]
    path = job(shell, objectives=objectives, precisions=["fp32", "int8", "int4"], serving={"context_tokens": 64})
    found = shell.nas("search", path, "--inline")
    assert found.code == 0, found
    report = json.loads(shell.nas("show", "texts-1", "--json").out)
    smallest, largest = (report["anchors"][end] for end in ("smallest", "largest"))
    assert (smallest["architecture"]["precision"], largest["architecture"]["precision"]) == ("int4", "fp32")
    assert smallest["values"]["model_mib"] < largest["values"]["model_mib"] / 5
    assert largest["values"]["kv_cache_mib"] == 2 * 2 * 2 * 8 * 64 * 4 / 2**20
    key = f"key={smallest['key']}"
    exported = shell.nas("export", "texts-1", "-o", "net.onnx", "--select", key, "--json")
    assert exported.code == 0, exported
    answer = json.loads(exported.out)
    assert (answer["precision"], answer["as_measured"]) == ("int4", 1)
    assert answer["served_as_scored"] < 0.01
    assert max(answer["parity"], answer["served_parity"]) < 1e-4
    for name in ("net.onnx", "net.step.onnx"):
        stored = onnx.load(shell.folder / name).graph
        assert "MatMulNBits" in {node.op_type for node in stored.node}
    command = [sys.executable, str(shell.folder / "net.predict.py"), "the quick"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout.startswith(
        "the"
    )


def test_the_models_get_prompts_or_one_token_with_a_cache() -> None:
    from tests.supernets.families.decoder.test_decoder_family import LLAMA

    network = make_supernet(LLAMA).extract(LLAMA.space.smallest)
    texts = np.arange(12).reshape(2, 6)
    prompt, step = (serving_inputs(lower(network), texts, context_tokens=9) for lower in (lower_prefill, lower_step))
    assert {name: own.tolist() for name, own in prompt.items()} == {"ids": texts.tolist(), "padding": [0, 0]}
    assert step["ids"].tolist() == [[5], [11]]
    assert {step[f"past.0.{kind}"].shape for kind in ("key", "value")} == {(2, 1, 9, 4)}
    in_place = serving_inputs(lower_step_in_place(network), texts, context_tokens=9)
    assert in_place["filled"].tolist() == [9]
    assert {in_place[f"past.0.{kind}"].shape for kind in ("key", "value")} == {(2, 1, 10, 4)}


@pytest.mark.parametrize(
    ("changes", "code", "mention"),
    [
        ({"objectives": ["perplexity", "latency_ms"]}, "job.conflict", "time_per_token_ms"),
        ({"precisions": ["fp16"]}, "job.conflict", "fp32, int8, int4"),
        ({"data": {**JOB["data"], "timed_tokens": 8}}, "job.conflict", "serving"),
        ({"serving": {"prompt_tokens": 0}}, "job.invalid-value", "serving.prompt_tokens"),
        ({"serving": {"context_tokens": 80}}, "job.context-too-long", "at most 79"),
        (
            {
                "hardware": ["cpu-1-thread-openvino"],
                "precisions": ["int4"],
                "objectives": ["perplexity", "time_per_token_ms"],
            },
            "job.precision-unavailable",
            "openvino",
        ),
        (
            {
                "serving": {"batch": 65536},
                "objectives": ["perplexity", "kv_cache_mib", "time_per_token_ms"],
                "data": {**JOB["data"], "max_tokens": 300},
                "supernet": {
                    **JOB["supernet"],
                    "space": {**JOB["supernet"]["space"], "head_size": 128, "heads": [1, 8]},
                },
            },
            "job.cache-too-large",
            "65536 x 299 tokens",
        ),
        ({"runtimes": ["openvino"]}, "job.conflict", "onnxruntime"),
        ({"data": {**JOB["data"], "label_column": "x"}}, "job.conflict", "label_column"),
        ({"data": {**JOB["data"], "image_size": 8}}, "job.conflict", "image_size"),
        ({"data": {**JOB["data"], "documents": "lines"}}, "job.unknown-name", "paragraphs"),
        ({"data": {**JOB["data"], "max_tokens": 8000}}, "data.malformed-table", "two blocks of 8000"),
        ({"task": "classification", "objectives": ["accuracy", "macs"]}, "job.unfit-data", "text"),
        ({"supernet": {"family": "encoder", "preset": "tiny"}}, "job.unfit-data", "texts"),
        (
            {"data": {"name": "digits"}, "task": "classification", "objectives": ["accuracy", "macs"]},
            "job.unfit-data",
            "texts",
        ),
        (
            {"data": {"name": "digits"}, "task": "classification", "objectives": ["time_per_token_ms"]},
            "job.conflict",
            "latency_ms",
        ),
        (
            {"data": {"name": "digits"}, "task": "classification", "objectives": ["accuracy", "model_mib"]},
            "job.conflict",
            "parameters",
        ),
        (
            {"data": {"name": "digits"}, "task": "classification", "objectives": ["accuracy"], "serving": {"batch": 2}},
            "job.conflict",
            "serving",
        ),
        (
            {"data": {"name": "digits"}, "task": "classification", "objectives": ["accuracy"], "precisions": ["int4"]},
            "job.conflict",
            "int8",
        ),
    ],
)
def test_jobs_that_do_not_fit_are_rejected(shell: Shell, changes: dict[str, Any], code: str, mention: str) -> None:
    assert_error(shell.nas("search", job(shell, **changes), "--inline"), mention, code=code)
