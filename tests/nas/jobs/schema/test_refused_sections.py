"""`nas.jobs.schema`: wrong sections are rejected with their path, code and value; all findings are reported."""

from __future__ import annotations

import pytest

from nas.errors import JobError
from nas.jobs.schema import SearchJob
from nas.jobs.schema.search_job import job_of
from tests.nas.jobs.schema.jobs import BASE, check_refused, fails, field_paths, spoilt_jobs, with_section

# what replaces a line of the base, the path in the error, its code (without "job."), and values that the message mentions
SECTIONS = [
    ("data: {name: digits, channels: true}", "data.channels", "invalid-value", "1 | 3 | true"),
    ("name: b c", "name", "invalid-value", "1 to 64 | digits | 'b c'"),
    ("name: ../x", "name", "invalid-value", "'../x'"),
    ("name: -x", "name", "invalid-value", "'-x'"),
    ("name: 12", "name", "invalid-value", "12"),
    ("data: {name: digit}", "data.name", "unknown-name", "'digits'"),
    ("data: {}", "data.name", "missing-key", "digits | fashion-mnist | image-folder"),
    ("data: {name: digits, path: here}", "data.path", "conflict", "digits | 'here'"),
    ("data: {name: image-folder}", "data.path", "missing-key", "image-folder"),
    ("data: {name: fashion-mnist, path: 3}", "data.path", "invalid-value", "3"),
    ("data: {name: image-folder, path: ''}", "data.path", "invalid-value", "''"),
    ("data: {name: text-classification, path: a.csv, tokenizer: ' '}", "data.tokenizer", "invalid-value", "' '"),
    ("data: {name: digits, image_size: 2}", "data.image_size", "invalid-value", "4 to 1024 | 2"),
    ("data: {name: digits, channels: 2}", "data.channels", "invalid-value", "1 | 3 | 2"),
    ("data: {name: digits, mean: [0.5]}", "data.std", "missing-key", "mean"),
    ("data: {name: digits, std: [0.5]}", "data.mean", "missing-key", "std"),
    ("data: {name: digits, mean: 0.5, std: [1]}", "data.mean", "invalid-value", "got 0.5"),
    ("data: {name: digits, mean: [.inf], std: [1]}", "data.mean[0]", "invalid-value", "got inf"),
    ("data: {name: digits, mean: [0.1, 0.2], std: [1, 1]}", "data.mean", "invalid-value", "[0.1, 0.2]"),
    ("data: {name: digits, mean: [], std: []}", "data.mean", "invalid-value", "got []"),
    ("data: {name: digits, channels: 3, mean: [0.5], std: [1]}", "data.mean", "invalid-value", "[0.5]"),
    ("data: {name: digits, mean: [0.5], std: [1, 1, 1]}", "data.std", "invalid-value", "[1.0, 1.0, 1.0]"),
    ("data: {name: digits, mean: [127.5], std: [1]}", "data.mean", "invalid-value", "255 | [127.5]"),
    ("data: {name: digits, mean: [0.5], std: [0]}", "data.std", "invalid-value", "0 | [0.0]"),
    (
        "data: {name: text-classification, path: x, mean: [0.5], std: [1]}",
        "data.mean",
        "conflict",
        "text-classification",
    ),
    (
        "data: {name: image-folder, path: x, skip_unreadable: 1}",
        "data.skip_unreadable",
        "invalid-value",
        "true or false | 1",
    ),
    ("data: {name: image-folder, path: x, crop: 1.5}", "data.crop", "invalid-value", "at most 1 | 1.5"),
    ("data: {name: image-folder, path: x, crop: 0}", "data.crop", "invalid-value", "above 0 | 0"),
    (
        "data: {name: image-table, path: x.csv, interpolation: cubic}",
        "data.interpolation",
        "unknown-name",
        "'bicubic'",
    ),
    ("data: {name: coco}", "data.path", "missing-key", ".json | folder"),
    ("data: {name: yolo}", "data.path", "missing-key", "data.yaml"),
    ("data: {name: voc}", "data.path", "missing-key", "Annotations | JPEGImages"),
    ("data: {name: segmentation-folder}", "data.path", "missing-key", "images | masks"),
    ("data: {name: yolo, path: x, images: y}", "data.images", "conflict", "coco | yolo"),
    ("data: {name: coco, path: x, images: ''}", "data.images", "invalid-value", "''"),
    ("data: {name: coco, path: x, crop: 0.9}", "data.crop", "conflict", "image-folder | coco"),
    ("data: {name: coco, path: x, labels: none}", "data.labels", "conflict", "image-folder | coco"),
    ("data: {name: coco, path: x, vocabulary: 500}", "data.vocabulary", "conflict", "images"),
    ("data: {name: coco, path: x}", "task", "conflict", "classification | coco | detection"),
    ("data: {name: segmentation-folder, path: x}\ntask: detection", "task", "conflict", "detection | segmentation"),
    ("task: detection", "data.name", "conflict", "coco, yolo, voc | digits"),
    ("task: segmentation", "data.name", "conflict", "segmentation-folder | digits"),
    ("data: {name: digits, crop: 0.9}", "data.crop", "conflict", "image-folder | digits"),
    ("data: {name: digits, skip_unreadable: true}", "data.skip_unreadable", "conflict", "image-folder | digits"),
    ("data: {name: text-classification, path: x, skip_unreadable: true}", "data.skip_unreadable", "conflict", "images"),
    ("data: {name: digits, test: 1}", "data.test", "invalid-value", "2 | 0 | 1"),
    ("data: {name: digits, test: 1.0}", "data.test", "invalid-value", "1.0"),
    ("data: {name: digits, test: true}", "data.test", "invalid-value", "true"),
    ("data: {name: digits, test: .nan}", "data.test", "invalid-value", "nan"),
    ("data: {name: digits, test: [1]}", "data.test", "invalid-value", "[1]"),
    ("data: {name: digits, test: 0.5, validation: 0.5}", "data.validation", "conflict", " 1 of the images"),
    ("data: {name: digits, vocabulary: 500}", "data.vocabulary", "conflict", "digits"),
    ("data: {name: digits, tokenizer: here}", "data.tokenizer", "conflict", "digits"),
    ("data: {name: text-classification}", "data.path", "missing-key", ".csv | .tsv | .jsonl | .zip"),
    ("data: {name: text-classification, path: x, image_size: 8}", "data.image_size", "conflict", "text-classification"),
    (
        "data: {name: text-classification, path: x, max_tokens: 32, timed_tokens: 33}",
        "data.timed_tokens",
        "invalid-value",
        "32 | max_tokens | 33",
    ),
    (
        "data: {name: text-classification, path: x, timed_tokens: 0}",
        "data.timed_tokens",
        "invalid-value",
        "1 to 8192 | 0",
    ),
    ("data: {name: digits, timed_tokens: 8}", "data.timed_tokens", "conflict", "digits"),
    ("data: {name: text-classification, path: x, max_tokens: 3}", "data.max_tokens", "invalid-value", "4 to 8192 | 3"),
    (
        "data: {name: text-classification, path: x, vocabulary: 20}",
        "data.vocabulary",
        "invalid-value",
        "100 to 100000 | 20",
    ),
    ("data: {name: text-classification, path: x, text_column: ''}", "data.text_column", "invalid-value", "''"),
    ("data: {name: text-classification, path: x, encoding: latin1}", "data.encoding", "unknown-name", "'latin-1'"),
    (
        "data: {name: text-classification, path: x, tokenizer: y, vocabulary: 500}",
        "data.vocabulary",
        "conflict",
        "tokenizer",
    ),
    (
        "data: {name: text-classification, path: x, text_column: a, label_column: a}",
        "data.label_column",
        "conflict",
        "'a'",
    ),
    ("data: {name: text-classification, path: x, validation: 0.6, test: 0.6}", "data.validation", "conflict", "1.2"),
    ("supernet: {}", "supernet", "missing-key", "tiny, mobile, digits, ofa, tiny-v3 | from"),
    ("supernet: {family: mobile, preset: tiny}", "supernet.family", "unknown-name", "'mobile-cnn'"),
    ("supernet: {preset: tny}", "supernet.preset", "unknown-name", "'tiny'"),
    ("supernet: {preset: tiny, sharing: slices}", "supernet.sharing", "invalid-value", "mixture | kernels | 'slices'"),
    (
        "supernet: {preset: tiny, sharing: [slice]}",
        "supernet.sharing",
        "invalid-value",
        "slice | mixture, kernels | ['slice']",
    ),
    ("supernet: {preset: tiny, sharing: {experts: merged}}", "supernet.sharing.experts", "conflict", "pretrained"),
    ("supernet: {preset: tiny, sharing: {mixtur: {}}}", "supernet.sharing.mixtur", "unknown-key", "'mixture'"),
    (
        "supernet: {preset: tiny, sharing: {kernels: corner}}",
        "supernet.sharing.kernels",
        "unknown-name",
        "centre | transform",
    ),
    (
        "supernet: {preset: tiny, sharing: {mixture: 2}}",
        "supernet.sharing.mixture",
        "invalid-value",
        "experts, routing, hidden, constant_input, layers | got 2",
    ),
    (
        "supernet: {preset: tiny, sharing: {mixture: {experts: 1}}}",
        "supernet.sharing.mixture.experts",
        "invalid-value",
        "2 to 64 | 1",
    ),
    (
        "supernet: {preset: tiny, sharing: {mixture: {layers: mlp}}}",
        "supernet.sharing.mixture.layers",
        "invalid-value",
        "[blocks.*.mlp.*] | 'mlp'",
    ),
    (
        "supernet: {family: vit, preset: tiny, space: {experts: [4], active_experts: [1, 2], null_experts: [2]}}\n"
        "training: {balance_loss: 0}",
        "training.balance_loss",
        "conflict",
        "do not learn | supernet.space.null_experts | remove one",
    ),
    (
        "supernet: {preset: tiny}\ntraining: {entropy_loss: 0.01}",
        "training.entropy_loss",
        "conflict",
        "routers of MLPs' experts | a space with experts",
    ),
    (
        "supernet: {preset: tiny}\ntraining: {parameters: routers}",
        "training.parameters",
        "conflict",
        "the networks have none | a space with experts",
    ),
    (
        "supernet: {preset: tiny, sharing: {kernels: transform}}\ntraining: {strategy: differentiable}",
        "supernet.sharing",
        "conflict",
        "differentiable | slice",
    ),
    ("supernet: {from: ''}", "supernet.from", "invalid-value", "''"),
    ("supernet: {from_: x}", "supernet.from_", "unknown-key", "'from'"),
]


@pytest.mark.parametrize(("line", "path", "code", "mentions"), SECTIONS, ids=[row[0] for row in SECTIONS])
def test_a_wrong_section_is_named_with_its_path(line: str, path: str, code: str, mentions: str) -> None:
    check_refused(with_section(line), path, f"job.{code}", mentions)


def test_several_findings_make_two_lines_and_an_unknown_key_comes_first() -> None:
    message = str(fails(BASE.replace("name: a\n", "nmae: a\n") + "seed: x\nsearch: {batch: 0}"))
    assert message.splitlines() == [
        "job.yaml: nmae: unknown key 'nmae'; did you mean 'name'? Known: name, seed, data, task, supernet, training, "
        "hardware, objectives, metrics, constraints, precisions, serving, runtimes, lookup_tables, search, warm_start, "
        "calibration_images.",
        "Also wrong: name, seed, search.batch.",
    ]


@pytest.mark.parametrize("path", field_paths(SearchJob), ids=".".join)
def test_findings_of_pydantic_never_show_its_own_words(path: tuple[str, ...]) -> None:
    refused = 0
    for data in spoilt_jobs(path):
        try:
            job_of(data, source="job.yaml")
        except JobError as error:
            refused += 1
            message = str(error)
            assert message.startswith(f"job.yaml: {path[0]}"), message
            assert not any(words in message for words in ("Input should", "validation error", "another value")), message
            assert len(message) < 600
            assert message.isprintable() or message.count("\n") == 1
    assert refused >= 8
