"""`nas.config.strict_yaml`: which texts are read, and what is said of others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.config import load_job, parse_job
from nas.config.strict_yaml import MAX_BYTES, dump_mapping, parse_mapping
from nas.errors import JobError
from tests.nas.config.jobs import BASE, STAGE, fails

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
