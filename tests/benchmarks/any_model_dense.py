"""Whole detectors and segmenters of torchvision as supernets: trained a step, extracted, exported with decoding, compared.

    python -m tests.benchmarks.any_model_dense RESULTS.jsonl [--only 'fcos*'] [--cpu-seconds 400] [--memory 12] [--part 0/2]
    python -m tests.benchmarks.any_model_dense RESULTS.jsonl --table

Needs torchvision. Each model is checked in its own process with limits of CPU time and address space; a second run continues
the first.

Method. Weights are random, and varied as in `any_model`; the last layers are scaled, so that the largest logit is 4 and the
largest code of a box 1: scores differ, exceed torchvision's thresholds, and do not round to 1, where they would tie. Five
classes; three scenes of garments of 128 pixels (300 for SSD300, whose maps have no pixels left for smaller ones). In images of
noise, all places would have nearly the same features, and scaled differences would be those of roundings. Detectors of two
stages propose 100 boxes. A model counts if

- *trains*: a step with the losses of the largest, the smallest and a random network has finite losses, and every gradient is
  finite; it lists the share of the weights that get one;
- *equal*: the detections of the largest network, with our decoding and suppression, are those of torchvision's own forward on
  the same images (the first 50 of each image have a partner of the same class with an overlap of at least 0.99, or all corners
  within 0.01 pixels, since random boxes are clipped to lines, and a score within 1e-4); the logits of a segmenter are
  torchvision's (1e-4 of their scale);
- *exported*: the largest and a random network give the same detections, or the same class of 99.9 % of pixels, in ONNX
  Runtime as in torch, from one file with decoding and suppression in it.
"""

from __future__ import annotations

import fnmatch
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

from hardware_profiles.runtime import run_calls
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.blocks import elastic_share
from supernets.networks.capture.captured_model import CapturedModel, capture_model
from supernets.networks.capture.classifier import with_classes
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.opening import open_model
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.torchvision_dense import ONE_STAGE, SEGMENTERS, TWO_STAGE
from supernets.networks.capture.user_model import UserModel
from supernets.networks.live_subnets import channels_last
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.base import Supernet
from supernets.tasks import Task
from supernets.tasks.detection.boxes import DETECTED_CLASS, NO_BOX, SCORE, pairwise_iou
from supernets.tasks.detection.detection import Detection
from supernets.tasks.segmentation import Segmentation
from supernets.training.checkpoint import make_supernet
from tests.benchmarks.any_model import in_process, tame
from tests.benchmarks.any_model_table import read
from tests.benchmarks.json_lines import Row, append_row
from tests.benchmarks.markdown import table_head, table_row
from tests.dense_scenes import make_scenes

CLASSES, IMAGES, COMPARED = 5, 3, 50
SUBNETS = 1
"""Random networks that are exported, beside the largest."""
SAME_IOU, SAME_SCORE, SAME_PIXELS, SAME_PIXEL = 0.99, 1e-4, 0.999, 0.01
_LEVELS = range(6)
_LARGEST = {
    4.0: ("cls_logits", "cls_score", "bbox_ctrness", *(f"classification_head.module_list.{i}" for i in _LEVELS)),
    1.0: ("bbox_reg", "bbox_pred", *(f"regression_head.module_list.{i}" for i in _LEVELS)),
}
"""The ends of the names of detectors' last layers, by the largest of their outputs."""


def build(name: str) -> tuple[UserModel, int]:
    """A model with varied random weights, and the side of its images in pixels."""
    side = 300 if name == "ssd300_vgg16" else 128
    arguments = {"rpn_post_nms_top_n_test": 100} if name in TWO_STAGE else {}
    model = with_classes(open_model(f"torchvision:{name}", arguments), CLASSES, seed=0)
    assert isinstance(model, UserModel)
    tame(model.module, lambda n: inputs(model, images(n, side)))
    for _ in range(2):  # proposals follow from the first stage's layers, and the second stage's outputs from them
        _scale_last_layers(model.module, inputs(model, images(IMAGES, side)))
    return model, side


def _scale_last_layers(module: nn.Module, x: Tensor) -> None:
    """Gives the outputs of a detector's last layers their largest values for some images; biases become 0."""
    outputs: dict[nn.Module, list[Tensor]] = {}
    values = {
        layer: largest
        for path, layer in module.named_modules()
        for largest, ends in _LARGEST.items()
        if path.removesuffix(".1").endswith(ends) and isinstance(layer, nn.Conv2d | nn.Linear)
    }
    for layer in values:
        layer.register_forward_hook(lambda layer, _, output: outputs.setdefault(layer, []).append(output.abs().max()))
    with torch.no_grad():
        module(x)
        for layer, largest in values.items():
            layer._forward_hooks.clear()
            layer.weight.mul_(largest / max(outputs[layer]))
            if layer.bias is not None:
                layer.bias.zero_()


def images(n: int, side: int) -> Tensor:
    """Scenes of garments with values from 0 to 1, (n, 3, side, side)."""
    scenes = make_scenes(n, seed=n, sides=(side, side)).scenes
    return torch.from_numpy(np.stack([scene.image for scene in scenes])).movedim(3, 1) / 255


def inputs(model: UserModel, pixels: Tensor) -> Tensor:
    """The network's inputs for images with values from 0 to 1."""
    preprocessing = model.preprocessing
    assert preprocessing.mean is not None
    assert preprocessing.std is not None
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return (pixels - mean) / std


def check(name: str) -> Row:
    """The measurements of one model."""
    model, side = build(name)
    dense, pixels = model.dense, images(IMAGES, side)
    assert dense is not None
    x = inputs(model, pixels)
    original = dense.build().eval()
    original.load_state_dict(model.module.state_dict(), strict=False)  # branches of masks and keypoints
    channels_last(original)  # as extracted networks are: convolutions round otherwise in another layout
    started = time.process_time()
    captured = capture_model(model, model.example((3, side, side)))
    row: Row = {"side": side, "capture_s": time.process_time() - started}
    family = CapturedFamily(captured.program, SpaceOptions(), tensors=captured.tensors, head=captured.head)
    supernet, task = make_supernet(family).eval(), task_of(captured, side)
    space = supernet.space
    macs = supernet.costs([space.smallest, space.largest]).macs.sum(axis=1)
    row.update(genes=len(space.choices), share=elastic_share(family.elastic), macs=[float(n) for n in macs])
    largest = supernet.extract(space.largest).eval()
    if dense.is_detector:
        row.update(_against_torchvision(original, task.scored(largest), pixels, x, side, int(dense.has_background)))
    else:
        with torch.no_grad():
            row["equal"] = relative_difference([original(x)["out"]], [largest(x)])
    del original, largest
    row.update(_exported(supernet, task, x))
    row.update(_trained(supernet, task, x))
    row["cpu_s"] = time.process_time()
    return row


def task_of(captured: CapturedModel, side: int) -> Task:
    """The task of a captured model for images of a side in pixels."""
    return Segmentation((3, side)) if captured.head is None else Detection(image=(3, side)).with_head(captured.head)


def compared(detected: Tensor, expected: Sequence[Tensor]) -> tuple[int, int]:
    """The number of the first detections of images (n, detections, 6), and of those with a partner among the expected."""
    n_detections = n_partners = 0
    for first, others in zip(detected[:, :COMPARED], expected, strict=True):
        rows = first[first[:, SCORE] > 0]
        is_near = (rows[:, None, :4] - others[None, :, :4]).abs().amax(2) <= SAME_PIXEL
        is_near |= pairwise_iou(rows[:, :4], others[:, :4]) >= SAME_IOU
        is_same = is_near & (rows[:, None, DETECTED_CLASS] == others[None, :, DETECTED_CLASS])
        is_same &= (rows[:, None, SCORE] - others[None, :, SCORE]).abs() <= SAME_SCORE
        n_detections += len(rows)
        n_partners += int(is_same.any(1).sum())
    return n_detections, n_partners


def _against_torchvision(
    original: Any, scored: nn.Module, pixels: Tensor, x: Tensor, side: int, background: int
) -> Row:
    """The detections of the largest network among those of torchvision's own forward."""
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    old = original.transform
    original.transform = GeneralizedRCNNTransform(
        side, side, old.image_mean, old.image_std, fixed_size=(side, side), size_divisible=1
    )
    with torch.no_grad():
        found = original(list(pixels))
        expected = [
            torch.column_stack([image["boxes"], image["scores"], image["labels"] - background]) for image in found
        ]
        n_detections, n_partners = compared(scored.eval()(x), expected)
    return {"detections": n_detections, "found": n_partners}


def _exported(supernet: Supernet, task: Task, x: Tensor) -> Row:
    """The largest and random networks in ONNX Runtime, with decoding, suppression or classes of pixels inside."""
    rng = np.random.default_rng(0)
    architectures = [supernet.space.largest, *(supernet.space.sample(rng) for _ in range(SUBNETS))]
    n_detections = n_partners = 0
    same, export_s = [], []
    for architecture in architectures:
        scored = task.scored(supernet.extract(architecture).eval()).eval()
        with torch.no_grad():
            expected = scored(x)
        started = time.process_time()
        model = lower(scored, x[:2])
        export_s.append(time.process_time() - started)
        ((outputs,),) = run_calls(model, [{INPUT: x.numpy()}])
        if task.decodes and task.targets == "boxes":
            counts = compared(torch.from_numpy(outputs), expected)
            n_detections, n_partners = n_detections + counts[0], n_partners + counts[1]
        else:
            same.append(float((torch.from_numpy(outputs) == expected).float().mean()))
    pixels = {"same_pixels": min(same)} if same else {"exported": n_detections, "exported_found": n_partners}
    return {**pixels, "export_s": max(export_s), "networks": len(architectures)}


def _trained(supernet: Supernet, task: Task, x: Tensor) -> Row:
    """Losses and gradients of a step of the sandwich rule."""
    side, generator = x.shape[-1], torch.Generator().manual_seed(0)
    if task.targets == "boxes":
        corners = torch.rand(len(x), 4, 2, 2, generator=generator).mul(side - 16).sort(dim=2).values
        corners[:, :, 1] += 12
        targets = torch.zeros(len(x), 4, 8)
        targets[..., 0] = torch.randint(CLASSES, (len(x), 4), generator=generator)
        targets[..., 1:5], targets[..., 7] = corners.flatten(2), 1
        targets[-1, :, 0] = NO_BOX
    else:
        targets = torch.randint(CLASSES, (len(x), side, side), generator=generator).to(torch.uint8)
    space = supernet.space
    supernet.train()
    losses = []
    for architecture in (space.largest, space.smallest, space.sample(np.random.default_rng(1))):
        loss = task.losses(supernet(x, architecture), targets).mean()
        loss.backward()
        losses.append(loss.item())
    weights = [weight for weight in supernet.parameters() if weight.requires_grad]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    reached = sum(int((gradient != 0).any()) for gradient in gradients)
    finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
    return {"losses": losses, "finite": finite and bool(np.isfinite(losses).all()), "gradients": reached / len(weights)}


def verdict(row: Row) -> str:
    """Why a model does not count; "" if it does."""
    if error := row.get("error"):
        return str(error)
    if "equal" in row:
        tests = [
            (row["equal"] <= 1e-4, "differs from torchvision"),
            (row["same_pixels"] >= SAME_PIXELS, "ONNX differs"),
        ]
    else:
        tests = [
            (0 < row["detections"] == row["found"], "differs from torchvision"),
            (0 < row["exported"] == row["exported_found"], "ONNX differs"),
        ]
    tests.append((row["finite"] and row["gradients"] > 0, "does not train"))
    return next((why for passed, why in tests if not passed), "")


def as_table(rows: Sequence[Row]) -> str:
    """A row for each model."""
    head = (
        "model",
        "choices",
        "MACs, M",
        "elastic",
        "step",
        "weights with gradients",
        "torchvision's",
        "ONNX Runtime's",
    )
    lines = [table_head(*head)]
    for row in sorted(rows, key=lambda row: str(row["model"])):
        if "error" in row:
            lines.append(table_row(row["model"], *[""] * 5, row["error"][:80], ""))
            continue
        is_map = "equal" in row
        cells = [
            row["model"],
            row["genes"],
            " to ".join(f"{n / 1e6:,.0f}" for n in row["macs"]),
            f"{row['share']:.1%}",
            "finite" if row["finite"] else "not finite",
            f"{row['gradients']:.1%}",
            f"{row['equal']:.1e} of the scale" if is_map else f"{row['found']} of {row['detections']} boxes",
            f"{row['same_pixels']:.2%} of pixels" if is_map else f"{row['exported_found']} of {row['exported']} boxes",
        ]
        lines.append(table_row(*cells))
    count = sum(not row["why"] for row in rows)
    whys = [f"- {row['model']}: {row['why']}" for row in rows if row["why"]]
    return "\n".join([*lines, "", f"{count} of {len(rows)} count.", *whys])


def main(
    results: Path,
    only: Annotated[list[str] | None, typer.Option(help="patterns of names")] = None,
    cpu_seconds: int = 400,
    memory: Annotated[float, typer.Option(help="GiB of address space")] = 12,
    part: Annotated[str, typer.Option(help="I/N: every N-th model, for several processes")] = "0/1",
    retry: Annotated[bool, typer.Option(help="checks models again that do not count")] = False,
    table: Annotated[bool, typer.Option(help="only print the table")] = False,
) -> None:
    """Checks every model that the results lack."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of torchvision
    index, n = map(int, part.split("/"))
    known = {row["model"] for row in read(results) if not (retry and row["why"])}
    for name in [] if table else (*ONE_STAGE, *SEGMENTERS, *TWO_STAGE)[index::n]:
        if name in known or (only and not any(fnmatch.fnmatchcase(name, pattern) for pattern in only)):
            continue
        started = time.perf_counter()
        row = in_process(partial(check, name), cpu_seconds=cpu_seconds, memory_gib=memory)
        row = {"model": name, **row, "wall_s": time.perf_counter() - started}
        row["why"] = verdict(row)
        append_row(results, row)
        print(name, row["why"] or "counts", f"{row['wall_s']:.0f} s", flush=True)
    print(as_table(read(results)))


if __name__ == "__main__":
    typer.run(main)
