"""Jobs on data sets of plug-ins: trained, searched, listed and exported, and what is said where one is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import nas
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import build_job
from nas.jobs.build.trained_run import load_run_data
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, parse_job
from nas.plugins import Kind, PluginRef
from supernets.data import Examples, Source
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.plugin_packages import PluginPackages

SQUARES = """
import numpy as np
from supernets.data import Examples, LabelledData, Source

class Squares(LabelledData):
    def __init__(self, n=240, channels=1):
        self.n, self.channels = n, channels

    def load(self):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 80, (self.n, self.channels, 12, 12)).astype(np.uint8)
        labels = np.arange(self.n) % 2
        images[labels == 1, :, 3:9, 3:9] += 120
        return Source("squares", ("noise", "square"), Examples(images, labels))
"""
ENTRIES = {"data": {"squares": "squares_kit:Squares"}}


def job_of(data: str, more: str = "") -> SearchJob:
    """A job of seconds."""
    text = re.sub(r"data: .*", f"data: {{{data}}}", SMALL_JOB).replace(
        "epochs: 4, batch_size: 64", "epochs: 1, batch_size: 32"
    )
    text = re.sub(r"search: .*", "search: {algorithm: random, evaluations: 4, batch: 2}", text)
    text = text.replace("[accuracy, latency_ms]", "[accuracy, macs]").replace("images: 300", "images: 100")
    return parse_job(text + more, source="job.yaml")


def options_of(folder: Path) -> RunOptions:
    return RunOptions(RunsFolder(folder / "runs"), inline=True)


def test_a_job_names_a_data_set_of_a_package(tmp_path: Path, plugin_packages: PluginPackages) -> None:
    plugin_packages.install("squares-kit", {"squares_kit": SQUARES}, version="2.1", entries=ENTRIES)
    run = nas.run(job_of("name: squares, settings: {n: 200}, image_size: 8, validation: 0.25"), options_of(tmp_path))
    facts = run.facts
    assert facts is not None
    assert facts.plugins == (PluginRef(Kind.DATA, "squares", "squares_kit:Squares", "squares-kit", "2.1"),)

    made = run.export(tmp_path / "net.onnx", with_preprocessing=True)
    assert Path(made["path"]).exists() if "path" in made else (tmp_path / "net.onnx").exists()
    assert (tmp_path / "net.predict.py").exists()
    data = load_run_data(nas.engine.store.stored_run.StoredRun.open(run.runs, run.id))
    assert data.dataset.class_names == ("noise", "square")
    assert [len(part) for part in (data.dataset.train, data.dataset.validation, data.dataset.test)] == [110, 50, 40]
    assert set(data.dataset.train.names) < {f"train[{i}]" for i in range(200)}
    assert data.digests() == facts.compatibility["data"]

    # Resuming and exporting need the same version, and the same examples.
    plugin_packages.install("squares-kit", {"squares_kit": SQUARES}, version="2.2", entries=ENTRIES)
    with raises("plugin.version", "squares-kit==2.1"):
        nas.resume(run.id, options_of(tmp_path), evaluations="+2")
    with raises("plugin.version", "squares-kit==2.1"):
        run.export(tmp_path / "other.onnx")
    other = SQUARES.replace(
        "default_rng(0)", "default_rng(123)"
    )  # another size: bytecode of the same second and size counts as current
    plugin_packages.install("squares-kit", {"squares_kit": other}, version="2.1", entries=ENTRIES)
    with raises("run.incompatible", "data"):
        run.export(tmp_path / "other.onnx")


class Given:
    """A data set that only this process has, in colour and with a test part of its own."""

    def __init__(self, n: int) -> None:
        self.n = n

    def load(self) -> Source:
        rng = np.random.default_rng(5)
        images = rng.integers(0, 256, (self.n, 3, 10, 10)).astype(np.uint8)
        labels = np.arange(self.n) % 2
        images[labels == 1, 0] //= 4
        kept = self.n - 40
        train, test = Examples(images[:kept], labels[:kept]), Examples(images[kept:], labels[kept:])
        return Source("colours", ("red", "blue"), train, test=test)


def test_an_object_is_passed_from_python(tmp_path: Path) -> None:
    data = Given(240)
    job = job_of(f"name: image-folder, path: {tmp_path}, image_size: 8")
    run = nas.run(job, options_of(tmp_path), data=data)
    assert run.job.data.name == "tests.nas.test_plugin_data:Given"
    assert run.job.data.path is None
    with raises("plugin.object-needed", "data=..."):
        run.export(tmp_path / "net.onnx")
    run.export(tmp_path / "net.onnx", data=data)
    with raises("plugin.object-needed", ".examples(data=...)"):
        run.examples()
    assert len(run.examples(data=data).test) == 40
    with raises("plugin.object-needed", "nas.finetune(", "data=..."):
        nas.finetune(run, options_of(tmp_path), epochs=1, index=0)
    assert nas.finetune(run, options_of(tmp_path), epochs=1, index=0, data=data).front
    with raises("plugin.object-needed", "data=..."):
        nas.resume(run.id, options_of(tmp_path), evaluations="+2")
    nas.resume(run.id, options_of(tmp_path), evaluations="+2", data=data)


def test_an_object_of_a_class_that_no_name_reaches_is_exported(tmp_path: Path) -> None:
    class Hidden(Given):
        pass

    run = nas.run(job_of("name: digits, image_size: 8"), options_of(tmp_path), data=Hidden(240))
    with raises("plugin.object-needed", ".export_transformers(FOLDER, data=...)"):
        run.export_transformers(tmp_path / "folder", index=0)
    assert run.export(tmp_path / "net.onnx", data=Hidden(240))["agreement"] == 1.0


SENTENCES = """
from supernets.data import Examples, Source

class Sentences:
    def load(self):
        texts = [f"{'good' if i % 2 else 'bad'} film number {i}" for i in range(60)]
        return Source("films", ("bad", "good"), Examples(texts, [i % 2 for i in range(60)]))
"""


def test_sentences_are_tokenized(tmp_path: Path, plugin_packages: PluginPackages) -> None:
    plugin_packages.install("kit", {"kit": SENTENCES})
    text = re.sub(r"data: .*", "data: {name: kit:Sentences, max_tokens: 16, vocabulary: 120}", SMALL_JOB)
    head, _, rest = text.partition("supernet:")
    text = f"{head}supernet: {{family: encoder, preset: digits}}\n{rest[rest.index('training:') :]}"
    preset = next(iter(nas.jobs.schema.supernet.FAMILIES["encoder"].presets))
    job = parse_job(text.replace("preset: digits", f"preset: {preset}"), source="job.yaml")
    built_job = build_job(ResolvedJob(job, RunsFolder(tmp_path)))
    assert built_job.data.of_text
    assert built_job.data.dataset.sentences.max_tokens == 16
    assert built_job.data.dataset.sentences.vocabulary <= 120
    wrong = parse_job(job.to_yaml().replace("max_tokens: 16", "image_size: 16"), source="job.yaml")
    with raises("job.conflict", "data.image_size", "kit:Sentences is of sentences"):
        build_job(ResolvedJob(wrong, RunsFolder(tmp_path)))


@pytest.mark.parametrize(
    ("old", "new", "code", "mentions"),
    [
        ("import numpy", "import nothing_here", "plugin.import", "nothing_here"),
        ("def load(self)", "def read(self)", "plugin.contract", "no method load"),
        ("(LabelledData)", "", None, ""),
        ("def load(self)", "def load(self, path)", "plugin.contract", "load(self)"),
        ("return Source", "1 / 0; return Source", "plugin.failed", "load raised ZeroDivisionError"),
        ("return Source", "return 5; Source", "plugin.contract", "returned int; expected supernets.data.Source"),
        ("return Source", "images = images / 255; return Source", "plugin.contract", "float64; expected uint8"),
        ("return Source", "images = images * np.nan; return Source", "plugin.contract", "float64 with NaN"),
        ("return Source", "images = images[:, 0]; return Source", "plugin.contract", "240x12x12"),
        ("return Source", "images = images[:, :, 1:]; return Source", "plugin.contract", "240x1x11x12"),
        ("return Source", "images, labels = images[:0], labels[:0]; return Source", "plugin.contract", "empty"),
        ("return Source", "labels = labels[1:]; return Source", "plugin.contract", "240 inputs and 239 labels"),
        ("return Source", "labels = labels + 1; return Source", "plugin.contract", "run from 1 to 2; expected 0 to 1"),
        ("return Source", "labels = labels * 1.0; return Source", "plugin.contract", "float64 of the shape 240"),
        ("Examples(images, labels)", "(images, labels)", "plugin.contract", "train part is tuple"),
        ('"noise", "square"', '"noise", "noise"', "plugin.contract", "class_names"),
        ("labels))", 'labels * np.nan), targets="numbers")', "plugin.contract", "not all finite numbers, the first at 0"),
        ("labels))", "labels), default_test='a')", "plugin.contract", "default_test"),
        ("return Source", "images[:] = 0; return Source", "data.duplicate", "two classes"),
    ],
)  # fmt: skip
def test_a_data_set_that_is_wrong_is_named(
    tmp_path: Path, plugin_packages: PluginPackages, old: str, new: str, code: str | None, mentions: str
) -> None:
    assert old in SQUARES
    plugin_packages.install("kit", {"kit": SQUARES.replace(old, new)})
    job = job_of("name: kit:Squares")
    if code is None:
        build_job(ResolvedJob(job, RunsFolder(tmp_path)))
        return
    with raises(code, "data set kit:Squares (kit 0.1)", mentions):
        build_job(ResolvedJob(job, RunsFolder(tmp_path)))


@pytest.mark.parametrize(
    ("data", "code", "mentions"),
    [
        ("name: digits, settings: {n: 5}", "job.conflict", "settings"),
        ("name: kit:Squares, path: here", "job.conflict", "give it in settings"),
        ("name: kit:Squares, label_column: a", "job.conflict", "give it in settings"),
        ("name: digit", "job.unknown-name", "digits"),
        ("name: kit:Squares, validation: 0.6, test: 0.6", "job.conflict", "take 1.2"),
    ],
)
def test_a_data_section_is_checked(data: str, code: str, mentions: str) -> None:
    with raises(code, mentions):
        job_of(data)


@pytest.mark.parametrize(
    ("data", "code", "mentions"),
    [
        ("name: kit:Squares, settings: {chanels: 3}", "job.unknown-key", "did you mean 'channels'"),
        ("name: kit:Squares, max_tokens: 16", "job.conflict", "data.max_tokens"),
        ("name: kit:Circles", "plugin.import", "has no Circles"),
        ("name: kit:Squares, test: 500", "data.unsplittable", "data set kit:Squares"),
    ],
)
def test_settings_are_checked_when_it_is_loaded(
    tmp_path: Path, plugin_packages: PluginPackages, data: str, code: str, mentions: str
) -> None:
    plugin_packages.install("kit", {"kit": SQUARES})
    with raises(code, mentions):
        build_job(ResolvedJob(job_of(data), RunsFolder(tmp_path)))
