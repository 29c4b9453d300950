"""`supernets.data.text_classification`, over `text_files` and `table_rows`: what is read, and errors for the rest."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from supernets.data import TextOptions, text_classification, text_files
from supernets.data.labelled_examples import Examples, Source
from tests.errors import raises

GOOD = ["good", 'said "good", twice', "gut, gül 好", "two\nlines", "it's  fine"]
BAD = ["bad", "tab\tin it", "semi;colon", "worst", "naïve"]


def read(path: Path, **options: object) -> Source:
    return text_classification.text_classification(path, TextOptions(**options))  # type: ignore[arg-type]


def labelled(source: Source, examples: Examples | None) -> list[tuple[str, str]]:
    """Each sentence with its class's name."""
    assert examples is not None
    return [(t, source.class_names[y]) for t, y in zip(examples.inputs.tolist(), examples.labels.tolist(), strict=True)]


def refused(path: Path, error: str, **options: object) -> None:
    """Asserts that reading raises an error of this code that mentions the path and values in one line.

    Args:
        error: the code and the values, with " | " between them.
    """
    with raises(*error.split(" | "), str(path)) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)


def write_csv(file: Path, rows: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> Path:
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([header, *rows])
    return file


def write_zip(file: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, text in members.items():
            opened.writestr(name, text)
    return file


ROWS = [(text, "pos") for text in GOOD] + [(text, "neg") for text in BAD]


class TestTables:
    def test_csv_with_all_that_a_text_may_hold(self, tmp_path: Path) -> None:
        source = read(write_csv(tmp_path / "r.csv", ROWS))
        assert labelled(source, source.train) == ROWS
        assert (source.class_names, source.validation, source.test) == (("neg", "pos"), None, None)
        assert source.train.names[:5] == ("r.csv:2", "r.csv:3", "r.csv:4", "r.csv:5", "r.csv:7")  # one has two lines

    @pytest.mark.parametrize("name", ["test.csv", "train.CSV"])
    def test_a_single_file_may_have_any_name(self, tmp_path: Path, name: str) -> None:
        source = read(write_csv(tmp_path / name, ROWS))
        assert (len(source.train), source.test) == (10, None)

    def test_tsv_has_no_quotes(self, tmp_path: Path) -> None:
        rows = [('"good', "pos"), ('he said "no"', "neg"), ('""', "pos")]
        file = tmp_path / "r.tsv"
        file.write_text("label\tid\tsentence\n" + "".join(f"{label}\t7\t{text}\n" for text, label in rows))
        source = read(file)
        assert labelled(source, source.train) == rows

    def test_jsonl_with_labels_of_every_kind(self, tmp_path: Path) -> None:
        labels = ["pos", 1, -3, True, False, "1", "ÿ"]
        lines = [
            json.dumps({"review": f"  s{i}\u2028\x85x ", "more": [i], "class": y}, ensure_ascii=bool(i % 2))
            for i, y in enumerate(labels)
        ]
        file = tmp_path / "r.jsonl"
        file.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
        source = read(file)
        assert labelled(source, source.train) == [
            (f"s{i}\u2028\x85x", name) for i, name in enumerate(("pos", "1", "-3", "true", "false", "1", "ÿ"))
        ]

    def test_columns_may_be_named(self, tmp_path: Path) -> None:
        file = tmp_path / "r.csv"
        file.write_text("text,sentence,label,stars\na,b,c,5\nd,e,f,10\ng,h,i,1\n")
        source = read(file, text_column="sentence", label_column="stars")
        assert labelled(source, source.train) == [("b", "5"), ("e", "10"), ("h", "1")]
        assert source.class_names == ("1", "5", "10")  # numbers by value
        refused(file, "data.malformed-table | 2 | 'text' | 'sentence' | 'label' | 'stars'")
        file.write_text(" Sentence , LABEL\na,c\nd,f\n")
        source = read(file)
        assert labelled(source, source.train) == [("a", "c"), ("d", "f")]

    @pytest.mark.parametrize(
        ("name", "content", "error"),
        [
            ("r.csv", "", "data.malformed-table"),
            ("r.csv", "text,label\n", "data.malformed-table"),
            (
                "r.csv",
                "great film,1\nbad film,0\n",
                "data.malformed-table | text column | 'great film' | '1'",
            ),
            ("r.csv", "text,score\na,1\n", "data.malformed-table | label column | 'text' | 'score' | label_column"),
            ("r.csv", "text;label\na;1\n", "data.malformed-table | text column | 'text;label'"),
            ("r.csv", "text,text,label\na,b,c\n", "data.malformed-table | 'text'"),
            ("r.csv", "text,label\na,b\nc,d,e\n", "data.malformed-table | r.csv:3 | 3 | 2 | (text, label)"),
            ("r.csv", 'text,label\na,b\n"c,d\ne,f\n', "data.malformed-table | r.csv:3"),
            ("r.csv", 'text,label\na,b\n"c"x,d\n', "data.malformed-table | r.csv:3"),
            ("r.csv", "text,label\n ,x\na,b\n,y\n", "data.malformed-table | 2 row | 'text' | (line 2, 4)"),
            ("r.csv", "text,label\na,b\nb,\n", "data.malformed-table | 1 row | 'label' | (line 3)"),
            (
                "r.csv",
                f"text,label\n{'a' * 100_001},b\n",
                "data.malformed-table | r.csv:2 | 100001",
            ),
            ("r.csv", f'text,label\n"{"a" * 200_000}",b\n', "data.malformed-table | r.csv:2 | 131,072"),
            ("r.csv", f"text,label\na,{'b' * 201}\n", "data.malformed-table | r.csv:2 | 200"),
            ("r.csv", "text,label\na,b\x07\n", "data.malformed-table | 'b\\x07'"),
            ("r.csv", "text,label\na\0b,c\n", "data.unreadable | 12"),
            (
                "r.csv",
                "text,label\n" + "".join(f"a{i},{i / 7}\n" for i in range(10_001)),
                "data.malformed-table | 10001",
            ),
            ("r.jsonl", '{"text": "a", "label": 1}\n{"text": "b"\n', "data.malformed-table | r.jsonl:2"),
            ("r.jsonl", "[" * 100_000, "data.malformed-table | r.jsonl:1"),
            ("r.jsonl", f'{{"text": "a", "label": {"9" * 5000}}}', "data.malformed-table | r.jsonl:1"),
            ("r.jsonl", '["a", 1]\n', "data.malformed-table | r.jsonl:1"),
            ("r.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b"}\n', "data.malformed-table | r.jsonl:3 | 'label'"),
            ("r.jsonl", '{"text": ["a"], "label": 1}\n', "data.malformed-table | r.jsonl:1 | 'text'"),
            ("r.jsonl", '{"text": "a", "label": 0.5}\n', "data.malformed-table | 'label' | fraction"),
            ("r.jsonl", '{"text": "a", "label": null}\n', "data.malformed-table | 'label' | null"),
            ("r.jsonl", '{"text": "a", "label": ["x", "y"]}\n', "data.malformed-table | 'label' | list"),
            ("r.jsonl", '{"text": "\\ud800", "label": 1}\n', "data.malformed-table | r.jsonl:1"),
            ("r.txt", "a\n", "data.layout | .csv | .tsv | .jsonl | .zip"),
            ("r.json", "[]", "data.layout | .csv"),
        ],
        ids=lambda value: value[:24] if isinstance(value, str) else None,
    )
    def test_a_malformed_table_is_rejected(self, tmp_path: Path, name: str, content: str, error: str) -> None:
        (tmp_path / name).write_text(content, encoding="utf-8")
        with raises(*error.split(" | ")):
            read(tmp_path / name)

    def test_columns_that_are_not_there(self, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "r.csv", ROWS)
        refused(file, "data.malformed-table | 'txt' | 'text' | 'label'", text_column="txt")
        refused(file, "data.malformed-table | 'text'", label_column="text")


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "cp1252"])
    def test_each_gives_the_same_sentences(self, tmp_path: Path, encoding: str) -> None:
        file = tmp_path / "r.csv"
        file.write_bytes("text,label\nnaïve café,1\nn\xfcr\xa0so,2\n".encode(encoding))
        source = read(file, encoding=encoding.removesuffix("-sig"))
        assert labelled(source, source.train) == [("naïve café", "1"), ("nür\xa0so", "2")]

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    def test_another_encoding_is_reported_with_its_place(self, tmp_path: Path, mark: bytes) -> None:
        file = tmp_path / "r.csv"
        content = mark + "text,label\ngood,1\nnaïve,2\n".encode("latin-1")
        file.write_bytes(content)
        place = f"byte 0xef | offset {content.index(b'na') + 2} | line 3"
        refused(file, f"data.unreadable | utf-8 | {place} | latin-1")

    def test_utf_8_and_utf_16_are_distinguished(self, tmp_path: Path) -> None:
        file = tmp_path / "r.csv"
        text = "text,label\ngood,1\nbad,2\n"
        file.write_text(text, encoding="utf-16")
        refused(file, "data.unreadable | utf-8 | 0xff | offset 0 | line 1 | utf-16")
        file.write_text(text, encoding="utf-8")
        refused(file, "data.unreadable | utf-8 | utf-16", encoding="utf-16")
        file.write_text(text, encoding="utf-16-le")  # has no byte order mark
        assert len(read(file, encoding="utf-16").train) == 2

    @pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "koi8-r"])
    def test_utf_8_is_distinguished_from_encodings_in_which_all_bytes_are_text(
        self, tmp_path: Path, encoding: str
    ) -> None:
        file = tmp_path / "r.csv"
        file.write_text("text,label\ncafé,1\nnaïve,2\n", encoding="utf-8")
        refused(file, f"data.unreadable | utf-8 | {encoding}", encoding=encoding)
        file.write_text("text,label\ncafe,1\nnaive,2\n", encoding="utf-8")  # the same in all of them
        assert len(read(file, encoding=encoding).train) == 2

    def test_in_an_archive_its_file_is_named(self, tmp_path: Path) -> None:
        path = write_zip(tmp_path / "r.zip", {"r/neg.txt": "bad\n", "r/pos.txt": "caf\xe9\n".encode("latin-1")})
        refused(path, f"data.unreadable | {path}/r/pos.txt | utf-8 | 0xe9 | offset 3 | line 1")
        assert read(path, encoding="latin-1").train.inputs.tolist() == ["bad", "café"]


def in_folder(path: Path, members: dict[str, str]) -> Path:
    for name, text in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text, encoding="utf-8")
    return path


def in_zip(path: Path, members: dict[str, str]) -> Path:
    return write_zip(path.with_suffix(".zip"), dict(members))


@pytest.mark.parametrize("packed", [in_folder, in_zip])
class TestFilesOfClasses:
    def test_are_named_by_what_their_names_have_not_in_common(
        self, tmp_path: Path, packed: Callable[[Path, dict[str, str]], Path]
    ) -> None:
        for i, (names, classes) in enumerate(
            [
                (("neg.txt", "pos.txt"), ("neg", "pos")),
                (("rt-polarity.neg", "rt-polarity.pos"), ("neg", "pos")),
                (("plot.tok.gt9.5000", "quote.tok.gt9.5000"), ("plot", "quote")),
                (("a", "a.txt"), ("a", "a.txt")),
                (("train.txt", "bus.txt"), ("bus", "train")),
            ]
        ):
            source = read(packed(tmp_path / f"d{i}", {f"top/{names[0]}": "x\n", f"top/{names[1]}": "y\n"}))
            assert source.class_names == classes
            by_name = dict(zip(source.train.names, labelled(source, source.train), strict=True))
            assert set(by_name) == {f"{name}:1" for name in names}
        assert dict(labelled(source, source.train)) == {"x": "train", "y": "bus"}

    def test_hold_a_sentence_a_line(self, tmp_path: Path, packed: Callable[[Path, dict[str, str]], Path]) -> None:
        source = read(
            packed(
                tmp_path / "d",
                {
                    "neg.txt": '  one ,\r\n\r\n "two\u2028still\n',
                    "pos.txt": "three\rfour",
                    "README.md": "About.",
                    "LICENSE": "MIT",
                    ".hidden": "h",
                    "__MACOSX/._neg.txt": "m",
                },
            )
        )
        assert labelled(source, source.train) == [
            ("one ,", "neg"), ('"two\u2028still', "neg"), ("three", "pos"), ("four", "pos"),
        ]  # fmt: skip
        assert source.train.names == ("neg.txt:1", "neg.txt:3", "pos.txt:1", "pos.txt:2")

    @pytest.mark.parametrize("validation", ["val", "validation"])
    def test_parts_are_kept(
        self, tmp_path: Path, packed: Callable[[Path, dict[str, str]], Path], validation: str
    ) -> None:
        files = {"train.csv": "text,label\na,x\nb,y\n", f"{validation}.tsv": "text\tlabel\nc\ty\n"}
        source = read(packed(tmp_path / "d", {**files, "test.jsonl": '{"text": "d", "label": "x"}\n'}))
        assert labelled(source, source.train) == [("a", "x"), ("b", "y")]
        assert (labelled(source, source.validation), labelled(source, source.test)) == ([("c", "y")], [("d", "x")])
        folders = {"train/x.txt": "a\n", "train/y.txt": "b\n", f"{validation}/y.txt": "c\n", "test/x.txt": "d\n"}
        source = read(packed(tmp_path / "f", {f"top/{name}": text for name, text in folders.items()}))
        assert labelled(source, source.train) == [("a", "x"), ("b", "y")]
        assert (labelled(source, source.validation), labelled(source, source.test)) == ([("c", "y")], [("d", "x")])

    @pytest.mark.parametrize(
        ("members", "error"),
        [
            ({"README": "x"}, "data.layout"),
            ({"neg.txt": "a\n", "pos.txt": " \n\n"}, "data.layout | pos.txt | 'pos'"),
            ({"neg/1.txt": "a\n", "pos/1.txt": "b\n"}, "data.layout | neg/1.txt"),
            ({"a/b/c/1.txt": "a\n", "2.txt": "b\n"}, "data.layout | a/b/c/1.txt"),
            ({"a.csv": "text,label\na,1\n", "b.csv": "text,label\nb,2\n"}, "data.layout | a.csv | b.csv | train"),
            ({"a.csv": "text,label\na,1\n", "pos.txt": "b\n"}, "data.layout | a.csv | pos.txt | train"),
            ({"train.csv": "text,label\na,1\n", "extra.csv": "text,label\nb,2\n"}, "data.layout | extra.csv | train"),
            ({"test.csv": "text,label\na,1\n"}, "data.layout | test.csv | train"),
            ({"test/a.txt": "a\n"}, "data.layout | test/a.txt | train"),
            (
                {"train.csv": "text,label\na,1\n", "test.csv": "text,label\nb,2\n"},
                "data.layout | test | 2",
            ),
            (
                {
                    "train.csv": "text,label\na,1\n",
                    "val.csv": "text,label\nb,1\n",
                    "validation.csv": "text,label\nc,1\n",
                },
                "data.layout | val.csv | validation.csv | validation",
            ),
            ({"neg.txt": "a\n", "pos.txt.gz": "b\n"}, "data.unreadable | pos.txt.gz"),
            ({"neg.txt": "a\n", "pos.json": "[]"}, "data.unreadable | pos.json"),
        ],
    )
    def test_other_layouts_are_rejected(
        self, tmp_path: Path, packed: Callable[[Path, dict[str, str]], Path], members: dict[str, str], error: str
    ) -> None:
        refused(packed(tmp_path / "d", members), error)


class TestBounds:
    def test_nothing_there(self, tmp_path: Path) -> None:
        refused(tmp_path / "nowhere.csv", "data.missing")

    def test_folders_inside_of_folders(self, tmp_path: Path) -> None:
        in_folder(tmp_path, {"neg.txt": "a\n"})
        (tmp_path / "loop").symlink_to(tmp_path)
        refused(tmp_path, "data.layout")

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pos.csv")
        refused(tmp_path / "pos.csv", "data.layout")
        refused(tmp_path, "data.unreadable | pos.csv")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_what_may_not_be_read(self, tmp_path: Path) -> None:
        write_csv(tmp_path / "r.csv", ROWS).chmod(0)
        refused(tmp_path / "r.csv", "data.unreadable | Permission denied")

    @pytest.mark.parametrize("packed", [in_folder, in_zip])
    def test_too_many_files(self, tmp_path: Path, packed: Callable[[Path, dict[str, str]], Path]) -> None:
        path = packed(tmp_path / "d", {f"{i}.txt": "a\n" for i in range(1001)})
        refused(path, "data.too-large | 1000 files")

    @pytest.mark.parametrize("packed", [in_folder, in_zip])
    def test_too_much_text(
        self, tmp_path: Path, packed: Callable[[Path, dict[str, str]], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(text_files, "MAX_MIB", 1)
        path = packed(tmp_path / "d", {"neg.txt": "abcd\n" * 100_000, "pos.txt": "efgh\n" * 100_000})
        assert len(read(path).train) == 200_000  # 1,000,000 bytes
        packed(path, {"neg.txt": "abcd\n" * 100_000, "pos.txt": "efgh\n" * 120_000})
        refused(path, "data.too-large | 1 MiB")

    def test_an_archive_that_unpacks_to_far_more(self, tmp_path: Path) -> None:
        path = write_zip(tmp_path / "r.zip", {"neg.txt": "a\n", "pos.txt": b"a" * 2**21})
        refused(path, "data.too-large | 200 times")

    def test_archives_that_are_none(self, tmp_path: Path) -> None:
        path = tmp_path / "r.zip"
        path.write_bytes(b"no archive")
        refused(path, "data.unreadable")
        write_zip(path, {"neg.txt": "a\n" * 500, "pos.txt": "b\n" * 500})
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + b"\xff\xff\xff" + whole[43:])
        refused(path, "data.unreadable")
        path.write_bytes(whole[: len(whole) // 2])
        refused(path, "data.unreadable")

    def test_members_that_are_packed_otherwise_or_come_twice(self, tmp_path: Path) -> None:
        path = tmp_path / "r.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as opened:
            opened.writestr("neg.txt", "a\n")
        refused(path, "data.unreadable | neg.txt")
        with zipfile.ZipFile(path, "w") as opened:
            opened.writestr("neg.txt", "a\n")
            with pytest.warns(UserWarning, match="Duplicate name"):
                opened.writestr("neg.txt", "b\n")
        refused(path, "data.unreadable | neg.txt")
