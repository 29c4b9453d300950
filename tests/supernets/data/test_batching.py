"""`supernets.data.batching` and `parts.head`: batches, shifts and flips."""

from __future__ import annotations

import pytest
import torch

from supernets.data import Part, augment, batches, by_length, head, typical_batches


def numbered(n: int, *, size: int = 2) -> Part:
    """A part in which every pixel of an image, and its label, is the image's number."""
    labels = torch.arange(n)
    return Part.of(labels.float().view(n, 1, 1, 1).expand(n, 1, size, size).contiguous(), labels)


def sentences(n: int, *, longest: int = 30, padding: int = 7) -> Part:
    """Sentences of one token each that is repeated, 1 to `longest` times, and their labels: its number."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, longest + 1, (n, 1), generator=generator)
    lengths[0] = longest
    tokens = torch.arange(100, 100 + n)[:, None].expand(n, longest)
    inputs = tokens.where(torch.arange(longest) < lengths, padding)
    return Part.of(inputs, torch.arange(n), padding)


class TestSentences:
    def test_a_length_ends_with_the_last_token_that_is_no_padding(self) -> None:
        inputs = torch.tensor([[5, 7, 3, 7], [7, 7, 7, 7], [7, 7, 7, 1], [4, 7, 7, 7]])
        assert Part.of(inputs, torch.arange(4), 7).lengths().tolist() == [3, 1, 4, 1]

    def test_images_have_no_lengths(self) -> None:
        with pytest.raises(ValueError, match="images"):
            numbered(3).lengths()

    def test_batches_hold_every_sentence_whole_and_hardly_any_padding(self) -> None:
        part = sentences(640)
        found = list(batches(part, 16, generator=torch.Generator().manual_seed(0)))
        assert sorted(label for _, labels in found for label in labels.tolist()) == list(range(640))
        lengths = part.lengths()
        for inputs, labels in found:
            assert inputs.shape[1] == lengths[labels].max()
            assert torch.equal((inputs == (100 + labels)[:, None]).sum(1), lengths[labels])
        computed = sum(inputs.numel() for inputs, _ in found)
        assert computed < 1.1 * lengths.sum() < 0.7 * part.inputs.numel()

    def test_batches_come_in_another_order_each_time_and_not_by_length(self) -> None:
        part, generator = sentences(640), torch.Generator().manual_seed(0)
        first, second = ([labels.tolist() for _, labels in batches(part, 16, generator=generator)] for _ in range(2))
        assert first != second
        widths = [int(part.lengths()[labels].max()) for labels in first]
        assert widths != sorted(widths)

    def test_a_rest_of_one_is_left_out(self) -> None:
        found = batches(sentences(33), 8, generator=torch.Generator().manual_seed(0))
        assert sorted(len(labels) for _, labels in found) == [8, 8, 8, 8]

    def test_by_length_each_comes_once_with_its_own_tokens(self) -> None:
        part = sentences(50)
        found = by_length(part, 8)
        assert sorted(torch.cat([chosen for chosen, _ in found]).tolist()) == list(range(50))
        for chosen, inputs in found:
            assert torch.equal(inputs, part.inputs[chosen][:, : inputs.shape[1]])
            assert (part.inputs[chosen][:, inputs.shape[1] :] == 7).all()
        assert [inputs.shape[1] for _, inputs in found] == sorted(inputs.shape[1] for _, inputs in found)

    def test_by_length_images_keep_their_order(self) -> None:
        found = by_length(numbered(9), 4)
        assert [chosen.tolist() for chosen, _ in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
        assert all((images == chosen.view(-1, 1, 1, 1)).all() for chosen, images in found)

    def test_sentences_asked_one_by_one_stand_for_the_lengths_of_all(self) -> None:
        part = sentences(1000)
        found = typical_batches(part, 1)
        assert [tuple(inputs.shape)[:1] for inputs in found] == [(1,)] * 5
        expected = part.lengths().double().quantile(torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]).double())
        assert [inputs.shape[1] for inputs in found] == pytest.approx(expected.tolist(), abs=1)

    def test_batches_of_sentences_come_as_they_are_and_repeat_where_there_are_too_few(self) -> None:
        part = sentences(12)
        found = typical_batches(part, 4)
        assert [len(inputs) for inputs in found] == [4] * 5
        assert torch.equal(found[0], part.split(4)[0])
        assert torch.equal(found[3], found[0])

    @pytest.mark.parametrize(("size", "tokens"), [(1, 3), (4, 40)])
    def test_sentences_of_one_length_are_cut_or_repeated(self, size: int, tokens: int) -> None:
        part = sentences(3)
        (found,) = typical_batches(part, size, tokens=tokens)
        assert found.shape == (size, tokens)
        assert not (found == part.padding).any()
        for i, row in enumerate(found.tolist()):
            own = part.inputs[i % 3][: part.lengths()[i % 3]].tolist()
            assert row == [own[t % len(own)] for t in range(tokens)]

    def test_images_are_one_batch(self) -> None:
        (images,) = typical_batches(numbered(3), 5)
        assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1]

    def test_a_head_keeps_the_padding(self) -> None:
        first = head(sentences(20), 5)
        assert first.padding == 7
        assert first.split(5)[0].shape[1] == first.lengths().max()


class TestHead:
    def test_is_the_beginning_with_its_own_digest(self) -> None:
        part = numbered(10)
        first = head(part, 4)
        assert first.labels.tolist() == [0, 1, 2, 3]
        assert torch.equal(first.inputs, part.inputs[:4])
        assert first.digest == Part.of(part.inputs[:4].clone(), part.labels[:4].clone()).digest != part.digest

    def test_of_a_smaller_part_is_all_of_it(self) -> None:
        part = numbered(3)
        assert head(part, 1000).digest == part.digest


class TestBatches:
    def test_evaluation_keeps_order_and_every_example(self) -> None:
        found = list(batches(numbered(9), 4, generator=None))
        assert [labels.tolist() for _, labels in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
        assert all((images == labels.view(-1, 1, 1, 1)).all() for images, labels in found)

    def test_shuffling_is_the_generators_and_keeps_images_with_their_labels(self) -> None:
        def labels(generator: torch.Generator) -> list[int]:
            found = list(batches(numbered(50), 8, generator=generator))
            assert [len(y) for _, y in found] == [8] * 6 + [2]
            assert all((x == y.view(-1, 1, 1, 1)).all() for x, y in found)
            return [label for _, y in found for label in y.tolist()]

        generator = torch.Generator().manual_seed(3)
        first, second = labels(generator), labels(generator)
        assert sorted(first) == sorted(second) == list(range(50))
        assert first != second
        assert first == labels(torch.Generator().manual_seed(3))

    @pytest.mark.parametrize(("n", "batch_size", "sizes"), [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (3, 1, [1, 1, 1])])
    def test_shuffling_leaves_out_a_rest_of_one(self, n: int, batch_size: int, sizes: list[int]) -> None:
        generator = torch.Generator().manual_seed(0)
        assert [len(y) for _, y in batches(numbered(n), batch_size, generator=generator)] == sizes


class TestAugment:
    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("pad", [0, 1, 3])
    def test_each_image_is_one_of_the_shifts_of_its_padded_original(self, pad: int, flip: bool) -> None:
        images = torch.randn(40, 2, 5, 6, generator=torch.Generator().manual_seed(0))
        before = images.clone()
        found = augment(images, torch.Generator().manual_seed(1), flip=flip, pad=pad)
        assert torch.equal(images, before)
        padded = torch.nn.functional.pad(images, (pad,) * 4, mode="replicate")
        seen = set()
        for i, image in enumerate(found):
            for dy in range(2 * pad + 1):
                for dx in range(2 * pad + 1):
                    crop = padded[i, :, dy : dy + 5, dx : dx + 6]
                    seen |= {
                        (i, dy, dx, turned)
                        for turned in (False, True)
                        if torch.equal(crop.flip(2) if turned else crop, image)
                    }
        assert {i for i, *_ in seen} == set(range(40))  # every image is found among its own crops
        assert {turned for *_, turned in seen} == ({False, True} if flip else {False})
        if pad:
            assert {dy for _, dy, _, _ in seen} == {dx for _, _, dx, _ in seen} == set(range(2 * pad + 1))

    def test_is_the_generators(self) -> None:
        images = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        first, again, other = (
            augment(images, torch.Generator().manual_seed(seed), flip=True, pad=2) for seed in (5, 5, 6)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
