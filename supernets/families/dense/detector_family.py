"""An elastic detector: backbone, feature pyramid and an anchor-free head of elastic width, depth and kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.families.convolutional.convolutional_family import ConvNormAct
from supernets.families.dense.detector_spec import DetectorSpec
from supernets.families.dense.pyramid_family import HEAD_WIDTH, HeadLayer, Pyramid, PyramidFamily
from supernets.space.axes import NamedDims

_PRIOR = 0.01
"""The score that a fresh network gives each class everywhere, so that the background does not dominate the first steps (Lin et
al. 2017, arXiv 1708.02002)."""
_FIRST_DISTANCE = 2.0
"""The distance, in strides, from a location to each side of the box that a fresh network predicts."""


class AnchorFreeOutputs(nn.Module):
    """The layers of an anchor-free head for all levels of a pyramid, and their outputs in one tensor.

    One tower of layers serves both classes and boxes: with the towers of FCOS (arXiv 1904.01355), one for each, small networks
    would spend most of their time in the head.

    Args:
        stems: The layer of each level that makes the pyramid's width the head's.
        layers: Layers for all levels.
        predictors: 1x1 convolutions to box and classes, one for each level or one for all.
    """

    def __init__(self, stems: nn.ModuleList, layers: nn.ModuleList, predictors: nn.ModuleList) -> None:
        super().__init__()
        self.stems, self.layers, self.predictors = stems, layers, predictors

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """The raw outputs of all locations, (n, locations, 4 + classes): level by level, each row by row.

        Args:
            levels: Values of the pyramid, (n, width, h, w) each, finest first.
        """
        outputs = []
        for i, (stem, x) in enumerate(zip(self.stems, levels, strict=True)):
            x = stem(x)
            for layer in self.layers:
                x = layer(x, i)
            predict = self.predictors[min(i, len(self.predictors) - 1)]
            outputs.append(predict(x).flatten(2))
        return torch.cat(outputs, 2).transpose(1, 2)


class DetectorFamily(PyramidFamily):
    """The family of all detectors that a `DetectorSpec` spans, whose outputs are (n, locations, 4 + n_classes)."""

    name = "detector"
    spec_type = DetectorSpec
    spec: DetectorSpec

    @property
    def n_convolutions(self) -> int:
        return 1 if self.spec.head_shared else self.spec.levels

    @property
    def head(self) -> Mapping[str, Any]:
        """The facts of `supernets.tasks.detection.anchor_free.AnchorFreeHead`."""
        strides = list(self.spec.strides)
        return {
            "kind": "anchor-free",
            "strides": strides,
            "image_size": self.image_size,
            "n_classes": self.n_classes,
        }

    def named_dims(self) -> Mapping[str, NamedDims]:
        stems: dict[str, NamedDims] = {
            f"head.stems.{i}.conv.weight": (HEAD_WIDTH, ...) for i in range(self.spec.levels)
        }
        return {**super().named_dims(), **stems}

    def template(self) -> nn.Module:
        spec = self.spec
        width, kernel, levels = spec.head_width[-1], spec.head_kernel[-1], spec.levels
        layers = nn.ModuleList(
            HeadLayer(width, kernel, levels=levels, shared=spec.head_shared, activation=spec.activation)
            for _ in range(spec.head_depth[-1])
        )
        stems = nn.ModuleList(
            ConvNormAct(spec.neck_width[-1], width, 1, activation=spec.activation) for _ in range(levels)
        )
        predictors = nn.ModuleList(nn.Conv2d(width, 4 + self.n_classes, 1) for _ in range(self.n_convolutions))
        return self.initialised(self.pyramid(AnchorFreeOutputs(stems, layers, predictors)))

    def initialised(self, network: nn.Module) -> nn.Module:
        for predict in cast("list[nn.Conv2d]", cast(AnchorFreeOutputs, cast(Pyramid, network).head).predictors):
            nn.init.normal_(predict.weight, std=0.01)
            bias = cast(nn.Parameter, predict.bias)
            nn.init.constant_(bias[:4], math.log(math.expm1(_FIRST_DISTANCE)))
            nn.init.constant_(bias[4:], math.log(_PRIOR / (1 - _PRIOR)))
        return network
