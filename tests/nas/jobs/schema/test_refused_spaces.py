"""`nas.jobs.schema`: wrong spaces of every family are rejected with their path, code and value."""

from __future__ import annotations

import pytest

from tests.nas.jobs.schema.jobs import BASE, BLOCKS, STAGE, check_refused, fails, with_section

OF_RESNET = "supernet: {family: resnet, "
OF_VIT = "supernet: {family: vit, "
OF_VIT_ENCODER = "supernet: {family: vit-encoder, "

# what replaces a line of the base, the path in the error, its code (without "job."), and values that the message mentions
SPACES = [
    ("supernet: {space: {stem: 3}}", "supernet.space.stem_stride", "missing-key", "preset"),
    ("supernet: {preset: tiny, space: {head: 0}}", "supernet.space.head", "invalid-value", "1 to 4096 | 0"),
    ("supernet: {preset: tiny, space: {stages: []}}", "supernet.space.stages", "invalid-value", "1 to 16 | stages | 0"),
    (
        f"supernet: {{preset: tiny, space: {{stages: [{STAGE.replace('[1, 2]', '[1]').replace('[3, 5]', '[3]')}]}}}}",
        "supernet.space",
        "invalid-value",
        "",
    ),
    (
        f"supernet: {{preset: tiny, space: {{stages: [{STAGE[:-1]}, squeeze: 1}}]}}}}",
        "supernet.space.stages[0].squeeze",
        "invalid-value",
        "true",
    ),
    (
        f"supernet: {{preset: tiny, space: {{stages: [{STAGE[:-1]}, activation: hard-swish}}]}}}}",
        "supernet.space.stages[0].activation",
        "unknown-name",
        "'hard-swish' | 'hardswish'",
    ),
    (
        "supernet: {preset: tiny, space: {activation: gelu}}",
        "supernet.space.activation",
        "unknown-name",
        "relu | hardswish",
    ),
    ("supernet: {preset: tiny, space: {mix: x}}", "supernet.space.mix", "invalid-value", "0 | 'x'"),
    ("supernet: {preset: tiny, space: {mix: -1}}", "supernet.space.mix", "invalid-value", "1 to 4096 | -1"),
    (
        "supernet: {preset: tiny, space: {resolution: 28}}",
        "supernet.space.resolution",
        "invalid-value",
        "[20, 28] | none | got 28",
    ),
    (
        "supernet: {preset: tiny, space: {resolution: []}}",
        "supernet.space.resolution",
        "invalid-value",
        "[20, 28] | none | []",
    ),
    ("supernet: {preset: tiny, space: {resolution: non}}", "supernet.space.resolution", "invalid-value", "'non'"),
    (
        "supernet: {preset: tiny, space: {resolution: [2, 28]}}",
        "supernet.space.resolution",
        "invalid-value",
        "2 pixels | 1 pixels | stage 1",
    ),
    (
        OF_RESNET + "preset: mobile}",
        "supernet.preset",
        "unknown-name",
        "preset | 'mobile' | ofa-resnet50 | tiny | digits",
    ),
    (
        OF_RESNET + "preset: tiny, space: {head: 3}}",
        "supernet.space.head",
        "unknown-key",
        "stem, stem_stride, stages, stem_pool, resolution",
    ),
    (OF_RESNET + "preset: tiny, space: {stem_pool: 1}}", "supernet.space.stem_pool", "invalid-value", "true | 1"),
    (OF_RESNET + "space: {stem: [8], stem_stride: 1}}", "supernet.space.stages", "missing-key", "preset"),
    (
        OF_RESNET + "preset: tiny, space: {resolution: [26]}}",
        "supernet.space.resolution",
        "invalid-value",
        "26 pixels | 13 pixels | stage 1 | stride is 2",
    ),
    (
        OF_RESNET + f"preset: tiny, space: {{stages: [{BLOCKS.replace('0.5', '1.5')}]}}}}",
        "supernet.space.stages[0].expand",
        "invalid-value",
        "0 | 1 | 1.5",
    ),
    (
        OF_RESNET + f"preset: tiny, space: {{stages: [{BLOCKS.replace('0.5', 'x')}]}}}}",
        "supernet.space.stages[0].expand[1]",
        "invalid-value",
        "'x'",
    ),
    (
        OF_RESNET + f"preset: tiny, space: {{stages: [{BLOCKS.replace('[1, 2]', '[1]').replace(', 0.5', '')}], "
        "stem: [8], resolution: [28]}}",
        "supernet.space",
        "invalid-value",
        "",
    ),
    (OF_VIT + "preset: mobile}", "supernet.preset", "unknown-name", "preset | 'mobile' | tiny | digits"),
    (OF_VIT + "preset: tiny, space: {stem: 3}}", "supernet.space.stem", "unknown-key", "'stem' | patch | head_size"),
    (OF_VIT + "preset: tiny, space: {dept: [3]}}", "supernet.space.dept", "unknown-key", "'depth'"),
    (
        OF_VIT + "preset: tiny, space: 3}",
        "supernet.space",
        "invalid-value",
        "patch, head_size, depth, width, heads, mlp | got 3",
    ),
    (OF_VIT + "preset: tiny, space: {width: 64}}", "supernet.space.width", "invalid-value", "got 64"),
    (OF_VIT + "preset: tiny, space: {width: [64, x]}}", "supernet.space.width[1]", "invalid-value", "'x'"),
    (OF_VIT + "preset: tiny, space: {mlp: [x]}}", "supernet.space.mlp[0]", "invalid-value", "'x'"),
    (OF_VIT + "preset: tiny, space: {mlp: [4, 3.5]}}", "supernet.space.mlp", "invalid-value", "[4.0, 3.5]"),
    (OF_VIT + "preset: tiny, space: {mlp: [0, 3]}}", "supernet.space.mlp", "invalid-value", "0 | 16 | 0.0"),
    (OF_VIT + "preset: tiny, space: {heads: [0]}}", "supernet.space.heads", "invalid-value", "1 to 64 | 0"),
    (OF_VIT + "preset: tiny, space: {patch: 4.5}}", "supernet.space.patch", "invalid-value", "4.5"),
    (
        OF_VIT_ENCODER + "space: {depth: [1], width: [8], heads: [1], hidden: [4, 8], head_size: 4}}",
        "supernet.space.patch",
        "missing-key",
        "preset",
    ),
    (OF_VIT_ENCODER + "preset: tiny, space: {mlp: [2]}}", "supernet.space.mlp", "unknown-key", "'mlp'"),
    (
        OF_VIT_ENCODER + "preset: tiny, space: {kept: last}}",
        "supernet.space.kept",
        "unknown-name",
        "'last' | first | spread",
    ),
    (
        OF_VIT_ENCODER + "preset: base}",
        "supernet.preset",
        "unknown-name",
        "preset | 'base' | tiny | digits | instatune",
    ),
    (
        OF_VIT_ENCODER + "preset: tiny, space: {depth: [2], width: [48], heads: [3], hidden: [64]}}",
        "supernet.space",
        "invalid-value",
        "",
    ),
    (OF_VIT + "pretrained: folder}", "supernet.pretrained", "conflict", "encoder | vit-encoder | got vit"),
    (OF_VIT + "space: {patch: 4}}", "supernet.space.depth", "missing-key", "preset"),
    (
        OF_VIT + "space: {patch: 4, depth: [2], width: [48, 96], heads: [3, 5], mlp: [2]}}",
        "supernet.space.heads",
        "invalid-value",
        "5 heads | 96 | head_size",
    ),
    (
        OF_VIT + "preset: tiny, space: {experts: [4], active_experts: [2], top_p: [0.5, 1.5]}}",
        "supernet.space.top_p",
        "invalid-value",
        "above 0, at most 1 | 1.5",
    ),
    (
        OF_VIT + "preset: tiny, space: {depth: [2], width: [48], heads: [3], mlp: [2.5]}}",
        "supernet.space",
        "invalid-value",
        "",
    ),
]
STAGES = [
    (STAGE.replace("[1, 2]", "[2, 1]"), ".depth", "invalid-value", "[2, 1]"),
    (STAGE.replace("[1, 2]", "[2, 2]"), ".depth", "invalid-value", "[2, 2]"),
    (STAGE.replace("[1, 2]", "[0, 1]"), ".depth", "invalid-value", "1 to 32 | 0"),
    (STAGE.replace("[1, 2]", "[]"), ".depth", "invalid-value", "[8, 16, 24] | got []"),
    (STAGE.replace("[1, 2]", "2"), ".depth", "invalid-value", "2"),
    (STAGE.replace("[1, 2]", "[1, two]"), ".depth[1]", "invalid-value", "'two'"),
    (STAGE.replace("[3, 5]", "[3, 4]"), ".kernel", "invalid-value", "4"),
    (STAGE.replace("stride: 1", "stride: 9"), ".stride", "invalid-value", "1 to 4 | 9"),
    (STAGE.replace("expand", "expan"), ".expan", "unknown-key", "'expand'"),
    (STAGE.replace(", expand: [2]", ""), ".expand", "missing-key", ""),
]
SPACES += [
    (f"supernet: {{preset: tiny, space: {{stages: [{stage}]}}}}", f"supernet.space.stages[0]{key}", code, mentions)
    for stage, key, code, mentions in STAGES
]


@pytest.mark.parametrize(("line", "path", "code", "mentions"), SPACES, ids=[row[0] for row in SPACES])
def test_a_wrong_space_is_named_with_its_path(line: str, path: str, code: str, mentions: str) -> None:
    check_refused(with_section(line), path, f"job.{code}", mentions)


def test_the_other_findings_of_a_space_are_named_too() -> None:
    message = str(
        fails(BASE.replace("{preset: tiny}", "{family: vit, preset: tiny, space: {mlp: x, patch: y, heds: [2]}}"))
    )
    assert message.splitlines() == [
        "job.yaml: supernet.space.heds: unknown key 'heds'; did you mean 'heads'? Known: patch, head_size, depth, width, "
        "heads, mlp, experts, active_experts, gates, routers, shared_hidden, shared_gate, expert_rank, "
        "null_experts, top_p.",
        "Also wrong: supernet.space.patch, supernet.space.mlp.",
    ]
