"""`supernets.data.batching` and `parts.head`: batches, shifts and flips."""

from __future__ import annotations

import pytest
import torch

from supernets.data import Part, augment, batches, head


def numbered(n: int, *, size: int = 2) -> Part:
    """A part in which every pixel of an image, and its label, is the image's number."""
    labels = torch.arange(n)
    return Part.of(labels.float().view(n, 1, 1, 1).expand(n, 1, size, size).contiguous(), labels)


class TestHead:
    def test_is_the_beginning_with_its_own_digest(self) -> None:
        part = numbered(10)
        first = head(part, 4)
        assert first.labels.tolist() == [0, 1, 2, 3]
        assert torch.equal(first.images, part.images[:4])
        assert first.digest == Part.of(part.images[:4].clone(), part.labels[:4].clone()).digest != part.digest

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
