"""Multiple-choice questions: read, divided and tokenized, and networks scored on them against likelihoods by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from supernets.data import DataSet, DocumentOptions, load_data
from supernets.data.multiple_choice import NO_QUESTION, Question, choice_part, read_questions
from supernets.data.tokenizing import DocumentTokenizer
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.tasks import LanguageModelling
from supernets.training.trainer import outputs_of
from tests.errors import raises
from tests.supernets.data.test_documents import document

BLOCK = 24
TASK = LanguageModelling()


def question(i: int, n_options: int = 3) -> dict[str, Any]:
    options = [document(100 * i + k)[: 12 + 9 * k] for k in range(n_options)]
    return {"context": document(1000 + i)[: 5 * i], "options": options, "answer": i % n_options}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(map(document, range(60))), encoding="utf-8")
    return path


def with_choices(text: Path, questions: Path) -> DataSet:
    return load_data("text", path=text, options=DocumentOptions(block=BLOCK, vocabulary=300, choices=questions))


def test_each_option_is_an_example_with_its_tokens_marked(text: Path, tmp_path: Path) -> None:
    rows = [question(i, 2 + i % 3) for i in range(9)]
    data = with_choices(text, write(tmp_path / "questions.jsonl", rows))
    tokenizer = Tokenizer.from_str(data.blocks.tokenizer)
    assert data.train.questions is None
    for part, own in ((data.validation, rows[::2]), (data.test, rows[1::2])):
        found = part.questions
        assert found is not None
        assert found.inputs.shape[1] <= BLOCK
        assert len(found) == sum(len(row["options"]) for row in own)
        texts = [(n, row, k) for n, row in enumerate(own) for k in range(len(row["options"]))]
        for inputs, labels, (number, row, k) in zip(found.inputs, found.labels, texts, strict=True):
            mine = labels[:, 1] == number
            assert ((labels[:, 1] == NO_QUESTION) | mine).all()
            assert torch.equal(inputs[1:], labels[:, 0])
            assert inputs[0] == data.blocks.separator
            option = tokenizer.decode(labels[mine, 0].tolist(), skip_special_tokens=False)
            assert option.lstrip(" ") == row["options"][k]
            end = int(mine.nonzero().max()) + 1
            whole = f"{row['context']} {row['options'][k]}".lstrip(" ").replace("  ", " ")
            said = tokenizer.decode(inputs[1 : end + 1].tolist(), skip_special_tokens=False).replace("  ", " ")
            assert whole.endswith(said.lstrip("�"))
            assert (inputs[end + 1 :] == data.blocks.separator).all()
            assert labels[:, 2].sum() == len(row["options"][k].encode())
            n = len(row["options"])
            assert set(labels[mine, 3].tolist()) == {n if k == row["answer"] else -n}


def test_scores_equal_likelihoods_by_hand(text: Path, tmp_path: Path) -> None:
    data = with_choices(text, write(tmp_path / "questions.jsonl", [question(i) for i in range(24)]))
    torch.manual_seed(0)
    spec = DecoderSpec(head_size=8, depth=(1,), width=(16,), heads=(2,), hidden=(16,))
    family = DecoderFamily(spec, vocabulary=data.blocks.vocabulary, positions=BLOCK, tokens=BLOCK)
    network = family.template().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    found = data.validation.questions
    assert found is not None
    expected: dict[str, list[bool]] = {"choice_accuracy": [], "normalised_choice_accuracy": []}
    for number in range(12):
        likelihoods, sizes, right = [], [], -1
        for inputs, labels in zip(found.inputs, found.labels, strict=True):
            mine = labels[:, 1] == number
            if mine.any():
                with torch.no_grad():
                    logs = network(inputs[None])[0, :-1].log_softmax(-1)
                likelihoods.append(float(logs[mine].gather(1, inputs[1:][mine][:, None]).sum()))
                sizes.append(int(labels[:, 2].sum()))
                right = len(sizes) - 1 if labels[:, 3].max() > 0 else right
        expected["choice_accuracy"].append(int(np.argmax(likelihoods)) == right)
        expected["normalised_choice_accuracy"].append(int(np.argmax(np.divide(likelihoods, sizes))) == right)
    assert expected["choice_accuracy"] != expected["normalised_choice_accuracy"]
    part = TASK.examples("choice_accuracy", data.validation)
    outputs = outputs_of(TASK.scored(network), part).numpy()
    for metric, own in expected.items():
        score = TASK.score(metric, outputs, part.labels.numpy())
        assert score.examples.tolist() == own
        assert score.value == np.mean(own)
        assert score.error == pytest.approx(np.std(own, ddof=1) / np.sqrt(12))
        order = np.random.default_rng(0).permutation(len(outputs))
        assert TASK.score(metric, outputs[order], part.labels.numpy()[order]).examples.tolist() == own
    few = TASK.score("choice_accuracy", outputs[:8], part.labels.numpy()[:8])  # the last question lacks an option
    assert few.examples.tolist() == expected["choice_accuracy"][:2]
    assert TASK.examples("perplexity", data.validation) is data.validation
    with raises("data.wrong-kind", "choice_accuracy", "data.choices"):
        TASK.examples("choice_accuracy", data.train)


def test_equal_likelihoods_are_no_right_answer() -> None:
    labels = np.zeros((2, 3, 4), dtype=np.int64)
    labels[:, 2] = [[7, 0, 2, 2], [7, 0, 2, -2]]
    labels[:, :2, 1] = NO_QUESTION
    assert TASK.score("choice_accuracy", np.ones((2, 3), np.float32), labels).value == 0


def test_questions_change_the_digest_of_the_parts_that_have_them(text: Path, tmp_path: Path) -> None:
    first = with_choices(text, write(tmp_path / "one.jsonl", [question(i) for i in range(4)]))
    other = with_choices(text, write(tmp_path / "two.jsonl", [question(i) for i in range(1, 5)]))
    assert first.train.digest == other.train.digest
    assert first.validation.digest != other.validation.digest
    assert first.test.digest != other.test.digest


def test_a_folder_has_a_file_for_each_part(tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    folder.mkdir()
    write(folder / "test.jsonl", [question(1), question(2)])
    with raises("data.layout", "no questions for validation", "validation.jsonl and test.jsonl"):
        read_questions(folder, encoding="utf-8")
    write(folder / "val.jsonl", [question(3)])
    parts = read_questions(folder, encoding="utf-8")
    assert [len(own) for own in parts.values()] == [1, 2]
    write(folder / "val.jsonl", [question(3), question(2)])
    with raises("data.malformed-table", "val.jsonl:2", "test.jsonl:2", "remove one"):
        read_questions(folder, encoding="utf-8")
    (folder / "val.jsonl").rename(folder / "train.jsonl")
    with raises("data.layout", "train.jsonl", "validation.jsonl and test.jsonl"):
        read_questions(folder, encoding="utf-8")


@pytest.mark.parametrize(
    ("row", "mentions"),
    [
        ({"options": ["a", "b"], "answer": 0}, "context is None"),
        ({"context": "c", "options": "ab", "answer": 0}, "options is 'ab' | a list of texts"),
        ({"context": "c", "options": ["a", " "], "answer": 0}, "none of them empty"),
        ({"context": "c", "options": ["a"], "answer": 0}, "1 different options | 2 to 100"),
        ({"context": "c", "options": ["a", "a"], "answer": 0}, "none twice"),
        ({"context": "c", "options": ["a", "b"], "answer": 2}, "answer is 2 | from 0 to 1"),
        ({"context": "c", "options": ["a", "b"], "answer": "a"}, "answer is 'a' | from 0 to 1"),
        (["a"], "an object a line"),
    ],
)
def test_lines_that_are_no_questions(row: Any, mentions: str, tmp_path: Path) -> None:
    path = write(tmp_path / "questions.jsonl", [question(0), question(1), row])
    with raises("data.malformed-table", f"{path}:3", *mentions.split(" | ")):
        read_questions(path, encoding="utf-8")


def test_long_contexts_lose_their_beginning_and_long_options_are_rejected() -> None:
    tokenizer = DocumentTokenizer.train([document(i) for i in range(60)], vocabulary=300)
    long = Question(" ".join(map(document, range(20))), ("the fox", "the quick fox"), 1, "here:1")
    part = choice_part([long], tokenizer, block=12)
    assert part.inputs.shape == (2, 12)
    assert (part.inputs[:, 0] == tokenizer.separator).all()
    with raises("data.malformed-table", "here:1", "at most 3", "max_tokens"):
        choice_part([long], tokenizer, block=4)
