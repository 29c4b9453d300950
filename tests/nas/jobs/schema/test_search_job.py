"""`nas.jobs.schema`: what job files may hold, and how they are read and written."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from nas.jobs.schema import load_job, parse_job
from supernets.data.options import ENCODINGS
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN, CNNSpec, StageSpec
from supernets.families.convolutional.resnet_spec import RESNET, BottleneckStage, ResNetSpec
from supernets.families.encoder.encoder_spec import EncoderSpec, space_within
from supernets.families.vision_transformer.vision_transformer_spec import VIT, ViTSpec
from supernets.sharing.spec import PLAIN, MixtureSpec, SharingSpec
from tests.errors import raises
from tests.nas.jobs.schema.jobs import BASE, BLOCKS, STAGE, check_refused

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
  {{algorithm: nsga2, predictor: lightgbm, evaluations: 20, minutes: 1.5, plateau: {{evaluations: 12, gain: 0.01}}, batch: 4,
  workers: 2, time_limit_s: 90}}
warm_start: [small-1, other_2]
calibration_images: 200
"""


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
    bounds = {text: (bound.min, bound.max) for text, bound in job.constraints.items()}
    assert bounds == {"latency_ms@pi": (None, 2), "accuracy": (0.9, 1), "parameters": (None, 3e6)}
    search = job.search
    assert (search.algorithm, search.predictor) == ("nsga2", "lightgbm")
    assert (search.evaluations, search.minutes) == (20, 1.5)
    assert job.warm_start == ("small-1", "other_2")
    assert search.plateau is not None
    assert (search.plateau.evaluations, search.plateau.gain) == (12, 0.01)
    assert (search.batch, search.workers, search.time_limit_s) == (4, 2, 90)


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


@pytest.mark.parametrize(
    ("supernet", "kept"),
    [
        ("preset: tiny", "first"),
        ("preset: instatune", "spread"),
        ("preset: instatune, space: {kept: first}", "first"),
        ("preset: instatune, space: {hidden: [1024, 3072]}", "spread"),
        ("space: {depth: [1, 2], width: [8], heads: [1], hidden: [4], head_size: 8}", "first"),
        ("space: {depth: [1, 2], width: [8], heads: [1], hidden: [4], head_size: 8, kept: spread}", "spread"),
    ],
)
def test_layers_are_spread_where_weights_are_pretrained_unless_the_job_says_otherwise(supernet: str, kept: str) -> None:
    sentences = "name: a\ndata: {name: text-classification, path: a.csv}\nsupernet: {family: encoder, %s}"
    spec = parse_job(sentences % supernet, source="job.yaml").supernet.spec()
    assert isinstance(spec, EncoderSpec)
    assert spec.kept == kept
    within = space_within(head_size=4, depth=6, width=24, heads=6, hidden=36)
    pretrained = parse_job(sentences % "pretrained: bert, space: {heads: [3, 6]}", source="job.yaml").supernet
    assert pretrained.spec(within) == replace(within, heads=(3, 6))
    assert within.kept == "spread"


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


def test_a_stored_job_is_read_without_keys_that_were_removed(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(FULL.replace("batch: 4,", "batch: 4, screen_images: 90, tune_seconds: 3,"), encoding="utf-8")
    assert load_job(path, stored=True).search == parse_job(FULL, source="job.yaml").search
    with raises("job.unknown-key", "search.screen_images", "remove it", "search.tune_seconds"):
        load_job(path)


def test_a_stored_job_is_read_with_a_mean_that_earlier_versions_accepted(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(BASE.replace("digits", "digits, mean: [7.5], std: [1.0]"), encoding="utf-8")
    assert load_job(path, stored=True).data.mean == (7.5,)
    with raises("job.invalid-value", "data.mean", "from 0 to 1"):
        load_job(path)


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
    own = pretrained.replace("reviews.csv", "reviews.csv, vocabulary: 500")
    check_refused(own, "data.vocabulary", "job.conflict", "supernet.pretrained")


def test_what_sentences_have_by_default_is_written_out() -> None:
    job = parse_job(TEXT % "", source="job.yaml")
    assert yaml.safe_load(job.to_yaml())["data"] == {
        "name": "text-classification", "path": "reviews.csv", "max_tokens": 128, "vocabulary": 8000, "encoding": "utf-8",
    }  # fmt: skip
    assert parse_job(job.to_yaml(), source="stored") == job
    job = parse_job(TEXT % ", tokenizer: minilm", source="job.yaml")
    assert parse_job(job.to_yaml(), source="stored") == job
    assert "vocabulary" not in job.to_yaml()


def test_the_same_encodings_are_known_to_the_data_set() -> None:
    for encoding in ENCODINGS:
        assert parse_job(TEXT % f", encoding: {encoding}", source="job.yaml").data.encoding == encoding
    check_refused(TEXT % ", encoding: ascii", "data.encoding", "job.unknown-name", f"'ascii' | {', '.join(ENCODINGS)}")


def test_a_relative_job_path_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.yaml").write_text(FULL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_job(Path("job.yaml")).data.path == tmp_path / "pictures"


def test_an_unknown_home_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(FULL.replace("path: pictures", "path: ~nobody-of-this-name/x"), encoding="utf-8")
    with raises("job.invalid-value", "~nobody-of-this-name/x"):
        load_job(path)


def test_objectives_are_checked_again_when_a_profile_file_gives_its_name() -> None:
    job = parse_job(BASE + "hardware: [boards/pi.yaml]\nobjectives: [accuracy, latency_ms@pi]", source="job.yaml")
    names = [o.name for o in job.parsed_objectives(["pi"], source="job.yaml")]
    assert names == ["accuracy", "latency_ms@pi"]
    with raises("job.unknown-name", "job.yaml: objectives[1]: ", "'latency_ms@pi'"):
        job.parsed_objectives(["board"], source="job.yaml")


def test_reading_a_job_loads_neither_torch_nor_ray() -> None:
    code = "import sys, nas.jobs.schema, nas.jobs.recipes; print([m for m in ('torch', 'ray', 'pymoo') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_constraints_are_on_metrics_in_their_units() -> None:
    job = parse_job(BASE + "constraints: {latency_ms: {max: 2}, macs: {min: 1, max: 3.0e+6}}", source="job.yaml")
    latency, macs = job.parsed_constraints(["cpu-1-thread"], source="job.yaml")
    assert (latency.metric.name, latency.minimum, latency.maximum) == ("latency_ms@cpu-1-thread", None, 2)
    assert (macs.metric.name, macs.minimum, macs.maximum) == ("macs", 1, 3e6)


def test_one_objective_is_enough() -> None:
    job = parse_job(BASE + "objectives: [accuracy]\nconstraints: {latency_ms: {max: 2}}", source="job.yaml")
    assert [o.name for o in job.parsed_objectives(["cpu-1-thread"], source="")] == ["accuracy"]


def test_constraints_of_a_profile_file_are_checked_when_its_name_is_known() -> None:
    job = parse_job(BASE + "hardware: [boards/pi.yaml]\nconstraints: {latency_ms@pie: {max: 2}}", source="job.yaml")
    with raises("job.unknown-name", "job.yaml: constraints.latency_ms@pie: ", "'latency_ms@pi'"):
        job.parsed_constraints(["pi"], source="job.yaml")


@pytest.mark.parametrize(
    ("training", "distill"),
    [("{}", "none"), ("{distill: largest}", "largest"), ("{strategy: instatune}", "largest")],
)
def test_detectors_learn_from_labels_unless_a_job_says_otherwise(training: str, distill: str) -> None:
    job = "name: a\ndata: {name: coco, path: a.json}\ntask: detection\nsupernet: {family: detector, preset: tiny}\n"
    parsed = parse_job(f"{job}training: {training}\n", source="job.yaml")
    assert parsed.training.distill == distill
    assert parse_job(parsed.to_yaml(), source="again") == parsed


@pytest.mark.parametrize(
    ("data", "supernet", "rate"),
    [
        ("{name: digits}", "{preset: digits}", 0.003),
        ("{name: text-classification, path: a.csv}", "{family: encoder, preset: tiny}", 0.0005),
        ("{name: text-classification, path: a.csv}", "{family: encoder, pretrained: bert}", 0.0001),
        ("{name: digits}", "{family: vit-encoder, pretrained: vit}", 0.0001),
        ("{name: text, path: a.txt}\ntask: language-modelling", "{family: decoder, preset: tiny}", 0.001),
        ("{name: text, path: a.txt}\ntask: language-modelling", "{family: decoder, pretrained: llama}", 0.00003),
    ],
)
def test_the_default_learning_rate_depends_on_the_networks(data: str, supernet: str, rate: float) -> None:
    job = f"name: a\ndata: {data}\nsupernet: {supernet}\n"
    found = parse_job(job, source="job.yaml")
    assert found.training.learning_rate == rate
    assert parse_job(found.to_yaml(), source="again") == found
    given = parse_job(f"{job}training: {{learning_rate: 0.02}}\n", source="job.yaml")
    assert given.training.learning_rate == 0.02


@pytest.mark.parametrize("sharing", ["slice", "{correction: least-squares}"])
def test_adapters_have_a_default_rate_of_their_own(sharing: str) -> None:
    text = "name: a\ntask: language-modelling\ndata: {name: text, path: a.txt}\ntraining: {adapters: {rank: 4}}\n"
    job = parse_job(f"{text}supernet: {{family: decoder, pretrained: llama, sharing: {sharing}}}\n", source="job.yaml")
    assert (job.training.learning_rate, job.training.adapter_rank) == (0.0003, 4)
    assert parse_job(job.to_yaml(), source="again") == job
