"""`supernets.data.text_classification`, over `text_files` and `text_tables`: what is read, and a clear error for all else."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from supernets.data import TextOptions, text_classification, text_files
from supernets.data.source import Examples, Source
from supernets.errors import DataError

GOOD = ["good", 'said "good", twice', "gut, gül 好", "two\nlines", "it's  fine"]
BAD = ["bad", "tab\tin it", "semi;colon", "worst", "naïve"]


def read(path: Path, **options: object) -> Source:
    return text_classification.text_classification(path, TextOptions(**options))  # type: ignore[arg-type]


def told(source: Source, examples: Examples | None) -> list[tuple[str, str]]:
    """Each sentence with its class's name."""
    assert examples is not None
    return [(t, source.class_names[y]) for t, y in zip(examples.inputs.tolist(), examples.labels.tolist(), strict=True)]


def refused(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


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
    def test_csv_with_whatever_a_text_may_hold(self, tmp_path: Path) -> None:
        source = read(write_csv(tmp_path / "r.csv", ROWS))
        assert told(source, source.train) == ROWS
        assert (source.class_names, source.validation, source.test) == (("neg", "pos"), None, None)
        assert source.train.names[:5] == ("r.csv:2", "r.csv:3", "r.csv:4", "r.csv:5", "r.csv:7")  # one has two lines

    @pytest.mark.parametrize("name", ["test.csv", "train.CSV"])
    def test_a_file_by_itself_is_all_there_is_whatever_its_name(self, tmp_path: Path, name: str) -> None:
        source = read(write_csv(tmp_path / name, ROWS))
        assert (len(source.train), source.test) == (10, None)

    def test_tsv_knows_no_quotes(self, tmp_path: Path) -> None:
        rows = [('"good', "pos"), ('he said "no"', "neg"), ('""', "pos")]
        file = tmp_path / "r.tsv"
        file.write_text("label\tid\tsentence\n" + "".join(f"{label}\t7\t{text}\n" for text, label in rows))
        source = read(file)
        assert told(source, source.train) == rows

    def test_jsonl_with_labels_of_every_kind(self, tmp_path: Path) -> None:
        labels = ["pos", 1, -3, True, False, "1", "ÿ"]
        lines = [
            json.dumps({"review": f"  s{i}\u2028\x85x ", "more": [i], "class": y}, ensure_ascii=bool(i % 2))
            for i, y in enumerate(labels)
        ]
        file = tmp_path / "r.jsonl"
        file.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
        source = read(file)
        assert told(source, source.train) == [
            (f"s{i}\u2028\x85x", name) for i, name in enumerate(("pos", "1", "-3", "true", "false", "1", "ÿ"))
        ]

    def test_columns_may_be_named(self, tmp_path: Path) -> None:
        file = tmp_path / "r.csv"
        file.write_text("text,sentence,label,stars\na,b,c,5\nd,e,f,10\ng,h,i,1\n")
        source = read(file, text_column="sentence", label_column="stars")
        assert told(source, source.train) == [("b", "5"), ("e", "10"), ("h", "1")]
        assert source.class_names == ("1", "5", "10")  # numbers by value
        assert "has 2 columns that may be the text among 'text', 'sentence', 'label', 'stars'" in refused(file)
        file.write_text(" Sentence , LABEL\na,c\nd,f\n")
        source = read(file)
        assert told(source, source.train) == [("a", "c"), ("d", "f")]

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("r.csv", "", "holds no rows"),
            ("r.csv", "text,label\n", "holds no rows"),
            (
                "r.csv",
                "great film,1\nbad film,0\n",
                "has no text column among 'great film', '1'; expected one of text,",
            ),
            ("r.csv", "text,score\na,1\n", "has no label column among 'text', 'score'; .* or give label_column"),
            ("r.csv", "text;label\na;1\n", "has no text column among 'text;label'"),
            ("r.csv", "text,text,label\na,b,c\n", "has two columns 'text'"),
            ("r.csv", "text,label\na,b\nc,d,e\n", r"r\.csv:3: has 3 columns; expected 2 \(text, label\)"),
            ("r.csv", 'text,label\na,b\n"c,d\ne,f\n', r"r\.csv:3: .*perhaps a quote is not closed"),
            ("r.csv", 'text,label\na,b\n"c"x,d\n', r"r\.csv:3: .*perhaps a quote is not closed"),
            ("r.csv", "text,label\n ,x\na,b\n,y\n", r"2 row\(s\) have nothing in the column 'text' \(line 2, 4\)"),
            ("r.csv", "text,label\na,b\nb,\n", r"1 row\(s\) have nothing in the column 'label' \(line 3\)"),
            (
                "r.csv",
                f"text,label\n{'a' * 100_001},b\n",
                r"r\.csv:2 has a text of 100001 characters; expected at most",
            ),
            ("r.csv", f'text,label\n"{"a" * 200_000}",b\n', r"r\.csv:2: field larger than field limit"),
            ("r.csv", f"text,label\na,{'b' * 201}\n", r"r\.csv:2 has the class 'b+'; expected at most 200"),
            ("r.csv", "text,label\na,b\x07\n", r"has the class 'b\\x07'; .*printable"),
            ("r.csv", "text,label\na\0b,c\n", "holds a zero character at 12; expected text"),
            ("r.csv", "text,label\n" + "".join(f"a{i},{i / 7}\n" for i in range(10_001)), "has 10001 classes, such as"),
            ("r.jsonl", '{"text": "a", "label": 1}\n{"text": "b"\n', r"r\.jsonl:2: is no JSON"),
            ("r.jsonl", "[" * 100_000, r"r\.jsonl:1: is no JSON"),
            ("r.jsonl", f'{{"text": "a", "label": {"9" * 5000}}}', r"r\.jsonl:1: is no JSON"),
            ("r.jsonl", '["a", 1]\n', r"r\.jsonl:1: is a list; expected an object a line"),
            ("r.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b"}\n', r"r\.jsonl:3: lacks 'label', which other rows"),
            ("r.jsonl", '{"text": ["a"], "label": 1}\n', r"r\.jsonl:1: 'text' is a list; expected a text"),
            ("r.jsonl", '{"text": "a", "label": 0.5}\n', "'label' is a number with a fraction; expected one class"),
            ("r.jsonl", '{"text": "a", "label": null}\n', "'label' is null; expected one class"),
            ("r.jsonl", '{"text": "a", "label": ["x", "y"]}\n', "'label' is a list; expected one class"),
            ("r.jsonl", '{"text": "\\ud800", "label": 1}\n', r"r\.jsonl:1 holds half of a character"),
            ("r.txt", "a\n", r"is no \.csv, \.tsv, \.jsonl or \.zip file"),
            ("r.json", "[]", r"is no \.csv, \.tsv, \.jsonl or \.zip file"),
        ],
        ids=lambda value: value[:24] if isinstance(value, str) else None,
    )
    def test_what_is_no_table_is_told(self, tmp_path: Path, name: str, content: str, message: str) -> None:
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read(tmp_path / name)

    def test_columns_that_are_not_there(self, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "r.csv", ROWS)
        assert "has no column 'txt'; expected text_column to be one of 'text', 'label'" in refused(
            file, text_column="txt"
        )
        assert "both the column 'text'" in refused(file, label_column="text")


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "cp1252"])
    def test_the_same_sentences_come_of_each(self, tmp_path: Path, encoding: str) -> None:
        file = tmp_path / "r.csv"
        file.write_bytes("text,label\nnaïve café,1\nn\xfcr\xa0so,2\n".encode(encoding))
        source = read(file, encoding=encoding.removesuffix("-sig"))
        assert told(source, source.train) == [("naïve café", "1"), ("nür\xa0so", "2")]

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    def test_another_is_told_with_its_place(self, tmp_path: Path, mark: bytes) -> None:
        file = tmp_path / "r.csv"
        content = mark + "text,label\ngood,1\nnaïve,2\n".encode("latin-1")
        file.write_bytes(content)
        message = refused(file)
        assert (
            f"is not utf-8: byte 0xef at offset {content.index(b'na') + 2} (line 3); convert the file, e.g." in message
        )
        assert "`iconv -f latin1 -t utf-8`, or give its encoding, e.g. latin-1" in message

    def test_utf_8_and_utf_16_are_told_apart(self, tmp_path: Path) -> None:
        file = tmp_path / "r.csv"
        text = "text,label\ngood,1\nbad,2\n"
        file.write_text(text, encoding="utf-16")
        assert "is not utf-8: byte 0xff at offset 0 (line 1); convert the file, e.g. by `iconv -f utf16" in refused(
            file
        )
        file.write_text(text, encoding="utf-8")
        assert "is utf-8 and not utf-16" in refused(file, encoding="utf-16")
        file.write_text(text, encoding="utf-16-le")  # has no byte order mark
        assert len(read(file, encoding="utf-16").train) == 2

    @pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "koi8-r"])
    def test_utf_8_is_told_from_encodings_in_which_all_bytes_are_text(self, tmp_path: Path, encoding: str) -> None:
        file = tmp_path / "r.csv"
        file.write_text("text,label\ncafé,1\nnaïve,2\n", encoding="utf-8")
        assert f"is utf-8 and not {encoding} (which has a letter for any byte)" in refused(file, encoding=encoding)
        file.write_text("text,label\ncafe,1\nnaive,2\n", encoding="utf-8")  # the same in all of them
        assert len(read(file, encoding=encoding).train) == 2

    def test_in_an_archive_its_file_is_named(self, tmp_path: Path) -> None:
        path = write_zip(tmp_path / "r.zip", {"r/neg.txt": "bad\n", "r/pos.txt": "caf\xe9\n".encode("latin-1")})
        assert f"{path}/r/pos.txt: is not utf-8: byte 0xe9 at offset 3 (line 1)" in refused(path)
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
            by_name = dict(zip(source.train.names, told(source, source.train), strict=True))
            assert set(by_name) == {f"{name}:1" for name in names}
        assert dict(told(source, source.train)) == {"x": "train", "y": "bus"}

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
        assert told(source, source.train) == [
            ("one ,", "neg"), ('"two\u2028still', "neg"), ("three", "pos"), ("four", "pos"),
        ]  # fmt: skip
        assert source.train.names == ("neg.txt:1", "neg.txt:3", "pos.txt:1", "pos.txt:2")

    @pytest.mark.parametrize("validation", ["val", "validation"])
    def test_parts_are_kept(
        self, tmp_path: Path, packed: Callable[[Path, dict[str, str]], Path], validation: str
    ) -> None:
        files = {"train.csv": "text,label\na,x\nb,y\n", f"{validation}.tsv": "text\tlabel\nc\ty\n"}
        source = read(packed(tmp_path / "d", {**files, "test.jsonl": '{"text": "d", "label": "x"}\n'}))
        assert told(source, source.train) == [("a", "x"), ("b", "y")]
        assert (told(source, source.validation), told(source, source.test)) == ([("c", "y")], [("d", "x")])
        folders = {"train/x.txt": "a\n", "train/y.txt": "b\n", f"{validation}/y.txt": "c\n", "test/x.txt": "d\n"}
        source = read(packed(tmp_path / "f", {f"top/{name}": text for name, text in folders.items()}))
        assert told(source, source.train) == [("a", "x"), ("b", "y")]
        assert (told(source, source.validation), told(source, source.test)) == ([("c", "y")], [("d", "x")])

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ({"README": "x"}, "holds no text files; expected a .csv"),
            ({"neg.txt": "a\n", "pos.txt": " \n\n"}, "pos.txt: holds no sentences of the class 'pos'; add some"),
            ({"neg/1.txt": "a\n", "pos/1.txt": "b\n"}, "neg/1.txt: lies in a folder of its own; expected a .csv"),
            ({"a/b/c/1.txt": "a\n", "2.txt": "b\n"}, "a/b/c/1.txt: lies in a folder of its own"),
            ({"a.csv": "text,label\na,1\n", "b.csv": "text,label\nb,2\n"}, "holds a.csv, b.csv for the train part"),
            ({"a.csv": "text,label\na,1\n", "pos.txt": "b\n"}, "holds a.csv, pos.txt for the train part; expected one"),
            ({"train.csv": "text,label\na,1\n", "extra.csv": "text,label\nb,2\n"}, "holds extra.csv beside train,"),
            ({"test.csv": "text,label\na,1\n"}, "holds test.csv and no train part"),
            ({"test/a.txt": "a\n"}, "holds test/a.txt and no train part"),
            (
                {"train.csv": "text,label\na,1\n", "test.csv": "text,label\nb,2\n"},
                "the test part holds the classes 2, w",
            ),
            (
                {
                    "train.csv": "text,label\na,1\n",
                    "val.csv": "text,label\nb,1\n",
                    "validation.csv": "text,label\nc,1\n",
                },
                "holds val.csv, validation.csv for the validation part; expected one table",
            ),
            ({"neg.txt": "a\n", "pos.txt.gz": "b\n"}, "pos.txt.gz: is no text file; expected text files alone; unpack"),
            ({"neg.txt": "a\n", "pos.json": "[]"}, "pos.json: is no text file"),
        ],
    )
    def test_other_layouts_are_told(
        self, tmp_path: Path, packed: Callable[[Path, dict[str, str]], Path], members: dict[str, str], message: str
    ) -> None:
        assert message in refused(packed(tmp_path / "d", members))


class TestBounds:
    def test_nothing_there(self, tmp_path: Path) -> None:
        assert "does not exist; expected a file or a folder of sentences" in refused(tmp_path / "nowhere.csv")

    def test_folders_inside_of_folders(self, tmp_path: Path) -> None:
        in_folder(tmp_path, {"neg.txt": "a\n"})
        (tmp_path / "loop").symlink_to(tmp_path)
        assert "levels deep; expected files of sentences" in refused(tmp_path)

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pos.csv")
        assert "is no file" in refused(tmp_path / "pos.csv")
        assert "pos.csv: is no text file" in refused(tmp_path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_what_may_not_be_read(self, tmp_path: Path) -> None:
        write_csv(tmp_path / "r.csv", ROWS).chmod(0)
        assert "cannot be read (Permission denied)" in refused(tmp_path / "r.csv")

    @pytest.mark.parametrize("packed", [in_folder, in_zip])
    def test_too_many_files(self, tmp_path: Path, packed: Callable[[Path, dict[str, str]], Path]) -> None:
        path = packed(tmp_path / "d", {f"{i}.txt": "a\n" for i in range(1001)})
        assert "holds more than 1000 files; expected a few files of many sentences" in refused(path)

    @pytest.mark.parametrize("packed", [in_folder, in_zip])
    def test_too_much_text(
        self, tmp_path: Path, packed: Callable[[Path, dict[str, str]], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(text_files, "MAX_MIB", 1)
        path = packed(tmp_path / "d", {"neg.txt": "abcd\n" * 100_000, "pos.txt": "efgh\n" * 100_000})
        assert len(read(path).train) == 200_000  # 1,000,000 bytes
        packed(path, {"neg.txt": "abcd\n" * 100_000, "pos.txt": "efgh\n" * 120_000})
        assert "holds more than 1 MiB of text" in refused(path)

    def test_an_archive_that_unpacks_to_far_more(self, tmp_path: Path) -> None:
        path = write_zip(tmp_path / "r.zip", {"neg.txt": "a\n", "pos.txt": b"a" * 2**21})
        assert "unpacks to more than 200 times its size" in refused(path)

    def test_archives_that_are_none(self, tmp_path: Path) -> None:
        path = tmp_path / "r.zip"
        path.write_bytes(b"no archive")
        assert "is no sound zip archive" in refused(path)
        write_zip(path, {"neg.txt": "a\n" * 500, "pos.txt": "b\n" * 500})
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + b"\xff\xff\xff" + whole[43:])
        assert "is no sound zip archive" in refused(path)
        path.write_bytes(whole[: len(whole) // 2])
        assert "is no sound zip archive" in refused(path)

    def test_members_that_are_packed_otherwise_or_come_twice(self, tmp_path: Path) -> None:
        path = tmp_path / "r.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as opened:
            opened.writestr("neg.txt", "a\n")
        assert "neg.txt: is encrypted, or packed otherwise than by deflate" in refused(path)
        with zipfile.ZipFile(path, "w") as opened:
            opened.writestr("neg.txt", "a\n")
            with pytest.warns(UserWarning, match="Duplicate name"):
                opened.writestr("neg.txt", "b\n")
        assert "neg.txt: comes twice" in refused(path)
