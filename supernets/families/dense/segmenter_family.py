"""An elastic segmenter: backbone, feature pyramid and a light head at its finest level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from supernets.families.convolutional.convolutional_family import ConvNormAct
from supernets.families.dense.pyramid_family import HEAD_WIDTH, HeadLayer, PyramidFamily
from supernets.families.dense.segmenter_spec import SegmenterSpec
from supernets.space.axes import NamedDims


class ClassMaps(nn.Module):
    """The layers of a head that reads the finest level of a pyramid, and the logits of its classes for each pixel.

    The finest level contains the coarser ones as a sum, as in Panoptic FPN (Kirillov et al. 2019, arXiv 1901.02446), whose
    branches for each level are left out.

    Args:
        stem: The layer that makes the pyramid's width the head's.
        layers: Layers of the head.
        classifier: A 1x1 convolution to the classes.
        image_size: Height and width of the images in pixels.
    """

    def __init__(self, stem: nn.Module, layers: nn.Sequential, classifier: nn.Module, image_size: int) -> None:
        super().__init__()
        self.stem, self.layers, self.classifier, self.image_size = stem, layers, classifier, image_size

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """The logits, (n, classes, image_size, image_size), enlarged bilinearly.

        Args:
            levels: Values of the pyramid, (n, width, h, w) each, finest first.
        """
        logits = self.classifier(self.layers(self.stem(levels[0])))
        return functional.interpolate(logits, size=(self.image_size, self.image_size), mode="bilinear")

    def extra_repr(self) -> str:
        return f"image_size={self.image_size}"


class SegmenterFamily(PyramidFamily):
    """The family of all segmenters that a `SegmenterSpec` spans, whose outputs are (n, n_classes, image_size, image_size)."""

    name = "segmenter"
    spec_type = SegmenterSpec
    spec: SegmenterSpec

    def named_dims(self) -> Mapping[str, NamedDims]:
        return {**super().named_dims(), "head.stem.conv.weight": (HEAD_WIDTH, ...)}

    def template(self) -> nn.Module:
        spec = self.spec
        width, kernel = spec.head_width[-1], spec.head_kernel[-1]
        layers = nn.Sequential(
            *(HeadLayer(width, kernel, activation=spec.activation) for _ in range(spec.head_depth[-1]))
        )
        stem = ConvNormAct(spec.neck_width[-1], width, 1, activation=spec.activation)
        return self.pyramid(ClassMaps(stem, layers, nn.Conv2d(width, self.n_classes, 1), self.image_size))
