"""The whole path for sentences: search, export with the tokenizer, and as a folder of the transformers library."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
import torch
import yaml

from hardware_profiles.runtime import run_model
from nas.engine.store.base import RunStore
from nas.engine.store.compatibility import check_compatibility
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.build.compatibility_facts import compatibility_facts
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import parse_job
from nas.results.analysis.cascade import Row
from nas.results.analysis.report import RunReport, build_report
from nas.runs.driver import run as search
from nas.runs.run import Run
from supernets.data import TextOptions, load_data
from supernets.data.splitting import split
from supernets.data.text_classification import text_classification
from supernets.families.encoder.bert_pretrained import read_bert
from supernets.space import Architecture
from supernets.training.checkpoint import load_checkpoint
from tests.errors import raises
from tests.nas.commands import Shell
from tests.nas.results.export.running_scripts import PROJECT, found_by, prediction_of

TOPICS = {
    "text": ("formatstrings", "string-methods", "strings", "typesmapping", "typesseq"),
    "statements": ("compound", "import", "with", "class", "function", "exceptions"),
}
"""Of Python's own documentation: sentences about strings and mappings, and about statements."""
JOB = """
name: topics
seed: 2
data: {name: text-classification, path: topics.csv, max_tokens: 40, vocabulary: 800}
supernet:
  family: encoder
  space: {head_size: 8, depth: [1, 2], width: [16, 32], heads: [2, 4], hidden: [16, 64]}
training: {strategy: instatune, epochs: 6, batch_size: 32, learning_rate: 0.003}
hardware: [cpu-1-thread]
objectives: [accuracy, latency_ms]
search: {algorithm: random, evaluations: 8, batch: 6}
"""


def sentences() -> list[tuple[str, str]]:
    """Text and label; each text once."""
    found: dict[str, str] = {}
    for label, names in TOPICS.items():
        for name in names:
            for sentence in re.split(r"(?<=[.:])\s+", topics[name]):
                plain = " ".join(re.findall(r"[A-Za-z]+", sentence)).lower()
                if len(plain.split()) > 4:
                    found.setdefault(plain, label)
    return list(found.items())


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    from nas.jobs.schema import load_job

    folder = tmp_path_factory.mktemp("text")
    with (folder / "topics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(sentences())
    (folder / "job.yaml").write_text(JOB)
    search(load_job(folder / "job.yaml"), RunOptions(RunsFolder(folder / "runs"), inline=True))
    return folder


@pytest.fixture
def shell(searched: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(searched, capsys, monkeypatch)


def test_sentences_are_told_apart_by_what_a_search_finds(shell: Shell) -> None:
    shown = shell.nas("show", "topics-1", "--json").data
    assert max(point["test"]["accuracy"] for point in shown["front"]) > 0.8
    assert shell.nas("plot", "topics-1", "--json").code == 0


def test_an_export_comes_with_the_tokenizer_and_answers_raw_sentences(shell: Shell, tmp_path: Path) -> None:
    made = shell.nas("export", "topics-1", "-o", tmp_path / "topics.onnx", "--json").data
    assert (made["as_measured"], made["parity"] < 1e-4) == (1.0, True)
    manifest = json.loads((tmp_path / "topics.json").read_text())
    told, classes = manifest["input"], manifest["classes"]
    assert told["shape"] == ["batch", "tokens"]
    files = {"topics.onnx", "topics.safetensors", "topics.tokenizer.json", "topics.predict.py"}
    assert set(manifest["files"]) == files
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tmp_path / "topics.tokenizer.json"))
    tokenizer.enable_truncation(told["max_tokens"])
    tokenizer.enable_padding(pad_id=told["padding"])
    texts = sentences()[::7]
    ids = np.array([encoding.ids for encoding in tokenizer.encode_batch([text for text, _ in texts])], dtype=np.int64)
    (logits,) = run_model((tmp_path / "topics.onnx").read_bytes(), {told["name"]: ids})
    right = [classes[i] == label for i, (_, label) in zip(logits.argmax(axis=1), texts, strict=True)]
    assert np.mean(right) > 0.8
    again = shell.nas("export", "topics-1", "-o", tmp_path / "topics.onnx")
    assert again.code == 0
    assert f"wrote {tmp_path / 'topics.tokenizer.json'}\n" in again.out
    assert "of validation sentences classified" in again.out


def test_the_script_of_an_export_reproduces_the_test_accuracy(shell: Shell, tmp_path: Path) -> None:
    made = shell.nas("export", "topics-1", "-o", tmp_path, "--json").data
    manifest = json.loads(Path(made["manifest"]).read_text())
    steps = manifest["preprocessing"]
    assert (steps["special_tokens"], steps["max_tokens"], steps["padding_token"]) == (["[CLS]", "[SEP]"], 40, "[PAD]")
    data = load_data(
        "text-classification", path=shell.folder / "topics.csv", options=TextOptions(max_tokens=40, vocabulary=800)
    )
    source = text_classification(shell.folder / "topics.csv", TextOptions())
    test = split(source, validation=None, test=None, seed=0).test
    texts = [f" \n{text}\t " for text in test.inputs.tolist()]
    _, preprocess = prediction_of(Path(made["script"]))
    for text, row in zip(texts, data.test.inputs, strict=True):
        assert np.array_equal(preprocess(text)[0], row[row != data.sentences.padding])
    found = found_by(Path(made["script"]), [text.strip() for text in texts])
    right = [name == source.class_names[label] for (name, _), label in zip(found, test.labels, strict=True)]
    assert np.mean(right) == manifest["figures"]["test"]["accuracy"]
    refused = shell.nas("export", "topics-1", "-o", tmp_path, "--with-preprocessing")
    assert (refused.code, refused.error) == (1, "export.preprocessing-unavailable")


@pytest.mark.slow
def test_the_script_of_a_folder_for_transformers_answers_raw_sentences(shell: Shell, tmp_path: Path) -> None:
    out = tmp_path / "bert"
    chosen = ("--select", "key=1-1-1-1-1-1", "--json")
    shell.nas("export-transformers", "topics-1", "-o", out, *chosen)
    made = shell.nas("export", "topics-1", "-o", tmp_path, *chosen).data
    texts = [text for text, _ in sentences()[::40]]
    assert json.loads((out / "preprocessing.json").read_text())["max_tokens"] == 40
    assert found_by(out / "predict.py", texts, without=PROJECT) == found_by(Path(made["script"]), texts)


def test_a_network_whose_layers_are_alike_is_one_of_the_transformers_library(shell: Shell, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    out = tmp_path / "bert"
    made = shell.nas("export-transformers", "topics-1", "-o", out, "--select", "key=1-1-1-1-1-1", "--json")
    assert made.code == 0, made.err
    network = AutoModelForSequenceClassification.from_pretrained(out).eval()
    shell.nas("export", "topics-1", "-o", tmp_path / "same.onnx", "--select", "key=1-1-1-1-1-1")
    ids = torch.randint(4, 700, (6, 12), generator=torch.Generator().manual_seed(0))
    ids[1, 5:] = ids[4, 2:] = 0
    with torch.no_grad():
        expected = network(ids, attention_mask=(ids != 0).long()).logits
    (came,) = run_model((tmp_path / "same.onnx").read_bytes(), {"input": ids.numpy()})
    assert np.abs(came - expected.numpy()).max() <= 1e-4 * expected.std().item()
    taken = shell.nas("export-transformers", "topics-1", "-o", out)
    assert (taken.code, "exists and is no empty folder" in taken.err) == (1, True)


@pytest.mark.slow
def test_of_one_measured_in_int8_alone_what_is_written_in_fp32_has_no_figures_of_int8(
    shell: Shell, tmp_path: Path
) -> None:
    job = yaml.safe_load(JOB) | {"name": "whole8", "supernet": {"family": "encoder", "from": "topics-1"}}
    job |= {"precisions": ["int8"], "search": {"algorithm": "random", "evaluations": 2}}
    assert shell.nas("search", shell.job(yaml.safe_dump(job), "int8.yaml"), "--inline").code == 0
    made = shell.nas("export-transformers", "whole8-1", "-o", tmp_path / "b", "--select", "accuracy>=0", "--json").data
    supernet = load_checkpoint(shell.folder / "runs" / "topics-1" / "checkpoint").supernet
    cost = supernet.cost(Architecture.parse(made["key"]))
    assert made["precision"] == "fp32"
    exact = {"macs": cost.macs, "parameters": cost.parameters, "activation_bytes": cost.activation_bytes}
    assert {name: made["values"][name] for name in exact} == exact
    assert made["values"].keys() - exact.keys() == {"accuracy"}  # scored in fp32
    told = shell.nas(
        "export-transformers", "topics-1", "-o", tmp_path / "c", "--select", f"key={made['key']}", "--json"
    )
    assert "accuracy" in told.data["values"]  # this run measured it in fp32


def test_one_that_the_library_does_not_have_is_refused_and_told(shell: Shell, tmp_path: Path) -> None:
    report = Run.open(RunsFolder(shell.folder / "runs"), "topics-1").report
    split = next(p for p in report.evaluated if int(p.described["layer0.heads"]) * 8 != p.described["width"])
    made = shell.nas("export-transformers", "topics-1", "-o", tmp_path / "bert", "--select", f"key={split.key}")
    assert made.code == 1
    assert "the transformers library" in made.err
    assert "or export ONNX" in made.err
    assert not (tmp_path / "bert").exists()


def test_a_network_trained_whole_is_made_a_supernet_of_and_teaches_it(shell: Shell, tmp_path: Path) -> None:
    """Fine-tuned first, then InstaTune from there: of a pretrained network's data there may be few."""
    job = yaml.safe_load(JOB)
    job["name"] = "whole"
    job["training"] = {"strategy": "largest", "epochs": 2, "batch_size": 32, "learning_rate": 0.003}
    assert shell.nas("train", shell.job(yaml.safe_dump(job), "whole.yaml")).code == 0
    out = tmp_path / "tuned"
    made = shell.nas("export-transformers", "whole-1", "-o", out, "--json")
    assert made.code == 0, made.err
    whole = load_checkpoint(shell.folder / "runs" / "whole-1" / "checkpoint").supernet
    assert made.data["values"]["macs"] == whole.cost(whole.space.largest).macs
    written, trained = read_bert(out).tensors, whole.extract(whole.space.largest).state_dict()
    assert written.keys() == trained.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in trained.items())
    further = yaml.safe_load(JOB) | {"name": "parts", "supernet": {"family": "encoder", "pretrained": str(out)}}
    del further["data"]["vocabulary"]
    further["training"] = {"strategy": "instatune", "epochs": 1, "batch_size": 32, "teacher": "whole-1", "sort": True}
    told = shell.nas("train", shell.job(yaml.safe_dump(further), "parts.yaml"))
    assert told.code == 0, told.err
    assert shell.nas("export-transformers", "parts-1", "-o", tmp_path / "parts").code == 0
    of_none = shell.nas("export-transformers", "parts-1", "-o", tmp_path / "none", "--select", "macs<=1e5")
    assert (of_none.code, "supernet.nested: true" in of_none.err) == (1, True)


def test_sentences_for_a_family_of_images_are_refused(shell: Shell) -> None:
    job = yaml.safe_load(JOB) | {"supernet": {"preset": "tiny"}}
    told = shell.nas("plan", shell.job(yaml.safe_dump(job), "wrong.yaml"), "--no-time", "--inline")
    assert told.code == 1
    assert "sentences" in told.err


def test_latency_is_of_sentences_of_the_length_that_the_job_says(shell: Shell) -> None:
    def prepared(tokens: str) -> BuiltJob:
        path = shell.folder / "topics.csv"
        text = JOB.replace("topics.csv, max_tokens: 40", f"{path}, max_tokens: 40{tokens}")
        return build_job(ResolvedJob(parse_job(text, source="job.yaml"), RunsFolder(shell.folder / "runs")))

    own, fixed = prepared(""), prepared(", timed_tokens: 24")
    assert len({inputs.shape for inputs in own.data.timed_batches(own.job.profiles[0])}) > 2
    assert [inputs.shape for inputs in fixed.data.timed_batches(fixed.job.profiles[0])] == [(1, 24)]
    theirs = compatibility_facts(own, measured=True)
    with raises("run.incompatible", "timed_tokens: was None, is 24"):
        check_compatibility("run a", theirs, compatibility_facts(fixed, measured=True))
    with raises("run.incompatible", "timed_tokens: was 24, is None"):
        check_compatibility("run a", compatibility_facts(fixed, measured=True), theirs)
    check_compatibility("run a", compatibility_facts(own, measured=False), compatibility_facts(fixed, measured=False))
    del theirs["timed_tokens"]  # a run of before there was a choice
    check_compatibility("run a", theirs, compatibility_facts(own, measured=True))


def test_how_many_sentences_were_cut_is_told_where_data_are_described_and_once_in_a_run(shell: Shell) -> None:
    job = yaml.safe_load(JOB)
    job["data"]["max_tokens"], job["training"]["epochs"], job["name"] = 12, 1, "cut"
    path = shell.job(yaml.safe_dump(job), "cut.yaml")
    planned = shell.nas("plan", path, "--no-time", "--inline", "--json").data
    total, n_cut = sum(planned["images"].values()), planned["cut_sentences"]
    assert total / 4 < n_cut < total
    told = (
        f"{n_cut:,} of {total:,} sentences are longer than 12 tokens and were cut; a larger data.max_tokens keeps more"
    )
    shown = shell.nas("plan", path, "--no-time", "--inline").out
    assert told in shown
    assert "sentences: " in shown
    made = shell.nas("train", path)
    assert (made.code, made.err.count(told)) == (0, 1)
    job["data"]["max_tokens"] = 2000
    whole = shell.nas("plan", shell.job(yaml.safe_dump(job), "whole.yaml"), "--no-time", "--inline", "--json").data
    assert whole["cut_sentences"] == 0


def test_a_cascade_of_two_encoders_answers_raw_sentences(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_ends(store: RunStore, *, run: str, profile: str | None = None) -> RunReport:
        """The report with the smallest and the largest network as its front: that of so small a run may have one member."""
        report = build_report(store, run=run, profile=profile)
        return replace(report, front=(report.anchors["smallest"], report.anchors["largest"]))

    monkeypatch.setattr("nas.results.export.cascade.build_report", with_ends)
    cascades = Run.open(RunsFolder(shell.folder / "runs"), "topics-1").cascades()
    tried = cascades.table.cascades
    cascades.table = replace(cascades.table, rows=(Row(tried[len(tried) // 2], on_front=True),))
    made = cascades.export(0, tmp_path)
    assert made["parity"] <= 1e-4
    network, preprocess = prediction_of(Path(made["script"]))
    texts = [text for text, _ in sentences()[::10]]
    answers = [network.answer(preprocess(text)) for text in texts]
    assert {bool(remark) for _, remark in answers} == {False, True}
    printed = [name for name, _ in found_by(Path(made["script"]), texts)]
    assert printed == [network.classes[logits.argmax()] for logits, _ in answers]
