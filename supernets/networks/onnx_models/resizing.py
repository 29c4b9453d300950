"""ONNX's resizing: by torch's interpolation where that is the same, else as products with matrices of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from supernets.networks.onnx_models.registry import OperatorCall, as_tensor, operator

_ROUNDINGS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@operator("Upsample")
def _upsample(call: OperatorCall) -> Tensor:
    scales = call.known(1).reshape(-1).tolist() if call.has(1) else list(call.attribute("scales") or ())
    mode = call.attribute("mode", "nearest")
    return _resized(call, call.tensor(0), None, scales, mode, "asymmetric", "floor")


@operator("Resize")
def _resize(call: OperatorCall) -> Tensor:
    x, mode = call.tensor(0), call.attribute("mode", "nearest")
    if call.version < 11:
        return _resized(call, x, None, call.known(1).reshape(-1).tolist(), mode, "asymmetric", "floor")
    sizes = call.ints(3)
    scales = call.known(2).reshape(-1).tolist() if call.has(2) else []
    axes = call.attribute("axes")
    if axes is not None:
        full_sizes, full_scales = list(x.shape), [1.0] * x.ndim
        for i, axis in enumerate(axes):
            if sizes:
                full_sizes[axis] = sizes[i]
            elif scales:
                full_scales[axis] = scales[i]
        sizes, scales = (tuple(full_sizes), scales) if sizes else (sizes, full_scales)
    if call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        call.reject("resizing that keeps the aspect ratio")
    coordinates = call.attribute("coordinate_transformation_mode", "half_pixel")
    return _resized(call, x, sizes, scales, mode, coordinates, call.attribute("nearest_mode", "round_prefer_floor"))


def _resized(
    call: OperatorCall,
    x: Tensor,
    sizes: Sequence[int] | None,
    scales: Sequence[float],
    mode: str,
    coordinates: str,
    nearest: str,
) -> Tensor:
    """The input resized: by `scales`, or to `sizes` with the scales that follow."""
    if not sizes:
        if len(scales) != x.ndim:
            call.reject(f"{len(scales)} scales of {x.ndim} dimensions")
        sizes = [math.floor(size * scale + 1e-6 * scale) for size, scale in zip(x.shape, scales, strict=True)]
        if call.fixed_batch is not None or sizes[0] != x.shape[0]:
            sizes[0] = x.shape[0]
    else:
        sizes = [x.shape[0], *sizes[1:]]
        scales = [new / old for new, old in zip(sizes, x.shape, strict=True)]
    changed = [i for i in range(x.ndim) if sizes[i] != x.shape[i] or scales[i] != 1]
    if not changed:
        return x
    extents, n = tuple(sizes[2:]), x.ndim - 2
    has_exact_scales = all(abs(sizes[i] - x.shape[i] * scales[i]) < 1e-3 for i in changed)
    if min(changed) >= 2 and n in _LINEAR and has_exact_scales and not call.attribute("antialias"):
        multiples = all(sizes[i] % x.shape[i] == 0 for i in changed)
        is_nearest = coordinates == "asymmetric" and nearest == "floor"
        is_nearest |= multiples and coordinates in ("half_pixel", "pytorch_half_pixel") and nearest.startswith("round")
        if mode == "nearest" and is_nearest:
            return F.interpolate(x, extents, mode="nearest")
        if (
            mode == "linear"
            and coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners")
            and min(extents) > 1
        ):
            return F.interpolate(x, extents, mode=_LINEAR[n], align_corners=coordinates == "align_corners")
    for axis in changed:
        matrix = _matrix(call, x.shape[axis], sizes[axis], scales[axis], mode, coordinates, nearest)
        x = torch.matmul(x.movedim(axis, -1), as_tensor(matrix.T.copy())).movedim(-1, axis)
    return x


def _matrix(
    call: OperatorCall, old: int, new: int, scale: float, mode: str, coordinates: str, nearest: str
) -> NDArray[np.float32]:
    """The weights (new, old) of resizing along one dimension, by ONNX's specification of `Resize`."""
    if old * new > 2**24:
        call.reject(f"resizing of {old} to {new} positions")
    i = np.arange(new, dtype=np.float64)
    match coordinates:
        case "half_pixel":
            x = (i + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            adjustment = new / (scale * old)
            x = old / 2 * (1 - adjustment) + (i + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            x = (i + 0.5) / scale - 0.5 if new > 1 else np.zeros(1)
        case "align_corners":
            x = i * (old - 1) / (new - 1) if new > 1 else np.zeros(1)
        case "asymmetric":
            x = i / scale
        case "tf_half_pixel_for_nn":
            x = (i + 0.5) / scale
        case _:
            return call.reject(f"resizing with the coordinates {coordinates}")  # type: ignore[no-any-return]
    if mode == "nearest":
        if nearest not in _ROUNDINGS:
            call.reject(f"resizing with the rounding {nearest}")
        positions = np.clip(_ROUNDINGS[nearest](x), 0, old - 1).astype(int)
        matrix: NDArray[np.float32] = np.eye(old, dtype=np.float32)[positions]
        return matrix
    stretch = max(1.0, 1 / scale) if call.attribute("antialias") else 1.0
    a = call.attribute("cubic_coeff_a", -0.75)
    radius = (1 if mode == "linear" else 2) * stretch
    weights = np.zeros((new, old))
    for row, centre in enumerate(x):
        positions = np.arange(math.floor(centre - radius) - 1, math.ceil(centre + radius) + 2)
        distance = np.abs(positions - centre) / stretch
        kernel = np.clip(1 - distance, 0, None) if mode == "linear" else _cubic(distance, a)
        if call.attribute("exclude_outside"):
            kernel = np.where((positions < 0) | (positions >= old), 0, kernel)
        kernel = kernel / kernel.sum()
        np.add.at(weights[row], np.clip(positions, 0, old - 1), kernel)
    return weights.astype(np.float32)


def _cubic(distance: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """Keys' kernel with the coefficient a."""
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
