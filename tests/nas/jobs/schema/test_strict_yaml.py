"""`nas.jobs.schema.strict_yaml`: which texts are read, and the errors of the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nas.jobs.schema import load_job, parse_job, strict_yaml
from nas.jobs.schema.strict_yaml import MAX_BYTES, dump_mapping, parse_mapping
from tests.errors import raises
from tests.nas.jobs.schema.jobs import BASE, STAGE, fails


@pytest.fixture(autouse=True, scope="module", params=[yaml.CSafeLoader, yaml.SafeLoader], ids=["libyaml", "pure"])
def parser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each parser in turn: they accept the same texts, and give the same data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_yaml, "PARSER", request.param)
        yield


ROOT = Path(__file__).parents[4]
FILES = [
    ("", "job file | nothing"),
    ("# only a comment\n", "nothing"),
    ("- a\n- b\n", "a list"),
    ("just words\n", "a single value"),
    ("name: a\ndata: [1\nseed: 3\n", "line 3: "),
    ("name: a\n\tseed: 3\n", "line 2: "),
    ("name: a\n---\nname: b\n", "line 2: | single document"),
    ("name: a\nseed: 1\nname: b\n", "line 3: | 'name' | line 1"),
    ("search:\n  batch: 1\n  batch: 2\n", "line 3: | 'batch' | line 2"),
    ("1: a\n", "line 1: | int | '1'"),
    ("on: a\n", "line 1: | bool | 'on'"),
    ("[a]: b\n", "line 1: | key"),
    ("name: !!python/object/apply:os.system [ls]\n", "line 1: | 'tag:yaml.org,2002:python/object/apply:os.system'"),
    ("name: !!int x\n", "line 1: | 'tag:yaml.org,2002:int'"),
    ("name: *nowhere\n", "'nowhere'"),
    ("name: &a [*a]\n", "line 1: | '*a'"),
    ("name: a\x00b\n", "line 1: "),
    ("name: " + "[" * 5000, "line 1: | nest"),
    ("name: " + "{a: " * 5000, "line 1: | 20 levels"),
    ("name: a\n" + "#" * MAX_BYTES, "256 KiB"),
    ("name: " + "é" * (MAX_BYTES // 2), "256 KiB"),
    ("name: \ud800\n", "line 1: "),
    ("name: [" + "1," * 120_000 + "]", "line 1: | 20000 values"),
    ("name: &a 1\nseed: [" + "*a," * 80_000 + "]", "line 2: | 20000 values"),
]


@pytest.mark.parametrize(("text", "mentions"), FILES, ids=[repr(text[:30]) for text, _ in FILES])
def test_a_text_that_is_not_plain_yaml_is_rejected(text: str, mentions: str) -> None:
    error = fails(text)
    assert error.code == "job.invalid-yaml"
    assert [value for value in mentions.split(" | ") if value not in str(error)] == []


def test_an_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]  # 10 ** 9 values written out
    error = fails("\n".join(lines))
    assert error.code == "job.invalid-yaml"
    assert "20000 values" in str(error)


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
def test_numbers_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert parse_mapping(f"x: {text}", source="s", noun="file") == {"x": value}


def test_a_large_list_is_rejected_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def built(*_: object) -> None:
        raise AssertionError("a node was built")

    monkeypatch.setattr(strict_yaml.Composer, "compose_node", built)
    with raises("job.invalid-yaml", "20000 values"):
        parse_mapping("[" + "1," * 120_000 + "]", source="s", noun="file")


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("nas/jobs/recipes/*.yaml")) + sorted(ROOT.glob("hardware_profiles/data/*.yaml"))
)
def test_shipped_files_are_read_as_by_pyyaml(path: Path) -> None:
    text = path.read_text("utf-8")
    expected = yaml.safe_load(text)  # they have no number that YAML 1.1 reads otherwise
    assert parse_mapping(text, source="s", noun="file") == expected


_plain = st.one_of(
    st.text(), st.integers(-(10**18) + 1, 10**18 - 1), st.floats(allow_nan=False), st.booleans(), st.none()
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.one_of(_plain, st.lists(_plain, max_size=4)), min_size=1))
def test_dumped_data_are_read_back_equal(data: dict[str, object]) -> None:
    assert parse_mapping(dump_mapping(data), source="s", noun="file") == data


def test_files_that_cannot_be_read_are_rejected(tmp_path: Path) -> None:
    binary, large, pipe = tmp_path / "binary.yaml", tmp_path / "large.yaml", tmp_path / "pipe.yaml"
    binary.write_bytes(b"name: a\nseed: \xff\n")
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    os.mkfifo(pipe)
    for path, *mentions in [
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path / "large", "did you mean", "large.yaml?"),
        (tmp_path, "a folder"),
        (binary, "line 2"),
        (large, "256 KiB"),
        (pipe, "regular file"),
        (binary / "x", "Not a directory"),
        (tmp_path / "nul\x00", "nul"),
    ]:
        with raises("job.unreadable", *mentions, str(tmp_path)):
            load_job(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load_job(path).name == "a"
