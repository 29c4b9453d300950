"""`supernets.data.splitting`: seeded, stratified parts that never mix, of examples of any kind."""

from __future__ import annotations

import numpy as np
import pytest

from supernets.data.labelled_examples import Examples, Source
from supernets.data.splitting import split
from tests.errors import raises


class TestSplit:
    @staticmethod
    def source(labels: list[int], inputs: list[int] | None = None, *, test: Examples | None = None) -> Source:
        given = np.array(inputs if inputs is not None else range(len(labels)), dtype=np.uint8).reshape(-1, 1)
        names = tuple(f"c{i}" for i in range(max(labels) + 1))
        return Source("here", names, Examples(given, np.array(labels, dtype=np.int64)), test=test)

    def test_is_blind_to_what_the_inputs_are(self) -> None:
        made = split(self.source([0, 1] * 20), validation=None, test=None, seed=0)
        assert [len(p) for p in made] == [24, 8, 8]
        assert sorted(np.concatenate([p.inputs.ravel() for p in made]).tolist()) == list(range(40))

    def test_every_class_is_in_every_part_even_a_rare_one(self) -> None:
        made = split(self.source([0] * 200 + [1] * 3), validation=20, test=20, seed=0)
        assert [np.bincount(p.labels).tolist() for p in made] == [[162, 1], [19, 1], [19, 1]]

    def test_any_head_holds_the_classes_in_their_shares(self) -> None:
        made = split(self.source([0] * 90 + [1] * 60 + [2] * 30), validation=18, test=18, seed=0)
        shares = np.bincount(made.train.labels) / len(made.train)
        for n in range(1, len(made.train)):
            assert np.abs(np.bincount(made.train.labels[:n], minlength=3) - n * shares).max() <= 1.5

    def test_copies_stay_together_and_count_once(self) -> None:
        inputs = list(range(20)) + list(range(0, 20, 2)) * 3  # each even one four times
        made = split(self.source([value // 10 for value in inputs], inputs), validation=0.25, test=5, seed=3)
        sets = [set(p.inputs.ravel().tolist()) for p in made]
        assert [len(s) for s in sets] == [10, 5, 5]
        assert set.union(*sets) == set(range(20))
        assert sum(len(p) for p in made) == len(inputs)

    def test_keeps_the_parts_that_the_source_has(self) -> None:
        own = Examples(np.array([[200], [201]], dtype=np.uint8), np.array([1, 0]))
        made = split(self.source([0, 1] * 10, test=own), validation=4, test=None, seed=0)
        assert [len(p) for p in made] == [16, 4, 2]
        assert dict(zip(made.test.inputs.ravel().tolist(), made.test.labels.tolist(), strict=True)) == {200: 1, 201: 0}

    @pytest.mark.parametrize(
        ("validation", "test", "error"),
        [
            (37, 1, "data.unsplittable | test | 1 | 40 | 2 | 36"),
            (35, 4, "data.unsplittable | test (4) | validation (35) | 39 of 40 | 38 | make test or validation smaller"),
            (None, 36, "data.unsplittable | test (36) | validation (8 by default) | 44 of 40 | make test smaller"),
            (
                36,
                None,
                "data.unsplittable | test (8 by default) | validation (36) | 44 of 40 | make validation smaller",
            ),
            (0.001, None, "data.unsplittable | validation | 0 | 32"),
            (0, None, "data.unsplittable | validation=0 | 0 | 1"),
            (None, 1.0, "data.unsplittable | test=1.0"),
            (None, -0.5, "data.unsplittable | test=-0.5"),
            (None, True, "data.unsplittable | test=True"),
        ],
    )
    def test_refuses_parts_that_cannot_be_made(
        self, validation: int | float | None, test: int | float | None, error: str
    ) -> None:
        with raises(*error.split(" | ")):
            split(self.source([0, 1] * 20), validation=validation, test=test, seed=0)

    def test_refuses_to_split_what_the_source_has_itself(self) -> None:
        own = Examples(np.array([[200], [201]], dtype=np.uint8), np.array([0, 1]))
        with raises("data.unsplittable", "test=5"):
            split(self.source([0, 1] * 20, test=own), validation=4, test=5, seed=0)

    def test_refuses_one_image_in_two_classes(self) -> None:
        with raises("data.duplicate", "example 0", "example 5", "(c0, c1)"):
            split(self.source([0, 0, 0, 1, 1, 1], [7, 1, 2, 3, 4, 7]), validation=2, test=2, seed=0)


class TestSentences:
    @staticmethod
    def source(texts: list[str], labels: list[int]) -> Source:
        inputs = np.array(texts, dtype=np.object_)
        examples = Examples(inputs, np.array(labels, dtype=np.int64), tuple(f"a.csv:{i}" for i in range(len(texts))))
        return Source("here", ("c0", "c1"), examples, noun="sentence")

    def test_are_split_like_anything_else(self) -> None:
        texts = [f"{word} {i}" for i in range(20) for word in ("good", "bad")]
        made = split(self.source(texts, [0, 1] * 20), validation=None, test=None, seed=0)
        assert [len(p) for p in made] == [24, 8, 8]
        assert sorted(text for p in made for text in p.inputs.tolist()) == sorted(texts)
        for part in made:
            assert all(
                text.startswith(("good", "bad")[label]) for text, label in zip(part.inputs, part.labels, strict=True)
            )

    def test_copies_stay_together(self) -> None:
        texts = [f"s{i}" for i in range(12)] * 4
        made = split(self.source(texts, [i % 2 for i in range(12)] * 4), validation=4, test=4, seed=1)
        sets = [set(p.inputs.tolist()) for p in made]
        assert sum(map(len, sets)) == len(set.union(*sets)) == 12
        assert sum(len(p) for p in made) == 48

    def test_errors_call_them_sentences(self) -> None:
        with raises("data.duplicate", "a.csv:0", "a.csv:3", "(c0, c1)"):
            split(self.source(["x", "b", "c", "x", "d", "e"], [0, 0, 0, 1, 1, 1]), validation=2, test=2, seed=0)
        with raises("data.unsplittable", "'c1'", "1 different sentences", "train part"):
            split(self.source(["x", "b", "c", "d"], [0, 0, 0, 1]), validation=2, test=2, seed=0)
