"""Exports of a language model as folders of other libraries: what they have, and that the libraries read them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from nas.engine.store.folder import RunsFolder
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import load_job
from nas.results.export.format_names import FOLDERS, FORMATS
from nas.results.export.formats.all_formats import FOLDER_FORMATS
from nas.runs.driver import run as search
from nas.runs.run import Run
from supernets.space import Architecture
from supernets.training.checkpoint import load_checkpoint
from tests.full_disk import files_of_at_most
from tests.nas.commands import Shell, assert_error
from tests.supernets.data.test_documents import document

JOB: dict[str, Any] = {
    "name": "texts", "task": "language-modelling", "seed": 1,
    "data": {"name": "text", "path": "text.txt", "max_tokens": 80, "vocabulary": 300},
    "supernet": {
        "family": "decoder", "space": {
            "head_size": 8, "depth": [2], "width": [32], "heads": [1, 2], "queries": [2], "hidden": [0, 32, 64],
        },
    },
    "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.01},
    "objectives": ["perplexity", "macs"], "search": {"algorithm": "random", "evaluations": 8},
}  # fmt: skip
STEPS = 32


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "text.txt").write_text("\n\n".join(map(document, range(120))), encoding="utf-8")
    (folder / "job.yaml").write_text(yaml.safe_dump(JOB), encoding="utf-8")
    search(load_job(folder / "job.yaml"), RunOptions(RunsFolder(folder / "runs"), inline=True))
    return folder


@pytest.fixture
def shell(searched: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(searched, capsys, monkeypatch)


@pytest.fixture(scope="module")
def differing(searched: Path) -> Any:
    """The measured network with attention and MLP of other sizes in its two layers, one of which lacks its MLP."""
    evaluated = Run.open(RunsFolder(searched / "runs"), "texts-1").report.evaluated
    return next(
        p
        for p in evaluated
        if p.described["layer0.heads"] != p.described["layer1.heads"]
        and 0 in (p.described["layer0.hidden"], p.described["layer1.hidden"])
    )


def exported(shell: Shell, point: Any, format: str, folder: Path) -> Any:
    pytest.importorskip("gguf" if format == "gguf" else "numpy", reason="gguf is not installed")
    made = shell.nas("export", "texts-1", "--format", format, "-o", folder, "--select", f"key={point.key}", "--json")
    assert made.code == 0, made
    return made.data


def greedy(searched: Path, key: str, prompt: list[int]) -> list[int]:
    """The tokens by which torch continues a prompt, computed anew for each."""
    network = load_checkpoint(searched / "runs/texts-1/checkpoint").supernet.extract(Architecture.parse(key)).eval()
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(STEPS):
            ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_the_list_of_formats_is_that_of_their_modules() -> None:
    assert tuple(FOLDER_FORMATS) == FOLDERS
    assert set(FOLDERS) < set(FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("format", FOLDERS)
def test_a_network_whose_layers_differ_has_a_model_card(
    format: str, shell: Shell, differing: Any, tmp_path: Path
) -> None:
    answer = exported(shell, differing, format, tmp_path / "out")
    assert answer["format"] == format
    assert answer["files"] == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left beside it"
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    stated = yaml.safe_load(front)
    assert (stated["license"], stated["pipeline_tag"]) == ("unknown", "text-generation")
    for part in (
        f"`texts-1` (key `{differing.key}`)",
        f"| perplexity | {differing.values['perplexity']:.6g} | {differing.errors['perplexity']:.2g} |",
        "It was trained from random weights",
        f"| 1 | {differing.described['layer1.heads']} | 2 | {differing.described['layer1.hidden']} |",
        '- path: "text.txt"',
        "at most 80 tokens, of 300 different ones",
    ):
        assert part in text
    assert str(tmp_path) not in card


@pytest.mark.slow
def test_gguf_files_have_the_sizes_of_layers(shell: Shell, differing: Any, tmp_path: Path) -> None:
    exported(shell, differing, "gguf", tmp_path / "out")
    from gguf import GGUFReader

    for path in sorted((tmp_path / "out").glob("*.gguf")):
        fields = {name: field.contents() for name, field in GGUFReader(path).fields.items()}
        assert fields["general.architecture"] == "deci"
        heads = [2 * differing.described[f"layer{i}.heads"] for i in range(2)]
        assert fields["deci.attention.head_count"] == heads
        # llama.cpp leaves out a layer without an MLP, which therefore has one of zeros.
        assert fields["deci.feed_forward_length"] == [differing.described[f"layer{i}.hidden"] or 32 for i in range(2)]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
def test_llama_cpp_continues_texts_as_torch(searched: Path, shell: Shell, differing: Any, tmp_path: Path) -> None:
    exported(shell, differing, "gguf", tmp_path / "out")
    from llama_cpp import Llama

    model = Llama(str(next((tmp_path / "out").glob("*F16.gguf"))), n_ctx=80, verbose=False)
    prompt = model.tokenize(b"the quick")  # which begins with the separator
    tokens = [token for token, _ in zip(model.generate(prompt, temp=0.0), range(STEPS), strict=False)]
    assert tokens == greedy(searched, differing.key, prompt)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("onnxruntime_genai") is None, reason="onnxruntime-genai is not installed")
def test_onnx_runtime_genai_continues_texts_as_torch(
    searched: Path, shell: Shell, differing: Any, tmp_path: Path
) -> None:
    exported(shell, differing, "genai", tmp_path / "out")
    import onnxruntime_genai as og

    model = og.Model(str(tmp_path / "out"))
    separator = json.loads((tmp_path / "out" / "genai_config.json").read_text())["model"]["bos_token_id"]
    prompt = [separator, *map(int, og.Tokenizer(model).encode("the quick"))]
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(max_length=len(prompt) + STEPS, do_sample=False)
    generator = og.Generator(model, parameters)
    generator.append_tokens(np.array([prompt], np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    tokens, expected = generator.get_sequence(0)[len(prompt) :].tolist(), greedy(searched, differing.key, prompt)
    end = expected.index(separator) if separator in expected else STEPS
    assert tokens[:end] == expected[:end]


@pytest.mark.slow
def test_a_folder_of_optimum_describes_its_graph(searched: Path, shell: Shell, differing: Any, tmp_path: Path) -> None:
    exported(shell, differing, "optimum", tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "auto_map" not in settings
    size = settings["hidden_size"] // settings["num_attention_heads"]
    assert (size, settings["num_key_value_heads"]) == (8, 2)
    if importlib.util.find_spec("optimum") is None:
        pytest.skip("optimum is not installed")
    from optimum.onnxruntime import ORTModelForCausalLM

    model, prompt = ORTModelForCausalLM.from_pretrained(tmp_path / "out"), [settings["bos_token_id"], 5, 6, 7]
    made = model.generate(torch.tensor([prompt]), max_new_tokens=STEPS, do_sample=False, eos_token_id=None)
    assert made[0, len(prompt) :].tolist() == greedy(searched, differing.key, prompt)


@pytest.mark.slow
@pytest.mark.parametrize("format", FOLDERS)
def test_a_full_disk_leaves_nothing(format: str, shell: Shell, differing: Any, tmp_path: Path) -> None:
    pytest.importorskip("gguf" if format == "gguf" else "numpy", reason="gguf is not installed")
    writer = type(FOLDER_FORMATS[format])
    write = writer.write

    def limited(self: Any, *arguments: Any) -> Any:  # only here, as the run's own database is larger
        with files_of_at_most(20_000):
            return write(self, *arguments)

    shell.monkeypatch.setattr(writer, "write", limited)
    chosen = ("--select", f"key={differing.key}")
    answer = shell.nas("export", "texts-1", "--format", format, "-o", tmp_path / "out", *chosen)
    reason = "requested and" if format == "gguf" else "File too large"
    assert_error(answer, "cannot be written: ", reason, "free space", code="file.not-writable")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_refused_before_anything_is_read(shell: Shell, tmp_path: Path) -> None:
    answer = shell.nas("export", "texts-1", "--format", "ggml", "-o", tmp_path / "out")
    assert answer.code == 2
    assert all(name in answer.err for name in FORMATS)
    (tmp_path / "file").write_text("")
    answer = shell.nas("export", "texts-1", "--format", "genai", "-o", tmp_path)
    assert_error(answer, "is no empty folder", code="file.exists")
