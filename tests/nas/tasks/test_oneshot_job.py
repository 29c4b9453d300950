"""Jobs that search a pretrained decoder without training: layers, heads and neurons by importance, corrected in closed form."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.build.search_objects import metric_features
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job, parse_job
from nas.runs.run import Run
from supernets.data.tokenizing import DocumentTokenizer
from supernets.families.decoder.activations import activation_importance, block_influence, measure_activations
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.decoder_pretrained import read_decoder_config
from supernets.sharing.spec import SharingSpec
from supernets.space import Architecture
from supernets.training.checkpoint import load_checkpoint, make_supernet
from supernets.training.recalibration import Extraction
from tests.nas.commands import Shell, assert_error
from tests.supernets import invariants
from tests.supernets.data.test_documents import document

SUPERNET: dict[str, Any] = {
    "family": "decoder", "pretrained": "small", "sort": "activations", "sharing": {"correction": "least-squares"},
    "space": {"depth": [2, 3], "heads": [1, 2], "queries": [1, 2], "hidden": [8, 16, 24], "kept": "importance"},
}  # fmt: skip
JOB: dict[str, Any] = {
    "name": "oneshot", "task": "language-modelling", "seed": 1, "supernet": SUPERNET, "training": {"epochs": 0},
    "data": {"name": "text", "path": "text.txt", "max_tokens": 32}, "objectives": ["perplexity", "macs"],
    "search": {"algorithm": "random", "evaluations": 4},
}  # fmt: skip
_THEIRS = {
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj", "attention.value": "self_attn.v_proj",
    "attention.project": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj",
    "norm1": "input_layernorm", "norm2": "post_attention_layernorm", "layers": "model.layers",
    "embedding.words": "model.embed_tokens", "head.norm": "model.norm",
}  # fmt: skip


def save_pretrained(folder: Path, documents: list[str]) -> None:
    """A random Llama as the transformers library saves it, with a tokenizer of these documents."""
    folder.mkdir()
    tokenizer = DocumentTokenizer.train(documents, vocabulary=300)
    (folder / "tokenizer.json").write_text(tokenizer.json, encoding="utf-8")
    settings = {
        "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
        "vocab_size": tokenizer.vocabulary,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    config = read_decoder_config(folder)
    supernet = invariants.randomised(make_supernet(DecoderFamily(config.space(), tokens=8, **config.fixed)))
    tensors = {}
    for name, tensor in supernet.weights(supernet.space.largest).items():
        for ours, theirs in _THEIRS.items():
            name = name.replace(ours, theirs)
        tensors[name] = (0.3 * tensor if "layers.1" in name and "proj" in name else tensor).detach().contiguous()
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    documents = [*map(document, range(120))]
    (tmp_path / "text.txt").write_text("\n\n".join(documents), encoding="utf-8")
    save_pretrained(tmp_path / "small", documents)
    return Shell(tmp_path, capsys, monkeypatch)


def job(shell: Shell, **changes: Any) -> Path:
    return shell.job(yaml.safe_dump({**JOB, **changes}))


def prepared(shell: Shell, path: Path) -> BuiltJob:
    return build_job(ResolvedJob(load_job(path), RunsFolder(shell.folder / "runs"), source="job.yaml"))


@pytest.mark.slow
def test_a_search_without_training_exports_what_it_scored(shell: Shell) -> None:
    path = job(shell)
    found = shell.nas("search", path, "--inline")
    assert found.code == 0, found
    supernet = load_checkpoint(shell.folder / "runs/oneshot-1/checkpoint").supernet
    assert supernet.sharing.spec == SharingSpec(correction="least-squares")
    key = json.loads(shell.nas("show", "oneshot-1", "--json").out)["anchors"]["smallest"]["key"]
    answer = json.loads(shell.nas("export", "oneshot-1", "-o", "net.onnx", "--select", f"key={key}", "--json").out)
    assert answer["as_measured"] == 1
    assert max(answer["parity"], answer["served_parity"]) < 1e-4
    calibration = prepared(shell, path).data.calibration.split(250)
    network = Extraction(supernet, calibration)(Architecture.parse(key))
    plain = supernet.extract(Architecture.parse(key)).state_dict()
    written = load_file(shell.folder / "net.safetensors")
    assert all(torch.equal(tensor, written[name]) for name, tensor in network.state_dict().items())
    assert any(not torch.equal(tensor, written[name]) for name, tensor in plain.items())
    assert shell.nas("resume", "oneshot-1", "--inline", "--evaluations", "+1").code == 0


@pytest.mark.slow
def test_layers_that_skip_parts_are_solved_for_and_exported(shell: Shell) -> None:
    space = {"depth": [3], "heads": [0, 2], "queries": [1, 2], "hidden": [0, 8, 12, 16, 24]}
    path = job(
        shell,
        supernet={**SUPERNET, "space": space},
        search={"algorithm": "random", "evaluations": 8, "start": "solved"},
    )
    planned = shell.nas("plan", path, "--inline", "--json").data
    assert "; losses of 7 of 14 options, " in planned["time"]["search"]["origin"]
    searched = shell.nas("search", path, "--inline")
    assert searched.code == 0, searched
    assert "measured the losses of 12 of 14 options" in searched.err  # those with 16 hidden channels are interpolated
    report = Run.open(RunsFolder(shell.folder / "runs"), "oneshot-1").report
    supernet = load_checkpoint(shell.folder / "runs/oneshot-1/checkpoint").supernet
    losses = stored_losses(shell.folder)
    assert set(losses) == {choice.name for choice in supernet.space.choices}
    assert losses["layer1.heads"][-1] == 0 < losses["layer1.heads"][0]
    assert all(of[2] > of[3] > of[4] == 0 for of in (losses[f"layer{i}.hidden"] for i in range(3)))
    macs = {a: supernet.cost(a).macs for a in (supernet.space.smallest, supernet.space.largest)}
    # A new limit is solved without measuring losses again, and its network without some attentions is exported.
    limit = 0.6 * macs[supernet.space.largest] + 0.4 * macs[supernet.space.smallest]
    answer = shell.nas("export", "oneshot-1", "--select", f"macs<={limit}", "--solve", "-o", "net.onnx", "--json").data
    assert answer["solved"]["measured"]["macs"] <= limit
    assert answer["served_parity"] < 1e-4
    assert stored_losses(shell.folder) == losses
    key = report.anchors["smallest"].key
    answer = shell.nas("export", "oneshot-1", "--select", f"key={key}", "-o", "smallest.onnx", "--json").data
    assert max(answer["parity"], answer["served_parity"]) < 1e-4


def stored_losses(folder: Path) -> dict[str, list[float]]:
    with closing(open_store(RunsFolder(folder / "runs").get("oneshot-1"))) as store:
        return store.option_losses()


@pytest.mark.slow
def test_a_plan_has_no_training(shell: Shell) -> None:
    times = json.loads(shell.nas("plan", job(shell), "--inline", "--json").out)["time"]
    assert times.keys() == {"start", "search", "final", "report", "total"}


MODEL = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)).eval()
"""


def test_a_model_is_searched_without_training(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its subnets are scored as they are exported: corrected."""
    (shell.folder / "trained_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(shell.folder)
    path = job(
        shell,
        task="classification",
        data={"name": "digits", "validation": 0.25, "test": 0.25},
        supernet={"model": "trained_model:build", "sort": "taylor", "sharing": {"correction": "least-squares"}},
        objectives=["accuracy", "macs"],
        calibration_images=200,
    )
    assert shell.nas("search", path, "--inline").code == 0
    key = json.loads(shell.nas("show", "oneshot-1", "--json").out)["anchors"]["smallest"]["key"]
    answer = shell.nas("export", "oneshot-1", "-o", "net.onnx", "--select", f"key={key}", "--json").data
    assert answer["as_measured"] == 1
    assert answer["parity"] < 1e-4
    supernet = load_checkpoint(shell.folder / "runs/oneshot-1/checkpoint").supernet
    calibration = prepared(shell, path).data.calibration.split(250)
    written, plain = load_file(shell.folder / "net.safetensors"), supernet.extract(Architecture.parse(key)).state_dict()
    network = Extraction(supernet, calibration)(Architecture.parse(key)).state_dict()
    assert all(torch.equal(tensor, written[name]) for name, tensor in network.items())
    assert any(not torch.equal(tensor, plain[name]) for name, tensor in network.items() if "weight" in name)


def test_layers_and_units_are_those_of_the_pretrained_network(shell: Shell) -> None:
    found = prepared(shell, job(shell))
    config = read_decoder_config(shell.folder / "small")
    family = DecoderFamily(config.space(), tokens=8, **config.fixed)
    whole = make_supernet(family, pretrained=config.read(shell.folder / "small").weights(family))
    network, text = cast(Decoder, whole.extract(family.space.largest)), [found.data.calibration.inputs]
    influence = block_influence(network, text)
    family = cast(DecoderFamily, found.family)
    assert family.spec.order == tuple(np.argsort(influence)) == (1, *family.spec.order[1:])
    shallow = family.space.canonical([0] * len(family.space))
    assert family.layer_numbers(shallow) == (0, 2)
    ids = found.data.dataset.validation.inputs[:4]
    with torch.no_grad():
        ours, theirs = found.untrained().extract(family.space.largest)(ids), network(ids)
    assert invariants.relative(ours, theirs) <= invariants.RELATIVE
    measured = activation_importance(network, measure_activations(network, text))["layer2.hidden"]
    down = "layers.2.mlp.down.weight"
    best = whole.weights(whole.space.largest)[down][:, measured.argmax()]
    first = found.untrained().weights(family.space.largest)[down][:, 0]  # whose channels are sorted, too
    assert torch.equal(first.sort().values, best.sort().values)


def test_models_of_perplexity_have_the_energy_that_networks_lack(shell: Shell) -> None:
    found = prepared(shell, job(shell))
    supernet = found.untrained()
    source = metric_features(found, supernet)["perplexity"]
    rows, layout = source.rows([supernet.space.smallest, supernet.space.largest]), source.layout
    layout.check(rows.shape[1])
    assert layout.estimate is not None
    energy, layers = rows[:, layout.estimate], rows[:, layout.estimate + 1 : layout.estimate + 4]
    assert (layers[0] > 0).all()
    assert energy.tolist() == [pytest.approx(layers[0].sum()), 0.0]
    for other in ({"sharing": "slice"}, {"nested": True}):
        plain = prepared(shell, job(shell, supernet={**SUPERNET, **other}))
        assert metric_features(plain, plain.untrained())["perplexity"].layout.estimate is None


def test_a_finetuning_starts_from_the_corrected_weights(shell: Shell) -> None:
    path = job(shell)
    assert shell.nas("train", path).code == 0
    first = prepared(shell, path)
    supernet = load_checkpoint(shell.folder / "runs/oneshot-1/checkpoint").supernet
    network = supernet.space.smallest
    tuning = {
        **JOB,
        "supernet": {"family": "decoder", "from": "oneshot-1", "network": network.key},
        "training": {"epochs": 1},
    }
    tuned = build_job(
        ResolvedJob(
            parse_job(yaml.safe_dump(tuning), source="job.yaml").resolved(shell.folder),
            RunsFolder(shell.folder / "runs"),
        )
    )
    begins = tuned.untrained()
    expected = Extraction(supernet, first.data.calibration.split(250))(network).state_dict()
    found = begins.extract(begins.space.largest).state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_a_search_of_the_trained_supernet_keeps_order_and_correction(shell: Shell) -> None:
    assert shell.nas("train", job(shell)).code == 0
    found = prepared(shell, job(shell, supernet={"family": "decoder", "from": "oneshot-1"}))
    assert found.sharing.correction == "least-squares"
    assert cast(DecoderFamily, found.family).spec.order is not None


@pytest.mark.parametrize(
    ("changes", "code", "mention"),
    [
        ({"supernet": {**SUPERNET, "sort": "gradients"}}, "job.unknown-name", "activations"),
        ({"supernet": {"family": "decoder", "preset": "tiny", "sort": "activations"}, "training": {}}, "job.conflict", "sort"),
        ({"supernet": {"family": "decoder", "preset": "tiny"}}, "job.conflict", "epochs"),
        (
            {"supernet": {"family": "decoder", "preset": "tiny", "space": {"kept": "importance"}}, "training": {}},
            "job.conflict",
            "kept",
        ),
        ({"supernet": {**SUPERNET, "space": {**SUPERNET["space"], "depth": [1, 2]}}}, "job.unfit-data", "depth"),
        (
            {"supernet": {**SUPERNET, "sort": "weights", "space": {**SUPERNET["space"], "attention_experts": [2]}}},
            "job.invalid-value",
            "without experts",
        ),
        (
            {"supernet": {**SUPERNET, "sharing": "slice", "space": {**SUPERNET["space"], "attention_experts": [2]}}},
            "job.conflict",
            "activations are measured of networks without experts",
        ),
        ({"supernet": {**SUPERNET, "sharing": {"correction": "ridge"}}}, "job.unknown-name", "least-squares"),
        (
            {
                "supernet": {"family": "encoder", "preset": "tiny", "pretrained": "small", "sort": "activations"},
                "task": "classification", "objectives": ["accuracy", "macs"], "data": {"name": "digits"},
            },
            "job.conflict",
            "decoder",
        ),
    ],
)  # fmt: skip
def test_jobs_that_do_not_fit_are_rejected(shell: Shell, changes: dict[str, Any], code: str, mention: str) -> None:
    assert_error(shell.nas("search", job(shell, **changes), "--inline"), mention, code=code)
