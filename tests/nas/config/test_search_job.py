"""`nas.config`: what a job file may say, what comes of it, and what its errors tell."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from nas.config import SearchJob, load_job, parse_job
from nas.config.strict_yaml import MAX_BYTES, dump_mapping, parse_mapping
from nas.errors import JobError
from supernets.data.options import ENCODINGS
from supernets.families.presets import MOBILE_CNN, RESNET, VIT
from supernets.families.resnet_spec import BottleneckStage, ResNetSpec
from supernets.families.spec import CNNSpec, StageSpec
from supernets.families.vit_spec import ViTSpec
from supernets.sharing.spec import PLAIN, MixtureSpec, SharingSpec

BASE = "name: a\ndata: {name: digits}\nsupernet: {preset: tiny}\n"
STAGE = "{stride: 1, depth: [1, 2], width: [8], kernel: [3, 5], expand: [2]}"
FULL = f"""
name: full-1
seed: 7
data: {{name: image-folder, path: pictures, image_size: 32, channels: 3, validation: 0.2, test: 50}}
supernet:
  family: mobile-cnn
  space:
    stem: 12
    stem_stride: 2
    stages:
      - {STAGE}
    head: 48
  sharing: slice
training:
  strategy: sandwich
  random_subnets: 1
  distill: none
  epochs: 3
  batch_size: 32
  learning_rate: 1e-3
  weight_decay: 0
  augment: {{shift: 2, flip: true}}
  threads: 2
hardware: [cpu-1-thread, boards/pi.yaml]
precisions: [fp32, int8]
lookup_tables: [tables/pi.lookup.json]
objectives: [accuracy, latency_ms@cpu-1-thread, macs]
constraints: {{latency_ms@pi: {{max: 2}}, accuracy: {{min: 0.9, max: 1}}, parameters: {{max: 3.0e+6}}}}
search:
  {{algorithm: nsga2, evaluations: 20, minutes: 1.5, plateau: {{evaluations: 12, gain: 0.01}}, batch: 4, screen_images: 90,
  tune_seconds: 2.5, workers: 2, time_limit_s: 90}}
warm_start: [small-1, other_2]
calibration_images: 200
"""


def fails(text: str) -> str:
    """The error of a text that is no job."""
    with pytest.raises(JobError) as caught:
        parse_job(text, source="job.yaml")
    message = str(caught.value)
    assert message.startswith("job.yaml: ")
    assert message.count("\n") <= 1
    return message


def test_every_key_is_read() -> None:
    job = parse_job(FULL, source="job.yaml")
    assert (job.name, job.seed, job.calibration_images) == ("full-1", 7, 200)
    assert (job.data.path, job.data.image_size, job.data.channels) == (Path("pictures"), 32, 3)
    assert (job.data.validation, job.data.test) == (0.2, 50)
    assert isinstance(job.data.test, int)
    spec = job.supernet.spec()
    assert spec is not None
    assert (spec.stem, spec.stem_stride, spec.head) == (12, 2, 48)
    assert spec.stages == (StageSpec(1, (1, 2), (8,), (3, 5), (2,)),)
    training = job.training
    assert (training.strategy, training.random_subnets, training.distill) == ("sandwich", 1, "none")
    assert (training.epochs, training.batch_size, training.threads) == (3, 32, 2)
    assert (training.learning_rate, training.weight_decay) == (1e-3, 0)
    assert (training.augment.shift, training.augment.flip) == (2, True)
    assert job.hardware == ("cpu-1-thread", "boards/pi.yaml")
    assert job.precisions == ("fp32", "int8")
    assert job.lookup_tables == (Path("tables/pi.lookup.json"),)
    assert job.objectives == ("accuracy", "latency_ms@cpu-1-thread", "macs")
    figures = {text: (bounds.min, bounds.max) for text, bounds in job.constraints.items()}
    assert figures == {"latency_ms@pi": (None, 2), "accuracy": (0.9, 1), "parameters": (None, 3e6)}
    search = job.search
    assert (search.algorithm, search.evaluations, search.minutes) == ("nsga2", 20, 1.5)
    assert search.screen_images == 90
    assert job.warm_start == ("small-1", "other_2")
    assert search.plateau is not None
    assert (search.plateau.evaluations, search.plateau.gain) == (12, 0.01)
    assert (search.batch, search.workers, search.tune_seconds, search.time_limit_s) == (4, 2, 2.5, 90)


def test_the_models_are_frozen() -> None:
    job = parse_job(BASE, source="job.yaml")
    with pytest.raises(ValidationError):
        job.search.evaluations = 3


@pytest.mark.parametrize(
    "text",
    [
        BASE,
        FULL,
        BASE + "training: {strategy: single-path}",
        "name: '12'\ndata: {name: digits}\nsupernet: {from: run-1}",
        "name: a\ndata: {name: digits}\nsupernet: {from: run-1, sharing: {kernels: transform}}",
        "name: a\ndata: {name: digits}\nsupernet: {preset: tiny, sharing: {mixture: {layers: ['stages.*']}}}",
        "name: a\ndata: {name: digits}\nsupernet: {preset: tiny, sharing: null}",
        "name: a\ndata: {name: digits}\nsupernet: {family: vit, preset: digits, space: {mlp: [2, 3.5], head_size: 4}}",
        "name: a\ndata: {name: digits}\nsupernet: {family: vit-encoder, preset: digits, space: {patch: 4, hidden: [8, 9]}}",
        "name: a\ndata: {name: digits, mean: [0.4], std: [1]}\nsupernet: {family: vit-encoder, pretrained: hub:a/b}",
        "name: a\ndata: {name: digits}\nsupernet: {family: resnet, preset: digits, space: {resolution: [6, 8]}}",
        "name: a\ndata: {name: digits}\nsupernet: {preset: tiny-v3, space: {mix: 0, resolution: [6, 8]}}",
        "name: a\ndata: {name: digits}\nsupernet: {preset: tiny-v3, space: {resolution: none}}",
        "name: a\ndata: {name: digits}\nsupernet: {family: resnet, preset: tiny, space: {resolution: null}}",
        "name: 1e3x\ndata: {name: fashion-mnist, path: '010'}\nsupernet: {preset: tiny, space: {head: 16}}",
    ],
)
def test_a_job_written_out_is_read_back_equal(text: str) -> None:
    job = parse_job(text, source="job.yaml")
    assert parse_job(job.to_yaml(), source="again") == job


def test_a_preset_is_the_base_and_the_space_replaces_its_keys() -> None:
    job = parse_job("name: a\ndata: {name: digits}\nsupernet: {preset: tiny, space: {head: 96}}", source="job.yaml")
    assert job.supernet.spec() == replace(MOBILE_CNN["tiny"], head=96)


def test_each_family_has_a_space_of_its_own() -> None:
    space = "{patch: 7, depth: [2, 4], width: [48, 60], heads: [2, 3], mlp: [2, 3.5]"
    text = "name: a\ndata: {name: fashion-mnist}\nsupernet: {family: vit, "
    job = parse_job(f"{text}space: {space}}}}}", source="job.yaml")
    spec = ViTSpec(7, 20, (2, 4), (48, 60), (2, 3), (2.0, 3.5))  # 60 channels over three heads
    assert job.supernet.spec() == spec
    job = parse_job(f"{text}space: {space}, head_size: 16}}}}", source="job.yaml")
    assert job.supernet.spec() == replace(spec, head_size=16)
    job = parse_job(f"{text}preset: tiny, space: {{width: [50, 70]}}}}", source="job.yaml")
    assert job.supernet.spec() == replace(VIT["tiny"], width=(50, 70))  # with the preset's head size


def test_the_options_of_mobilenet_v3_are_keys_of_the_space() -> None:
    stages = f"stages: [{STAGE[:-1]}, squeeze: true, activation: hardswish}}]"
    own = f"{{{stages}, activation: hardswish, mix: 32, resolution: [6, 8]}}"
    job = parse_job(BASE.replace("{preset: tiny}", f"{{preset: tiny, space: {own}}}"), source="job.yaml")
    stage = StageSpec(1, (1, 2), (8,), (3, 5), (2,), squeeze=True, activation="hardswish")
    expected = replace(MOBILE_CNN["tiny"], stages=(stage,), activation="hardswish", mix=32, resolution=(6, 8))
    assert job.supernet.spec() == expected
    job = parse_job(
        BASE.replace("preset: tiny", "preset: tiny-v3, space: {mix: 0, resolution: [28]}"), source="job.yaml"
    )
    assert job.supernet.spec() == replace(MOBILE_CNN["tiny-v3"], mix=None, resolution=(28,))


def test_a_resnet_has_a_space_of_its_own() -> None:
    text = BASE.replace("preset: tiny", "family: resnet, preset: digits, space: {resolution: [6, 8], stem_pool: false}")
    assert parse_job(text, source="job.yaml").supernet.spec() == replace(RESNET["digits"], resolution=(6, 8))
    own = f"{{stem: [8, 16], stem_stride: 1, stages: [{BLOCKS}]}}"
    job = parse_job(BASE.replace("preset: tiny", f"family: resnet, space: {own}"), source="job.yaml")
    assert job.supernet.spec() == ResNetSpec((8, 16), 1, (BottleneckStage(2, (1, 2), (32,), (0.25, 0.5)),))


@pytest.mark.parametrize("word", ["none", "null", "~"])
@pytest.mark.parametrize(
    ("preset", "spec"),
    [("preset: tiny-v3", MOBILE_CNN["tiny-v3"]), ("family: resnet, preset: tiny", RESNET["tiny"])],
)
def test_a_preset_s_resolution_can_be_taken_away(preset: str, spec: CNNSpec | ResNetSpec, word: str) -> None:
    assert spec.resolution
    kept, without = (
        parse_job(BASE.replace("preset: tiny", f"{preset}, space: {space}"), source="job.yaml").supernet.spec()
        for space in ("{stem_stride: 1}", f"{{resolution: {word}}}")
    )
    assert kept == replace(spec, stem_stride=1)
    assert without == replace(spec, resolution=None)


def test_a_trained_supernet_needs_no_space() -> None:
    job = parse_job("name: a\ndata: {name: digits}\nsupernet: {from: digits-1}", source="job.yaml")
    assert job.supernet.spec() is None
    assert job.supernet.from_ == "digits-1"
    assert job.supernet.from_path is None


@pytest.mark.parametrize(
    ("sharing", "spec"),
    [
        ("", PLAIN),
        (", sharing: slice", PLAIN),
        (", sharing: {}", PLAIN),
        (", sharing: {mixture: {}}", SharingSpec(MixtureSpec())),
        (", sharing: {kernels: transform}", SharingSpec(kernels="transform")),
        (
            ", sharing: {mixture: {experts: 3, routing: neuron, hidden: 8, constant_input: true, layers: [a, b*]}}",
            SharingSpec(MixtureSpec(3, "neuron", 8, True, ("a", "b*"))),
        ),
    ],
)
def test_how_weights_are_shared(sharing: str, spec: SharingSpec) -> None:
    job = parse_job(f"name: a\ndata: {{name: digits}}\nsupernet: {{preset: tiny{sharing}}}", source="job.yaml")
    assert job.supernet.sharing is not None
    assert job.supernet.sharing.spec() == spec
    assert ("sharing: slice" in job.to_yaml()) == (spec == PLAIN)


def test_a_teacher_of_null_is_none() -> None:
    text = "name: a\ndata: {name: digits}\nsupernet: {preset: tiny}\ntraining: {teacher: null}"
    assert parse_job(text, source="job.yaml").training.distill == "largest"


def test_a_trained_supernet_shares_as_it_does() -> None:
    """Unless the job says otherwise, which is then compared."""
    job = parse_job("name: a\ndata: {name: digits}\nsupernet: {from: digits-1}", source="job.yaml")
    assert job.supernet.sharing is None
    job = parse_job("name: a\ndata: {name: digits}\nsupernet: {from: digits-1, sharing: slice}", source="job.yaml")
    assert job.supernet.sharing is not None


def test_paths_are_relative_to_the_job_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(FULL.replace("family: mobile-cnn", "from: ../trained/best"), encoding="utf-8")
    job = load_job(path)
    assert job.data.path == tmp_path / "pictures"
    assert job.supernet.from_path == tmp_path / "../trained/best"
    assert job.hardware == ("cpu-1-thread", str(tmp_path / "boards/pi.yaml"))
    assert job.lookup_tables == (tmp_path / "tables/pi.lookup.json",)
    assert parse_job(job.to_yaml(), source="stored") == job


TEXT = "name: a\ndata: {name: text-classification, path: reviews.csv%s}\nsupernet: {preset: tiny}\n"


def test_data_of_sentences_is_read(tmp_path: Path) -> None:
    more = ", tokenizer: minilm, max_tokens: 64, text_column: review, label_column: stars, encoding: latin-1"
    path = tmp_path / "job.yaml"
    path.write_text(TEXT % more, encoding="utf-8")
    data = load_job(path).data
    assert (data.path, data.tokenizer) == (tmp_path / "reviews.csv", tmp_path / "minilm")
    assert (data.max_tokens, data.text_column, data.label_column, data.encoding) == (64, "review", "stars", "latin-1")
    assert data.vocabulary is None


def test_a_pretrained_network_has_its_own_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    pretrained = (TEXT % "").replace("{preset: tiny}", "{family: encoder, pretrained: minilm}")
    path.write_text(pretrained, encoding="utf-8")
    assert load_job(path).supernet.pretrained == str(tmp_path / "minilm")
    message = fails(pretrained.replace("reviews.csv", "reviews.csv, vocabulary: 500"))
    assert message.startswith(
        "job.yaml: data.vocabulary: supernet.pretrained has a tokenizer, and none is trained; remove"
    )


def test_what_sentences_have_by_default_is_written_out() -> None:
    job = parse_job(TEXT % "", source="job.yaml")
    assert yaml.safe_load(job.to_yaml())["data"] == {
        "name": "text-classification", "path": "reviews.csv", "max_tokens": 128, "vocabulary": 8000, "encoding": "utf-8",
    }  # fmt: skip
    assert parse_job(job.to_yaml(), source="stored") == job
    job = parse_job(TEXT % ", tokenizer: minilm", source="job.yaml")
    assert parse_job(job.to_yaml(), source="stored") == job
    assert "vocabulary" not in job.to_yaml()


def test_the_same_encodings_are_known_to_the_reader() -> None:
    for encoding in ENCODINGS:
        assert parse_job(TEXT % f", encoding: {encoding}", source="job.yaml").data.encoding == encoding
    assert f"Known: {', '.join(ENCODINGS)}." in fails(TEXT % ", encoding: ascii")


def test_a_relative_job_path_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.yaml").write_text(FULL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_job(Path("job.yaml")).data.path == tmp_path / "pictures"


def test_an_unknown_home_is_said(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(FULL.replace("path: pictures", "path: ~nobody-of-this-name/x"), encoding="utf-8")
    with pytest.raises(JobError, match="write the path in full"):
        load_job(path)


KEYS = [
    # (what is appended to the base or replaces it, the path in the error, words of the error)
    ("search: {evaluatons: 3}", "search.evaluatons", "did you mean 'evaluations'?"),
    ("trainning: {}", "trainning", "did you mean 'training'?"),
    ("training: {augment: {flp: true}}", "training.augment.flp", "did you mean 'flip'?"),
    ("zzz: 1", "zzz", "unknown key 'zzz'. Known: name, seed, data,"),
    ("search: {evaluations: 0}", "search.evaluations", "expected a whole number from 2 to 1000000, got 0"),
    ("search: {evaluations: 1}", "search.evaluations", "from 2 to 1000000, got 1"),
    ("search: {evaluations: 2000000}", "search.evaluations", "from 2 to 1000000, got 2000000"),
    ("search: {evaluations: '12'}", "search.evaluations", "got '12'"),
    ("search: {evaluations: 2.5}", "search.evaluations", "whole number from 2 to 1000000, got 2.5"),
    ("search: {plateau: {evaluations: 100}}", "search.plateau.evaluations", "fewer than the 100 evaluations"),
    ("search: {plateau: {gain: 1.0}}", "search.plateau.gain", "below 1, e.g. 0.001, got 1"),
    ("warm_start: small-1", "warm_start", "a list of runs"),
    ("warm_start: [a-1, a-1]", "warm_start[1]", "comes twice"),
    ("search: {screen_images: 10}", "search.screen_images", "at least 50, got 10"),
    ("search: {minutes: 0}", "search.minutes", "greater than 0, at most 1000000, got 0"),
    ("search: {minutes: .inf}", "search.minutes", "greater than 0, at most 1000000, got inf"),
    ("search: {minutes: 1e308}", "search.minutes", "at most 1000000, got 1e+308"),
    ("search: {tune_seconds: -1}", "search.tune_seconds", "a number of seconds from 0 to 3600, got -1"),
    ("search: {batch: 0}", "search.batch", "from 1 to 1000000, got 0"),
    ("search: {workers: -2}", "search.workers", "from 1 to 1024, got -2"),
    ("search: {time_limit_s: 0}", "search.time_limit_s", "a number of seconds greater than 0, at most 1000000, got 0"),
    ("search: {time_limit_s: 1e9}", "search.time_limit_s", "at most 1000000, got 1000000000.0"),
    ("search: {algorithm: guidd}", "search.algorithm", "did you mean 'guided'? Known: guided, nsga2, nsga2-uniform, "),
    ("search: {algorithm: 3}", "search.algorithm", "expected guided or nsga2 or nsga2-uniform or "),
    ("search: 3", "search", "expected a mapping with the keys algorithm, evaluations"),
    ("search:", "search", "got nothing (null)"),
    ("training: {epochs: -1}", "training.epochs", "expected a whole number from 1 to 1000000, got -1"),
    (
        "training: {learning_rate: -1}",
        "training.learning_rate",
        "expected a number greater than 0, at most 100, got -1",
    ),
    ("training: {learning_rate: 1e39}", "training.learning_rate", "greater than 0, at most 100, got 1e+39"),
    ("training: {weight_decay: 1e39}", "training.weight_decay", "expected a number from 0 to 100, got 1e+39"),
    ("training: {learning_rate: .nan}", "training.learning_rate", "got nan"),
    ("training: {learning_rate: fast}", "training.learning_rate", "got 'fast'"),
    ("training: {weight_decay: -0.1}", "training.weight_decay", "from 0 to 100, got -0.1"),
    ("training: {batch_size: 1}", "training.batch_size", "from 2 to 1000000, got 1"),
    ("training: {threads: 0}", "training.threads", "from 1 to 1024, got 0"),
    ("training: {distill: 1}", "training.distill", "expected largest or teacher or none, got 1"),
    ("training: {random_subnets: -1}", "training.random_subnets", "from 0 to 64, got -1"),
    ("training: {augment: {shift: -1}}", "training.augment.shift", "got -1"),
    ("training: {strategy: sandwhich}", "training.strategy", "did you mean 'sandwich'?"),
    (
        "training: {strategy: single-path, distill: true}",
        "training.distill",
        "there is no step in which the largest subnet could teach",
    ),
    ("training: {strategy: sorted}", "supernet.nested", "write nested: true"),
    ("training: {strategy: single-path, micro_batches: 2}", "training.micro_batches", "belongs to the strategy sorted"),
    ("training: {distill: teacher}", "training.teacher", "is missing"),
    ("training: {teacher: a-run, distill: none}", "training.teacher", "read with distill: teacher alone"),
    ("training: {batch_size: 6, workers: 4}", "training.batch_size", "each of 4 workers; expected at least 8"),
    ("training: {workers: 2000}", "training.workers", "from 1 to 1024, got 2000"),
    ("training: {label_weight: 0.3}", "training.label_weight", "belongs to the strategy instatune"),
    ("training: {strategy: instatune, label_weight: 1.1}", "training.label_weight", "from 0 to 1, got 1.1"),
    ("training: {strategy: instatune, temperature: 0}", "training.temperature", "greater than 0"),
    ("training: {strategy: instatune, distill: none}", "training.distill", "expected largest or teacher"),
    (
        "training: {strategy: instatune, teacher_epochs: 2}",
        "training.teacher_epochs",
        "read with distill: teacher alone",
    ),
    (
        "training: {strategy: instatune, teacher: a-run, epochs: 3, teacher_epochs: 4}",
        "training.teacher_epochs",
        "at most the 3 epochs, got 4",
    ),
    ("training: {workers: 0}", "training.workers", "from 1 to 1024, got 0"),
    ("training: {device: tpu}", "training.device", "unknown device 'tpu'"),
    ("training: {strategy: single-path, random_subnets: 2}", "training.random_subnets", "remove random_subnets"),
    ("hardware: []", "hardware", "expected a list of profile names or paths, e.g. [cpu-1-thread], got []"),
    ("hardware: cpu-1-thread", "hardware", "got 'cpu-1-thread'"),
    ("hardware: [3]", "hardware[0]", "expected an entry of a list of profile names or paths"),
    ("hardware: [a b]", "hardware[0]", "expected a profile's name or path, got 'a b'"),
    ("hardware: [cpu-1-thread, cpu-1-thread]", "hardware[1]", "comes twice; keep one"),
    ("precisions: []", "precisions", "expected a list of fp32, int8, fp16 and bf16, e.g. [fp32, int8], got []"),
    ("precisions: [fp31]", "precisions[0]", "fp32"),
    ("precisions: [int8, int8]", "precisions[1]", "'int8' comes twice; keep one"),
    ("lookup_tables: 3", "lookup_tables", "got 3"),
    ("hardware: [one, two]", "objectives[1]", "did you mean 'latency_ms@two'?"),
    ("objectives: []", "objectives", "expected a list of one or more"),
    ("objectives: [accurcy, macs]", "objectives[0]", "did you mean 'accuracy'?"),
    ("objectives: [macs, latency_ms@gpu]", "objectives[1]", "did you mean 'latency_ms@cpu-1-thread'?"),
    ("objectives: [macs, macs]", "objectives[1]", "comes twice"),
    ("objectives: [latency_ms, latency_ms@cpu-1-thread]", "objectives[1]", "comes twice"),
    ("constraints: 3", "constraints", "expected a mapping from figures to their bounds, e.g. {latency_ms: {max: 2.0}}"),
    ("constraints: {accuracy: 0.9}", "constraints.accuracy", "expected min, max or both, e.g. {max: 2.0}, got 0.9"),
    ("constraints: {accuracy: {}}", "constraints.accuracy", "has no bound; expected min, max or both"),
    ("constraints: {accuracy: {mx: 1}}", "constraints.accuracy.mx", "unknown key 'mx'"),
    ("constraints: {macs: {max: fast}}", "constraints.macs.max", "expected a finite number, got 'fast'"),
    ("constraints: {macs: {max: .nan}}", "constraints.macs.max", "expected a finite number, got nan"),
    ("constraints: {macs: {min: true}}", "constraints.macs.min", "expected a finite number, got true"),
    ("constraints: {macs: {min: 2, max: 1}}", "constraints.macs", "nothing is at least 2 and at most 1"),
    (
        "constraints: {macs: {min: -2}}",
        "constraints.macs.min",
        "macs is always above 0; expected a number above 0, got -2",
    ),
    ("constraints: {macs: {max: 0}}", "constraints.macs.max", "expected a number above 0, got 0"),
    ("constraints: {accuracy: {min: 90}}", "constraints.accuracy.min", "a share between 0 and 1, got 90; write 0.9"),
    ("constraints: {acuracy: {min: 0.9}}", "constraints.acuracy", "unknown figure 'acuracy'; did you mean 'accuracy'?"),
    (
        "constraints: {latency_ms@gpu: {max: 1}}",
        "constraints.latency_ms@gpu",
        "did you mean 'latency_ms@cpu-1-thread'?",
    ),
    (
        "constraints: {latency_ms: {max: 1}, latency_ms@cpu-1-thread: {max: 1}}",
        "constraints.latency_ms@cpu-1-thread",
        "comes twice, by two spellings; keep one",
    ),
    (
        "hardware: [one, two]\nobjectives: [accuracy, macs]\nconstraints: {latency_ms: {max: 1}}",
        "constraints.latency_ms",
        "say which: latency_ms@one or latency_ms@two",
    ),
    ("seed: -1", "seed", "got -1"),
    ("seed: true", "seed", "got true"),
    ("seed: 99999999999999999999", "seed", "from 0 to 4294967295"),
    ("calibration_images: 1", "calibration_images", "from 2 to 1000000, got 1"),
]


@pytest.mark.parametrize(("line", "path", "words"), KEYS, ids=[f"{line}" for line, _, _ in KEYS])
def test_a_wrong_value_is_named_with_its_path(line: str, path: str, words: str) -> None:
    message = fails(BASE + line)
    assert message.startswith(f"job.yaml: {path}: ")
    assert words in message


PARTS = [
    ("name: b c", "name", "expected 1 to 64 letters, digits, - and _, got 'b c'"),
    ("name: ../x", "name", "got '../x'"),
    ("name: -x", "name", "got '-x'"),
    ("name: 12", "name", "got 12"),
    ("data: {name: digit}", "data.name", "did you mean 'digits'?"),
    ("data: {}", "data.name", "is missing; expected digits or fashion-mnist or image-folder"),
    ("data: {name: digits, path: here}", "data.path", "got 'here', remove it"),
    ("data: {name: image-folder}", "data.path", "is missing; expected image-folder's folder"),
    ("data: {name: fashion-mnist, path: 3}", "data.path", "expected the path of a folder or file, got 3"),
    ("data: {name: digits, image_size: 2}", "data.image_size", "from 4 to 1024, got 2"),
    ("data: {name: digits, channels: 2}", "data.channels", "expected 1 (grey) or 3 (colour), got 2"),
    ("data: {name: digits, mean: [0.5]}", "data.std", "is missing; expected it beside mean"),
    ("data: {name: digits, std: [0.5]}", "data.mean", "is missing; expected it beside std"),
    (
        "data: {name: digits, mean: 0.5, std: [1]}",
        "data.mean",
        "expected a list of one number a channel, for pixels from",
    ),
    ("data: {name: digits, mean: [.inf], std: [1]}", "data.mean[0]", "an entry of a list of one number a channel"),
    (
        "data: {name: digits, mean: [0.1, 0.2], std: [1, 1]}",
        "data.mean",
        "one number for grey images, or three for colour",
    ),
    ("data: {name: digits, mean: [], std: []}", "data.mean", "one number for grey images, or three for colour, got []"),
    ("data: {name: digits, channels: 3, mean: [0.5], std: [1]}", "data.mean", "or three for colour, got [0.5]"),
    (
        "data: {name: digits, mean: [0.5], std: [1, 1, 1]}",
        "data.std",
        "one number for grey images, or three for colour",
    ),
    ("data: {name: digits, mean: [0.5], std: [0]}", "data.std", "expected numbers above 0, got [0.0]"),
    (
        "data: {name: text-classification, path: x, mean: [0.5], std: [1]}",
        "data.mean",
        "is for data of images, and text-",
    ),
    ("data: {name: digits, test: 1}", "data.test", "examples (at least 2) or a share between 0 and 1, got 1"),
    ("data: {name: digits, test: 1.0}", "data.test", "got 1.0"),
    ("data: {name: digits, test: true}", "data.test", "got true"),
    ("data: {name: digits, test: .nan}", "data.test", "got nan"),
    ("data: {name: digits, test: [1]}", "data.test", "got [1]"),
    ("data: {name: digits, test: 0.5, validation: 0.5}", "data.validation", "leave some to train on"),
    (
        "data: {name: digits, vocabulary: 500}",
        "data.vocabulary",
        "is for data of sentences, and digits is of images; remove it",
    ),
    ("data: {name: digits, tokenizer: here}", "data.tokenizer", "is for data of sentences, and digits is of images"),
    (
        "data: {name: text-classification}",
        "data.path",
        "is missing; expected a .csv, .tsv or .jsonl table, or a folder",
    ),
    (
        "data: {name: text-classification, path: x, image_size: 8}",
        "data.image_size",
        "is for data of images, and text-",
    ),
    ("data: {name: text-classification, path: x, max_tokens: 3}", "data.max_tokens", "from 4 to 8192, got 3"),
    ("data: {name: text-classification, path: x, vocabulary: 20}", "data.vocabulary", "from 100 to 100000, got 20"),
    (
        "data: {name: text-classification, path: x, text_column: ''}",
        "data.text_column",
        "the name of a column of the table",
    ),
    ("data: {name: text-classification, path: x, encoding: latin1}", "data.encoding", "did you mean 'latin-1'?"),
    (
        "data: {name: text-classification, path: x, tokenizer: y, vocabulary: 500}",
        "data.vocabulary",
        "the tokenizer has its own vocabulary; remove one of the two",
    ),
    (
        "data: {name: text-classification, path: x, text_column: a, label_column: a}",
        "data.label_column",
        "is the text's column, too ('a'); expected another",
    ),
    (
        "data: {name: text-classification, path: x, validation: 0.6, test: 0.6}",
        "data.validation",
        "takes 1.2 of the sentences; leave some to train on",
    ),
    ("supernet: {}", "supernet", "expected a preset (tiny, mobile, digits, ofa, tiny-v3), a space, or from"),
    ("supernet: {family: mobile, preset: tiny}", "supernet.family", "did you mean 'mobile-cnn'?"),
    ("supernet: {preset: tny}", "supernet.preset", "did you mean 'tiny'?"),
    (
        "supernet: {preset: tiny, sharing: slices}",
        "supernet.sharing",
        "or a mapping with mixture, kernels or both, got 'slices'",
    ),
    (
        "supernet: {preset: tiny, sharing: [slice]}",
        "supernet.sharing",
        "expected slice, or a mapping with mixture, kern",
    ),
    ("supernet: {preset: tiny, sharing: {mixtur: {}}}", "supernet.sharing.mixtur", "did you mean 'mixture'?"),
    ("supernet: {preset: tiny, sharing: {kernels: corner}}", "supernet.sharing.kernels", "Known: centre, transform"),
    (
        "supernet: {preset: tiny, sharing: {mixture: 2}}",
        "supernet.sharing.mixture",
        "expected a mapping with the keys experts, routing, hidden, constant_input, layers, got 2",
    ),
    (
        "supernet: {preset: tiny, sharing: {mixture: {experts: 1}}}",
        "supernet.sharing.mixture.experts",
        "from 2 to 64, got 1",
    ),
    (
        "supernet: {preset: tiny, sharing: {mixture: {layers: mlp}}}",
        "supernet.sharing.mixture.layers",
        "e.g. [blocks.*.mlp.*], got 'mlp'",
    ),
    ("supernet: {from: ''}", "supernet.from", "expected a run's id or a folder, got ''"),
    ("supernet: {from_: x}", "supernet.from_", "did you mean 'from'?"),
    ("supernet: {space: {stem: 3}}", "supernet.space.stem_stride", "is missing; give it, or a preset"),
    ("supernet: {preset: tiny, space: {head: 0}}", "supernet.space.head", "from 1 to 4096, got 0"),
    ("supernet: {preset: tiny, space: {stages: []}}", "supernet.space.stages", "expected 1 to 16 stages, got 0"),
]
_STAGES = [
    (STAGE.replace("[1, 2]", "[2, 1]"), ".depth", "ascending order, each once; got [2, 1]"),
    (STAGE.replace("[1, 2]", "[2, 2]"), ".depth", "ascending order, each once; got [2, 2]"),
    (STAGE.replace("[1, 2]", "[0, 1]"), ".depth", "from 1 to 32, got 0"),
    (STAGE.replace("[1, 2]", "[]"), ".depth", "a list of whole numbers in ascending order, e.g. [8, 16, 24], got []"),
    (STAGE.replace("[1, 2]", "2"), ".depth", "got 2"),
    (STAGE.replace("[1, 2]", "[1, two]"), ".depth[1]", "got 'two'"),
    (STAGE.replace("[3, 5]", "[3, 4]"), ".kernel", "odd sides, so that padding is the same on both sides; got 4"),
    (STAGE.replace("stride: 1", "stride: 9"), ".stride", "from 1 to 4, got 9"),
    (STAGE.replace("expand", "expan"), ".expan", "did you mean 'expand'?"),
    (STAGE.replace(", expand: [2]", ""), ".expand", "is missing; expected a list of whole numbers"),
]
PARTS += [
    (f"supernet: {{preset: tiny, space: {{stages: [{stage}]}}}}", f"supernet.space.stages[0]{key}", words)
    for stage, key, words in _STAGES
]
PARTS.append(
    (
        f"supernet: {{preset: tiny, space: {{stages: [{STAGE.replace('[1, 2]', '[1]').replace('[3, 5]', '[3]')}]}}}}",
        "supernet.space.stages",
        "there is one network; give some list a second",
    )
)
PARTS += [
    (
        f"supernet: {{preset: tiny, space: {{stages: [{STAGE[:-1]}, squeeze: 1}}]}}}}",
        "supernet.space.stages[0].squeeze",
        "true or false",
    ),
    (
        f"supernet: {{preset: tiny, space: {{stages: [{STAGE[:-1]}, activation: hard-swish}}]}}}}",
        "supernet.space.stages[0].activation",
        "unknown activation 'hard-swish'; did you mean 'hardswish'?",
    ),
    ("supernet: {preset: tiny, space: {activation: gelu}}", "supernet.space.activation", "Known: relu, hardswish."),
    ("supernet: {preset: tiny, space: {mix: x}}", "supernet.space.mix", "a number of channels, or 0 for no such layer"),
    ("supernet: {preset: tiny, space: {mix: -1}}", "supernet.space.mix", "from 1 to 4096, got -1"),
    (
        "supernet: {preset: tiny, space: {resolution: 28}}",
        "supernet.space.resolution",
        "for images as they are, got 28",
    ),
    (
        "supernet: {preset: tiny, space: {resolution: []}}",
        "supernet.space.resolution",
        "or none for images as they are",
    ),
    ("supernet: {preset: tiny, space: {resolution: non}}", "supernet.space.resolution", "as they are, got 'non'"),
    (
        "supernet: {preset: tiny, space: {resolution: [2, 28]}}",
        "supernet.space.resolution",
        "images of 2 pixels are too small: 1 pixels of them reach stage 1, whose stride is 2; use larger images",
    ),
]
OF_RESNET = "supernet: {family: resnet, "
BLOCKS = "{stride: 2, depth: [1, 2], width: [32], expand: [0.25, 0.5]}"
PARTS += [
    (OF_RESNET + "preset: mobile}", "supernet.preset", "unknown preset 'mobile'. Known: ofa-resnet50, tiny, digits"),
    (
        OF_RESNET + "preset: tiny, space: {head: 3}}",
        "supernet.space.head",
        "Known: stem, stem_stride, stem_pool, stages",
    ),
    (OF_RESNET + "preset: tiny, space: {stem_pool: 1}}", "supernet.space.stem_pool", "true or false, got 1"),
    (OF_RESNET + "space: {stem: [8], stem_stride: 1}}", "supernet.space.stages", "is missing; give it, or a preset"),
    (
        OF_RESNET + "preset: tiny, space: {resolution: [26]}}",
        "supernet.space.resolution",
        "images of 26 pixels do not fit: 13 pixels of them reach stage 1, whose stride is 2",
    ),
    (
        OF_RESNET + f"preset: tiny, space: {{stages: [{BLOCKS.replace('0.5', '1.5')}]}}}}",
        "supernet.space.stages[0].expand",
        "a number above 0, at most 1, got 1.5",
    ),
    (
        OF_RESNET + f"preset: tiny, space: {{stages: [{BLOCKS.replace('0.5', 'x')}]}}}}",
        "supernet.space.stages[0].expand[1]",
        "expected an entry of a list of numbers in ascending order",
    ),
    (
        OF_RESNET + f"preset: tiny, space: {{stages: [{BLOCKS.replace('[1, 2]', '[1]').replace(', 0.5', '')}], "
        "stem: [8], resolution: [28]}}",
        "supernet.space.stages",
        "there is one network; give some list a second",
    ),
]
OF_VIT_ENCODER = "supernet: {family: vit-encoder, "
OF_VIT = "supernet: {family: vit, "
PARTS += [
    (OF_VIT + "preset: mobile}", "supernet.preset", "unknown preset 'mobile'. Known: tiny, digits, "),
    (
        OF_VIT + "preset: tiny, space: {stem: 3}}",
        "supernet.space.stem",
        "unknown key 'stem'. Known: patch, head_size, ",
    ),
    (OF_VIT + "preset: tiny, space: {dept: [3]}}", "supernet.space.dept", "did you mean 'depth'?"),
    (
        OF_VIT + "preset: tiny, space: 3}",
        "supernet.space",
        "expected a mapping with the keys patch, head_size, depth, ",
    ),
    (
        OF_VIT + "preset: tiny, space: {width: 64}}",
        "supernet.space.width",
        "a list of whole numbers in ascending order",
    ),
    (OF_VIT + "preset: tiny, space: {width: [64, x]}}", "supernet.space.width[1]", "got 'x'"),
    (
        OF_VIT + "preset: tiny, space: {mlp: [x]}}",
        "supernet.space.mlp[0]",
        "expected an entry of a list of numbers in ",
    ),
    (
        OF_VIT + "preset: tiny, space: {mlp: [4, 3.5]}}",
        "supernet.space.mlp",
        "ascending order, each once; got [4.0, 3.5]",
    ),
    (OF_VIT + "preset: tiny, space: {mlp: [0, 3]}}", "supernet.space.mlp", "a number above 0, at most 16, got 0.0"),
    (OF_VIT + "preset: tiny, space: {heads: [0]}}", "supernet.space.heads", "a whole number from 1 to 64, got 0"),
    (OF_VIT + "preset: tiny, space: {patch: 4.5}}", "supernet.space.patch", "a number of pixels, got 4.5"),
    (
        OF_VIT_ENCODER + "space: {depth: [1], width: [8], heads: [1], hidden: [4, 8], head_size: 4}}",
        "supernet.space.patch",
        "is missing; give it, or a preset to take it from",
    ),
    (OF_VIT_ENCODER + "preset: tiny, space: {mlp: [2]}}", "supernet.space.mlp", "unknown key 'mlp'"),
    (OF_VIT_ENCODER + "preset: base}", "supernet.preset", "unknown preset 'base'. Known: tiny, digits, instatune"),
    (
        OF_VIT_ENCODER + "preset: tiny, space: {depth: [2], width: [48], heads: [3], hidden: [64]}}",
        "supernet.space",
        "every list has one option, so there is one network",
    ),
    (
        OF_VIT + "pretrained: folder}",
        "supernet.pretrained",
        "the families encoder and vit-encoder are made of pretrained",
    ),
    (OF_VIT + "space: {patch: 4}}", "supernet.space.depth", "is missing; give it, or a preset"),
    (
        OF_VIT + "space: {patch: 4, depth: [2], width: [48, 96], heads: [3, 5], mlp: [2]}}",
        "supernet.space.heads",
        "5 heads do not divide a width of 96; give a number of heads that does, or head_size",
    ),
    (
        OF_VIT + "preset: tiny, space: {depth: [2], width: [48], heads: [3], mlp: [2.5]}}",
        "supernet.space",
        "there is one network; give some list a second",
    ),
]


def test_the_other_findings_of_a_space_are_named_too() -> None:
    message = fails(BASE.replace("{preset: tiny}", "{family: vit, preset: tiny, space: {mlp: x, patch: y, heds: [2]}}"))
    assert message.splitlines() == [
        "job.yaml: supernet.space.heds: unknown key 'heds'; did you mean 'heads'? Known: patch, head_size, depth, width, "
        "heads, mlp.",
        "Also wrong: supernet.space.patch, supernet.space.mlp.",
    ]


@pytest.mark.parametrize(("line", "path", "words"), PARTS, ids=[f"{line}" for line, _, _ in PARTS])
def test_a_wrong_section_is_named_with_its_path(line: str, path: str, words: str) -> None:
    key = line.partition(":")[0]
    text = "\n".join([*(old for old in BASE.splitlines() if not old.startswith(f"{key}:")), line])
    message = fails(text)
    assert message.startswith(f"job.yaml: {path}: ")
    assert words in message


def test_several_findings_make_two_lines_and_the_slip_comes_first() -> None:
    message = fails(BASE.replace("name: a\n", "nmae: a\n") + "seed: x\nsearch: {batch: 0}")
    assert message.splitlines() == [
        "job.yaml: nmae: unknown key 'nmae'; did you mean 'name'? Known: name, seed, data, supernet, training, "
        "hardware, objectives, constraints, precisions, lookup_tables, search, warm_start, calibration_images.",
        "Also wrong: name, seed, search.batch.",
    ]


BAD_VALUES = [-1, 0, 10**7, 2.5, float("nan"), "x", "", "a\x07" * 99, True, None, [], [[]], {}, {"q": 1}, [None]]


def _field_paths(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, field in model.model_fields.items():
        path = (*prefix, field.alias or name)
        inner = field.annotation
        nested = isinstance(inner, type) and issubclass(inner, BaseModel)
        found += [path, *(_field_paths(inner, path) if nested else [])]  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("path", _field_paths(SearchJob), ids=".".join)
def test_whatever_pydantic_finds_is_said_in_our_words(path: tuple[str, ...]) -> None:
    refused = 0
    for value in BAD_VALUES:
        data = yaml.safe_load(BASE)
        place = data
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
        try:
            parse_job(dump_mapping(data), source="job.yaml")
        except JobError as error:
            refused += 1
            message = str(error)
            assert message.startswith(f"job.yaml: {path[0]}"), message
            assert not any(words in message for words in ("Input should", "validation error", "another value")), message
            assert len(message) < 400
            assert message.isprintable() or message.count("\n") == 1
    assert refused >= 8


FILES = [
    ("", "expected a job file (lines of 'key: value'), got nothing"),
    ("# only a comment\n", "got nothing"),
    ("- a\n- b\n", "got a list"),
    ("just words\n", "got a single value"),
    ("name: a\ndata: [1\nseed: 3\n", "line 3: is not valid YAML: "),
    ("name: a\n\tseed: 3\n", "line 2: is not valid YAML: "),
    ("name: a\n---\nname: b\n", "line 2: is not valid YAML: expected a single document"),
    ("name: a\nseed: 1\nname: b\n", "line 3: the key 'name' comes twice (first in line 1); keep one"),
    ("search:\n  batch: 1\n  batch: 2\n", "line 3: the key 'batch' comes twice"),
    ("1: a\n", "line 1: expected a key that is text, got '1'"),
    ("[a]: b\n", "line 1: expected a key that is text, got a list or a mapping"),
    (
        "name: !!python/object/apply:os.system [ls]\n",
        "line 1: the tag 'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    ("name: !!int x\n", "line 1: the tag 'tag:yaml.org,2002:int' is not allowed; remove it"),
    ("name: *nowhere\n", "found undefined alias 'nowhere'"),
    ("name: &a [*a]\n", "line 1: '*a' stands inside itself"),
    ("name: a\x00b\n", "line 1: is not valid YAML: a character that no text file holds"),
    ("name: " + "[" * 5000, "line 1: nested deeper than 20 levels"),
    ("name: " + "{a: " * 5000, "line 1: nested deeper than 20 levels"),
    ("name: a\n" + "#" * MAX_BYTES, "larger than 256 KiB"),
]


@pytest.mark.parametrize(("text", "words"), FILES, ids=[repr(text[:30]) for text, _ in FILES])
def test_a_text_that_is_no_job_says_why(text: str, words: str) -> None:
    assert words in fails(text)


def test_an_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]  # 10 ** 9 values written out
    assert "more than 20000 values with the aliases written out" in fails("\n".join(lines))


def test_aliases_of_a_sane_size_and_merge_keys_are_read() -> None:
    job = parse_job(BASE + "search: {<<: {batch: 2}, evaluations: 5}", source="job.yaml")
    assert (job.search.batch, job.search.evaluations) == (2, 5)
    stages = f"stages: [&s {STAGE}, *s, *s]"
    job = parse_job(
        f"name: a\ndata: {{name: digits}}\nsupernet: {{preset: tiny, space: {{{stages}}}}}", source="job.yaml"
    )
    spec = job.supernet.spec()
    assert spec is not None
    assert len(set(spec.stages)) == 1
    assert len(spec.stages) == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("010", 10),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("-.inf", float("-inf")),
        ("1_0", "1_0"),
    ],
)
def test_numbers_are_read_as_people_mean_them(text: str, value: object) -> None:
    assert parse_mapping(f"x: {text}", source="s", what="file") == {"x": value}


_plain = st.one_of(
    st.text(), st.integers(-(10**18) + 1, 10**18 - 1), st.floats(allow_nan=False), st.booleans(), st.none()
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.one_of(_plain, st.lists(_plain, max_size=4)), min_size=1))
def test_whatever_is_dumped_is_read_back_equal(data: dict[str, object]) -> None:
    assert parse_mapping(dump_mapping(data), source="s", what="file") == data


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    binary, large, pipe = tmp_path / "binary.yaml", tmp_path / "large.yaml", tmp_path / "pipe.yaml"
    binary.write_bytes(b"name: a\nseed: \xff\n")
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    os.mkfifo(pipe)
    for path, words in [
        (tmp_path / "none.yaml", "no such file; expected the path of a job file (YAML)"),
        (tmp_path, "is a folder; expected a job file (YAML)"),
        (binary, "line 2 is not UTF-8 text; save the job file as UTF-8"),
        (large, "larger than 256 KiB, so hardly a job file"),
        (pipe, "is no regular file"),
        (binary / "x", "cannot be read: Not a directory"),
        (tmp_path / "nul\x00", "cannot be read"),
    ]:
        with pytest.raises(JobError) as caught:
            load_job(path)
        assert words in str(caught.value)
        assert str(tmp_path) in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load_job(path).name == "a"


def test_objectives_are_checked_again_when_a_profile_file_gives_its_name() -> None:
    job = parse_job(BASE + "hardware: [boards/pi.yaml]\nobjectives: [accuracy, latency_ms@pi]", source="job.yaml")
    names = [o.name for o in job.parsed_objectives(["pi"], source="job.yaml")]
    assert names == ["accuracy", "latency_ms@pi"]
    with pytest.raises(JobError, match=r"^job\.yaml: objectives\[1\]: unknown objective 'latency_ms@pi'"):
        job.parsed_objectives(["board"], source="job.yaml")


def test_reading_a_job_loads_neither_torch_nor_ray() -> None:
    code = "import sys, nas.config, nas.recipes; print([m for m in ('torch', 'ray', 'pymoo') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_constraints_are_on_figures_in_their_units() -> None:
    job = parse_job(BASE + "constraints: {latency_ms: {max: 2}, macs: {min: 1, max: 3.0e+6}}", source="job.yaml")
    latency, macs = job.parsed_constraints(["cpu-1-thread"], source="job.yaml")
    assert (latency.figure.name, latency.minimum, latency.maximum) == ("latency_ms@cpu-1-thread", None, 2)
    assert (macs.figure.name, macs.minimum, macs.maximum) == ("macs", 1, 3e6)


def test_one_objective_is_enough() -> None:
    job = parse_job(BASE + "objectives: [accuracy]\nconstraints: {latency_ms: {max: 2}}", source="job.yaml")
    assert [o.name for o in job.parsed_objectives(["cpu-1-thread"], source="")] == ["accuracy"]


def test_constraints_of_a_profile_file_are_checked_when_its_name_is_known() -> None:
    job = parse_job(BASE + "hardware: [boards/pi.yaml]\nconstraints: {latency_ms@pie: {max: 2}}", source="job.yaml")
    with pytest.raises(JobError, match=r"job.yaml: constraints.latency_ms@pie: .*did you mean 'latency_ms@pi'"):
        job.parsed_constraints(["pi"], source="job.yaml")


@pytest.mark.parametrize(
    ("data", "supernet", "rate"),
    [
        ("{name: digits}", "{preset: digits}", 0.003),
        ("{name: text-classification, path: a.csv}", "{family: encoder, preset: tiny}", 0.0005),
        ("{name: text-classification, path: a.csv}", "{family: encoder, pretrained: bert}", 0.0001),
        ("{name: digits}", "{family: vit-encoder, pretrained: vit}", 0.0001),
    ],
)
def test_the_learning_rate_is_what_the_networks_bear(data: str, supernet: str, rate: float) -> None:
    job = f"name: a\ndata: {data}\nsupernet: {supernet}\n"
    found = parse_job(job, source="job.yaml")
    assert found.training.learning_rate == rate
    assert parse_job(found.to_yaml(), source="again") == found
    told = parse_job(f"{job}training: {{learning_rate: 0.02}}\n", source="job.yaml")
    assert told.training.learning_rate == 0.02
