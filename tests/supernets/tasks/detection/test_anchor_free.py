"""`supernets.tasks.detection.anchor_free`: assignment by brute force, losses by the papers' formulas, decoding and encoding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hardware_profiles.runtime import run_model
from supernets.networks.module_to_onnx import lower
from supernets.tasks.detection.anchor_free import AnchorFreeHead
from supernets.tasks.detection.boxes import generalised_iou
from supernets.tasks.detection.heads import head_of

ops = pytest.importorskip("torchvision.ops")

SIDE, CLASSES, STRIDES = 32, 3, (4, 8)
HEAD = AnchorFreeHead(STRIDES, image_size=SIDE, n_classes=CLASSES)
N_LOCATIONS = 8 * 8 + 4 * 4
NO_BOX = (-1.0, *[0.0] * 6, 1.0)


def labelled(*boxes: tuple[float, ...], rows: int = 4) -> Tensor:
    """Boxes (class, x0, y0, x1, y1), perhaps with 1 for a crowd, as the labels of one image, (rows, 8)."""
    made = [(*box[:5], (box[3] - box[1]) * (box[4] - box[2]), box[5] if len(box) > 5 else 0.0, 1.0) for box in boxes]
    return torch.tensor([*made, *[NO_BOX] * (rows - len(made))])


def random_labels(n: int, generator: torch.Generator) -> Tensor:
    """Labels of n images with 0 to 4 boxes, some of them small, overlapping or crowds, (n, 4, 8)."""
    images = []
    for _ in range(n):
        count = int(torch.randint(0, 5, (), generator=generator))
        corners = torch.rand(count, 2, generator=generator) * 24
        sizes = 0.5 + torch.rand(count, 2, generator=generator) * 20
        ends = (corners + sizes).clamp(max=SIDE)
        classes = torch.randint(0, CLASSES, (count, 1), generator=generator)
        crowds = (torch.rand(count, 1, generator=generator) < 0.2).float()
        images.append(labelled(*torch.cat([classes, corners, ends, crowds], 1).tolist()))
    return torch.stack(images)


def random_outputs(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, N_LOCATIONS, 4 + CLASSES, generator=generator)


def places() -> list[tuple[float, float, int]]:
    """x, y and stride of each location, written down as the protocol of heads orders them."""
    return [
        (stride * (column + 0.5), stride * (row + 0.5), stride)
        for stride in STRIDES
        for row in range(SIDE // stride)
        for column in range(SIDE // stride)
    ]


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def assigned_by_hand(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[dict[int, tuple[int, float]], set[int]]:
    """The box and the target of each location that has one, and the ignored locations, of one image, box by box."""
    by_box: dict[int, list[tuple[int, float, float]]] = {}
    crowded: set[int] = set()
    for b, (label, x0, y0, x1, y1, _, crowd, _) in enumerate(labels.tolist()):
        if label < 0:
            continue
        inside = [
            i
            for i, (x, y, stride) in enumerate(places())
            if abs(x - (x0 + x1) / 2) <= max(x1 - x0, stride) / 2 and abs(y - (y0 + y1) / 2) <= max(y1 - y0, stride) / 2
        ]
        if crowd:
            crowded.update(inside)
            continue
        overlaps = {i: iou([x0, y0, x1, y1], boxes[i].tolist()) for i in inside}
        aligned = {i: float(scores[i, int(label)]) * overlaps[i] ** 6 for i in inside}
        by_box[b] = [(i, aligned[i], overlaps[i]) for i in sorted(inside, key=lambda i: -aligned[i])[:13]]
    owner: dict[int, tuple[float, int]] = {}
    for b, candidates in by_box.items():
        for i, _, overlap in candidates:
            owner[i] = max(owner.get(i, (-1.0, -1)), (overlap, b))
    targets = {}
    for b, candidates in by_box.items():
        remaining = [candidate for candidate in candidates if owner[candidate[0]][1] == b]
        for i, alignment, _ in remaining:
            peak = max(a for _, a, _ in remaining)
            targets[i] = b, alignment / peak * max(o for *_, o in remaining) if peak else 0.0
    return targets, crowded - targets.keys()


@pytest.mark.parametrize("seed", range(5))
def test_assignment_is_that_by_hand(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = random_labels(6, generator)
    boxes, scores = HEAD.decoded(random_outputs(6, generator))
    assignment = HEAD.assigned(boxes, scores, labels)
    n_assigned = 0
    for image in range(6):
        targets, ignored = assigned_by_hand(boxes[image], scores[image], labels[image])
        expected = torch.zeros(N_LOCATIONS, CLASSES)
        for i, (b, quality) in targets.items():
            expected[i, int(labels[image, b, 0])] = quality
            assert torch.equal(assignment.boxes[image, i], labels[image, b, 1:5])
        torch.testing.assert_close(assignment.scores[image], expected, rtol=1e-3, atol=1e-7)
        assert {i for i in range(N_LOCATIONS) if not assignment.counted[image, i]} == ignored
        n_assigned += len(targets)
    assert n_assigned > 20


def test_each_box_has_a_location_however_small_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x, y = (torch.rand(2, generator=generator) * 31).tolist()
        labels = labelled((1, x, y, x + 0.3, y + 0.2))[None]
        assignment = HEAD.assigned(*HEAD.decoded(torch.zeros(1, N_LOCATIONS, 4 + CLASSES)), labels)
        assert (assignment.scores.amax(1) > 0).tolist() == [[False, True, False]]


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_those_of_the_papers_formulas(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels, outputs = random_labels(4, generator), random_outputs(4, generator)
    boxes, logits = HEAD.decoded(outputs)[0], outputs[..., 4:].double()
    raw_boxes = HEAD._boxes(outputs)
    assignment = HEAD.assigned(raw_boxes, logits.sigmoid().float(), labels)
    assert boxes.shape == raw_boxes.shape
    losses = HEAD.losses(outputs, labels)
    for image in range(4):
        total, weights = 0.0, 0.0
        for i in range(N_LOCATIONS):
            for score, target in zip(
                logits[image, i].sigmoid().tolist(), assignment.scores[image, i].tolist(), strict=True
            ):
                entropy = -(target * np.log(score) + (1 - target) * np.log(1 - score))
                total += float(assignment.counted[image, i]) * abs(target - score) ** 2 * entropy
            quality = float(assignment.scores[image, i].max())
            overlap = ops.generalized_box_iou(raw_boxes[image, i : i + 1], assignment.boxes[image, i : i + 1])
            total += 2 * quality * (1 - overlap.item()) if quality else 0
            weights += quality
        assert losses[image].item() == pytest.approx(total / max(weights, 1), rel=1e-4)


def test_generalised_iou_is_torchvisions() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 50, 2, generator=generator) * 20
    first, second = torch.cat([corners, corners + torch.rand(2, 50, 2, generator=generator) * 20], -1)
    expected = ops.generalized_box_iou(first, second).diagonal()
    torch.testing.assert_close(generalised_iou(first, second), expected)
    empty = torch.tensor([3.0, 3.0, 3.0, 3.0])
    assert generalised_iou(empty, empty).item() == 0


def test_encoded_boxes_are_decoded_to_themselves() -> None:
    generator = torch.Generator().manual_seed(0)
    reach = torch.rand(3, N_LOCATIONS, 4, generator=generator) * 20 + 0.5
    boxes = torch.cat([HEAD.locations - reach[..., :2], HEAD.locations + reach[..., 2:]], -1)
    raw = torch.cat([HEAD.encoded(boxes), torch.zeros(3, N_LOCATIONS, CLASSES)], -1)
    decoded, scores = HEAD.decoded(raw)
    torch.testing.assert_close(decoded, boxes.clamp(0, SIDE), rtol=1e-5, atol=1e-4)
    assert (scores == 0.5).all()


def test_an_image_without_boxes_has_a_loss_that_pushes_all_scores_down() -> None:
    outputs = torch.zeros(2, N_LOCATIONS, 4 + CLASSES, requires_grad=True)
    losses = HEAD.losses(outputs, torch.stack([labelled(), labelled((0, 4.0, 4.0, 20.0, 20.0))]))
    assert losses.isfinite().all()
    (gradient,) = torch.autograd.grad(losses[0], outputs)
    assert (gradient[0, :, 4:] > 0).all()
    assert (gradient[0, :, :4] == 0).all()


def test_a_location_in_a_crowd_has_no_loss_of_classes() -> None:
    outputs = torch.zeros(1, N_LOCATIONS, 4 + CLASSES, requires_grad=True)
    loss = HEAD.losses(outputs, labelled((1, 0.0, 0.0, 16.0, 32.0, 1.0))[None])
    (gradient,) = torch.autograd.grad(loss.sum(), outputs)
    left = HEAD.locations[:, 0] <= 16
    assert (gradient[0, left] == 0).all()
    assert (gradient[0, ~left][:, 4:] > 0).all()


def test_an_images_loss_does_not_depend_on_the_others() -> None:
    generator = torch.Generator().manual_seed(4)
    labels, outputs = random_labels(4, generator), random_outputs(4, generator)
    one_by_one = [HEAD.losses(outputs[i : i + 1], labels[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(HEAD.losses(outputs, labels), torch.cat(one_by_one))


def test_the_distance_counts_where_the_teacher_is_confident() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = random_outputs(2, generator)
    assert teacher.std() > 0
    teacher[..., 4:] -= 8.0
    teacher[:, 5, 4] = 4.0  # one confident location
    moved = teacher.clone().requires_grad_()
    with torch.no_grad():
        moved[..., :4] += 0.5
    (gradient,) = torch.autograd.grad(HEAD.distance(moved, teacher), moved)
    by_location = gradient[..., :4].abs().sum((0, 2))
    assert by_location[5] > 0.9 * by_location.sum()
    same = HEAD.distance(teacher, teacher)
    assert same.item() == pytest.approx(0, abs=1e-5)


def test_fitting_one_batch_finds_its_boxes() -> None:
    labels = torch.stack([labelled((0, 2.0, 3.0, 12.0, 15.0), (2, 16.0, 8.0, 30.0, 30.0)), labelled()])
    outputs = torch.zeros(2, N_LOCATIONS, 4 + CLASSES)
    outputs[..., 4:] = -4.6
    outputs.requires_grad_()
    optimizer = torch.optim.Adam([outputs], lr=0.1)
    first = HEAD.losses(outputs, labels).mean().item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = HEAD.losses(outputs, labels).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first
    boxes, scores = HEAD.decoded(outputs.detach())
    for box in labels[0, :2]:
        best = scores[0, :, int(box[0])].argmax()
        assert scores[0, best, int(box[0])] > 0.8
        assert iou(boxes[0, best].tolist(), box[1:5].tolist()) > 0.9
    assert (scores[1] < 0.05).all()


class Decoded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Conv2d(1, 4 + CLASSES, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.network(x)
        raw = torch.cat([fine.flatten(2), fine[:, :, ::2, ::2].flatten(2)], 2).transpose(1, 2)
        return torch.cat(HEAD.decoded(raw), -1)


def test_decoding_in_onnx_is_that_of_torch() -> None:
    torch.manual_seed(0)
    module = Decoded().eval()
    images = torch.randn(5, 1, SIDE, SIDE)
    (came,) = run_model(lower(module, images[:2]), {"input": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(came), module(images).detach(), rtol=1e-4, atol=1e-4)


def test_facts_give_the_head_again() -> None:
    again = head_of(HEAD.to_json())
    assert isinstance(again, AnchorFreeHead)
    assert again.to_json() == HEAD.to_json()
    assert torch.equal(again.locations, torch.tensor([place[:2] for place in places()]))
