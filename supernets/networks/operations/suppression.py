"""The operation of `supernets.networks.suppression` in programs: its dimensions and its ONNX."""

from __future__ import annotations

from typing import cast

from supernets.networks.capture.dimensions import fix, fixed
from supernets.networks.capture.inference import Inference
from supernets.networks.capture.program import Call
from supernets.networks.lowering.state import FLOAT, Lowering
from supernets.networks.onnx_graph.ir import Value
from supernets.networks.operations.registry import ResultDims, onnx_of, own, rule_of
from supernets.networks.suppression import COLUMNS


@rule_of(own("suppressed"), neutral=("threshold", "iou", "candidates", "pairs"))
def _suppressed_dims(ctx: Inference, call: Call) -> ResultDims:
    boxes, scores = ctx.tensor_dims(call.arguments["boxes"]), ctx.tensor_dims(call.arguments["scores"])
    for dimension, name in (
        (boxes[1], "locations"),
        (boxes[2], "corners"),
        (scores[1], "locations"),
        (scores[2], "classes"),
    ):
        fix(dimension, f"the {name} of detections")
    n_detections = cast(int, call.arguments["n_detections"])
    return [boxes[0], fixed(n_detections, "detections"), fixed(COLUMNS, "columns of a detection")]


@onnx_of("suppressed")
def suppressed(
    low: Lowering,
    boxes: Value,
    scores: Value,
    threshold: float,
    iou: float,
    candidates: int,
    n_detections: int,
    pairs: int,
) -> Value:
    """`supernets.networks.suppression.suppressed`, by `NonMaxSuppression`, whose rows of indices are scattered into the scores,
    so that a batch has as many detections of each image."""
    _, n_locations, n_classes = scores.shape
    if candidates < n_locations:
        likeliest = low.add("ReduceMax", scores, low.numbers([2]), keepdims=0)
        _, chosen = low.add_many("TopK", [likeliest, low.numbers([candidates])], 2, axis=1)
        boxes, scores = _rows(low, boxes, chosen), _rows(low, scores, chosen)
        n_locations = candidates
    if 0 < pairs < n_classes * n_locations:
        flat = low.add("Reshape", scores, low.numbers([0, -1]))
        highest, _ = low.add_many("TopK", [flat, low.numbers([pairs])], 2, axis=1)
        bounds = [low.numbers([end]) for end in (pairs - 1, pairs, 1)]
        lowest = low.add("Unsqueeze", low.add("Slice", highest, *bounds), low.numbers([2]))
        scores = low.add("Where", low.add("GreaterOrEqual", scores, lowest), scores, low.scalar(0.0))
    by_class = low.add("Transpose", scores, perm=(0, 2, 1))
    settings = (low.numbers([n_detections]), low.floats([iou]), low.floats([threshold]))
    indices = low.add("NonMaxSuppression", boxes, by_class, *settings)
    nothing = low.add("ConstantOfShape", low.add("Shape", by_class))
    final = low.add("ScatterND", nothing, indices, low.add("GatherND", by_class, indices))
    flat = low.add("Reshape", final, low.numbers([0, -1]))
    if missing := max(0, n_detections - n_classes * n_locations):
        flat = low.add("Pad", flat, low.numbers([0, 0, 0, missing]))
    score, place = low.add_many("TopK", [flat, low.numbers([n_detections])], 2, axis=1)
    present = low.add("Greater", score, low.scalar(0.0))
    place = low.add("Where", present, place, low.whole(0))
    kept_boxes = _rows(low, boxes, low.add("Mod", place, low.whole(n_locations)))
    classes = low.add("Cast", low.add("Div", place, low.whole(n_locations)), to=FLOAT)
    last = low.numbers([2])
    columns = [kept_boxes, low.add("Unsqueeze", score, last), low.add("Unsqueeze", classes, last)]
    rows = low.add("Concat", *columns, axis=2)
    return low.add("Where", low.add("Unsqueeze", present, last), rows, low.scalar(0.0))


def _rows(low: Lowering, x: Value, indices: Value) -> Value:
    """The rows of each example of (n, rows, ...) that indices (n, k) name, (n, k, ...)."""
    return low.add("GatherND", x, low.add("Unsqueeze", indices, low.numbers([2])), batch_dims=1)
