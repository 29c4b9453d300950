"""`nas.config`: what the errors of values and sections tell."""

from __future__ import annotations

import pytest
import yaml
from pydantic import BaseModel

from nas.config import SearchJob, parse_job
from nas.config.strict_yaml import dump_mapping
from nas.errors import JobError
from tests.nas.config.jobs import BASE, BLOCKS, STAGE, fails

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
    (
        "data: {name: text-classification, path: x, max_tokens: 32, timed_tokens: 33}",
        "data.timed_tokens",
        "expected at most the 32 of max_tokens, got 33; longer sentences are cut",
    ),
    ("data: {name: text-classification, path: x, timed_tokens: 0}", "data.timed_tokens", "from 1 to 8192, got 0"),
    ("data: {name: digits, timed_tokens: 8}", "data.timed_tokens", "is for data of sentences, and digits is of images"),
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
        "supernet.space",
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
PARTS += [
    (OF_RESNET + "preset: mobile}", "supernet.preset", "unknown preset 'mobile'. Known: ofa-resnet50, tiny, digits"),
    (
        OF_RESNET + "preset: tiny, space: {head: 3}}",
        "supernet.space.head",
        "Known: stem, stem_stride, stages, stem_pool",
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
        "supernet.space",
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
    (
        OF_VIT_ENCODER + "preset: tiny, space: {kept: last}}",
        "supernet.space.kept",
        "unknown kept 'last'. Known: first, spread",
    ),
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
